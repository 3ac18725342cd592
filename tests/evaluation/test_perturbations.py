"""Frames of clips, measured; against a direct computation, clip by clip."""

import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from sepconc.data.clips import ArrayClips, FolderClips, clip_names
from sepconc.data.datasets import DATASETS
from sepconc.data.images import ArrayImages, FolderImages
from sepconc.errors import BadInput, BadParameter
from sepconc.evaluation import plan_measurement, run_measurement

S, K = 12, 6


class Linear:
    """A classifier that is one matrix on pixels; it remembers how many images it saw at a time."""

    def __init__(self, eval_resize=None):
        self.image_shape_, self.eval_resize_ = (3, S, S), eval_resize
        self.matrix = 0.3 * torch.randn(3 * S * S, K, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        self.batches, self.living, self.alive = [], [], 0

    def label_indices(self, labels):
        return np.asarray(labels)

    def log_proba_function(self, normalize=True):
        return self.log_proba

    def log_proba(self, images):
        self.batches.append(len(images))
        self.living = [seen for seen in self.living if seen() is not None] + [weakref.ref(images)]
        self.alive = max(self.alive, len(self.living))
        return (images.double() / 255).sub(0.5).flatten(1).mul(4).matmul(self.matrix).log_softmax(1)


def direct(classifier, frames, resize):
    """Log-probabilities (frames, K) of a clip (frames, H, W, 3), with PIL."""
    views = []
    for frame in frames:
        image = Image.fromarray(frame)
        width, height = image.size
        short = min(width, height)
        size = (resize, int(resize * height / width)) if width == short else (int(resize * width / height), resize)
        image = image.resize(size, Image.Resampling.BILINEAR) if short != resize else image
        left, top = (round((length - S) / 2) for length in image.size)
        views.append(np.asarray(image.crop((left, top, left + S, top + S))).transpose(2, 0, 1))
    return classifier.log_proba(torch.from_numpy(np.stack(views))).numpy()


def rates(labels, steps):
    """The mean over clips of each clip's own rate, per step; NaN where no clip is long enough."""
    found = {}
    for step in range(1, steps + 1):
        own = [np.mean(clip[step:] != clip[:-step]) for clip in labels if len(clip) > step]
        found[step] = float(np.mean(own)) if own else float("nan")
    return found


def clips_of(frames, **about):
    return ArrayClips(frames, np.arange(len(frames)) % K, name="some", **about)


def random_frames(count=9, length=8, shape=(16, 20), seed=0):
    """Clips that change slowly, so that their predictions flip now and then."""
    rng = np.random.default_rng(seed)
    start, change = rng.random((count, 1, *shape, 3)), rng.random((count, length, *shape, 3))
    return ((start + 0.6 * change) / 1.6 * 255).astype(np.uint8)


def measure(classifier, clips, *, batch_size=64, workers=0, **options):
    plan = plan_measurement(classifier, clips, eval_mode="perturbations", **options)
    return run_measurement(plan, classifier, clips, batch_size=batch_size, workers=workers)


def values(measurement):
    return {metric: score() for metric, score in measurement.scores.items()}


@pytest.fixture
def uneven(tmp_path):
    """Clips of 8, 2, 5, 5 and 3 frames in folders, each of its own size, and their frames."""
    frames = [random_frames(1, length, (14 + k, 25 - k), seed=k)[0] for k, length in enumerate((8, 2, 5, 5, 3))]
    for number, clip in enumerate(frames):
        folder = tmp_path / "cat" / f"clip{number}"
        folder.mkdir(parents=True)
        for k, frame in enumerate(clip):
            Image.fromarray(frame).save(folder / f"{k}.png")
    return FolderClips(tmp_path, clip_names(tmp_path, "cat"), [0, 1, 2, 3, 4], side=S, name="uneven"), frames


@pytest.mark.parametrize("eval_resize", [None, 14])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_clips_of_one_length_equal_the_definition(eval_resize, batch_size):
    frames, classifier = random_frames(), Linear(eval_resize)
    metrics = ["mfr", "kldiv", "top1", "top1_5"]
    result = measure(classifier, clips_of(frames), metrics=metrics, batch_size=batch_size)
    assert (result.mode, result.scores["mfr"].n_images) == ("perturbations", 9)
    log_p = np.stack([direct(classifier, clip, eval_resize or S) for clip in frames])  # (n, frames, K)
    labels = log_p.argmax(-1)
    expected = {m: float(np.mean(labels[:, m:] != labels[:, :-m])) for m in range(1, 6)}  # over all pairs
    got = values(result)
    assert got["mfr"] == pytest.approx(expected, abs=1e-12)
    assert max(expected.values()) > 0.1
    divergences = (np.exp(log_p[:, :1]) * (log_p[:, :1] - log_p)).sum(-1).mean(0)
    np.testing.assert_allclose(got["kldiv"], divergences, rtol=1e-9, atol=1e-12)
    assert got["kldiv"][0] == 0
    assert got["top1"] == pytest.approx(np.mean(labels == (np.arange(9) % K)[:, None]), abs=1e-12)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("workers", [0, 3])
def test_clips_of_several_lengths_have_the_same_weight(uneven, batch_size, workers):
    (clips, frames), classifier = uneven, Linear()
    metrics = ["mfr", "kldiv", "top1"]
    got = values(measure(classifier, clips, metrics=metrics, max_step_size=9, batch_size=batch_size, workers=workers))
    log_p = [direct(classifier, clip, S) for clip in frames]
    labels = [each.argmax(-1) for each in log_p]
    expected = rates(labels, 9)
    assert got["mfr"] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    pooled = np.sum([np.sum(each[1:] != each[:-1]) for each in labels]) / np.sum([len(each) - 1 for each in labels])
    assert got["mfr"][1] != pytest.approx(pooled, abs=1e-6)  # so that the comparison can fail
    for t in range(8):
        own = [(np.exp(p[0]) * (p[0] - p[t])).sum() for p in log_p if len(p) > t]
        assert got["kldiv"][t] == pytest.approx(np.mean(own), rel=1e-9, abs=1e-12)
    assert len(got["kldiv"]) == 8
    hits = np.concatenate([each == label for label, each in enumerate(labels)])
    assert got["top1"] == pytest.approx(hits.mean(), abs=1e-12)


def test_comparing_with_the_first_frame(uneven):
    (clips, frames), classifier = uneven, Linear()
    result = measure(classifier, clips, frame_pairs="first")
    labels = [direct(classifier, clip, S).argmax(-1) for clip in frames]
    own = [np.mean(each[1:] != each[0]) for each in labels]
    assert values(result)["mfr"] == pytest.approx({1: np.mean(own)}, abs=1e-12)
    settings = result.scores["mfr"].settings
    assert settings["frame_pairs"] == "first"
    assert "max_step_size" not in settings
    usual = measure(classifier, clips)
    assert usual.scores["mfr"]()[1] != result.scores["mfr"]()[1]
    assert not usual.scores["mfr"].same_measurement(5, settings)


def test_the_default_is_the_published_measurement():
    clips = clips_of(random_frames())
    plan = plan_measurement(Linear(14), clips, eval_mode="perturbations")
    assert plan.metrics == ("mfr",)
    settings = plan.settings["mfr"]
    assert (settings["max_step_size"], settings["frame_pairs"], settings["eval_resize"]) == (5, "all", 14)
    assert (settings["normalized"], settings["size"], settings["n_crops"]) == (True, S, 1)
    assert settings["data_sha256"] == clips.checksum()


def test_published_crops_are_not_enlarged(tmp_path):
    clips = clips_of(random_frames(), info=DATASETS["imagenet-p"])
    assert plan_measurement(Linear(14), clips, eval_mode="perturbations").settings["mfr"]["eval_resize"] is None
    Image.fromarray(random_frames(1, 1)[0, 0]).save(tmp_path / "0.png")
    images = FolderImages(tmp_path, ["0.png"], [0], side=S, info=DATASETS["imagenet-c"])
    assert plan_measurement(Linear(14), images).settings["top1"]["eval_resize"] is None


def test_one_frame_of_each_clip_is_in_memory_at_a_time():
    classifier = Linear()
    measure(classifier, clips_of(random_frames(9, 40)), metrics=["mfr", "kldiv"], batch_size=4)
    assert sum(classifier.batches) == 9 * 40
    assert max(classifier.batches) == 4
    assert classifier.alive <= 2


def test_clips_without_labels_have_flip_rates_but_no_accuracy():
    clips = ArrayClips(random_frames())
    assert set(measure(Linear(), clips, metrics=["mfr", "kldiv"]).scores) == {"mfr", "kldiv"}
    with pytest.raises(BadInput, match="without labels"):
        measure(Linear(), clips, metrics="top1")


def test_a_clip_of_one_frame_has_nothing_to_compare():
    with pytest.raises(BadInput, match="at least 2 frames; clip 0 of some has 1"):
        measure(Linear(), clips_of(random_frames(3, 1)))
    assert set(measure(Linear(), clips_of(random_frames(3, 1)), metrics="top1").scores) == {"top1"}


@pytest.mark.parametrize("left", [0, 1])
def test_a_short_clip_among_others_is_named(uneven, tmp_path, left):
    for path in sorted((tmp_path / "cat" / "clip3").iterdir())[left:]:
        path.unlink()
    with pytest.raises(BadInput, match=f"at least 2 frames; .*cat/clip3 has {left}"):
        measure(Linear(), uneven[0], batch_size=2)


def test_an_unreadable_frame_is_named(uneven, tmp_path):
    (tmp_path / "cat" / "clip2" / "4.png").write_bytes(b"nothing")
    with pytest.raises(BadInput, match=r"clip2/4\.png can't be read"):
        measure(Linear(), uneven[0], workers=2)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"frame_pairs": "last"}, BadParameter, "`frame_pairs` must be one of all, first; got 'last'"),
        ({"frame_pairs": "first", "max_step_size": 2}, BadParameter, "`max_step_size` has no meaning"),
        ({"max_step_size": 0}, BadParameter, "`max_step_size`.*at least 1; got 0"),
        ({"max_shift": 2}, BadParameter, '`max_shift` is an option of eval_mode "shifts"; eval_mode "perturbations"'),
        ({"metrics": "top2"}, BadParameter, "`metrics` must be one of"),
    ],
)
def test_bad_options_are_named(options, error, named):
    with pytest.raises(error, match=named):
        measure(Linear(), clips_of(random_frames()), **options)


def test_options_of_clips_are_no_options_of_shifts():
    images = ArrayImages(np.zeros((2, 3, S, S), np.uint8), [0, 1])
    with pytest.raises(BadParameter, match='`frame_pairs` is an option of eval_mode "perturbations"'):
        plan_measurement(Linear(), images, eval_mode="shifts", frame_pairs="all")
    with pytest.raises(BadParameter, match=r'`max_step_size`.*"shifts" and "perturbations"; eval_mode "onecrop"'):
        plan_measurement(Linear(), images, max_step_size=2)


def test_single_images_have_no_frames():
    images = ArrayImages(np.zeros((2, 3, S, S), np.uint8), [0, 1], name="cifar10")
    with pytest.raises(BadInput, match=r'cifar10 holds single images.*imagenet-p, cifar10-p.*eval_mode="shifts"'):
        measure(Linear(), images)


@pytest.mark.parametrize("mode", ["onecrop", "tencrops", "shifts"])
def test_clips_are_no_single_images(mode):
    with pytest.raises(BadInput, match=f'some holds clips, which eval_mode="perturbations".*got {mode!r}'):
        plan_measurement(Linear(), clips_of(random_frames()), eval_mode=mode)
