import gzip

import numpy as np
import pytest
from PIL import Image

from sepconc.data import formats
from sepconc.errors import BadInput, CorruptFile


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 3, 6, 5), dtype=np.uint8)


def test_idx_plain_and_compressed(tmp_path, images):
    (tmp_path / "plain").write_bytes(idx(images))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(images)))
    for name in ("plain", "packed.gz"):
        assert np.array_equal(formats.read_idx(tmp_path / name), images)


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_a_damaged_idx_file_is_named(tmp_path, images, name):
    content = idx(images)
    damaged = [content[:-1], content + b"\0", b"", content[:10], b"\x80\x04" + content[2:], b"<html>not found</html>"]
    for data in damaged:
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        with pytest.raises(CorruptFile, match=f"{name} must be an IDX file.*Fetch it again"):
            formats.read_idx(tmp_path / name)
    (tmp_path / "a.gz").write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(CorruptFile, match="whole gzip file"):
        formats.read_idx(tmp_path / "a.gz")


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_cifar_records(tmp_path, label_bytes):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (7, 3, 32, 32), dtype=np.uint8), rng.integers(0, 100, 7)
    records = np.full((7, label_bytes + 3072), 255, dtype=np.uint8)
    records[:, label_bytes - 1], records[:, label_bytes:] = labels, images.reshape(7, -1)
    records[:4].tofile(tmp_path / "one.bin")
    records[4:].tofile(tmp_path / "two.bin")
    found = formats.read_cifar([tmp_path / "one.bin", tmp_path / "two.bin"], label_bytes, 100)
    assert np.array_equal(found[0], images)
    assert np.array_equal(found[1], labels)
    with pytest.raises(CorruptFile, match=r"one\.bin must hold labels below 10"):
        formats.read_cifar([tmp_path / "one.bin"], label_bytes, 10)
    (tmp_path / "two.bin").write_bytes(records.tobytes()[:-5])
    with pytest.raises(CorruptFile, match=rf"two\.bin must hold whole records of {label_bytes + 3072} bytes"):
        formats.read_cifar([tmp_path / "two.bin"], label_bytes, 100)


def test_npz_with_one_part(tmp_path, images):
    labels = np.array(["b", "a"] * 10)
    np.savez(tmp_path / "a.npz", X=images, y=labels)
    for part in ("train", "test"):
        found, numbers, classes, parted = formats.read_npz(tmp_path / "a.npz", part)
        assert np.array_equal(found, images)
        assert numbers.tolist() == [1, 0] * 10
        assert classes.tolist() == ["a", "b"]
        assert not parted


@pytest.mark.parametrize("letter", ["x", "X"])
def test_npz_with_two_parts(tmp_path, images, letter):
    arrays = {f"{letter}_train": images[:15], "y_train": np.arange(15)[:, None], f"{letter}_test": images[15:]}
    np.savez_compressed(tmp_path / "a.npz", **arrays, y_test=np.full(5, 20))
    found, numbers, classes, parted = formats.read_npz(tmp_path / "a.npz", "test")
    assert np.array_equal(found, images[15:])
    assert numbers.tolist() == [15] * 5  # a class that is only in the test part has a number too
    assert classes[-1] == 20
    assert parted
    assert formats.read_npz(tmp_path / "a.npz", "train")[1].tolist() == list(range(15))


def test_the_axes_of_files(images):
    for given, shape in [
        (images, (20, 3, 6, 5)),
        (images[:, 0], (20, 1, 6, 5)),
        (images[:, :1].transpose(0, 2, 3, 1), (20, 1, 6, 5)),
        (images.transpose(0, 2, 3, 1), (20, 3, 6, 5)),
    ]:
        found = formats.channels_first(given, "a")
        assert found.shape == shape
        assert np.array_equal(found, images[:, : shape[1]])
        assert found.dtype == np.uint8


@pytest.mark.parametrize(
    ("given", "expected"),
    [("int64", "uint8"), ("float16", "float32"), ("float32", "float32"), ("float64", "float64"), (">f8", "float64")],
)
def test_the_types_of_files(images, given, expected):
    found = formats.channels_first(images.astype(given), "a")
    assert found.dtype == expected
    assert found.dtype.isnative
    assert np.array_equal(found, images.astype(expected))


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"a": np.zeros(3)}, "X and y, or x_train, y_train, x_test and y_test; got a"),
        ({"X": np.zeros((3, 64)), "y": np.zeros(3)}, r"got \(3, 64\)\. Reshape"),
        ({"X": np.zeros((3, 8, 8)), "y": np.zeros(2)}, "3 images and 2 labels"),
        ({"X": np.full((3, 8, 8), 256), "y": np.zeros(3)}, "from 0 to 255; got int64"),
        ({"X": np.zeros((3, 8, 8)), "y": np.array([{}, 1, 2], dtype=object)}, "archive of plain arrays"),
    ],
)
def test_archives_that_hold_something_else(tmp_path, arrays, text):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput, match=text) as caught:
        formats.read_npz(tmp_path / "a.npz", "train")
    assert "a.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_archives(tmp_path, images):
    np.savez(tmp_path / "whole.npz", X=images, y=np.zeros(20))
    np.save(tmp_path / "array.npy", images)
    contents = {
        "cut.npz": (tmp_path / "whole.npz").read_bytes()[:500],
        "empty.npz": b"",
        "array.npz": (tmp_path / "array.npy").read_bytes(),
        "pickle.npz": b"\x80\x04N.",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=f"{name} must be a NumPy archive"):
            formats.read_npz(tmp_path / name, "train")


def test_image_files_are_sorted_and_found_at_any_depth(tmp_path):
    for name in ("b/z.png", "b/a.JPEG", "b/deep/m.jpg", "b/notes.txt", "b/.hidden.png", "a/1.png", ".git/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name, "PNG")
    (tmp_path / "loose.png").touch()
    assert formats.class_folders(tmp_path) == ["a", "b"]
    assert formats.image_files(tmp_path, "b") == ["b/a.JPEG", "b/deep/m.jpg", "b/z.png"]
    assert formats.class_folders(tmp_path / "missing") == []
