"""``sepconc recipes``, and ``train.py NAME`` of a recipe's name."""

import csv
import io
import json
import subprocess
import sys

import pytest

from sepconc.cli.options import classifier_params
from sepconc.cli.train import make_parser
from sepconc.estimators.base import ImageClassifier
from sepconc.params.archs import ARCHS, list_configs
from sepconc.recipes import Recipe, recipes
from sepconc.registry.store import configured_registry

from ..conftest import DATA, need
from .conftest import SMALL, one_line_error

RUNNABLE = [recipe for recipe in recipes().values() if recipe.is_runnable]
SMALLER = {
    "mnist": [],
    "digits": [],
    "cifar10": [],
    "imagenet": ["--size", "64", "--nb-classes", "20"],
}
"""What makes one step of a recipe quick without touching its network's widths."""


def refuse(text: str) -> None:
    raise AssertionError(text)


# ---------------------------------------------------------------------- every one of them


@pytest.mark.parametrize("recipe", RUNNABLE, ids=lambda recipe: recipe.name)
def test_its_command_is_understood(recipe):
    options = vars(make_parser().parse_args(recipe.arguments))
    assert (options["name"], options["arch"], options["dataset"]) == (recipe.name, recipe.arch, recipe.dataset)
    params = {name: value for name, value in options.items() if name not in ("name", "arch", "config")}
    classifier_params(recipe.arch, params, refuse)  # every option has a meaning for the architecture
    assert options.get("config") in (None, *list_configs(recipe.arch))


def small(recipe: Recipe) -> list[str]:
    """The name with options that make one update of random images quick."""
    heavy = ["--avg-ker-size", "1"] if recipe.name == "ImageNet-scatnet" else []  # 4×4 outputs at 64×64
    heavy += ["--size", "128"] if "Zhang" in recipe.arch else []
    return [recipe.name, "--dummy", "--max-steps", "1", "-b", "2", "--n-imgs", "4", *SMALLER[recipe.dataset], *heavy]


TWINS = [recipe.name for recipe in RUNNABLE if recipe.source.endswith("arXiv:2212.00394")]
QUICK_TWINS = ("R18C", "R18wyC_mod", "R18zo3wyC", "RwyI_mod")
SLOW = [recipe.name for recipe in RUNNABLE if "scatnetblock" in recipe.arch or recipe.name.startswith("CIFAR10-a")]
SLOW += [name for name in TWINS if name not in QUICK_TWINS]


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(r, marks=pytest.mark.slow if r.name in SLOW else (), id=r.name) for r in RUNNABLE],
)
def test_it_makes_an_update(recipe, train):
    outcome = train(*small(recipe))
    assert outcome.code == 0, outcome.err
    assert f"using the recipe: train.py {recipe.command}\n" in outcome.err
    assert outcome.out == f"{recipe.name}: 1 updates, nothing stored (--max-steps)\n"


def test_an_architecture_of_another_version_is_one_line(train, place, monkeypatch):
    recipe = Recipe("Later", "Later -a later_net -ds digits", "here", "of a later version")
    monkeypatch.setitem(recipes(), recipe.name, recipe)
    one_line_error(train("Later", "--dummy"), '"Later"', "architecture later_net, ", "sepconc recipes")
    assert [path.name for path in place.iterdir()] == ["config.yml"]


# ---------------------------------------------------------------------- by name


@pytest.fixture
def quick(monkeypatch) -> Recipe:
    """A recipe that trains in a moment."""
    words = [word for word in SMALL if word not in ("--device", "cpu")]
    recipe = Recipe("quick", " ".join(["quick", *words, "--epochs", "2", "--lr", "0.02"]), "here", "for tests")
    monkeypatch.setitem(recipes(), "quick", recipe)
    return recipe


def test_a_name_alone_is_trained_by_its_recipe(quick, train, sepconc):
    outcome = train("quick")
    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith(f"train.py: using the recipe: train.py {quick.command}\n")
    assert train("other", *quick.arguments[1:]).code == 0
    one, other = (ImageClassifier.load(name) for name in ("quick", "other"))
    assert list(one.losses_) == list(other.losses_)
    assert one.get_params() == other.get_params()
    assert "--lr 0.02 " in sepconc("show", "--script", "quick").out


def test_typed_options_override_the_recipe_s(quick, train):
    assert train("quick", "--lr", "0.5", "--epochs", "1").code == 0
    clf = ImageClassifier.load("quick")
    assert (clf.lr, clf.current_epoch_, clf.scattering_J) == (0.5, 1, 2)


def test_stored_options_win(quick, train):
    assert train("quick", "--lr", "0.5", "--epochs", "1").code == 0
    outcome = train("quick", "--epochs", "2")
    assert outcome.code == 0, outcome.err
    assert "recipe" not in outcome.err
    assert (ImageClassifier.load("quick").lr, ImageClassifier.load("quick").current_epoch_) == (0.5, 2)


def test_another_architecture_under_a_recipe_s_name(quick, train):
    words = ["-a", "analysis", "-ds", "digits", "--n-imgs", "60", "-b", "30", "--frame-width", "4", "--epochs", "1"]
    outcome = train("quick", *words)
    assert outcome.code == 0, outcome.err
    assert "recipe" not in outcome.err
    assert ImageClassifier.load("quick").arch == "analysis"


def test_nothing_to_evaluate_yet(quick, train):
    outcome = train("quick", "-e")
    assert outcome.code == 2
    assert '"quick"' in outcome.err
    assert "using the recipe" not in outcome.err


@pytest.mark.slow
def test_the_shipped_digits_come_out_of_their_recipe(train):
    assert train("digits-scatnet").code == 0
    record = configured_registry().load("digits-scatnet", histories=False).record
    assert record["learned"]["seed"] == 0
    assert ImageClassifier.load("digits-scatnet").val_errs_[40][1] < 0.05


@pytest.mark.slow
def test_a_separation_experiment_on_its_images(train):
    need((DATA / "cifar-10-batches-bin").is_dir(), "data", f"no CIFAR-10 in {DATA}")
    outcome = train("CIFAR10-scatnet", "--data", DATA, "--n-imgs", "256", "--epochs", "1")
    assert outcome.code == 0, outcome.err
    assert ImageClassifier.load("CIFAR10-scatnet").val_errs_ == {}


# ---------------------------------------------------------------------- listing


def test_the_list(sepconc):
    outcome = sepconc("recipes")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert len(lines) == 2 + len(recipes()) + 2
    assert lines[-1].startswith(f"{len(RUNNABLE)} of {len(recipes())} can be run")
    told = {line.split()[0]: "not in this version" not in line for line in lines[2:-2]}
    assert told == {name: recipe.arch in ARCHS for name, recipe in recipes().items()}


def test_some_and_one_and_none_of_them(sepconc):
    some = sepconc("recipes", "MNIST-*").out
    assert [line.split()[0] for line in some.splitlines()[2:6]] == [name for name in recipes() if name[:6] == "MNIST-"]
    one = sepconc("recipes", "AwyI").out
    assert one.rstrip().endswith(f"python train.py {recipes()['AwyI'].command}")
    assert "Published with -a AlexNet" in one
    outcome = sepconc("recipes", "nothing*")
    assert (outcome.code, outcome.out) == (0, "")
    assert 'no recipe\'s name matches "nothing*"' in outcome.err


def test_the_list_imports_nothing_heavy(place):
    code = "import sys; from sepconc.cli.main import main; assert main(['recipes']) == 0; "
    code += "print([m for m in ('torch', 'sklearn', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_for_other_programs(sepconc):
    rows = json.loads(sepconc("recipes", "--format", "json").out)
    assert [row["name"] for row in rows] == list(recipes())
    assert [row["runnable"] for row in rows] == [recipe.is_runnable for recipe in recipes().values()]
    text = sepconc("recipes", "--format", "csv").out
    assert [row["command"] for row in csv.DictReader(io.StringIO(text))] == [row["command"] for row in rows]
