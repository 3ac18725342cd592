"""The published experiments: complete, and read without torch or pandas."""

import collections
import subprocess
import sys

import pytest

from sepconc.recipes import Recipe, recipes
from sepconc.registry.names import check_name

WCNN = [recipe for recipe in recipes().values() if recipe.source.endswith("arXiv:2212.00394")]
SEPARATION = [recipe for recipe in recipes().values() if recipe.source.endswith("ICLR 2021")]


def test_every_name_is_a_classifier_s_name_and_in_its_command():
    for name, recipe in recipes().items():
        assert check_name(name) == recipe.name == recipe.arguments[0]
        assert recipe.source
        assert recipe.note


def test_there_are_the_published_ones():
    assert len(WCNN) == 35
    assert len(SEPARATION) == 15
    assert {"digits-scatnet", "mnist-scatnet"} == {r.name for r in recipes().values()} - {
        recipe.name for recipe in (*WCNN, *SEPARATION)
    }
    counted = collections.Counter((recipe.arch.rstrip("0123456789"), recipe.dataset) for recipe in WCNN)
    assert sum(count for (_, dataset), count in counted.items() if dataset == "cifar10") == 18


def test_the_three_wrong_commands_are_corrected_and_say_so():
    corrected = {name: recipe for name, recipe in recipes().items() if "Published with" in recipe.note}
    assert {name: recipe.arch for name, recipe in corrected.items()} == {
        "AwyI": "DtCwptAlexNet",
        "Rzh3wyI_abl": "dtcwpt_zhang_resnet34",
        "Rzo3wyI_abl": "dtcwpt_zou_resnet34",
    }
    assert all("Ft40YBf3Ex_abl2" in corrected[name].arguments for name in ("Rzh3wyI_abl", "Rzo3wyI_abl"))


@pytest.mark.parametrize("recipe", [r for r in WCNN if r.name.startswith("R34")], ids=lambda recipe: recipe.name)
def test_34_layers_are_18_with_the_number_replaced(recipe):
    other = recipes()[recipe.name.replace("34", "18")]
    assert recipe.command == other.command.replace("18", "34")


def test_one_that_can_be_run_and_one_that_cannot():
    assert recipes()["MNIST-scatnet"].is_runnable
    unknown = Recipe("x", "x -a resnet1000 -ds cifar10", "nobody", "")
    assert (unknown.arch, unknown.dataset, unknown.is_runnable) == ("resnet1000", "cifar10", False)


def test_reading_them_imports_nothing_heavy():
    code = "import sys; from sepconc.recipes import recipes; assert recipes(); "
    code += "print([m for m in ('torch', 'sklearn', 'pandas', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
