"""``sepconc import-legacy``: what it prints, and the exit codes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from registry.older import Program, write_archive, write_row

from sepconc import ImageClassifier, TwinClassifier, build_network
from sepconc.registry.store import configured_registry


@pytest.fixture
def program(monkeypatch):
    return Program(monkeypatch)


@pytest.fixture
def older(program, place):
    """An older registry of two rows."""
    folder = place / "older"
    write_row(folder, "one", program.estimator())
    write_row(folder, "two", program.estimator(arch="resnet18", config=None))
    return folder


@pytest.fixture
def checkpoint(place):
    """A checkpoint of a small network, as the separation-concentration program stores it."""
    net = build_network("scatnet", num_classes=10, image_shape=(1, 28, 28), scattering_J=3, P_proj_size=4)
    names = {"blocks.0.projection.weight": "linear_proj.proj.weight", "head.norm.": "classifier.bn.",
             "blocks.0.projection.": "linear_proj.", "head.linear.": "classifier.classifier."}  # fmt: skip
    state = {}
    for key, value in net.state_dict().items():
        start = next(start for start in names if key.startswith(start))
        state[f"0.module.{names[start]}{key.removeprefix(start)}"] = value
    path = place / "scatnet_batchsize_128_lrfreq_70_best.pth.tar"
    torch.save({"epoch": 2, "arch": "scatnet", "state_dict": state, "best_acc1": 12.5, "optimizer": None}, path)
    return path


OPTIONS = ["-ds", "mnist", "--scattering-J", "3", "--P-proj-size", "4"]


def test_folder(older, sepconc):
    done = sepconc("import-legacy", older)
    assert done.code == 0
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[0].split() == ["name", "status", "result", "weights"]
    assert lines[2].split() == ["one", "e2", "imported", "no"]
    assert lines[-1] == "2 imported"


def test_imported_rows_are_listed_and_shown(older, sepconc):
    sepconc("import-legacy", older, "--prefix", "old-")
    listed = sepconc("list")
    assert listed.code == 0
    assert "old-one" in listed.out
    assert "dtcwpt_resnet18" in listed.out
    shown = sepconc("show", "old-one", "-s", "e2")
    assert shown.code == 0
    assert "75.0 %" in shown.out
    assert "Ft40YEx" in shown.out


def test_train_says_that_a_name_was_imported(older, sepconc, train):
    sepconc("import-legacy", older)
    outcome = train("one")
    assert outcome.code == 2
    assert '"one" was imported (architecture dtcwpt_resnet18; -r 2 goes on from its weights, -f starts' in outcome.err


def test_what_was_imported_loads_as_a_twin(older, sepconc):
    sepconc("import-legacy", older)
    assert type(ImageClassifier.load("one", "e2", load_net=False)) is TwinClassifier


def test_missing_file_is_told_and_the_others_imported(program, older, sepconc):
    write_row(older, "three", None)
    done = sepconc("import-legacy", older)
    assert done.code == 1
    assert "2 imported, 1 missing" in done.out
    assert configured_registry().names() == ["one", "two"]


def test_hostile_file_is_refused(older, program, sepconc, place):
    sentinel = place / "sentinel"
    path = write_row(older, "bad", program.estimator())
    command = f"touch {sentinel}"
    pickled = b"\x80\x02cos\nsystem\nX" + len(command).to_bytes(4, "little") + command.encode() + b"\x85R."
    write_archive(path, pickled)
    done = sepconc("import-legacy", older)
    assert done.code == 1
    assert 'names "os.system"' in done.out
    assert path.name in done.out
    assert not sentinel.exists()
    assert configured_registry().names() == ["one", "two"]


def test_dry_run_and_twice(older, sepconc):
    assert "2 would be imported" in sepconc("import-legacy", older, "--dry-run").out
    assert configured_registry().rows() == []
    assert "2 imported" in sepconc("import-legacy", older).out
    again = sepconc("import-legacy", older)
    assert (again.code, again.out.splitlines()[-1]) == (0, "2 there already")


def test_names_that_are_taken(older, program, sepconc):
    sepconc("import-legacy", older)
    write_row(older, "one", program.estimator(n_params_=5), status="e7")
    write_row(older, "two", program.estimator(), filename="1" * 32, status="e8")
    sepconc("import-legacy", older)
    torch.save(program.estimator(n_params_=7), older / f"{'1' * 32}.classif")
    done = sepconc("import-legacy", older)
    assert done.code == 1
    assert "see --overwrite" in done.out
    assert sepconc("import-legacy", older, "-f").code == 0


def test_empty_table(place, sepconc):
    (place / "older").mkdir()
    (place / "older" / "classif_db.csv").write_text("name,status,filename,commit,script,args_script\n")
    done = sepconc("import-legacy", "older")
    assert (done.code, done.out.strip()) == (0, "The registry has no classifiers.")


def test_checkpoint(checkpoint, sepconc):
    done = sepconc("import-legacy", checkpoint, *OPTIONS)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[2].split() == ["scatnet_batchsize_128_lrfreq_70", "best", "imported", "yes"]
    clf = ImageClassifier.load("scatnet_batchsize_128_lrfreq_70", "best")
    assert clf.predict(np.zeros((2, 1, 28, 28), np.uint8)).shape == (2,)
    done = sepconc("import-legacy", checkpoint, *OPTIONS, "--name", "mine", "-s", "e2", "-a", "scatnet")
    assert done.code == 0
    assert configured_registry().find("mine", "e2").arch == "scatnet"


WRONG = {
    "nothing there": ["nowhere"],
    "no table": ["."],
    "options of a checkpoint": ["older", "--lr", "3"],
    "name of a folder": ["older", "--name", "x"],
    "no data set": ["CHECKPOINT"],
    "unknown data set": ["CHECKPOINT", "-ds", "mnost"],
    "dry run of a file": ["CHECKPOINT", *OPTIONS, "--dry-run"],
    "bad name": ["CHECKPOINT", *OPTIONS, "--name", "../x"],
    "bad status": ["CHECKPOINT", *OPTIONS, "-s", "E90"],
    "another architecture": ["CHECKPOINT", *OPTIONS, "-a", "scatnetblock"],
    "unknown option": ["older", "--prefixx", "a"],
    "parameter of another architecture": ["CHECKPOINT", *OPTIONS, "--frame-width", "3"],
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=list(WRONG))
def test_wrong_use(arguments, older, checkpoint, sepconc):
    done = sepconc("import-legacy", *(checkpoint if word == "CHECKPOINT" else word for word in arguments))
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("sepconc import-legacy: error: ")
    assert configured_registry().rows() == []


def test_weights_that_do_not_fit(checkpoint, sepconc):
    done = sepconc("import-legacy", checkpoint, "-ds", "mnist", "--scattering-J", "2")
    assert done.code == 1
    assert "don't fit the network" in done.err
    assert done.err.count("\n") == 1


def test_help_imports_no_torch():
    code = "import sys; from sepconc.cli.import_legacy import make_parser; make_parser(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
