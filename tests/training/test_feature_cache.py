"""Features of a fixed front end: in memory or in a file, the same numbers; never those of something else."""

import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image

from sepconc.data.images import ArrayImages, FolderImages
from sepconc.errors import ConfigError, NoSpace
from sepconc.training import feature_cache
from sepconc.training.feature_cache import front_end_features
from sepconc.training.feeds import ImageFeed, Normalisation

CPU = torch.device("cpu")
BYTES = 4 * 3 * 3 * 3  # of one image's features, in float32


class FrontEnd:
    """(B, 1, 6, 6) -> (B, 3, 3, 3); counts the images it saw."""

    def __init__(self, factor=1.0):
        self.factor, self.seen = factor, 0

    def __call__(self, x):
        self.seen += len(x)
        small = torch.nn.functional.avg_pool2d(x, 2)
        return self.factor * torch.cat([small, small.square(), small.exp()], dim=1)


def feed(n=11, seed=0, normalisation=Normalisation((0.4,), (0.3,))):  # noqa: B008
    images = np.random.default_rng(seed).integers(0, 256, (n, 1, 6, 6)).astype(np.uint8)
    return ImageFeed(ArrayImages(images), np.zeros(n, int), normalisation, device=CPU)


def features(folder, front_end, one=None, *, description="front", limit=0, batch_size=4):
    return front_end_features(
        one or feed(),
        front_end,
        description=description,
        memory_limit=limit,
        folder=lambda: folder,
        batch_size=batch_size,
    )


def nowhere():
    raise AssertionError("no folder is needed for features in memory")


def test_in_memory():
    one, front_end = feed(), FrontEnd()
    found = front_end_features(
        one, front_end, description="front", memory_limit=11 * BYTES, folder=nowhere, batch_size=4
    )
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    (x, _), *_ = one.batches([np.arange(11)])
    torch.testing.assert_close(found, FrontEnd()(x))


def test_past_the_limit_they_are_in_a_file_with_the_same_numbers(tmp_path):
    in_memory = features(tmp_path, FrontEnd(), limit=11 * BYTES)
    assert list(tmp_path.iterdir()) == []
    mapped = features(tmp_path / "new" / "folder", FrontEnd(), limit=11 * BYTES - 1)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    assert mapped.dtype == np.float32
    assert np.array_equal(mapped, in_memory.numpy())
    (path,) = (tmp_path / "new" / "folder").iterdir()
    assert path.suffix == ".npy"


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_every_image_is_there_whatever_the_batches(n, tmp_path):
    one = feed(n)
    (x, _), *_ = one.batches([np.arange(n)])
    for limit in (0, 10**9):
        found = features(tmp_path, FrontEnd(), one, limit=limit)
        torch.testing.assert_close(torch.tensor(found) if limit == 0 else found, FrontEnd()(x))


def test_the_file_is_used_again(tmp_path):
    first = np.array(features(tmp_path, FrontEnd()))
    front_end = FrontEnd()
    second = features(tmp_path, front_end)
    assert front_end.seen == 2  # the shape is measured
    assert np.array_equal(second, first)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("one", "description"),
    [
        (feed(seed=1), "front"),
        (feed(normalisation=Normalisation((0.4,), (0.31,))), "front"),
        (feed(normalisation=Normalisation((0.41,), (0.3,))), "front"),
        (feed(normalisation=Normalisation()), "front"),
        (feed(), "another"),
    ],
)
def test_other_images_settings_or_front_ends_have_another_file(one, description, tmp_path):
    features(tmp_path, FrontEnd())
    front_end = FrontEnd(2.0)
    found = features(tmp_path, front_end, one, description=description)
    assert front_end.seen == 2 + len(one)
    (x, _), *_ = one.batches([np.arange(len(one))])
    torch.testing.assert_close(torch.from_numpy(np.array(found)), FrontEnd(2.0)(x))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("constant", ["FORMAT", "__version__"])
def test_another_version_computes_again(constant, tmp_path, monkeypatch):
    features(tmp_path, FrontEnd())
    monkeypatch.setattr(feature_cache, constant, "another")
    front_end = FrontEnd()
    features(tmp_path, front_end)
    assert front_end.seen == 2 + 11


def test_the_order_of_the_images_is_part_of_the_key(tmp_path):
    one = feed()
    features(tmp_path, FrontEnd(), one)
    turned = ImageFeed(one.images.subset(np.arange(11)[::-1]), np.zeros(11, int), one.normalisation, device=CPU)
    front_end = FrontEnd()
    found = features(tmp_path, front_end, turned)
    assert front_end.seen == 2 + 11
    assert np.array_equal(found[::-1], features(tmp_path, FrontEnd(), one))


class Stopped(FrontEnd):
    """Fails after some images, as a killed process would."""

    def __call__(self, x):
        if self.seen >= 6:
            raise KeyboardInterrupt
        return super().__call__(x)


def test_an_interrupted_computation_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        features(tmp_path, Stopped())
    assert list(tmp_path.iterdir()) == []


def test_a_partial_file_left_behind_is_not_used(tmp_path, monkeypatch):
    """A killed process can't tidy up: its file has another name."""
    with monkeypatch.context() as patch:
        patch.setattr(feature_cache.Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            features(tmp_path, Stopped())
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".partial"
    front_end = FrontEnd()
    found = features(tmp_path, front_end)
    assert front_end.seen == 2 + 11
    assert np.array_equal(found, features(tmp_path, FrontEnd(), limit=10**9).numpy())


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not an array at all" * 9),
        lambda path: np.save(path, np.zeros((2, 3), np.float32)),
        lambda path: np.save(path, np.zeros((11, 3, 3, 3))),
        lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
    ],
    ids=["truncated", "empty", "text", "shape", "dtype", "pickle"],
)
def test_a_damaged_file_is_computed_again(damage, tmp_path):
    expected = np.array(features(tmp_path, FrontEnd()))
    (path,) = tmp_path.iterdir()
    damage(path)
    front_end = FrontEnd()
    assert np.array_equal(features(tmp_path, front_end), expected)
    assert front_end.seen == 2 + 11
    assert np.array_equal(features(tmp_path, FrontEnd()), expected)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_error_before_anything_is_computed(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache.os, "posix_fallocate", full)
    front_end = FrontEnd()
    with pytest.raises(OSError, match="No space left"):
        features(tmp_path, front_end)
    assert front_end.seen == 2
    assert list(tmp_path.iterdir()) == []


def test_no_gradient_is_kept(tmp_path):
    weight = torch.ones(1, requires_grad=True)
    found = features(tmp_path, lambda x: FrontEnd()(x) * weight, limit=10**9)
    assert not found.requires_grad


def test_a_full_disk_tells_what_to_do_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(feature_cache.os, "posix_fallocate", full)
    with pytest.raises(NoSpace, match=r"No space left on device.*cache\.folder.*--no-cache-features") as caught:
        features(tmp_path, FrontEnd())
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["/proc/nope", "a-file"])
def test_a_folder_that_cannot_be_made(where, tmp_path):
    (tmp_path / "a-file").write_text("")
    front_end = FrontEnd()
    with pytest.raises(ConfigError, match=rf"{where}: .*cache\.folder.*--no-cache-features"):
        features(tmp_path / where, front_end)
    assert front_end.seen == 2


def test_files_that_were_written_again_are_computed_again(tmp_path):
    def pixels(seed):
        return np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)

    for k in range(3):
        Image.fromarray(pixels(k)).save(tmp_path / f"{k}.bmp")
    images = FolderImages(tmp_path, ["0.bmp", "1.bmp", "2.bmp"], [0, 1, 0], side=6)
    one = ImageFeed(images, np.array([0, 1, 0]), Normalisation(), device=CPU)
    before, front_end = np.array(features(tmp_path / "cache", FrontEnd(), one)), FrontEnd()
    assert np.array_equal(features(tmp_path / "cache", front_end, one), before)
    assert front_end.seen == 2
    Image.fromarray(pixels(9)).save(tmp_path / "1.bmp")  # the same name and size
    os.utime(tmp_path / "1.bmp", ns=(1, 1))
    after = features(tmp_path / "cache", front_end, one)
    assert np.array_equal(after[::2], before[::2])
    assert np.any(after[1] != before[1])
