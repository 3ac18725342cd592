"""The classifiers that come with the repository: whole, small, described, and as good as recorded."""

from pathlib import Path

import numpy as np
import pytest

import sepconc
from sepconc.config import CONFIG_VARIABLE, load_config
from sepconc.errors import NotResumable
from sepconc.registry.states import SUFFIXES
from sepconc.registry.store import Registry

from .conftest import DATA, need

REPOSITORY = Path(__file__).resolve().parents[1]
SMALL = ("digits-scatnet", "mnist-scatnet")
TWIN, PLAIN = "cifar10-dtcwpt-resnet18-mod", "cifar10-resnet18"  # ten epochs; half precision, and scores only
SHIPPED = (*SMALL, TWIN, PLAIN)


@pytest.fixture(autouse=True)
def _registry_of_the_repository(monkeypatch):
    monkeypatch.setenv(CONFIG_VARIABLE, str(REPOSITORY / "config.yml"))


@pytest.fixture
def registry() -> Registry:
    config = load_config()
    return Registry(config.registry_csv, config.registry_folder)


def test_the_registry_holds_the_shipped_classifiers_and_nothing_else(registry):
    assert sorted(registry.names()) == sorted(SHIPPED)
    weightless = {f"{row.filename}.tar" for row in registry.rows() if row.name == PLAIN}
    named = {f"{row.filename}{suffix}" for row in registry.rows() for suffix in SUFFIXES} - weightless
    found = {path.name for path in registry.folder.iterdir() if path.suffix in SUFFIXES}
    assert found == named


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_whole_small_and_described(registry, name):
    for status in registry.statuses(name):
        stored = registry.load(name, status, tensors=name != PLAIN)
        files = [path for path in registry.paths(stored.row).values() if path.exists()]
        assert sum(path.stat().st_size for path in files) < (23_000_000 if name == TWIN else 2_000_000)
        assert stored.record["provenance"]["commit"]
        assert not stored.record["provenance"]["dirty"]
    card = (registry.folder / f"{name}.md").read_text(encoding="utf-8")
    for heading in ("## Data", "## Recipe", "## Scores", "## Licence"):
        assert heading in card


@pytest.mark.parametrize("name", SMALL)
def test_it_has_its_three_kinds_of_scores(name):
    clf = sepconc.ImageClassifier.load(name, load_net=False)
    modes = clf.eval_scores_[clf.dataset_["name"]]["test"]
    assert {"onecrop", "fivecrops", "shifts_horizontal"} <= set(modes)


@pytest.mark.parametrize("name", [TWIN, PLAIN])
def test_the_networks_of_ten_epochs_have_theirs(name):
    clf = sepconc.ImageClassifier.load(name, "e10", load_net=False)
    modes = clf.eval_scores_["cifar10"]["test"]
    directions = ("horizontal", "vertical", "diagonal")
    assert {"onecrop", "tencrops", *(f"shifts_{direction}" for direction in directions)} <= set(modes)
    assert len(clf.losses_) == 10 * 176
    card = (REPOSITORY / "classif" / f"{name}.md").read_text(encoding="utf-8")
    shown = [modes["onecrop"]["top1"](), modes["tencrops"]["top1"]()]
    shown += [rate for direction in directions for rate in modes[f"shifts_{direction}"]["mfr"]().values()]
    assert all(f"{100 * value:.1f} %" in card for value in shown)
    page = (REPOSITORY / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert all(f"{100 * value:.1f}" in page for value in shown)


def test_the_one_in_half_precision_cannot_go_on():
    with pytest.raises(NotResumable, match="half precision"):
        sepconc.ImageClassifier.load(TWIN, "e10", train=True)


@pytest.mark.slow
def test_the_twin_classifies_as_recorded():
    need((DATA / "cifar-10-batches-bin").is_dir(), "cifar10", f"no CIFAR-10 in {DATA}")
    clf = sepconc.ImageClassifier.load(TWIN, "e10").set_params(predict_dtype="float32")
    recorded = clf.eval_scores_["cifar10"]["test"]["onecrop"]["top1"]()
    assert clf.score(sepconc.load_dataset("cifar10", "test", root=DATA)) == pytest.approx(recorded, abs=5e-4)


def test_the_digits_are_classified_as_recorded():
    clf = sepconc.ImageClassifier.load("digits-scatnet")
    recorded = clf.eval_scores_["digits"]["test"]["onecrop"]["top1"]()
    assert recorded >= 0.97
    assert clf.score(sepconc.load_dataset("digits", "test")) == pytest.approx(recorded, abs=1 / 360)


def test_mnist_is_classified_well(mnist_root):
    clf = sepconc.ImageClassifier.load("mnist-scatnet")
    images = sepconc.load_dataset("mnist", "test", root=mnist_root, n_imgs=500)
    assert clf.score(images) >= 0.98
    assert clf.predict(images).shape == (500,)
    assert np.array_equal(clf.classes_, np.arange(10))


@pytest.mark.slow
def test_mnist_is_classified_as_recorded(mnist_root):
    clf = sepconc.ImageClassifier.load("mnist-scatnet").set_params(predict_dtype="float32")
    recorded = clf.eval_scores_["mnist"]["test"]["onecrop"]["top1"]()
    assert recorded >= 0.99
    assert clf.score(sepconc.load_dataset("mnist", "test", root=mnist_root)) == pytest.approx(recorded, abs=2e-4)
