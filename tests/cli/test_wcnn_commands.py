"""Every command of the WCNN program's README, the training ones with ``--dummy --max-steps 2 -b 2`` appended."""

import re
import shlex
import warnings
from pathlib import Path

import pytest

from sepconc.cli.train import main as train_main

from .conftest import one_line_error, settle

README = Path(__file__).resolve().parents[3] / "shared" / "sources" / "wcnn-readme.md"
SHORTENED = ["--dummy", "--max-steps", "2", "-b", "2"]
WRONG = {
    "AwyI": "-a DtCwptAlexNet --config Ft32Y",
    "Rzh3wyI_abl": "--config Ft40YBf3Ex_abl2",
    "Rzo3wyI_abl": "--config Ft40YBf3Ex_abl2",
}
"""Commands that can't work, and what was meant."""


def commands(script: str) -> dict[str, list[str]]:
    """The words of every command of a script, by number and name; none where the README isn't there."""
    if not README.is_file():
        return {}
    lines = re.findall(rf"^python {script} (.+)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    words = [shlex.split(line) for line in lines]
    return {f"{number}-{each[0]}": each for number, each in enumerate(words)}


TRAINING, EVALUATION = commands("train.py"), commands("eval.py")
RIGHT = {title: words for title, words in TRAINING.items() if words[0] not in WRONG}


def test_all_commands_are_found(shared):
    assert README.is_file()
    assert len(TRAINING) == 6 + 11 + 9 + 1
    assert len(EVALUATION) == 4
    assert len(TRAINING) - len(RIGHT) == len(WRONG) == 3


QUICK = ("R18", "RwyI_mod")
"""Beginnings of the names whose commands are in the fast set: images of 32 pixels, and one network for ImageNet."""


def marked(title: str) -> object:
    quick = RIGHT[title][0].startswith(QUICK)
    return pytest.param(title, marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize("title", [marked(title) for title in RIGHT])
def test_a_training_command_runs(title, train, place):
    words = RIGHT[title]
    outcome = train(*words, *SHORTENED)
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"{words[0]}: 2 updates, nothing stored (--max-steps)\n"
    assert outcome.err == ""
    assert [path.name for path in place.iterdir()] == ["config.yml"]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_one_names_the_pair_that_was_meant(name, train, shared):
    (words,) = (words for words in TRAINING.values() if words[0] == name)
    outcome = train(*words, *SHORTENED)
    one_line_error(outcome, "has no configuration", f"Did you mean {WRONG[name]}?")
    assert outcome.code == 2


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["34", "50", "101"])
@pytest.mark.parametrize("title", [title for title, words in RIGHT.items() if words[0].startswith("R18")])
def test_the_number_of_layers_can_be_replaced(title, layers, train):
    """With a seed: with two images a batch, one draw in fifty gives 101 layers gradients of 10^11, and the loss NaN."""
    words = [word.replace("18", layers) for word in RIGHT[title]]
    outcome = train(*words, *SHORTENED, "--seed", "0")
    assert outcome.code == 0, outcome.err


@pytest.fixture(scope="module")
def alexnet_twin(tmp_path_factory) -> Path:
    """A folder whose registry has ``AwyI`` with status ``e90``, made for 64 pixels with the command that was meant."""
    folder = tmp_path_factory.mktemp("alexnet")
    words = ["-a", "DtCwptAlexNet", "--config", "Ft32Y", "--lr", "0.001", "--dummy", "--n-imgs", "4", "-b", "2"]
    words += ["--epochs", "90", "--start-epoch", "89", "--nb-classes", "2", "--size", "64", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings():
        settle(folder, monkeypatch)
        assert train_main(["AwyI", *words]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("title", EVALUATION)
def test_an_evaluation_command_runs(title, evaluate, alexnet_twin, monkeypatch):
    settle(alexnet_twin, monkeypatch)
    words = EVALUATION[title]
    outcome = evaluate(*words, "--dummy", "--n-imgs", "3")
    assert outcome.code == 0, outcome.err
    metric = "kldiv" if "kldiv" in words else "mfr" if "shifts" in words else "top1"
    assert outcome.out.startswith(f"{metric}: ")


@pytest.mark.parametrize("dummy", [[], ["--dummy"]])
def test_corrupted_images_are_not_trained_on(train, dummy):
    words = ["-a", "resnet18", "-ds", "cifar10-c", *dummy, "--max-steps", "1", "-b", "2"]
    one_line_error(train("net", *words), "cifar10-c is for evaluation only", "eval.py")
