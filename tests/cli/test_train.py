"""``train.py``: training, going on, starting again; what is stored, logged and shown; wrong use."""

import csv
import io
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import sepconc
from sepconc.cli.progress import Bar, Lines, console_observer
from sepconc.cli.train import main as train_main
from sepconc.data.readers import load_dataset
from sepconc.estimators.base import ImageClassifier
from sepconc.training.observers import EpochEnd, Report

from ..conftest import DATA, REPOSITORY, need
from .conftest import SMALL, Outcome, one_line_error

WIDTHS = {
    "analysis": "--frame-kernel-size 7 --frame-stride 7 --frame-width 64",
    "scatnet": "--scattering-J 3 --P-proj-size 32",
    "scatnetblock": "--n-blocks 2 --P-proj-size 16 32 --avg-ker-size 2",
    "scatnetblockanalysis": "--n-blocks 2 --P-proj-size 16 32 --frame-width 32 64",
}
"""Options that make each architecture small."""


def registry_rows(place: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The registry's table as it lies on disk: (name, status) -> row."""
    path = place / "classif_db.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["name"], row["status"]): row for row in csv.DictReader(file)}


def nothing_stored(place: Path) -> bool:
    """Whether neither a row nor a file is in the registry, and no log was written."""
    written = {path.name for path in place.iterdir()} - {"config.yml", "data"}
    return not registry_rows(place) and not written


@pytest.fixture
def kept(monkeypatch) -> list[ImageClassifier]:
    """The classifiers that trainings in this process made."""
    made = []
    train = ImageClassifier.train
    monkeypatch.setattr(ImageClassifier, "train", lambda self, *a, **k: made.append(self) or train(self, *a, **k))
    return made


# ---------------------------------------------------------------------- real images


def learns(outcome: Outcome, clf: ImageClassifier, images: object) -> None:
    """Assert that the loss fell, and that what is stored predicts as what was trained."""
    assert outcome.code == 0, outcome.err
    losses = clf.losses_
    fifth = len(losses) // 5
    assert fifth >= 2
    assert losses[-fifth:].mean() < 0.85 * losses[:fifth].mean()
    loaded = ImageClassifier.load("net")
    np.testing.assert_array_equal(loaded.decision_function(images), clf.decision_function(images))
    np.testing.assert_array_equal(loaded.losses_, losses)
    assert loaded.score(images) > 0.2
    assert ("Validation" in outcome.out) == bool(clf.val_errs_)


@pytest.mark.parametrize("arch", WIDTHS)
def test_an_architecture_learns_mnist(arch, train, kept, mnist_root):
    words = ["--data", mnist_root, "-ds", "MNIST", "--n-imgs", "1200", "-b", "32", "--epochs", "1", "--lr", "0.05"]
    outcome = train("net", "-a", arch, *WIDTHS[arch].split(), *words, "--seed", "0", "--device", "cpu")
    learns(outcome, kept[0], load_dataset("mnist", "test", root=mnist_root, n_imgs=100))
    assert kept[0].dataset_["images"] == 1200


@pytest.mark.slow
@pytest.mark.parametrize("arch", WIDTHS)
def test_an_architecture_learns_cifar10(arch, train, kept):
    need((DATA / "cifar-10-batches-bin").is_dir(), "data", f"no CIFAR-10 in {DATA}")
    words = ["--data", DATA, "-ds", "CIFAR10", "--n-imgs", "2000", "-b", "32", "--epochs", "2", "--no-validation"]
    words += ["--lr", "0.01" if arch == "analysis" else "0.05"]
    outcome = train("net", "-a", arch, *WIDTHS[arch].split(), *words, "--seed", "0", "--device", "cpu")
    learns(outcome, kept[0], load_dataset("cifar10", "test", root=DATA, n_imgs=100))


def test_a_readme_command_learns_mnist_as_written(train, kept, mnist_root):
    text = "--dataset mnist -a scatnet -j 10 --scattering-J 3 --P-proj-size 128 --epochs 300 --batch-size 128 --lr 0.01"
    text += " --learning-rate-adjust-frequency 70 --dir logs/here --epochs 2 --n-imgs 640"
    assert train("net", *text.split(), "--data", mnist_root).code == 0
    assert len(kept[0].losses_) == 10
    assert list(Path("logs/here").glob("events.out.tfevents.*"))
    assert kept[0].lr_scheduler == "StepLR70"


# ---------------------------------------------------------------------- what is stored


def test_statuses_and_columns(trained):
    rows = registry_rows(trained)
    assert set(rows) == {("net", "checkpoint"), ("net", "e1"), ("net", "e2")}
    row = rows["net", "checkpoint"]
    assert list(row)[:6] == ["name", "status", "filename", "commit", "script", "args_script"]
    assert (row["script"], row["arch"], row["dataset"], row["epoch"]) == ("train.py", "scatnet", "digits", "2")
    assert row["args_script"].startswith("net -ds digits -a scatnet --scattering-J 2")


def test_save_best_stores_the_best_epoch(train, place):
    assert train("net", *SMALL, "--epochs", "2", "--save-best").code == 0
    best = ImageClassifier.load("net", "best")
    assert best.val_errs_[best.current_epoch_][1] == min(e[1] for e in ImageClassifier.load("net").val_errs_.values())


def test_the_summary_tells_what_comes_next(train):
    outcome = train("net", *SMALL, "--epochs", "2")
    assert outcome.code == 0
    texts = ["net (scatnet on digits)", "Epochs:     2\n", "Updates:    8\n", "error ", "at epoch", "classif_db.csv"]
    assert [text for text in texts if text not in outcome.out] == []
    assert "python eval.py net -em onecrop" in outcome.out
    assert "projection" in outcome.out


def test_max_steps_stores_nothing(train, place):
    outcome = train("net", *SMALL, "--epochs", "2", "--max-steps", "3")
    assert outcome.code == 0
    assert "net: 3 updates, nothing stored" in outcome.out
    assert nothing_stored(place)


def test_max_steps_goes_on_over_epochs(train, place):
    outcome = train("net", *SMALL, "--epochs", "3", "--max-steps", "6")
    assert "net: 6 updates, nothing stored" in outcome.out
    assert nothing_stored(place)


def test_dummy_images_can_be_trained_on_and_stored(train, place, kept):
    words = ["-a", "scatnet", "-ds", "cifar100", "--dummy", "--n-imgs", "40", "--nb-classes", "7", "--size", "16"]
    assert train("net", *words, "--scattering-J", "2", "--P-proj-size", "4", "--epochs", "1", "-b", "20").code == 0
    assert kept[0].image_shape_ == (3, 16, 16)
    assert len(kept[0].classes_) == 7
    assert registry_rows(place)["net", "checkpoint"]["dataset"] == "dummy:cifar100"


def test_dummy_images_have_all_classes_of_their_set(train, kept):
    words = ["-a", "analysis", "-ds", "cifar100", "--dummy", "--n-imgs", "8", "--max-steps", "1", "-b", "4"]
    words += ["--frame-kernel-size", "8", "--frame-stride", "8", "--frame-width", "8"]
    assert train("net", *words).code == 0
    assert len(kept[0].classes_) == 100


def test_few_images_of_each_class_leave_validation_whole(train, evaluate, kept):
    words = [word for word in SMALL if word not in ("--n-imgs", "200")]
    outcome = train("few", *words, "--n-imgs-per-class", "12", "--class-indices", "0-4,7", "--epochs", "1")
    assert outcome.code == 0
    assert kept[0].dataset_["images"] == 6 * 12
    assert kept[0].dataset_["classes"] == [0, 1, 2, 3, 4, 7]
    whole, some = (load_dataset("digits", "val", class_indices="0-4,7", n_imgs_per_class=n) for n in (None, 12))
    classes = np.asarray([0, 1, 2, 3, 4, 7])
    wrong, other = (float(np.mean(kept[0].predict(each.images) != classes[each.labels])) for each in (whole, some))
    assert kept[0].val_errs_[1][1] == pytest.approx(wrong)
    assert train("few", "-e").out.startswith(f"top1: {100 * (1 - wrong):.1f} %\n")
    assert f"{100 * wrong:.1f}" != f"{100 * other:.1f}"  # so that they can be told apart
    outcome = train("few", "--epochs", "2")
    assert outcome.code == 0
    assert kept[-1].dataset_["images"] == 6 * 12
    assert evaluate("few", "--n-imgs-per-class", "3").code == 0
    assert ImageClassifier.load("few").eval_scores_["digits"]["test"]["onecrop"]["top1"][0].n_images == 6 * 3


def test_no_validation_trains_on_everything(train, kept):
    plain = [word for word in SMALL if word not in ("--n-imgs", "200")]
    assert train("a", *plain, "--max-steps", "1").code == 0
    outcome = train("b", *plain, "--epochs", "1", "--no-validation")
    assert outcome.code == 0
    assert kept[0].dataset_["images"] < kept[1].dataset_["images"] == 1437
    assert kept[1].val_errs_ == {}
    assert "Validation" not in outcome.out
    assert "has seen the validation images" in train("b", "-e").err


def test_a_plateau_schedule_needs_validation(train, place):
    outcome = train("net", *SMALL, "--epochs", "1", "--no-validation", "--lr-scheduler", "ReduceLROnPlateau")
    one_line_error(outcome, "ReduceLROnPlateau", "validation", "StepLR30")
    assert not registry_rows(place)


def test_classes_drawn_with_the_seed(train, kept):
    for seed in ("1", "1", "2"):
        assert train("net", *SMALL, "--max-steps", "1", "--nb-classes", "4", "--seed", seed).code == 0
    first, again, other = (clf.dataset_["classes"] for clf in kept)
    assert len(kept[0].classes_) == len(first) == 4
    assert first == again != other


@pytest.mark.parametrize("kind", ["txt", "npy"])
def test_classes_from_a_file(train, evaluate, place, kept, kind):
    if kind == "txt":
        (place / "some.txt").write_text("# three digits\n7 1\n3\n")
    else:
        np.save(place / "some.npy", np.array([7, 1, 3]))
    assert train("net", *SMALL, "--epochs", "1", "--class-indices", f"some.{kind}", "--nb-classes", "3").code == 0
    assert kept[0].dataset_["classes"] == [1, 3, 7]
    assert evaluate("net").code == 0
    assert ImageClassifier.load("net").eval_scores_["digits"]["test"]["onecrop"]["top1"][0].n_images < 120


def test_a_class_file_that_is_not_there_is_one_line(train):
    one_line_error(train("net", *SMALL, "--class-indices", "nowhere.txt"), "nowhere.txt", "imagenet10")


def test_split_and_size_of_the_images(train, kept):
    assert train("net", *SMALL, "--max-steps", "1", "--split", "test", "--size", "16").code == 0
    assert kept[0].dataset_["split"] == "test"
    assert kept[0].image_shape_ == (1, 16, 16)


# ---------------------------------------------------------------------- going on


def test_a_finished_name_says_so(trained, train):
    before = registry_rows(trained)
    outcome = train("net")
    assert outcome.code == 0
    assert '"net" is trained already: 2 of 2 epochs.' in outcome.err
    assert registry_rows(trained) == before


def test_a_name_alone_goes_on_with_the_stored_options(trained, train, kept):
    outcome = train("net", "--epochs", "3")
    assert outcome.code == 0, outcome.err
    clf = kept[0]
    assert (clf.current_epoch_, clf.batch_size, clf.scattering_J, clf.dataset_["images"]) == (3, 50, 2, 200)
    assert registry_rows(trained)["net", "checkpoint"]["epoch"] == "3"
    assert "epoch 3/3" in outcome.err
    assert "epoch 2/3" not in outcome.err
    again = train("net")
    assert "3 of 3 epochs" in again.err


def test_going_on_equals_not_stopping(trained, train):
    assert train("net", "--epochs", "3").code == 0
    assert train("other", *SMALL, "--epochs", "3").code == 0
    went_on, whole = (ImageClassifier.load(name).net_.state_dict() for name in ("net", "other"))
    assert all(torch.equal(whole[key], tensor) for key, tensor in went_on.items())
    assert list(ImageClassifier.load("net").losses_) == list(ImageClassifier.load("other").losses_)


def test_the_full_command_again_goes_on_too(trained, train, kept):
    assert train("net", *SMALL, "--epochs", "3", "--snapshots", "1").code == 0
    assert kept[0].current_epoch_ == 3


def test_resume_from_a_snapshot(trained, train, kept):
    outcome = train("net", "-r", "1")
    assert outcome.code == 0, outcome.err
    assert "epoch 2/2" in outcome.err
    assert len(kept[0].losses_) == 8
    assert "2 of 2 epochs" in train("net").err


def test_resume_from_a_snapshot_that_is_not_there(trained, train):
    one_line_error(train("net", "-r", "7"), '"net"', '"e7"', "e1", "e2")


def test_resume_from_a_file(trained, train, kept):
    path = trained / "classif" / f"{registry_rows(trained)['net', 'e1']['filename']}.tar"
    assert train("copy", *SMALL, "--epochs", "2", "--resume", path).code == 0
    whole, resumed = (ImageClassifier.load(name).net_.state_dict() for name in ("net", "copy"))
    assert all(torch.equal(whole[key], tensor) for key, tensor in resumed.items())


@pytest.mark.parametrize("kind", ["tar", "npz", "classif"])
def test_a_damaged_file_of_the_registry_is_not_resumed(trained, train, kind):
    path = trained / "classif" / f"{registry_rows(trained)['net', 'e1']['filename']}.{kind}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    outcome = train("copy", *SMALL, "--epochs", "2", "--resume", path.with_suffix(".tar"))
    assert outcome.code == 1, outcome.out
    assert path.name in outcome.err
    assert "SHA-256" in outcome.err
    assert ("copy", "checkpoint") not in registry_rows(trained)


def test_a_damaged_file_beside_its_record_is_not_resumed(trained, train):
    path = tar_of(trained, "e1")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    outcome = train("copy", *SMALL, "--epochs", "2", "--resume", path)
    assert outcome.code == 1
    assert path.name in outcome.err
    assert "SHA-256" in outcome.err.splitlines()[-1]


def test_resume_from_a_file_that_is_not_there(train, place):
    one_line_error(train("net", *SMALL, "--resume", "nowhere.tar"), "nowhere.tar", "-r EPOCH")
    assert not registry_rows(place)


def test_other_parameters_are_refused_with_the_differences(trained, train):
    before = registry_rows(trained)
    outcome = train("net", *SMALL, "--epochs", "3", "--P-proj-size", "16", "--lr", "0.5")
    texts = ["P_proj_size 8 (stored) instead of 16", "lr 0.01 (stored) instead of 0.5", "-f"]
    one_line_error(outcome, '"net"', *texts)
    assert registry_rows(trained) == before


def test_other_images_are_refused(trained, train):
    one_line_error(train("net", "--n-imgs", "150"), "number of training images 200 (stored) instead of 150")


def test_another_architecture_is_refused(trained, train):
    outcome = train("net", *SMALL, "-a", "scatnetblock", "--n-blocks", "2")
    assert outcome.code == 2
    assert "architecture scatnet (stored) instead of scatnetblock" in outcome.err


def test_a_refused_training_leaves_no_log(trained, train):
    before = sorted((trained / "runs").rglob("*"))
    assert train("net", "--lr", "0.5").code == 2
    assert train("net").code == 0
    assert sorted((trained / "runs").rglob("*")) == before


@pytest.mark.parametrize("logs", [[], ["--dir", "some/where"]])
def test_a_refused_training_leaves_no_folder_of_logs(train, place, monkeypatch, logs):
    words = [*SMALL, "--epochs", "1", "--start-epoch", "1", *logs]
    one_line_error(train("net", *words), "start_epoch")
    assert {path.name for path in place.iterdir()} == {"config.yml"}
    (place / "some").mkdir()
    one_line_error(train("net", *words), "start_epoch")
    assert {path.name for path in place.iterdir()} == {"config.yml", "some"}


def test_images_of_a_relative_path_are_found_from_another_folder(train, place, monkeypatch, kept):
    rng = np.random.default_rng(0)
    np.savez("own.npz", X=rng.integers(0, 256, (60, 16, 16), dtype=np.uint8), y=np.arange(60) % 3)
    words = ["-ds", "npz:own.npz", "-b", "16", "--scattering-J", "2", "--P-proj-size", "4", "--device", "cpu"]
    assert train("net", "-a", "scatnet", *words, "--epochs", "1").code == 0
    (place / "deeper").mkdir()
    monkeypatch.chdir("deeper")
    outcome = train("net", "--epochs", "2")
    assert outcome.code == 0, outcome.err
    assert kept[1].current_epoch_ == 2
    (place / "own.npz").rename(place / "deeper" / "moved.npz")
    outcome = train("net", "-ds", "npz:moved.npz", "--epochs", "3")
    assert outcome.code == 0, outcome.err
    assert train("net", "--epochs", "4").code == 0
    assert kept[3].dataset_["name"] == f"npz:{place}/deeper/moved.npz"


def test_the_configuration_s_data_set_is_recorded(train, place, kept):
    config = (place / "config.yml").read_text()
    (place / "config.yml").write_text(f"{config}defaults: {{dataset: digits}}\n")
    assert train("net", *SMALL[2:], "--epochs", "1").code == 0
    (place / "config.yml").write_text(config)
    assert train("net", "--epochs", "2").code == 0
    assert kept[1].dataset_["name"] == "digits"


def test_classes_written_out(train, kept):
    assert train("net", *SMALL, "--max-steps", "1", "--class-indices", "7,1,3").code == 0
    assert kept[0].dataset_["classes"] == [1, 3, 7]
    one_line_error(train("net", *SMALL, "--class-indices", "7,77"), "class_indices", "77")


def test_threads(train, trained, kept):
    before = torch.get_num_threads()
    try:
        assert train("net", "--epochs", "3", "--threads", str(before + 2)).code == 0
        assert torch.get_num_threads() == before + 2
        torch.set_num_threads(before)
        outcome = train("net", "--epochs", "4")
        assert outcome.code == 0
        assert torch.get_num_threads() == before + 2  # as stored
        assert "threads" not in outcome.err
    finally:
        torch.set_num_threads(before)
    one_line_error(train("net", "--epochs", "5", "--threads", "0"), "--threads", "at least 1", "0")


def test_overwrite_starts_again(trained, train, kept):
    outcome = train("net", "-f", "--lr", "0.5", "--epochs", "1")
    assert outcome.code == 0, outcome.err
    assert (kept[0].current_epoch_, kept[0].lr, len(kept[0].losses_)) == (1, 0.5, 4)
    assert registry_rows(trained)["net", "checkpoint"]["epoch"] == "1"
    assert "1 of 1 epochs" in train("net").err  # the stored options don't start it again


def test_overwrite_leaves_no_state_of_the_training_before(trained, train):
    assert train("net", "-f", "--epochs", "1").code == 0
    assert set(registry_rows(trained)) == {("net", "checkpoint"), ("net", "e1")}


@pytest.mark.parametrize("words", [["-e"], ["--evaluate", *SMALL]])
def test_evaluate_measures_the_validation_images(trained, train, words):
    before = registry_rows(trained)
    outcome = train("net", *words)
    assert outcome.code == 0, outcome.err
    error = ImageClassifier.load("net").val_errs_[2][1]
    assert f"top1: {100 * (1 - error):.1f} %" in outcome.out
    assert registry_rows(trained) == before


def test_evaluate_of_an_unknown_name(train):
    one_line_error(train("net", "-e", *SMALL), '"net"')


# ---------------------------------------------------------------------- being stopped


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stores_a_checkpoint_and_says_how_to_go_on(train, place, monkeypatch, number, code):
    seen = []

    def stop(self: Lines, report: Report) -> None:
        seen.append(report)
        if len(seen) == 6:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "report", stop)
        outcome = train("net", *SMALL, "--epochs", "3", "-p", "1")
    assert outcome.code == code
    assert "interrupted after 1 epochs and 2 updates" in outcome.err
    assert "Run the same command again to go on." in outcome.err
    assert registry_rows(place)["net", "checkpoint"]["epoch"] == "1"
    assert train("net").code == 0
    assert train("whole", *SMALL, "--epochs", "3").code == 0
    stopped, whole = (ImageClassifier.load(name) for name in ("net", "whole"))
    assert list(stopped.losses_) == list(whole.losses_)
    state = stopped.net_.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in whole.net_.state_dict().items())


@pytest.mark.parametrize("moment", ["before", "after"])
def test_sigterm_outside_the_epochs_is_told(train, place, monkeypatch, moment):
    """While images are read, or features computed, or when all is done: nobody waits for the end of an update then."""
    from sepconc.estimators import fitting

    def stop(*arguments: object, **named: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    monkeypatch.setattr(*((fitting, "_feeds") if moment == "before" else ("sepconc.cli.train.training_summary",)), stop)
    handler = signal.getsignal(signal.SIGTERM)
    outcome = train("net", *SMALL, "--epochs", "2")
    assert outcome.code == 143
    assert "Traceback" not in outcome.err
    told = "nothing is stored under that name" if moment == "before" else "it is stored with 2 epochs"
    last = f'train.py: "net" was stopped by SIGTERM; {told}. Run the same command again.'
    assert outcome.err.splitlines()[-1] == last
    assert bool(registry_rows(place)) == (moment == "after")
    assert (place / "runs").exists() == (moment == "after")
    assert signal.getsignal(signal.SIGTERM) is handler


# ---------------------------------------------------------------------- logs and progress


def test_events_are_written_under_the_logs_folder(trained):
    events = list((trained / "runs" / "net").glob("events.out.tfevents.*"))
    assert len(events) == 1
    assert b"val_error/top1" in events[0].read_bytes()


def test_events_are_written_where_dir_says(train, place):
    assert train("net", *SMALL, "--epochs", "1", "--dir", "some/where").code == 0
    assert len(list((place / "some" / "where").glob("events.out.tfevents.*"))) == 1
    assert not (place / "runs").exists()


def test_a_log_folder_that_cannot_be_made_is_one_line(train, place):
    (place / "file").write_text("")
    one_line_error(train("net", *SMALL, "--epochs", "1", "--dir", "file/logs"), "file/logs", "--dir")
    assert not registry_rows(place)


def test_progress_is_plain_lines_without_a_terminal(train):
    outcome = train("net", *SMALL, "--epochs", "2", "-p", "1")
    ends = [line for line in outcome.err.splitlines() if "validation error" in line]
    assert [line.split("  ")[0] for line in ends] == ["epoch 1/2", "epoch 2/2"]
    assert all(word in ends[0] for word in ("loss ", "accuracy ", "lr 0.01"))
    assert "\r" not in outcome.err
    assert "\x1b" not in outcome.err


def test_a_line_within_a_long_epoch():
    stream = io.StringIO()
    lines = Lines(stream, pause=0)
    for step in (4, 8):
        lines.report(Report(1, 2, step, 8, 1.25, 0.5, 321.0, 12.0))
    text = "epoch 1/2  update 4/8  loss 1.2500  accuracy 50.0 %  321 images/s  12 s left\n"
    assert stream.getvalue() == text  # the last update of an epoch is told by the line of the epoch
    Lines(stream).report(Report(2, 2, 4, 8, 1.25, 0.5, 321.0, 12.0))
    assert stream.getvalue() == text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal():
    stream = Terminal()
    bar = console_observer(stream)
    assert isinstance(bar, Bar)
    bar.report(Report(1, 2, 4, 8, 1.25, 0.5, 321.0, 12.0))
    bar.report(Report(1, 2, 8, 8, 1.0, 0.625, 321.0, 6.0))
    bar.epoch_ended(EpochEnd(1, 2, 8, 1.0, 0.625, 0.01, {1: 0.25}, 3.0))
    bar.report(Report(2, 2, 8, 8, 0.5, 0.75, 321.0, 0.0))
    bar.close()
    text = stream.getvalue()
    assert "\r" in text
    for part in ("epoch 2/2: 100%", " left, loss 0.5000", "accuracy 75.0 %", "321 images/s", "(validation 75.0 %)"):
        assert part in text
    assert isinstance(console_observer(io.StringIO()), Lines)


def test_a_bar_that_never_started_closes():
    stream = Terminal()
    console_observer(stream).close()
    assert stream.getvalue() == ""


def command(*words: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / "train.py"), *words]


def buffered() -> dict[str, str]:
    """The environment, in which Python buffers what it writes."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def test_a_bar_on_a_pseudo_terminal(place):
    leader, follower = pty.openpty()
    received = bytearray()

    def read() -> None:
        while True:
            try:
                received.extend(os.read(leader, 4096))
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    words = [*SMALL, "--epochs", "1", "-p", "1"]
    done = subprocess.run(command("net", *words), stdout=subprocess.PIPE, stderr=follower, text=True, check=False)
    os.close(follower)
    reader.join()
    os.close(leader)
    assert done.returncode == 0
    assert b"\r" in received
    assert b"epoch 1/1: 100%" in received
    assert "Classifier: net" in done.stdout


def test_a_reader_that_leaves_stops_nothing(place):
    """``train.py … 2>&1 | head -n 0``: the training is stored all the same, and nobody sees a trace."""
    process = subprocess.Popen(
        command("net", *SMALL, "--epochs", "2"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=buffered()
    )
    process.stdout.close()
    assert process.wait(timeout=300) == 0
    assert registry_rows(place)["net", "checkpoint"]["epoch"] == "2"


def test_a_closed_stdout_leaves_no_trace():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("--help"), stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=buffered()
    )
    os.close(writer)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "BrokenPipeError" not in done.stderr


@pytest.mark.parametrize(
    ("module", "words"),
    [("train", ["--help"]), ("train", ["net"]), ("main", ["datasets"])],
)
def test_an_ascii_locale_breaks_nothing(trained, module, words):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment.pop("PYTHONIOENCODING", None)
    code = f"from sepconc.cli.{module} import main; raise SystemExit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()


# ---------------------------------------------------------------------- configuration


def test_defaults_of_the_configuration_are_used(train, place, kept):
    (place / "config.yml").write_text(
        "registry: {csv: here.csv, folder: there}\nlogs: runs\n"
        "defaults: {dataset: digits, device: cpu, workers: 1, print_freq: 2}\n"
    )
    words = [word for word in SMALL[2:] if word not in ("--device", "cpu")]
    outcome = train("net", *words, "--epochs", "1")
    assert outcome.code == 0, outcome.err
    assert (kept[0].device, kept[0].workers, kept[0].print_freq) == ("cpu", 1, 2)
    assert (place / "here.csv").is_file()
    assert len(list((place / "there").glob("*.tar"))) == 2


def test_an_option_wins_over_the_configuration(train, place, kept):
    (place / "config.yml").write_text("registry: {csv: a.csv, folder: b}\nlogs: runs\ndefaults: {print_freq: 2}\n")
    assert train("net", *SMALL, "--max-steps", "1", "-p", "9").code == 0
    assert kept[0].print_freq == 9


def test_a_wrong_configuration_is_one_line(train, place):
    (place / "config.yml").write_text("registry: {cvs: a.csv}\n")
    one_line_error(train("net", *SMALL), "config.yml", "registry.cvs", "csv")


# ---------------------------------------------------------------------- wrong use


@pytest.mark.parametrize("words", [[], ["-ds", "imagenet"]])
def test_missing_imagenet_says_where_and_suggests_digits(train, place, words):
    outcome = train("net", "-a", "scatnet", *words)
    one_line_error(outcome, str(place / "data"), "-ds digits")
    assert nothing_stored(place)


def test_missing_data_says_where_and_how_to_get_them(train, place):
    outcome = train("net", "-a", "scatnet", "-ds", "mnist", "--data", place / "elsewhere")
    one_line_error(outcome, str(place / "elsewhere"), "--download")


@pytest.mark.parametrize("name", ["a/b", "..", "../a", "a b", "", "ä", "a" * 101, ".hidden", "a.", "/etc/x"])
def test_a_bad_name_is_refused(train, place, name):
    outcome = train(name, *SMALL, "--epochs", "1")
    one_line_error(outcome, "name")
    assert nothing_stored(place)


def test_a_name_with_a_leading_dash_is_refused(train, place):
    one_line_error(train("-net", *SMALL, "--epochs", "1"), "NAME")
    one_line_error(train(*SMALL, "--epochs", "1", "--", "-net"), "-net", "name")
    assert nothing_stored(place)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_where_it_was_asked(train, place):
    one_line_error(train("net", *SMALL, "--device", "cuda"), "cuda", "--device cpu")
    assert not registry_rows(place)


def test_a_loss_that_becomes_nan_fails(train, place):
    outcome = train("net", *SMALL, "--epochs", "3", "--lr", "1e30")
    assert outcome.code == 1
    assert "smaller learning rate" in outcome.err
    assert "Traceback" not in outcome.err
    assert not registry_rows(place)


def test_a_loss_that_becomes_nan_leaves_the_checkpoint(trained, train):
    state = ImageClassifier.load("net").net_.state_dict()
    path = trained / "classif" / f"{registry_rows(trained)['net', 'e1']['filename']}.tar"
    assert train("bad", *SMALL, "--lr", "1e30", "--epochs", "3", "--start-epoch", "1").code == 1
    assert path.is_file()
    again = ImageClassifier.load("net").net_.state_dict()
    assert all(torch.equal(again[key], tensor) for key, tensor in state.items())


@pytest.mark.parametrize(("suffix", "words"), [(".tar", ["--epochs", "3"]), (".classif", ["--epochs", "3"])])
def test_a_damaged_checkpoint_is_not_gone_on_from(trained, train, suffix, words):
    before = registry_rows(trained)
    path = trained / "classif" / (before["net", "checkpoint"]["filename"] + suffix)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    outcome = train("net", *words)
    assert outcome.code == 1
    assert path.name in outcome.err
    assert "Traceback" not in outcome.err
    assert registry_rows(trained) == before


def test_debug_shows_the_trace(place):
    with pytest.raises(sepconc.errors.BadParameter):
        train_main(["net", *SMALL, "--lr", "0", "--debug"])


# ---------------------------------------------------------------------- going on, and what contradicts itself


def tar_of(place: Path, status: str) -> Path:
    """The file of the stored classifier's weights, copied with what lies beside it."""
    stem = registry_rows(place)["net", status]["filename"]
    (place / "copied").mkdir(exist_ok=True)
    for path in (place / "classif").glob(f"{stem}.*"):
        (place / "copied" / f"{status}{path.suffix}").write_bytes(path.read_bytes())
    return place / "copied" / f"{status}.tar"


def without_warnings(outcome: Outcome) -> Outcome:
    """Without the lines that say that a file from elsewhere can't be verified."""
    lines = [line for line in outcome.err.splitlines() if "can't be verified" not in line]
    return outcome._replace(err="\n".join(lines))


def test_a_file_is_not_resumed_over_a_stored_name(trained, train):
    path, before = tar_of(trained, "e1"), registry_rows(trained)
    one_line_error(train("net", "--resume", path), '"net" is stored already', "another name", "-r EPOCH")
    assert registry_rows(trained) == before


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--lr", "0.5"], "lr 0.01 (stored) instead of 0.5"),
        (["--n-imgs", "150"], "number of training images 200 (stored) instead of 150"),
    ],
)
def test_a_file_of_another_training_is_not_resumed(trained, train, words, text):
    path, before = tar_of(trained, "e1"), registry_rows(trained)
    outcome = train("copy", *SMALL, "--epochs", "2", *words, "--resume", path)
    one_line_error(without_warnings(outcome), "e1.tar", text)
    assert registry_rows(trained) == before


def test_a_file_that_has_the_epochs_is_not_resumed(trained, train):
    path, before = tar_of(trained, "e2"), registry_rows(trained)
    outcome = train("copy", *SMALL, "--epochs", "2", "--resume", path)
    one_line_error(without_warnings(outcome), "2 epochs already", "--epochs")
    assert registry_rows(trained) == before


@pytest.mark.parametrize(
    "words", [["-r", "1", "-f"], ["-r", "1", "--resume"], ["-f", "--resume"], ["-r", "1", "-f", "--resume"]]
)
def test_one_place_to_go_on_from(trained, train, words):
    path, before = tar_of(trained, "e1"), registry_rows(trained)
    words = [*words, path] if words[-1] == "--resume" else words
    one_line_error(train("net", *words), "contradict each other")
    assert registry_rows(trained) == before


@pytest.mark.parametrize("name_first", [True, False])
def test_a_name_alone_goes_on_wherever_the_options_stood(train, place, kept, monkeypatch, name_first):
    (place / "some.txt").write_text("7 1 3")
    words = [*SMALL, "--class-indices", "some.txt", "--lr-scheduler", "StepLR2", "--no-validation", "--epochs", "1"]
    assert train(*(["net", *words] if name_first else [*words, "net"])).code == 0
    (place / "else" / "where").mkdir(parents=True)
    monkeypatch.chdir(place / "else" / "where")
    outcome = train(*(["--epochs", "2", "net"] if name_first else ["net", "--epochs", "2"]))
    assert outcome.code == 0, outcome.err
    clf = kept[1]
    assert (clf.current_epoch_, clf.batch_size, clf.lr_scheduler, clf.val_errs_) == (2, 50, "StepLR2", {})
    assert clf.dataset_["classes"] == [1, 3, 7]
    assert registry_rows(place)["net", "checkpoint"]["epoch"] == "2"


def test_a_name_made_from_python_says_so(train, place):
    X, y = np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32), np.arange(20) % 2
    sepconc.AnalysisClassifier(frame_width=4, epochs=1, device="cpu").fit(X, y, name="arrays")
    one_line_error(train("arrays"), '"arrays" was trained from Python', "-a", "sepconc archs")
    one_line_error(train("nothing"), '"nothing" isn\'t stored yet', "-a")
    one_line_error(train("arays"), '"arays" isn\'t stored yet (close names: arrays)', "-a")


# ---------------------------------------------------------------------- measuring with -e


def val_error(name: str, status: str) -> float:
    clf = ImageClassifier.load(name, status, load_net=False)
    return clf.val_errs_[clf.current_epoch_][1]


def test_evaluate_measures_a_snapshot(trained, train):
    before = registry_rows(trained)
    for epoch in ("1", "2"):
        outcome = train("net", "-e", "-r", epoch)
        assert outcome.code == 0, outcome.err
        assert f"top1: {100 * (1 - val_error('net', f'e{epoch}')):.1f} %" in outcome.out
    assert val_error("net", "e1") != val_error("net", "e2")
    one_line_error(train("net", "-e", "-r", "7"), '"e7"', "e1", "e2")
    one_line_error(train("net", "-e", "--resume", tar_of(trained, "e1")), "--resume", "-r")
    assert registry_rows(trained) == before


def test_evaluate_passes_its_options_on(trained, train, monkeypatch):
    seen = []
    measure = ImageClassifier.evaluate
    monkeypatch.setattr(
        ImageClassifier, "evaluate", lambda self, *a, **k: seen.append((self, a, k)) or measure(self, *a, **k)
    )
    before = registry_rows(trained)
    (trained / "some.txt").write_text("1 3 7")
    words = ["--device", "cpu", "-b", "17", "--class-indices", "some.txt", "-j", "0", "--n-imgs", "12"]
    outcome = train("net", "-e", *words)
    assert outcome.code == 0, outcome.err
    clf, (images, *_), options = seen[0]
    assert (clf.device, clf.workers, options["batch_size"], options["store"]) == ("cpu", 0, 17, False)
    assert list(images.class_indices) == [1, 3, 7]
    assert (len(images), images.split) == (12, "val")
    one_line_error(train("net", "-e", "--device", "tpu"), "tpu", "cuda")
    assert registry_rows(trained) == before


def test_evaluate_measures_all_validation_images(train):
    words = ["60" if word == "200" else word for word in SMALL]
    assert train("net", *words, "--epochs", "1").code == 0
    assert f"top1: {100 * (1 - val_error('net', 'checkpoint')):.1f} %" in train("net", "-e").out


# ---------------------------------------------------------------------- nothing to learn, nowhere to store


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["--start-epoch", "2", "--epochs", "2"], ["start_epoch", "below `epochs`", "2"]),
        (["--n-imgs", "1"], ["1 sample"]),
        (["--nb-classes", "1"], ["at least 2 classes", "1 class"]),
        (["--image-shape", "axb"], ["--image-shape", "'axb'", "(height, width)"]),
        (["--learning-rate-adjust-frequency", "0"], ["'0'", "at least 1"]),
        (["--learning-rate-adjust-frequency", "often"], ["'often'", "at least 1"]),
        (["--normalize", "1,,/2"], ["--normalize", "'1,,/2'", "(mean, std)"]),
        (["--eval-resize", "7"], ["eval_resize", "at least", "32", "7"]),
    ],
)
def test_a_training_that_cannot_be_is_one_line(train, place, words, texts):
    outcome = train("net", *SMALL, *words)
    one_line_error(outcome, *texts)
    assert ".." not in outcome.err
    assert not registry_rows(place)


def test_features_that_cannot_be_stored_are_one_line(train, place):
    (place / "config.yml").write_text(
        "registry: {csv: a.csv, folder: b}\nlogs: runs\ncache: {folder: /proc/nope, memory_limit: 10}\n"
    )
    words = [*SMALL, "--epochs", "1"]
    one_line_error(train("net", *words), "/proc/nope", "cache.folder", "--no-cache-features")
    assert not (place / "a.csv").exists()
    outcome = train("net", *words, "--no-cache-features")
    assert outcome.code == 0, outcome.err


def test_a_plateau_schedule_for_some_steps_on_dummy_images(train, place):
    words = [*SMALL, "--dummy", "--max-steps", "5", "--lr-scheduler", "ReduceLROnPlateau"]
    outcome = train("net", *words)
    assert outcome.code == 0, outcome.err
    assert "5 updates, nothing stored" in outcome.out
    assert nothing_stored(place)
