"""``eval.py``: modes, metrics and their options, what is stored, wrong use."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sepconc.data.readers import load_dataset
from sepconc.estimators.base import ImageClassifier
from sepconc.scores import Score

from .conftest import SMALL, one_line_error

FEW = ["--n-imgs", "40"]


def score(mode: str, metric: str, split: str = "test", dataset: str = "digits") -> Score:
    """The only stored score of a measurement."""
    records = ImageClassifier.load("net", load_net=False).eval_scores_[dataset][split][mode][metric]
    assert len(records) == 1
    return records[0]


def stored_modes(split: str = "test") -> dict[str, set[str]]:
    """The stored modes, with their metrics."""
    scores = ImageClassifier.load("net", load_net=False).eval_scores_
    return {mode: set(metrics) for mode, metrics in scores.get("digits", {}).get(split, {}).items()}


def files_of(place: Path, status: str) -> list[Path]:
    with (place / "classif_db.csv").open(newline="", encoding="utf-8") as file:
        name = next(row["filename"] for row in csv.DictReader(file) if row["status"] == status)
    return sorted((place / "classif").glob(f"{name}.*"))


# ---------------------------------------------------------------------- modes and metrics


def test_onecrop_is_the_default_and_agrees_with_predict(trained, evaluate):
    outcome = evaluate("net")
    assert outcome.code == 0, outcome.err
    assert stored_modes() == {"onecrop": {"top1", "top1_5"}}
    stored = score("onecrop", "top1")
    assert stored.n_images == 360
    assert stored() == pytest.approx(ImageClassifier.load("net").score(load_dataset("digits", "test")), abs=1 / 360)
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["dataset", "split", "mode", "metric", "value", "images", "date"]
    assert f"{100 * stored():.1f} %" in lines[2]


@pytest.mark.parametrize(("words", "mode"), [([], "fivecrops"), (["--mirror"], "tencrops")])
def test_crops(trained, evaluate, words, mode):
    outcome = evaluate("net", "-em", "tencrops", *FEW, *words)
    assert outcome.code == 0, outcome.err
    assert stored_modes() == {mode: {"top1", "top1_5"}}
    assert mode in outcome.out
    assert score(mode, "top1").settings["n_crops"] == (10 if mode == "tencrops" else 5)
    assert score(mode, "top1").settings["eval_resize"] == 36


def test_shifts_with_every_metric_and_option(trained, evaluate):
    words = ["-m", "top1", "top1_5", "kldiv", "mfr", "--max-shift", "4", "--pixel-divide", "2", "--max-step-size", "3"]
    outcome = evaluate("net", "-s", "checkpoint", "-em", "shifts", *words, "--shift-direction", "diagonal", *FEW)
    assert outcome.code == 0, outcome.err
    assert stored_modes() == {"shifts_diagonal": {"top1", "top1_5", "kldiv", "mfr"}}
    flips, divergences = score("shifts_diagonal", "mfr"), score("shifts_diagonal", "kldiv")
    assert sorted(flips()) == [1, 2, 3]
    assert len(divergences()) == 4 * 2 + 1
    assert divergences()[0] == 0
    settings = flips.settings
    assert (settings["max_shift"], settings["pixel_divide"], settings["max_step_size"]) == (4, 2, 3)
    assert settings["normalized"] is True


@pytest.mark.parametrize(("direction", "patches"), [("horizontal", 3), ("vertical", 3), ("all", 9)])
def test_directions(trained, evaluate, direction, patches):
    words = ["--shift-direction", direction, "--max-shift", "2", "-m", "kldiv", *FEW]
    assert evaluate("net", "-em", "shifts", *words).code == 0
    mode = "shifts" if direction == "all" else f"shifts_{direction}"
    assert len(score(mode, "kldiv")()) == patches


def test_shifts_by_default(trained, evaluate):
    assert evaluate("net", "-em", "shifts", *FEW).code == 0
    stored = score("shifts_horizontal", "mfr")
    assert sorted(stored()) == [1, 2, 3, 4, 5]
    assert stored.settings["max_shift"] == 8


def test_without_normalisation_is_another_measurement(trained, evaluate):
    words = ["net", "-em", "shifts", "--max-shift", "1", "-m", "kldiv", *FEW]
    assert evaluate(*words).code == 0
    outcome = evaluate(*words, "--no-normalize")
    assert outcome.code == 0, outcome.err
    records = ImageClassifier.load("net", load_net=False).eval_scores_["digits"]["test"]["shifts_horizontal"]["kldiv"]
    assert [record.settings["normalized"] for record in records] == [True, False]
    assert records[0]() != records[1]()
    assert "normalized=True" in outcome.out
    assert "normalized=False" in outcome.out


def test_the_older_names_of_metrics_are_accepted(trained, evaluate):
    assert evaluate("net", "-m", "top1_5_accuracy_scores", *FEW).code == 0
    assert stored_modes() == {"onecrop": {"top1_5"}}


def test_the_batch_size_changes_nothing(trained, evaluate):
    words = ["net", "-em", "shifts", "--max-shift", "1", *FEW]
    assert evaluate(*words, "-b", "7").code == 0
    before = score("shifts_horizontal", "mfr")()
    assert evaluate(*words, "-b", "64", "-f").code == 0
    assert score("shifts_horizontal", "mfr")() == before


def test_lines_every_so_many_batches(trained, evaluate):
    outcome = evaluate("net", *FEW, "-b", "8", "--verbose-print-batch", "2")
    lines = [line for line in outcome.err.splitlines() if "images/s" in line]
    assert [line.split()[0] for line in lines] == ["16/40", "32/40"]
    assert all(line.endswith("s left") for line in lines)
    assert "images/s" not in evaluate("net", "-f", *FEW, "-b", "8").err


# ---------------------------------------------------------------------- which images, which classifier


def test_a_split_and_a_snapshot(trained, evaluate):
    assert evaluate("net", "-s", "e1", "--split", "val").code == 0
    snapshot = ImageClassifier.load("net", "e1")
    error = 1 - snapshot.eval_scores_["digits"]["val"]["onecrop"]["top1"][0]()
    assert error == pytest.approx(snapshot.val_errs_[1][1])
    assert stored_modes("val") == {}


def test_images_of_another_data_set(trained, evaluate, mnist_root):
    outcome = evaluate("net", "-ds", "MNIST", "--data", mnist_root, *FEW)
    assert outcome.code == 0, outcome.err
    assert score("onecrop", "top1", dataset="mnist").n_images == 40
    assert "mnist" in outcome.out


def test_images_of_a_file(trained, evaluate):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 32, 32), dtype=np.uint8), np.arange(60) % 10
    np.savez("some.npz", X=images, y=labels)
    outcome = evaluate("net", "-ds", "npz:some.npz", "-em", "shifts", "--max-shift", "1")
    assert outcome.code == 0, outcome.err
    assert f"npz:{trained}/some.npz" in outcome.out


def test_images_of_other_classes_are_refused(trained, evaluate):
    one_line_error(evaluate("net", "-ds", "cifar10", "--dummy"), "classes", "airplane")


def test_a_classifier_of_some_classes_is_measured_on_them(train, evaluate):
    plain = [word for word in SMALL if word not in ("--n-imgs", "200")]
    (Path("classes.txt")).write_text("2 5")
    assert train("net", *plain, "--epochs", "1", "--class-indices", "classes.txt").code == 0
    assert evaluate("net").code == 0
    stored = score("onecrop", "top1")
    assert stored.settings["class_indices"] == [2, 5]
    assert stored.n_images < 100


def test_dummy_images_store_nothing(trained, evaluate):
    outcome = evaluate("net", "--dummy", "--n-imgs", "10")
    assert outcome.code == 0, outcome.err
    assert "top1: " in outcome.out
    assert stored_modes() == {}


def test_no_store_prints_only(trained, evaluate):
    outcome = evaluate("net", "--no-store", *FEW)
    assert outcome.out.startswith("top1: ")
    assert stored_modes() == {}


def test_a_classifier_trained_on_arrays_needs_a_data_set(evaluate):
    from sepconc import AnalysisClassifier

    X, y = np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32), np.arange(20) % 2
    AnalysisClassifier(frame_width=4, epochs=1, device="cpu").fit(X, y).save("arrays")
    one_line_error(evaluate("arrays"), '"arrays"', "-ds")


# ---------------------------------------------------------------------- several devices


@pytest.mark.parametrize(
    "words",
    [[], ["-em", "tencrops", "--mirror"], ["-em", "shifts", "-m", "mfr", "kldiv", "--max-shift", "2"]],
    ids=["onecrop", "tencrops", "shifts"],
)
def test_several_devices_give_the_scores_of_one(trained, evaluate, words):
    assert evaluate("net", *words, *FEW, "--device", "cpu").code == 0
    before = ImageClassifier.load("net", load_net=False).eval_scores_.flat()
    outcome = evaluate("net", *words, *FEW, "--devices", "cpu", "cpu", "cpu", "-b", "7")
    assert outcome.code == 2  # the same measurement, which is kept
    assert evaluate("net", *words, *FEW, "--devices", "cpu", "cpu", "cpu", "-b", "7", "-f").code == 0
    after = ImageClassifier.load("net", load_net=False).eval_scores_.flat()
    assert [row["settings"] for row in after] == [row["settings"] for row in before]
    for row, old in zip(after, before, strict=True):
        assert row["n_images"] == 40
        if row["metric"] == "kldiv":
            np.testing.assert_allclose(row["value"], old["value"], rtol=1e-5, atol=1e-7)
        else:
            assert row["value"] == old["value"]


# ---------------------------------------------------------------------- corrupted and perturbed sets


@pytest.fixture
def pets(train, place):
    """A classifier ``pets`` of cats and dogs at 16×16."""
    words = ["-ds", folder_of(place / "pets", ("cat", "dog")), "--size", "16", "--epochs", "2", "-b", "8", "-j", "0"]
    words += ["-a", "scatnet", "--scattering-J", "2", "--P-proj-size", "4", "--seed", "0", "--device", "cpu"]
    outcome = train("pets", *words)
    assert outcome.code == 0, outcome.err


def picture_of(number: int, *seed: int) -> Image.Image:
    pixels = np.random.default_rng((number, *seed)).integers(0, 120, (20, 24, 3), dtype=np.uint8)
    pixels[..., number % 3] += 130
    return Image.fromarray(pixels)


def corrupted(place: Path, *splits: str) -> Path:
    for split in splits:
        for number, name in enumerate(("cat", "dog")):
            folder = place / "data" / "ImageNet-C" / split / name
            folder.mkdir(parents=True)
            for k in range(3):
                picture_of(number, k).save(folder / f"{k}.JPEG")
    return place / "data"


def perturbed(place: Path, *splits: str, frames: int = 6) -> Path:
    for split in splits:
        for number, name in enumerate(("cat", "dog")):
            for k in range(2 + number):
                folder = place / "data" / "ImageNet-P" / split / name / str(k)
                folder.mkdir(parents=True)
                for t in range(frames):
                    picture_of(number, k, t).save(folder / f"{t}.png")
    return place / "data"


def scores_of(name: str) -> dict[tuple[str, str, str], int]:
    rows = ImageClassifier.load(name, load_net=False).eval_scores_.flat()
    return {(row["dataset"], row["split"], f"{row['mode']} {row['metric']}"): row["n_images"] for row in rows}


def test_a_corruption(pets, evaluate, place):
    corrupted(place, "fog/1", "fog/2", "snow/1")
    outcome = evaluate("pets", "-ds", "ImageNet-C", "--split", "fog/2", "-m", "top1")
    assert outcome.code == 0, outcome.err
    assert scores_of("pets") == {("imagenet-c", "fog/2", "onecrop top1"): 6}
    records = ImageClassifier.load("pets", load_net=False).eval_scores_["imagenet-c"]["fog/2"]["onecrop"]["top1"]
    assert records[0].settings["eval_resize"] is None
    assert accuracy() == ""


@pytest.mark.parametrize(
    ("words", "splits"),
    [
        ([], ["fog/1", "fog/2", "snow/1"]),
        (["--split", "fog/*"], ["fog/1", "fog/2"]),
        (["--split", "*/1"], ["fog/1", "snow/1"]),
    ],
)
def test_several_corruptions(pets, evaluate, place, words, splits):
    corrupted(place, "fog/1", "fog/2", "snow/1")
    words = ["pets", "-ds", "imagenet-c", "-m", "top1", *words]
    outcome = evaluate(*words)
    assert outcome.code == 0, outcome.err
    assert sorted(split for _, split, _ in scores_of("pets")) == splits
    again = evaluate(*words)
    assert again.code == 2
    assert again.err.splitlines()[-1].endswith(
        f"All {len(splits)} splits were measured before, with the same images and settings. Replace them with -f."
    )


def test_a_part_that_was_measured_is_kept(pets, evaluate, place):
    corrupted(place, "fog/1", "fog/2")
    assert evaluate("pets", "-ds", "imagenet-c", "-m", "top1", "--split", "fog/1").code == 0
    before = ImageClassifier.load("pets", load_net=False).eval_scores_["imagenet-c"]["fog/1"]
    outcome = evaluate("pets", "-ds", "imagenet-c", "-m", "top1")
    assert outcome.code == 0
    assert "fog/1: measured before, kept" in outcome.err
    assert "fog/2: measured" in outcome.err
    assert len(scores_of("pets")) == 2
    assert ImageClassifier.load("pets", load_net=False).eval_scores_["imagenet-c"]["fog/1"] == before


def test_perturbations(pets, evaluate, place):
    perturbed(place, "tilt", "scale")
    outcome = evaluate("pets", "-ds", "imagenet-p", "-em", "perturbations", "-b", "2", "-j", "2")
    assert outcome.code == 0, outcome.err
    assert scores_of("pets") == {("imagenet-p", split, "perturbations mfr"): 5 for split in ("tilt", "scale")}
    words = ["--split", "tilt", "--frame-pairs", "first", "-m", "mfr", "kldiv", "--devices", "cpu", "cpu"]
    outcome = evaluate("pets", "-ds", "ImageNetP", "-em", "perturbations", *words, "-b", "2")
    assert outcome.code == 0, outcome.err
    modes = ImageClassifier.load("pets", load_net=False).eval_scores_["imagenet-p"]["tilt"]["perturbations"]
    assert [list(record()) for record in modes["mfr"]] == [[1, 2, 3, 4, 5], [1]]
    assert len(modes["kldiv"]()) == 6
    assert "frame_pairs=first" in outcome.out


def test_wrong_use_of_corrupted_and_perturbed_sets_is_one_line(pets, evaluate, place):
    corrupted(place, "fog/1")
    perturbed(place, "tilt")
    perturbed(place, "scale", frames=1)
    one_line_error(evaluate("pets", "-ds", "imagenet-c", "--split", "fgo/1"), "'fgo/1'", "Close names: fog/1")
    one_line_error(evaluate("pets", "-ds", "imagenet-c", "--split", "snow/*"), "'snow/*'", "fog/1")
    one_line_error(evaluate("pets", "-ds", "imagenet-c", "-em", "perturbations"), "imagenet-c holds single images")
    one_line_error(evaluate("pets", "-ds", "imagenet-p"), "imagenet-p holds clips", "-em perturbations")
    one_line_error(
        evaluate("pets", "-ds", "imagenet-p", "-em", "perturbations", "--split", "scale"), "at least 2 frames", "has 1"
    )
    assert scores_of("pets") == {}


def test_a_broken_video_is_one_line(pets, evaluate, place):
    pytest.importorskip("av", reason='videos need PyAV: pip install "sepconc[video]"')
    perturbed(place, "tilt")
    video = place / "data" / "ImageNet-P" / "tilt" / "cat" / "broken.mp4"
    video.write_bytes(b"nothing")
    one_line_error(evaluate("pets", "-ds", "imagenet-p", "-em", "perturbations", "--split", "tilt"), "broken.mp4")
    assert scores_of("pets") == {}


def test_random_clips(trained, evaluate):
    outcome = evaluate("net", "-em", "perturbations", "--dummy", "--n-imgs", "6")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("mfr: 1: ")
    assert stored_modes() == {}


# ---------------------------------------------------------------------- the commands of the WCNN program


@pytest.mark.parametrize(
    ("line", "modes"),
    [
        ("-em onecrop", {"onecrop": {"top1", "top1_5"}}),
        ("-b 32 -em tencrops --verbose-print-batch 500", {"fivecrops": {"top1", "top1_5"}}),  # digits have no mirror
        (
            "-b 16 -em shifts --max-shift 8 --pixel-divide 2 --shift-direction horizontal --metrics kldiv "
            "--verbose-print-batch 256",
            {"shifts_horizontal": {"kldiv"}},
        ),
        (
            "-b 16 -em shifts --max-shift 8 --pixel-divide 1 --shift-direction horizontal --max-step-size 8 "
            "--verbose-print-batch 256",
            {"shifts_horizontal": {"mfr"}},
        ),
        (
            "-b 16 -em shifts --max-shift 8 --pixel-divide 1 --shift-direction horizontal --max-step-size 4 "
            "--verbose-print-batch 256",
            {"shifts_horizontal": {"mfr"}},
        ),
    ],
    ids=["one crop", "ten crops", "divergence", "flip rate", "flip rate of CIFAR-10"],
)
@pytest.mark.parametrize("dummy", [False, True])
def test_published_commands(trained, evaluate, line, modes, dummy):
    outcome = evaluate("net", "-s", "e2", *line.split(), *(["--dummy"] if dummy else []), "--n-imgs", "20")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    found = ImageClassifier.load("net", "e2", load_net=False).eval_scores_.get("digits", {}).get("test", {})
    assert {mode: set(metrics) for mode, metrics in found.items()} == ({} if dummy else modes)
    if "kldiv" in line and not dummy:
        assert len(found["shifts_horizontal"]["kldiv"]()) == 17
    if "step-size" in line and not dummy:
        assert len(found["shifts_horizontal"]["mfr"]()) == int(line.split()[-3])


@pytest.mark.parametrize(
    ("older", "ours"),
    [
        ("accuracy_score", "top1"),
        ("top1_accuracy_score", "top1"),
        ("top1_5_accuracy_scores", "top1_5"),
        ("list_of_accuracy_scores", "top1_5"),
    ],
)
def test_published_names_of_metrics(trained, evaluate, older, ours):
    assert evaluate("net", "--metrics", older, *FEW).code == 0
    assert stored_modes() == {"onecrop": {ours}}


# ---------------------------------------------------------------------- scores that exist


def test_an_existing_score_is_kept(trained, evaluate):
    assert evaluate("net", *FEW).code == 0
    before = score("onecrop", "top1")
    one_line_error(evaluate("net", *FEW), "--overwrite", "top1", "40 images", f": {before()}.")
    assert score("onecrop", "top1") == before


@pytest.mark.parametrize("flag", ["-f", "--overwrite"])
def test_overwrite_measures_again(trained, evaluate, flag):
    assert evaluate("net", *FEW).code == 0
    before = score("onecrop", "top1")
    assert evaluate("net", *FEW, flag).code == 0
    after = score("onecrop", "top1")
    assert after() == before()
    assert (after.commit, after.n_images) == (before.commit, 40)


def test_other_settings_are_another_measurement(trained, evaluate):
    assert evaluate("net", *FEW).code == 0
    assert evaluate("net", "--n-imgs", "30").code == 0
    records = ImageClassifier.load("net", load_net=False).eval_scores_["digits"]["test"]["onecrop"]["top1"]
    assert [record.n_images for record in records] == [40, 30]


def test_scores_are_shown(trained, evaluate, sepconc):
    assert evaluate("net", "-em", "shifts", "--max-shift", "4", *FEW).code == 0
    outcome = sepconc("show", "net")
    assert outcome.code == 0
    assert "shifts_horizontal" in outcome.out
    assert "1: " in outcome.out


def test_training_goes_on_after_a_measurement(trained, evaluate, train):
    assert evaluate("net", *FEW).code == 0
    assert train("net", "--epochs", "3").code == 0
    assert ImageClassifier.load("net").current_epoch_ == 3


# ---------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["-em", "twocrops"], ["twocrops", "onecrop", "tencrops", "shifts"]),
        (["-m", "top2"], ["top2", "top1", "top1_5", "kldiv", "mfr"]),
        (["-em", "shifts", "--shift-direction", "up"], ["up", "horizontal", "vertical", "diagonal", "all"]),
        (["-m", "mfr"], ["mfr", "shifts"]),
        (["-em", "tencrops", "-m", "kldiv"], ["kldiv", "shifts"]),
        (["-em", "shifts", "--max-shift", "0"], ["max_shift", "at least 1", "0"]),
        (["-em", "shifts", "--max-shift", "33"], ["max_shift", "at most", "32", "33"]),
        (["--max-shift", "2"], ["max_shift", "shifts", "onecrop"]),
        (["-em", "tencrops", "--pixel-divide", "2"], ["pixel_divide", "shifts", "tencrops"]),
        (["-em", "shifts", "--mirror"], ["mirror", "tencrops", "shifts"]),
        (["-em", "shifts", "--pixel-divide", "0"], ["pixel_divide", "at least 1"]),
        (["-em", "shifts", "--max-step-size", "0"], ["max_step_size", "at least 1"]),
        (["-b", "0"], ["batch_size", "at least 1"]),
        (["--n-imgs", "0"], ["n-imgs", "at least 1"]),
        (["-s", "last"], ["last", "checkpoint", "best", "e30"]),
        (["-s", "e0"], ["e0"]),
        (["-s", "e7"], ['"e7"', "checkpoint", "e1", "e2"]),
        (["-s", "best"], ['"best"', "checkpoint"]),
        (["-ds", "digit"], ["digit", "digits"]),
        (["-ds", "imagenet"], ["imagenet"]),
        (["--split", "all"], ["all", "train", "val", "test"]),
        (["--device", "tpu"], ["tpu", "cuda"]),
        (["--frame-width", "3"], ["--frame-width"]),
        (["-em", "perturbations"], ["digits holds single images", "imagenet-p", "cifar10-p", "shifts"]),
        (["-ds", "imagenet-p", "--dummy"], ["holds clips", "-em perturbations", "onecrop"]),
        (["-em", "perturbations", "--max-shift", "2"], ["max_shift", "shifts", "perturbations"]),
        (["-em", "perturbations", "--dummy", "--frame-pairs", "some"], ["frame_pairs", "all, first", "some"]),
        (["-ds", "imagenet-c"], ["imagenet-c", "--data"]),
        (["--device", "cpu", "--devices", "cpu", "cpu"], ["--devices", "--device cpu"]),
        (["--devices", "cpu", "cuda:99"], ['"cuda:99"', "CUDA device"]),
        (["--devices", "cpu", "tpu"], ["tpu"]),
        (["--devices"], ["--devices"]),
    ],
)
def test_wrong_use_is_one_line(trained, evaluate, words, texts):
    one_line_error(evaluate("net", *words), *texts)
    assert stored_modes() == {}


@pytest.mark.parametrize(
    ("name", "texts"),
    [("nett", ['"nett"', '"net"', "sepconc list"]), ("../net", ["../net"]), ("a b", ["a b"]), ("", ["name"])],
)
def test_a_wrong_name_is_one_line(trained, evaluate, name, texts):
    one_line_error(evaluate(name), *texts)


def test_an_empty_registry_says_so(evaluate):
    one_line_error(evaluate("net"), '"net"')


def test_metrics_without_weights_cannot_be_measured(trained, evaluate, sepconc):
    for path in files_of(trained, "checkpoint"):
        if path.suffix == ".tar":
            path.unlink()
    outcome = evaluate("net")
    assert outcome.code in (1, 2)
    assert ".tar" in outcome.err
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
    assert sepconc("show", "net").code == 0
    assert evaluate("net", "-s", "e1", *FEW).code == 0


@pytest.mark.parametrize("suffix", [".classif", ".tar"])
def test_a_damaged_file_is_not_measured(trained, evaluate, suffix):
    path = next(path for path in files_of(trained, "checkpoint") if path.suffix == suffix)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])
    outcome = evaluate("net")
    assert outcome.code == 1
    assert path.name in outcome.err
    assert outcome.err.count("\n") == 1


# ---------------------------------------------------------------------- classes, files, and images that aren't square


def folder_of(root: Path, classes: tuple[str, ...]) -> str:
    """A data set of small image files, each class of its own colour."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for k in range(10):
            pixels = np.random.default_rng((number, k)).integers(0, 120, (40, 50, 3), dtype=np.uint8)
            pixels[..., number % 3] += 130
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return f"folder:{root}"


def accuracy() -> str:
    with Path("classif_db.csv").open(newline="", encoding="utf-8") as file:
        return next(row["accuracy"] for row in csv.DictReader(file) if row["status"] == "checkpoint")


@pytest.mark.parametrize("words", [["--class-indices", "some.txt"], ["--nb-classes", "3"]])
def test_a_choice_of_classes_is_numbered_as_the_classifier_does(trained, evaluate, words):
    Path("some.txt").write_text("2 4 6")
    assert evaluate("net", *words).code == 0
    stored, clf = score("onecrop", "top1"), ImageClassifier.load("net")
    chosen = stored.settings["class_indices"]
    assert len(chosen) == 3
    whole = load_dataset("digits", "test")
    kept = np.isin(whole.labels, chosen)
    assert stored() == pytest.approx(np.mean(clf.predict(whole)[kept] == whole.labels[kept]), abs=0.02)
    assert stored() > 0.1
    assert accuracy() == ""


def test_other_classes_are_named(trained, evaluate, place):
    one_line_error(evaluate("net", "-ds", "fashion-mnist", "--dummy"), "T-shirt/top", "class_indices")
    one_line_error(evaluate("net", "-ds", folder_of(place / "pets", ("cat", "dog"))), "'cat', 'dog'", "'0', '1'")
    assert stored_modes() == {}


def test_the_table_has_the_accuracy_of_the_whole_test_set(trained, evaluate, sepconc):
    assert evaluate("net", *FEW).code == 0
    assert evaluate("net", "--split", "val").code == 0
    assert evaluate("net", "-em", "shifts", "-m", "top1", "--max-shift", "1").code == 0
    np.savez("own.npz", X=np.zeros((60, 32, 32), np.uint8), y=np.arange(60) % 10)
    assert evaluate("net", "-ds", "npz:own.npz").code == 0
    assert accuracy() == ""
    assert evaluate("net").code == 0
    records = ImageClassifier.load("net", load_net=False).eval_scores_["digits"]["test"]["onecrop"]["top1"]
    (whole,) = [record for record in records if record.n_images == 360]
    assert accuracy() == f"{whole():.6f}"


def test_dummy_images_of_a_classifier_of_some_classes(train, evaluate):
    Path("some.txt").write_text("2 5")
    assert train("net", *SMALL, "--epochs", "1", "--class-indices", "some.txt").code == 0
    outcome = evaluate("net", "--dummy", "--n-imgs", "10")
    assert outcome.code == 0, outcome.err


def test_a_folder_of_images_whatever_the_workers(train, evaluate, place):
    pets = folder_of(place / "pets", ("cat", "dog"))
    words = ["-a", "scatnet", "-ds", pets, "--size", "16", "--scattering-J", "2", "--P-proj-size", "4", "-j", "0"]
    outcome = train("net", *words, "--epochs", "1", "-b", "8", "--seed", "0", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert ImageClassifier.load("net").eval_resize_ == 18
    outputs = [evaluate("net", "-f", "-m", "top1", "-b", "2", "-j", workers) for workers in ("0", "2")]
    assert [outcome.code for outcome in outputs] == [0, 0], outputs
    tables = [[line.rsplit(maxsplit=1)[0] for line in outcome.out.splitlines()] for outcome in outputs]
    assert tables[0] == tables[1]
    stored = score("onecrop", "top1", dataset=pets)
    assert stored() == ImageClassifier.load("net").score(load_dataset(pets, "test", size=16))
    assert accuracy() == f"{stored():.6f}"
    other = folder_of(place / "others", ("cat", "horse"))
    one_line_error(evaluate("net", "-ds", other), "'horse'", "'cat', 'dog'")
    assert evaluate("net", "--dummy", "--n-imgs", "6").code == 0


def test_images_that_are_not_square(train, evaluate, place):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 60, (60, 8, 12)) + 90 * labels[:, None, None]
    np.savez("wide.npz", X=images.astype(np.uint8), y=labels)
    words = ["-a", "scatnet", "-ds", "npz:wide.npz", "--scattering-J", "2", "--P-proj-size", "4", "--device", "cpu"]
    outcome = train("net", *words, "--epochs", "2", "-b", "16", "--seed", "0")
    assert outcome.code == 0, outcome.err
    assert ImageClassifier.load("net").image_shape_ == (1, 8, 12)
    outcome = evaluate("net")
    assert outcome.code == 0, outcome.err
    stored = score("onecrop", "top1", dataset=f"npz:{place}/wide.npz")
    assert stored.settings["size"] == [8, 12]
    assert stored() == ImageClassifier.load("net").score(load_dataset("npz:wide.npz", "test"))
    one_line_error(evaluate("net", "-em", "tencrops"), "square", "8×12", "onecrop")


def test_an_unknown_backend_is_one_line(trained, evaluate):
    one_line_error(evaluate("net", "--backend", "nonsense"), "nonsense", "auto")
    assert stored_modes() == {}
