"""Trainings that are stopped, killed and resumed, in processes of their own, against ones that never stopped."""

import functools
import json
import logging
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sepconc
from sepconc.errors import BadParameter, ClassifierExists, ClassifierNotFound, CorruptFile, ParameterMismatch
from sepconc.estimators.resuming import Resume
from sepconc.registry.store import configured_registry as registry

ARCHS = ("analysis", "scatnet", "scatnetblock", "scatnetblockanalysis")
RANDOM = {  # everything in a training that is random
    "augmentation": "pad-crop-flip",
    "classifier_type": "mlp",
    "nb_hidden_units": 12,
    "dropout_p_mlp": 0.4,
    "epochs": 4,
    "batch_size": 16,
    "lr_scheduler": "StepLR3",
    "snapshots": 2,
    "save_best": True,
    "print_freq": 1,
}


class Processes:
    """Runs jobs of killed.py."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def __call__(self, **job) -> dict:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, self.process.stderr.read()
        return json.loads(answer)


@pytest.fixture(scope="module")
def processes():
    """The process that forks, with one thread."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    paths = {"PYTHONPATH": str(Path(sepconc.__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("killed.py"))],
        env=os.environ | threads | paths,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield Processes(process)


@pytest.fixture
def run(processes):
    """Do a job in a process of its own, with the test's registry."""
    return functools.partial(processes, config=os.environ["SEPCONC_CONFIG"])


def stored_equal(one, other, status="checkpoint"):
    """Weights, optimiser, schedule, generators, progress, losses and metrics: equal bit for bit."""
    first, second = (registry().load(name, status, tensors=True) for name in (one, other))
    np.testing.assert_array_equal(first.histories["losses"], second.histories["losses"])
    for key in ("val_errs", "lr_history", "current_epoch", "best_val_err", "seed", "frame_diagnostics"):
        assert first.record["learned"].get(key) == second.record["learned"].get(key), key
    assert_equal_tree(first.tensors, second.tensors, "tensors")


def assert_equal_tree(one, other, where):
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key, value in one.items():
            assert_equal_tree(value, other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for place, (first, second) in enumerate(zip(one, other, strict=True)):
            assert_equal_tree(first, second, f"{where}[{place}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def params_of(small, arch, **changes):
    """JSON's view of a small classifier with everything random."""
    clf = small(arch, **{**RANDOM, **changes})
    return {name: value for name, value in clf.get_params().items() if value is not None}


# ---------------------------------------------------------------------- kill -9


def test_killed_between_and_within_epochs(run, small):
    job = {"arch": "scatnetblock", "params": params_of(small, "scatnetblock")}
    assert run(**job, name="whole")["code"] == 0
    for moment in ([1, 2], [1, None], [3, 4], [3, None]):
        assert run(**job, name="killed", kill_at=moment)["code"] == -signal.SIGKILL
    assert registry().find("killed").epoch == 3
    assert run(**job, name="killed")["code"] == 0
    assert registry().statuses("killed") == registry().statuses("whole")
    for status in registry().statuses("whole"):
        stored_equal("killed", "whole", status)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_killed_at_random_moments(run, small, arch):
    changes = {} if arch != "scatnet" else {"augmentation": None}  # one with cached features
    job = {"arch": arch, "params": params_of(small, arch, epochs=8, **changes)}
    assert run(**job, name="whole")["code"] == 0
    assert run(**job, name="killed", kill_at=[2, 1])["code"] == -signal.SIGKILL  # one kill for sure, then at random
    draw = random.Random(arch)
    for _ in range(200):
        code = run(**job, name="killed", kill_after=draw.uniform(0.02, 1.0))["code"]
        if code == 0:
            break
        assert code == -signal.SIGKILL
    else:
        assert run(**job, name="killed")["code"] == 0
    assert registry().statuses("killed") == registry().statuses("whole")
    for status in registry().statuses("whole"):
        stored_equal("killed", "whole", status)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_killed_after_every_update(run, small, arch):
    job = {"arch": arch, "params": params_of(small, arch, epochs=2)}
    assert run(**job, name="whole")["code"] == 0
    moments = [[epoch, step] for epoch in (1, 2) for step in (1, 2, 3, 4, None)]
    for moment in moments:
        name = f"killed-{moment[0]}-{moment[1]}"
        assert run(**job, name=name, kill_at=moment)["code"] == -signal.SIGKILL
        assert run(**job, name=name)["code"] == 0
        stored_equal(name, "whole")


# ---------------------------------------------------------------------- Ctrl-C and SIGTERM


def arguments(name, *more):
    text = (
        f"{name} -a scatnetblock -ds digits --n-imgs 96 -b 16 --epochs 2 --n-blocks 2 --scat-angles 2 --P-proj-size 6 "
        "--augmentation pad-crop-flip --classifier-type mlp --nb-hidden-units 8 --dropout-p-mlp 0.4 --seed 0 -p 1 "
        "--device cpu"
    )
    return [*text.split(), *more]


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGTERM)])
def test_signals_store_a_checkpoint(run, numbers, tmp_path):
    logs = ["--dir", str(tmp_path)]
    assert run(arguments=arguments("whole", *logs))["code"] == 0
    for epoch, number in enumerate(numbers, start=1):
        done = run(arguments=arguments("stopped", *logs), signal=number, kill_at=[epoch, 2])
        assert done["code"] == 128 + number, done["output"]
        assert "is stored" in done["output"]
        assert "Run the same command again to go on" in done["output"]
        progress = registry().load("stopped", tensors=True).tensors["progress"]
        assert (progress["epoch"], progress["step"]) == (epoch - 1, 2)
    assert run(arguments=arguments("stopped", *logs))["code"] == 0
    for status in registry().statuses("whole"):
        stored_equal("stopped", "whole", status)
    again = run(arguments=arguments("stopped", *logs))
    assert again["code"] == 0
    assert "trained already" in again["output"]


# ---------------------------------------------------------------------- from Python


@pytest.fixture
def data(images):
    X, y = images
    return X[:100], y[:100], X[100:], y[100:]


def named(small, name, data, **changes):
    """A named training of everything random, but for the architecture."""
    train = {key: changes.pop(key) for key in ("resume",) if key in changes}
    return small("scatnet", **{**RANDOM, **changes}).train(*data, name=name, **train)


def test_more_epochs_go_on(small, data, same_learned):
    named(small, "parts", data, epochs=2)
    parts = named(small, "parts", data, epochs=4)
    same_learned(parts, named(small, "whole", data, epochs=4))
    stored_equal("parts", "whole")
    assert registry().statuses("parts") == ["checkpoint", "best", "e2", "e4"]


def test_cached_features_go_on(small, data):
    for epochs in (1, 3):
        named(small, "parts", data, epochs=epochs, augmentation=None)
    named(small, "whole", data, epochs=3, augmentation=None)
    stored_equal("parts", "whole")


def test_fit_by_name_is_fit(small, data, same_learned):
    same_learned(small("scatnet", **RANDOM).fit(*data, name="one"), small("scatnet", **RANDOM).fit(*data))


def test_a_finished_name_says_so(small, data, same_learned, caplog):
    whole = named(small, "whole", data)
    before = registry().frame()
    with caplog.at_level(logging.INFO, logger="sepconc"):
        again = named(small, "whole", data)
    assert '"whole" is trained already: 4 of 4 epochs' in caplog.text
    same_learned(again, whole)
    assert registry().frame().equals(before)
    again.evaluate((data[0], data[1]), store=True)  # it is what is stored
    assert named(small, "whole", data, epochs=2).current_epoch_ == 4


def test_no_seed_goes_on_with_the_one_that_was_drawn(small, data):
    named(small, "drawn", data, epochs=1, random_state=None)
    clf = named(small, "drawn", data, epochs=3, random_state=None)
    named(small, "whole", data, epochs=3, random_state=clf.seed_)
    stored_equal("drawn", "whole")


def test_load_for_training_goes_on(small, data, same_learned):
    named(small, "parts", data, epochs=2)
    clf = sepconc.ImageClassifier.load("parts", train=True)
    clf.set_params(warm_start=True, epochs=2)
    same_learned(clf.fit(*data), named(small, "whole", data, epochs=4))


def test_scores_do_not_outlive_the_weights(small, data):
    named(small, "parts", data, epochs=2).evaluate((data[0], data[1]), store=True)
    assert sepconc.ImageClassifier.load("parts").eval_scores_
    clf = named(small, "parts", data, epochs=3)
    assert clf.eval_scores_ == {}
    assert sepconc.ImageClassifier.load("parts").eval_scores_ == {}


def test_from_a_snapshot(small, data):
    named(small, "whole", data)
    named(small, "branch", data)
    named(small, "branch", data, resume=Resume(epoch=2))
    stored_equal("branch", "whole")
    named(small, "branch", data, epochs=3, resume=Resume(epoch=2))
    assert registry().find("branch").epoch == 3


def test_from_a_snapshot_that_is_not_there(small, data):
    with pytest.raises(ClassifierNotFound, match="nothing"):
        named(small, "nothing", data, resume=Resume(epoch=2))
    named(small, "whole", data, epochs=1)
    with pytest.raises(ClassifierNotFound, match=r'"e7".*checkpoint'):
        named(small, "whole", data, resume=Resume(epoch=7))


def copied(path, folder, *suffixes):
    """A copy of a state's files under another name."""
    for suffix in suffixes:
        (folder / f"copy{suffix}").write_bytes(path.with_suffix(suffix).read_bytes())
    return folder / "copy.tar"


def test_from_a_file(small, data, tmp_path):
    named(small, "whole", data)
    path = registry().paths(registry().find("whole", "e2"))["tar"]
    tar = copied(path, tmp_path, ".tar", ".classif", ".npz")
    clf = named(small, "from-file", data, resume=Resume(path=tar))
    assert len(clf.losses_) == 4 * 7
    stored_equal("from-file", "whole")


def test_from_a_file_without_its_record(small, data, tmp_path):
    named(small, "whole", data)
    path = registry().paths(registry().find("whole", "e2"))["tar"]
    clf = named(small, "from-file", data, resume=Resume(path=copied(path, tmp_path, ".tar")))
    assert clf.current_epoch_ == 4
    assert len(clf.losses_) == 2 * 7
    one, other = (registry().load(name, tensors=True).tensors["net"] for name in ("from-file", "whole"))
    assert_equal_tree(one, other, "net")


def test_files_that_are_no_training_state(small, data, tmp_path):
    with pytest.raises(BadParameter, match=r"No file .*nowhere\.tar"):
        named(small, "x", data, resume=Resume(path=tmp_path / "nowhere.tar"))
    (tmp_path / "text.tar").write_text("not a state")
    with pytest.raises(CorruptFile, match=r"text\.tar"):
        named(small, "x", data, resume=Resume(path=tmp_path / "text.tar"))
    torch.save({"net": {}}, tmp_path / "part.tar")
    with pytest.raises(CorruptFile, match=r"part\.tar isn't a training state"):
        named(small, "x", data, resume=Resume(path=tmp_path / "part.tar"))
    assert registry().names() == []


def test_from_a_file_of_other_parameters(small, data, tmp_path):
    small("scatnet", **{**RANDOM, "P_proj_size": 5}).fit(*data, name="narrow")
    path = registry().paths(registry().find("narrow"))["tar"]
    with pytest.raises(ParameterMismatch, match=r"P_proj_size 5 \(stored\) instead of 6"):
        named(small, "wide", data, resume=Resume(path=copied(path, tmp_path, ".tar", ".classif", ".npz")))
    with pytest.raises(CorruptFile, match="shape"):
        named(small, "wide", data, resume=Resume(path=copied(path, tmp_path / "..", ".tar")))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("lr", 0.02, r"lr 0\.01 \(stored\) instead of 0\.02"),
        ("P_proj_size", 5, r"P_proj_size 6 \(stored\) instead of 5"),
        ("augmentation", "flip", r"augmentation 'pad-crop-flip' \(stored\) instead of 'flip'"),
        ("random_state", 5, r"random_state 0 \(stored\) instead of 5"),
        ("lr_scheduler", None, r"lr_scheduler 'StepLR3' \(stored\) instead of None"),
        ("normalize", "mnist", r"normalize 'auto' \(stored\) instead of 'mnist'"),
    ],
)
def test_other_parameters_are_refused(small, data, field, value, text):
    named(small, "kept", data, epochs=1)
    before = registry().load("kept").row
    with pytest.raises(ParameterMismatch, match=rf'"kept" is stored with other parameters: {text}[.;]'):
        named(small, "kept", data, **{field: value})
    assert registry().find("kept") == before


def test_all_differences_are_listed(small, data):
    named(small, "kept", data, epochs=1)
    with pytest.raises(ParameterMismatch, match=r"momentum.*; scattering_J.*; weight_decay"):
        named(small, "kept", data, scattering_J=1, P_proj_size=4, momentum=0.5, weight_decay=0.0)
    with pytest.raises(ParameterMismatch, match=r"architecture scatnet \(stored\) instead of analysis"):
        small("analysis").fit(*data, name="kept")


@pytest.mark.parametrize("field", ["device", "workers", "print_freq", "predict_dtype", "cache_features", "snapshots"])
def test_parameters_of_the_run_may_change(small, data, field):
    other = {"device": "auto", "workers": 0, "print_freq": 9, "predict_dtype": "float32", "cache_features": False}
    named(small, "kept", data, epochs=1)
    assert named(small, "kept", data, epochs=2, **{field: other.get(field, 1)}).current_epoch_ == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda X, y: (X[:90], y[:90]), "number of training images 100 .stored. instead of 90"),
        (lambda X, y: (X[::-1], y[::-1]), "training images with another checksum"),
        (lambda X, y: (X, np.roll(y, 1)), "training images with another checksum"),
        (lambda X, y: (X[:, ::2, ::2], y), "images of 1×8×8 .stored. instead of 1×4×4"),
        (lambda X, y: (X, y % 9), "10 classes .stored. instead of 9"),
    ],
)
def test_other_data_is_refused(small, data, change, text):
    X, y, *_ = data
    small("scatnet", **RANDOM).fit(X, y, name="kept")
    with pytest.raises(ParameterMismatch, match=text):
        small("scatnet", **{**RANDOM, "epochs": 5}).fit(*change(X, y), name="kept")


def test_another_number_of_threads_warns(small, data, caplog):
    named(small, "kept", data, epochs=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        named(small, "kept", data, epochs=2)
    finally:
        torch.set_num_threads(threads)
    assert f'"kept" was trained with {threads} threads and goes on with {threads + 1}' in caplog.text


def test_start_again(small, data):
    named(small, "kept", data, epochs=4)
    clf = named(small, "kept", data, epochs=1, lr=0.02, save_best=False, resume=Resume(restart=True))
    assert clf.current_epoch_ == 1
    assert registry().statuses("kept") == ["checkpoint", "e1"]  # nothing of the old training is left
    assert {sepconc.ImageClassifier.load("kept", status).lr for status in ("checkpoint", "e1")} == {0.02}
    named(small, "again", data, epochs=1, lr=0.02, save_best=False)
    stored_equal("kept", "again")


def test_starting_again_keeps_the_old_one_until_there_is_a_new_one(small, data):
    named(small, "kept", data, epochs=2)
    rows = registry().rows()
    with pytest.raises(BadParameter):
        named(small, "kept", data, scattering_J=4, resume=Resume(restart=True))
    assert registry().rows() == rows


def test_bad_names_are_refused_before_training(small, data):
    for name in ("a/b", "..", "a b", "-x", "", "a" * 101):
        clf = small("scatnet")
        with pytest.raises(ValueError, match="name"):
            clf.fit(*data, name=name)
        assert not hasattr(clf, "net_")


# ---------------------------------------------------------------------- files, and what contradicts itself


def everything():
    """The registry's rows and files."""
    folder = registry().paths(registry().rows()[0])["tar"].parent
    return registry().rows(), sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())


def test_a_file_does_not_replace_what_is_stored(small, data, tmp_path):
    named(small, "whole", data, epochs=2)
    path = registry().paths(registry().find("whole", "e2"))["tar"]
    tar = copied(path, tmp_path, ".tar", ".classif", ".npz")
    before = everything()
    with pytest.raises(ClassifierExists, match=r'"whole" is stored already.*another name'):
        named(small, "whole", data, resume=Resume(path=tar))
    assert everything() == before


@pytest.mark.parametrize(
    ("changes", "count", "text"),
    [
        ({"lr": 0.5}, 100, r"lr 0\.01 \(stored\) instead of 0\.5"),
        ({}, 90, "number of training images 100 .stored. instead of 90"),
        ({"normalize": "mnist"}, 100, "normalize 'auto' .stored. instead of 'mnist'"),
    ],
)
def test_a_file_of_other_parameters_or_data(small, data, tmp_path, changes, count, text):
    X, y, *val = data
    named(small, "whole", data, epochs=2)
    path = registry().paths(registry().find("whole", "e2"))["tar"]
    tar = copied(path, tmp_path, ".tar", ".classif", ".npz")
    with pytest.raises(ParameterMismatch, match=rf"copy\.tar was made with other parameters: .*{text}"):
        named(small, "other", (X[:count], y[:count], *val), resume=Resume(path=tar), **changes)
    assert registry().names() == ["whole"]


@pytest.mark.parametrize(
    ("resume", "flags"),
    [
        (Resume(epoch=2, path=Path("x.tar")), "-r and --resume contradict"),
        (Resume(epoch=2, restart=True), "-r and -f contradict"),
        (Resume(path=Path("x.tar"), restart=True), "--resume and -f contradict"),
        (Resume(epoch=2, path=Path("x.tar"), restart=True), "-r and --resume and -f contradict"),
    ],
)
def test_one_place_to_go_on_from(small, data, resume, flags):
    named(small, "whole", data, epochs=2)
    before = everything()
    with pytest.raises(BadParameter, match=flags):
        named(small, "whole", data, resume=resume)
    assert everything() == before


def test_a_file_that_has_the_epochs_already(small, data, tmp_path):
    named(small, "whole", data, epochs=2)
    path = registry().paths(registry().find("whole", "e2"))["tar"]
    tar = copied(path, tmp_path, ".tar", ".classif", ".npz")
    with pytest.raises(BadParameter, match=r"copy\.tar has 2 epochs already, of 2.*--epochs"):
        named(small, "other", data, epochs=2, resume=Resume(path=tar))
    assert registry().names() == ["whole"]


class Shaken(torch.utils.data.Dataset):
    """Items that never repeat: a random shift at every look."""

    def __init__(self, X, y):
        self.X, self.targets, self.generator = torch.from_numpy(X)[:, None], y.tolist(), np.random.default_rng()

    def __len__(self):
        return len(self.X)

    def __getitem__(self, k):
        return torch.roll(self.X[k], int(self.generator.integers(3)), 2), self.targets[k]


def test_a_data_set_with_random_transforms_goes_on(small, data):
    X, y, *_ = data
    small("scatnet", epochs=1).fit(Shaken(X, y), name="shaken")
    assert small("scatnet", epochs=2).fit(Shaken(X, y), name="shaken").current_epoch_ == 2
    with pytest.raises(ParameterMismatch, match="checksum"):
        small("scatnet", epochs=3).fit(Shaken(X, y[::-1].copy()), name="shaken")
