"""``sepconc show --script``: what it prints trains the same classifier again, bit for bit, or says why it can't."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sepconc as package
from sepconc.cli.progress import Lines
from sepconc.cli.script import script
from sepconc.estimators.base import ImageClassifier
from sepconc.registry.store import configured_registry

from ..conftest import REPOSITORY
from .conftest import settle

DIGITS = ["-ds", "digits", "--n-imgs", "150", "-b", "50", "--device", "cpu"]
SEED = ["--seed", "3"]
LITTLE = ["-a", "scatnet", "--scattering-J", "2", "--P-proj-size", "4"]
WAYS = {
    "scatnet": [*LITTLE, *SEED],
    "no seed": LITTLE,
    "no validation, no cache": [*LITTLE, *SEED, "--no-validation", "--no-cache-features", "--size", "16"],
    "analysis": ["-a", "analysis", "--frame-width", "8", "--frame-kernel-size", "7", "--frame-stride=5", "--zero-bias"],
    "per block": [
        *("-a", "scatnetblockanalysis", "--n-blocks", "2", "--P-proj-size", "4", "6", "--frame-width", "8", "12"),
        *("--scat-angles", "2", "3", "--non-linearity", "softshrink", "--size", "16"),
        *("--augmentation", "pad-crop-flip"),
    ],
    "perceptron": [*LITTLE, "--classifier-type", "mlp", "--nb-hidden-units", "8", "--dropout-p-mlp", "0.5", "-ba", "2"],
    "schedule": [*LITTLE, "--learning-rate-adjust-frequency", "1", "--lr", "0.037", "--momentum=0.5", "--wd", "1e-05"],
    "no schedule": [*LITTLE, "--lr-scheduler", "none", "--start-epoch", "1", "--snapshots", "2", "--save-best"],
    "plateau": [*LITTLE, "--lr-scheduler", "ReduceLROnPlateau"],
    "normalised": [*LITTLE, "--normalize=-0.125/0.3", "--backend", "reference"],
    "drawn classes": [*LITTLE, *SEED, "--nb-classes", "4"],
    "drawn classes, no seed": [*LITTLE, "--nb-classes", "4"],
    "named classes": [*LITTLE, "--class-indices", "some.txt", "--nb-classes", "3"],
    "few of each class": [*LITTLE, "--n-imgs-per-class", "7"],
    "test split": [*LITTLE, "--split", "test"],
    "dummy": [*LITTLE, "--dummy", "--nb-classes", "4", "--size", "16"],
}  # fmt: skip
"""Options of which every one must be in the command that is printed."""


@pytest.fixture
def elsewhere(place, monkeypatch) -> Path:
    """Call it to make another, empty folder with a registry of its own the current one."""

    def move() -> Path:
        folder = place / "elsewhere"
        folder.mkdir()
        settle(folder, monkeypatch)
        return folder

    return move


@pytest.fixture
def printed(sepconc):
    """What ``show --script`` prints of a name: comments, and the command."""

    def show(name: str) -> tuple[list[str], str]:
        outcome = sepconc("show", "--script", name)
        assert outcome.code == 0, outcome.err
        *comments, command = outcome.out.splitlines()
        assert all(line.startswith("# ") for line in comments)
        return comments, command

    return show


def weights(name: str, status: str = "checkpoint") -> dict[str, torch.Tensor]:
    """What is stored under a name in the current registry."""
    return configured_registry().load(name, status, tensors=True).tensors["net"]


def record(name: str, status: str = "checkpoint") -> dict:
    """The record that is stored under a name in the current registry."""
    return configured_registry().load(name, status, histories=False).record


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert list(one) == list(other)
    assert [key for key, tensor in one.items() if not torch.equal(tensor, other[key])] == []


def arguments_of(command: str) -> list[str]:
    """The arguments of ``train.py`` in a printed command; the rest of it is as expected."""
    python, program, *arguments = shlex.split(command)
    assert (python, program) == ("python", "train.py")
    assert arguments[-2:] == ["--threads", str(torch.get_num_threads())]
    return arguments


def same_params(one: dict, other: dict) -> bool:
    """Whether two records have the same parameters, but for what the command says of its own accord."""
    told = ("random_state", "device", "backend")
    first, second = ({k: v for k, v in each["params"].items() if k not in told} for each in (one, other))
    return first == second


# ---------------------------------------------------------------------- the same again


@pytest.mark.parametrize("way", WAYS)
def test_the_command_trains_it_again(way, train, printed, elsewhere):
    Path("some.txt").write_text("7 1 3")
    assert train("net", *DIGITS, *WAYS[way], "--epochs", "2").code == 0
    first, before = weights("net"), record("net")
    comments, command = printed("net")
    elsewhere()
    outcome = train(*arguments_of(command))
    assert outcome.code == 0, outcome.err
    assert_equal(weights("net"), first)
    assert same_params(record("net"), before)
    known = ("name", "split", "images", "classes", "checksum")
    assert [record("net")["learned"]["dataset"][key] for key in known] == [
        before["learned"]["dataset"][key] for key in known
    ]
    assert not [line for line in comments if "isn't" in line or "differ" in line]


@pytest.mark.parametrize("status", ["checkpoint", "e1"])
def test_stopped_and_gone_on_with_more_epochs(train, printed, elsewhere, monkeypatch, status):
    seen = []

    def stop(self: Lines, report: object) -> None:
        seen.append(report)
        if len(seen) == 5:
            signal.raise_signal(signal.SIGTERM)

    words = [*DIGITS, *WAYS["perceptron"], "--lr-scheduler", "StepLR2", "--snapshots", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(Lines, "report", stop)
        assert train("net", *words, "--epochs", "2", "-p", "1").code == 143
    assert train("net", "--epochs", "2").code == 0
    assert train("net", "--epochs", "4", "--workers", "0").code == 0
    first = weights("net", status)
    comments, command = printed(f"net:{status}")
    elsewhere()
    assert train(*arguments_of(command)).code == 0
    assert_equal(weights("net"), first)
    assert f"--epochs {4 if status == 'checkpoint' else 1} " in command
    assert [line for line in comments if "updates of" in line] == []


def test_a_copy_is_trained_as_the_original(trained, train, printed, elsewhere):
    ImageClassifier.load("net").save("copy")
    first = weights("copy")
    _, command = printed("copy")
    elsewhere()
    assert train(*arguments_of(command)).code == 0
    assert_equal(weights("copy"), first)
    assert train("copy").code == 0


def test_a_name_from_a_folder_of_arrays(train, printed, elsewhere, place, monkeypatch):
    rng = np.random.default_rng(0)
    np.savez("own.npz", X=rng.integers(0, 256, (60, 16, 16), dtype=np.uint8), y=np.arange(60) % 3)
    words = ["-ds", "npz:own.npz", "-b", "16", "--scattering-J", "2", "--P-proj-size", "4", "--device", "cpu"]
    assert train("net", "-a", "scatnet", *words, "--epochs", "1").code == 0
    first = weights("net")
    _, command = printed("net")
    assert f"-ds npz:{place}/own.npz" in command
    elsewhere()
    assert train(*arguments_of(command)).code == 0
    assert_equal(weights("net"), first)


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--threads", "3"]])
def test_in_a_process_of_its_own_with_the_recorded_threads(place, elsewhere, option):
    """However many processors there are here, and whatever the environment says when it is trained again."""

    def run(command: str, threads: int) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        done = subprocess.run(command, shell=True, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout

    Path("train.py").symlink_to(REPOSITORY / "train.py")
    words = ["-a", "analysis", *DIGITS, "--frame-width", "256", "--epochs", "2", *option]
    run(f"python train.py net {shlex.join(words)}", 2)
    first, threads = weights("net"), record("net")["provenance"]["threads"]
    assert threads == (3 if option else min(2, len(os.sched_getaffinity(0))))
    printed = run("sepconc show --script net", 1)
    assert printed.rstrip().endswith(f" --threads {threads}")
    elsewhere()
    Path("train.py").symlink_to(REPOSITORY / "train.py")
    run(printed, 1)
    assert_equal(weights("net"), first)
    assert record("net")["provenance"]["threads"] == threads


# ---------------------------------------------------------------------- what is printed


def test_the_command_of_a_small_training(trained, printed):
    _, command = printed("net")
    assert command == (
        "python train.py net -a scatnet -ds digits --n-imgs 200 --batch-size 50 --snapshots 1 --P-proj-size 8 "
        "--scattering-J 2 --epochs 2 --seed 0 --device cpu "
        f"--backend {record('net')['provenance']['engine']} --threads {torch.get_num_threads()}"
    )
    assert printed("net:e1")[1] == command.replace("--epochs 2", "--epochs 1")


def test_the_command_is_the_one_that_is_installed(trained):
    installed = record("net")
    installed["provenance"]["trainings"][-1]["command"] = "sepconc train net -a scatnet"
    assert script(installed).splitlines()[-1].startswith("sepconc train net -a scatnet")


def test_records_of_the_first_version(monkeypatch):
    """The shipped classifiers were stored before trainings were listed."""
    monkeypatch.setenv("SEPCONC_CONFIG", str(REPOSITORY / "config.yml"))
    assert script(record("digits-scatnet")) == (
        "python train.py digits-scatnet -a scatnet -ds digits --batch-size 64 "
        "--lr-scheduler StepLR15 --P-proj-size 64 --scattering-J 3 --epochs 40 --seed 0 --device cpu "
        "--threads 1"
    )
    assert " --no-validation " in script(record("mnist-scatnet"))


@pytest.mark.slow
def test_the_shipped_digits_are_trained_again(train, elsewhere, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("SEPCONC_CONFIG", str(REPOSITORY / "config.yml"))
        command, first = script(record("digits-scatnet")), ImageClassifier.load("digits-scatnet")
    elsewhere()
    assert train(*shlex.split(command)[2:]).code == 0
    again = ImageClassifier.load("digits-scatnet")
    assert again.current_epoch_ == 40
    np.testing.assert_allclose(again.losses_, first.losses_, atol=0.02)  # the engine has changed since


def test_other_machinery_is_told(trained, train, printed, monkeypatch):
    torch_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(torch_threads + 1)
        assert train("net", "--epochs", "3").code == 0
    finally:
        torch.set_num_threads(torch_threads)
    comments, command = printed("net")
    told = f"threads {torch_threads} then {torch_threads + 1}"
    assert any("2 parts" in line and told in line for line in comments)
    assert command.endswith(f" --threads {torch_threads + 1}")


def test_updates_of_an_unfinished_epoch_are_told(train, printed, monkeypatch):
    def stop(self: Lines, report: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Lines, "report", stop)
    assert train("net", *DIGITS, *WAYS["scatnet"], "-p", "2", "--epochs", "2").code == 143
    assert any("2 updates of epoch 1" in line for line in printed("net")[0])


def test_changed_code_and_gpus_are_told(trained):
    stored = record("net")
    stored["provenance"]["trainings"][0] |= {"dirty": True, "commit": "abc", "device": "cuda:0", "device_name": "H100"}
    comments = [line for line in script(stored).splitlines() if line.startswith("# ")]
    assert any("commit abc" in line for line in comments)
    assert any("H100" in line for line in comments)
    assert "--device cuda:0" in script(stored)


# ---------------------------------------------------------------------- what no command repeats


def run_lines(program: str, **names: object) -> dict:
    exec(program, names)
    return names


def test_a_training_from_python_on_arrays(printed_python, place):
    X, y = np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32), np.arange(40) % 2
    first = package.AnalysisClassifier(frame_width=4, frame_kernel_size=2, epochs=2, device="cpu", batch_size=8)
    first.fit(X, y, X[:10], y[:10], name="arrays")
    text = printed_python("arrays")
    assert '"arrays" was trained from Python' in text
    assert "X, y: 40 images of arrays, SHA-256 " in text
    assert "X_val, y_val: 10 images of arrays" in text
    assert record("arrays")["learned"]["dataset"]["checksum"] in text
    configured_registry().remove("arrays")
    again = run_lines(text, X=X, y=y, X_val=X[:10], y_val=y[:10])["classifier"]
    assert_equal(again.net_.state_dict(), first.net_.state_dict())
    assert configured_registry().statuses("arrays") == ["checkpoint", "e2"]


@pytest.fixture
def printed_python(sepconc):
    """What ``show --script`` prints of a name that no command repeats."""

    def show(name: str) -> str:
        outcome = sepconc("show", "--script", name)
        assert outcome.code == 0, outcome.err
        return outcome.out

    return show


def test_a_training_by_pieces(printed_python, place):
    X, y = np.random.default_rng(0).random((60, 1, 8, 8), dtype=np.float32), np.arange(60) % 2
    first = package.AnalysisClassifier(frame_width=4, frame_kernel_size=2, device="cpu", batch_size=8)
    pieces = [(X[:20], y[:20]), (X[20:40], y[20:40]), (X[40:], y[40:])]
    for piece in pieces:
        first.partial_fit(*piece)
    first.save("pieces")
    assert len(record("pieces")["provenance"]["trainings"]) == 1
    text = printed_python("pieces")
    assert "the 3 that it had" in text
    again = run_lines(text, pieces=pieces)["classifier"]
    assert_equal(again.net_.state_dict(), first.net_.state_dict())


def test_another_rate_on_the_way_is_told(trained, printed_python):
    images = package.load_dataset("digits", "train", n_imgs=100)
    clf = ImageClassifier.load("net", train=True).set_params(warm_start=True, epochs=1, lr=0.003)
    clf.fit(images).set_params(momentum=0.5, lr_scheduler=None).partial_fit(images).save("more")
    text = printed_python("more")
    assert "# From epoch 3 it went on with lr 0.003: one call doesn't repeat it.\n" in text
    assert "# From epoch 4 it went on with lr_scheduler None, momentum 0.5: one call doesn't repeat it.\n" in text


def test_more_from_python_than_the_command_had(trained, printed_python):
    images = package.load_dataset("digits", "train", n_imgs=100)
    ImageClassifier.load("net", train=True).set_params(warm_start=True, epochs=1, batch_size=50).fit(images).save(
        "more"
    )
    text = printed_python("more")
    assert '"more" was trained from Python' in text
    assert "2 calls" in text
    assert "train.py" not in text


# ---------------------------------------------------------------------- records from elsewhere


@pytest.mark.parametrize(
    "change", [{"arch": "resnet99"}, {"learned": {}}, {"params": None}, {"provenance": 3}, {"arch": []}]
)
def test_a_record_that_says_too_little(trained, change):
    text = script({**record("net"), **change})
    assert "can't be trained again here" in text
    assert all(line.startswith("# ") for line in text.splitlines())


def test_a_classifier_of_another_program(trained):
    stored = record("net")
    stored["provenance"] = {"command": "main.py --dataset mnist", "imported": {"files": []}}
    assert script(stored).splitlines() == [
        '# "net" can\'t be trained again here: it comes from another program.',
        "# Its command was: main.py --dataset mnist",
    ]


def test_nothing_in_a_record_is_run(trained):
    """The text may be piped to a shell, and the record may come from another machine."""
    evil = "x\ntouch owned; $(touch owned) `touch owned`"
    stored = record("net")
    (entry,) = stored["provenance"]["trainings"]
    entry["options"]["data"] = "; touch owned #"
    entry["from_file"] = entry["commit"] = evil
    entry["dirty"] = True
    text = script(stored)
    assert "--data '; touch owned #'" in text
    subprocess.run(["sh", "-c", text.replace("python train.py", "true")], check=True)
    entry["options"]["data"] = evil
    subprocess.run(["sh", "-c", script(stored)], check=True)
    assert "characters that can't be shown" in script(stored)
    entry["options"] = None
    stored["learned"]["dataset"]["name"] = stored["learned"]["dataset"]["hashed"] = "x\nraise SystemExit(3)"
    stored["params"]["P_proj_size"] = "__import__('os').mkdir('owned')"
    compiled = compile(script(stored), "script", "exec")
    assert "SystemExit" not in compiled.co_names
    assert not Path("owned").exists()
    entry["threads"] = "1; touch owned"
    assert "can't be trained again" in script(stored)


def test_the_record_of_show_is_the_one_that_is_stored(trained, sepconc):
    assert json.loads(sepconc("show", "--format", "json", "net").out)["provenance"]["trainings"]
