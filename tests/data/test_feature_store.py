"""Features on disk: what is written is read, whatever kills the writer; damage and other settings are told."""

import errno
import fcntl
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import sepconc
from sepconc.data import feature_store, feature_writer
from sepconc.data.feature_store import FeatureStore, open_features, read_header, write_header
from sepconc.data.feature_writer import Contents, FeatureWriter
from sepconc.data.images import row_numbers
from sepconc.errors import (
    BadInput,
    BadParameter,
    CorruptFile,
    DatasetNotFound,
    NoSpace,
    ParameterMismatch,
    RegistryBusy,
)

SHAPE = (11, 3, 2, 2)
SETTINGS = {
    "dataset": "digits",
    "split": "train",
    "images": 11,
    "checksum": "5" * 64,
    "image_shape": [1, 8, 8],
    "transform": {"name": "scatnet", "version": 1, "J": 2},
    "dtype": "float32",
}
PATHS = [{"name": "S0", "order": 0}, {"name": "S1 j=0 θ=0", "order": 1}, {"name": "S1 j=0 θ=1", "order": 1}]
LABELS = np.arange(11) % 4


def values(seed=0):
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def contents(*, shape=SHAPE, labels=LABELS, **settings):
    about = {"classes": ["a", "b", "c", "d"], "class_indices": None, "is_part": False}
    return Contents({**SETTINGS, **settings}, shape, PATHS, labels, about)


def write(folder, features=None, chunk_rows=4, stop_after=None, **settings):
    """Write the chunks that are missing, or ``stop_after`` of them; how many were written."""
    features = values() if features is None else features
    with FeatureWriter(folder, contents(**settings), chunk_rows) as writer:
        chunks = [] if writer.complete else list(writer.missing())[:stop_after]
        for start, stop in chunks:
            writer.write(features[start:stop])
    return len(chunks)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 16
    path.write_bytes(data)


@pytest.fixture
def store(tmp_path):
    """The folder of a store of three chunks."""
    write(tmp_path / "store")
    return tmp_path / "store"


# ---------------------------------------------------------------------- what is written is read


def test_features_labels_and_paths(store):
    found = open_features(store)
    assert found.X.shape == SHAPE
    assert len(found) == len(found.X) == 11
    assert found.X.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(found.X), values())
    np.testing.assert_array_equal(found.y, LABELS)
    assert found.paths == PATHS
    assert (found.name, found.split, found.classes) == ("digits", "train", ["a", "b", "c", "d"])
    assert found.image_shape == (1, 8, 8)
    assert found.info.n_classes == 10
    assert "digits train: 11 × 3 × 2 × 2 float32" in repr(found)


def test_the_array_is_an_ordinary_npy_file(store):
    array = np.load(store / "train.npy", mmap_mode="r")
    assert isinstance(array, np.memmap)
    np.testing.assert_array_equal(array, values())
    np.testing.assert_array_equal(np.load(store / "train-labels.npy"), LABELS)
    header = json.loads((store / "train-header.json").read_text())
    assert header["settings"] == SETTINGS
    assert header["complete"] is True
    assert len(header["chunks"]) == 3
    assert sorted(files_of(store)) == ["train-header.json", "train-labels.npy", "train.npy"]


def test_nothing_public_is_missing(store):
    assert sepconc.open_features is open_features
    assert isinstance(sepconc.open_features(str(store)), sepconc.FeatureStore)


@pytest.mark.parametrize(
    "index", [0, -1, slice(None), slice(2, 9), slice(None, None, -1), [3, 3, 0], np.arange(11) > 5, np.array([], int)]
)
def test_an_index(store, index):
    found = open_features(store).X[index]
    np.testing.assert_array_equal(found, values()[index])
    assert found.dtype == np.float32
    found[...] = 7  # its own memory
    np.testing.assert_array_equal(open_features(store).X[:], values())


def test_a_pickle_tells_where_the_features_are(store):
    data = pickle.dumps(open_features(store))
    assert len(data) < 500
    np.testing.assert_array_equal(pickle.loads(data).X[:], values())
    for path in store.iterdir():
        path.unlink()
    write(store, checksum="6" * 64)
    with pytest.raises(CorruptFile, match="other features than when the store was pickled"):
        pickle.loads(data)


def test_an_index_beyond_the_end(store):
    with pytest.raises(BadInput, match="below 11"):
        open_features(store).X[[0, 11]]


@pytest.mark.parametrize("batch_size", [1, 4, 5, 11, 50])
def test_batches(store, batch_size):
    batches = list(open_features(store).batches(batch_size))
    assert [len(X) for X, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    np.testing.assert_array_equal(np.concatenate([X for X, _ in batches]), values())
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), LABELS)


def test_without_labels(tmp_path):
    write(tmp_path / "store", labels=None)
    found = open_features(tmp_path / "store")
    assert found.y is None
    assert [y for _, y in found.batches(6)] == [None, None]


@pytest.mark.parametrize("n", [1, 4, 5, 8])
def test_numbers_of_images(n, tmp_path):
    write(tmp_path / "store", values()[:n], shape=(n, 3, 2, 2), labels=LABELS[:n])
    np.testing.assert_array_equal(open_features(tmp_path / "store").X[:], values()[:n])


def test_chunks_of_sixteen_megabytes(tmp_path):
    large = contents(shape=(1000, 256, 16, 16))
    with FeatureWriter(tmp_path / "store", large) as writer:
        assert next(writer.missing()) == (0, (1 << 24) // (4 * 256 * 16 * 16))


# ---------------------------------------------------------------------- float16


def test_float16_is_scaled_per_channel_and_read_as_float32(tmp_path):
    features = values() * np.array([1e-4, 1, 3e5], np.float32)[:, None, None]
    write(tmp_path / "store", features, dtype="float16")
    found = open_features(tmp_path / "store")
    assert np.load(tmp_path / "store" / "train.npy").dtype == np.float16
    assert found.X[:].dtype == np.float32
    scale = np.array(found.header["scale"])
    np.testing.assert_array_equal(np.log2(scale) % 1, 0)  # powers of two: the scaling itself is exact
    error = np.abs(found.X[:] - features)
    np.testing.assert_array_less(error[:, 1:], 2.0**-11 * np.abs(features[:, 1:]) + 1e-7 * scale[1:, None, None])
    assert error[:, 0].max() < 2.0**-24 * scale[0]  # a weak channel keeps its place beside strong ones


def test_float16_of_a_channel_that_is_zero_at_first(tmp_path):
    features = values()
    features[:4] = 0
    write(tmp_path / "store", features, dtype="float16")
    np.testing.assert_allclose(open_features(tmp_path / "store").X[:], features, rtol=2.0**-11, atol=1e-7)


def test_float16_that_overflows_is_refused(tmp_path):
    features = values()
    features[6, 1] = 1e9
    with pytest.raises(BadInput, match=r"images 4 to 7 aren't finite in float16\. Store float32"):
        write(tmp_path / "store", features, dtype="float16")


def test_features_that_are_not_finite_are_refused(tmp_path):
    features = values()
    features[9, 0, 0, 0] = np.nan
    with pytest.raises(BadInput, match="images 8 to 10"):
        write(tmp_path / "store", features)
    with pytest.raises(BadInput, match="aren't complete"):
        open_features(tmp_path / "store")


def test_another_dtype_is_refused(tmp_path):
    with pytest.raises(BadParameter, match="float32, float16; got 'int8'"):
        write(tmp_path / "store", dtype="int8")


# ---------------------------------------------------------------------- stopped and gone on with


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("chunks", [0, 1, 2, 3])
def test_it_goes_on_where_it_stopped(dtype, chunks, tmp_path):
    write(tmp_path / "whole", dtype=dtype)
    assert write(tmp_path / "parts", stop_after=chunks, dtype=dtype) == chunks
    assert write(tmp_path / "parts", dtype=dtype) == 3 - chunks
    assert write(tmp_path / "parts", dtype=dtype) == 0
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_with_the_same_bytes(dtype, tmp_path):
    program = Path(__file__).with_name("killed_writer.py")
    done = subprocess.run([sys.executable, program, tmp_path, dtype], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *killed, whole = json.loads(done.stdout)
    assert len(killed) > 20
    assert {run["ended"] for run in killed} == {-9}
    assert {run["again"] for run in killed} == {0}
    assert whole["ended"] == 0
    wanted = {"train-labels.npy", "train-header.json", "train.npy"}
    for run in killed:
        assert {name: digest for name, digest in run["files"].items() if not name.endswith(".tmp")} == whole["files"]
    assert set(whole["files"]) == wanted


def test_a_chunk_that_was_damaged_before_going_on_is_written_again(tmp_path):
    write(tmp_path / "whole")
    write(tmp_path / "parts", stop_after=2)
    flip(tmp_path / "parts" / "train.npy", 140 + 4 * 48)
    assert write(tmp_path / "parts") == 2
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("text", ["", "torn", "x" * 65 + "y" * 65 + "z" * 65 + "more of it"])
def test_a_damaged_progress_counts_for_nothing(text, tmp_path):
    write(tmp_path / "whole")
    write(tmp_path / "parts", stop_after=2)
    (tmp_path / "parts" / "train.progress").write_text(text)
    assert write(tmp_path / "parts") == 3
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_a_torn_line_of_the_progress_is_cut_off(tmp_path):
    write(tmp_path / "store", stop_after=1)
    with open(tmp_path / "store" / "train.progress", "a") as file:
        file.write("0123")
    assert write(tmp_path / "store", stop_after=1) == 1
    assert write(tmp_path / "store") == 1


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:300])])
def test_an_array_that_is_gone_is_made_again(damage, tmp_path):
    write(tmp_path / "whole")
    write(tmp_path / "parts", stop_after=2)
    damage(tmp_path / "parts" / "train.npy")
    assert write(tmp_path / "parts") == 3
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_a_store_that_was_begun_keeps_its_chunks(tmp_path):
    write(tmp_path / "store", stop_after=1)
    assert write(tmp_path / "store", chunk_rows=2) == 2
    assert len(read_header(tmp_path / "store" / "train-header.json")["chunks"]) == 3


def test_an_incomplete_store_is_not_read(tmp_path):
    write(tmp_path / "store", stop_after=2)
    with pytest.raises(BadInput, match=r"aren't complete. Run the command"):
        open_features(tmp_path / "store")


def test_a_wrong_chunk_is_refused(tmp_path):
    with (
        FeatureWriter(tmp_path / "store", contents(), 4) as writer,
        pytest.raises(ValueError, match=r"\(4, 3, 2, 2\); got \(5, 3, 2, 2\)"),
    ):
        writer.write(values()[:5])


def test_two_writers_at_a_time(tmp_path):
    with FeatureWriter(tmp_path / "store", contents(), 4) as first:
        with pytest.raises(RegistryBusy, match=f"Another process is writing features to {tmp_path}"):
            write(tmp_path / "store")
        for start, stop in first.missing():
            first.write(values()[start:stop])
    assert write(tmp_path / "store") == 0


def test_a_full_disk_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(feature_store.os, "posix_fallocate", full)
        with pytest.raises(NoSpace, match=r"No space left on .* for train.npy: needed 528 bytes"):
            write(tmp_path / "store")
    assert not (tmp_path / "store" / "train.npy").exists()
    assert write(tmp_path / "store") == 3


def test_a_disk_that_fails_while_it_is_written(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(feature_writer.os, "pwrite", broken)
        with pytest.raises(OSError, match=r"train\.npy can't be written: Input/output error"):
            write(tmp_path / "store")
    assert write(tmp_path / "store") == 3


def test_no_file_stays_open(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    write(tmp_path / "store", stop_after=1)
    write(tmp_path / "store")
    with pytest.raises(ParameterMismatch):
        write(tmp_path / "store", checksum="6" * 64)
    assert set(os.listdir("/proc/self/fd")) == before


def _peak(folder, n, connection):
    """Peak memory, in MB, that writing a store of n MB takes besides what was taken before."""
    import resource

    row = np.random.default_rng(0).normal(size=(16, 256, 16, 16)).astype(np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with FeatureWriter(folder, contents(shape=(4 * n, 256, 16, 16), labels=None), 16) as writer:
        for start, stop in writer.missing():
            writer.write(row[: stop - start])
    connection.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


@pytest.mark.slow
def test_memory_is_bounded(tmp_path):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_peak, args=(tmp_path / "store", 200, there))
    process.start()
    there.close()
    grown = here.recv()
    process.join()
    assert grown < 40, f"{grown:.0f} MB for a store of 200 MB"


# ---------------------------------------------------------------------- other settings


@pytest.mark.parametrize("stop_after", [None, 1])
@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ({"transform": {"name": "scatnet", "version": 1, "J": 3}}, ["transform J 2 (stored) instead of 3"]),
        ({"transform": {"name": "scatnet", "version": 2, "J": 2}}, ["transform version 1 (stored) instead of 2"]),
        (
            {"transform": {"name": "phase", "version": 1}},
            ["name 'scatnet' (stored) instead of 'phase'", "J 2 (stored) instead of None"],
        ),
        ({"dataset": "mnist"}, ["dataset 'digits' (stored) instead of 'mnist'"]),
        ({"checksum": "6" * 64}, ["checksum 55555555… (stored) instead of 66666666…"]),
        ({"dtype": "float16"}, ["dtype 'float32' (stored) instead of 'float16'"]),
        ({"image_shape": [1, 9, 9]}, ["image_shape [1, 8, 8] (stored) instead of [1, 9, 9]"]),
    ],
)
def test_other_settings_are_refused_and_named(settings, texts, stop_after, tmp_path):
    write(tmp_path / "store", stop_after=stop_after)
    before = files_of(tmp_path / "store")
    with pytest.raises(ParameterMismatch) as caught:
        write(tmp_path / "store", **settings)
    assert all(text in str(caught.value) for text in texts), caught.value
    assert "\n" not in str(caught.value)
    assert files_of(tmp_path / "store") == before


def test_what_was_begun_and_left_gives_way(tmp_path):
    write(tmp_path / "store", stop_after=0)
    assert write(tmp_path / "store", split="test", dtype="float16") == 3
    assert write(tmp_path / "store", dtype="float16") == 3
    write(tmp_path / "alone", dtype="float16")
    found = files_of(tmp_path / "store")
    assert all(found[name] == data for name, data in files_of(tmp_path / "alone").items())


def test_who_is_overtaken_finds_out(tmp_path, monkeypatch):
    """Between a writer's look at a folder and its lock, another one goes on there."""
    for done, chunks in (("complete", None), ("some", 1)):
        place = tmp_path / done
        write(place, stop_after=0)
        own = FeatureWriter._refuse_other_settings

        def look(self, place=place, chunks=chunks, own=own):
            own(self)
            monkeypatch.setattr(FeatureWriter, "_refuse_other_settings", own)
            write(place, stop_after=chunks)

        monkeypatch.setattr(FeatureWriter, "_refuse_other_settings", look)
        with pytest.raises(ParameterMismatch, match=r"transform J 2 \(stored\) instead of 3"):
            write(place, transform={"name": "scatnet", "version": 1, "J": 3})
        assert write(place) == (0 if chunks is None else 2)
        np.testing.assert_array_equal(open_features(place).X[:], values())


def test_looking_at_a_split_does_not_stop_its_writer(tmp_path):
    write(tmp_path, stop_after=1)
    descriptor = os.open(tmp_path / "train.progress", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    threading.Timer(0.05, os.close, [descriptor]).start()
    assert write(tmp_path) == 2


def test_no_advice_to_delete_what_is_being_written(tmp_path):
    with FeatureWriter(tmp_path, contents(), 4) as writer:
        writer.write(values()[:4])
        with pytest.raises(ParameterMismatch) as caught:
            write(tmp_path, dtype="float16")
    assert ", or delete" not in str(caught.value)
    with pytest.raises(ParameterMismatch, match=r"or delete its train\* files"):
        write(tmp_path, dtype="float16")


def test_what_another_process_has_just_begun_stays(tmp_path):
    with FeatureWriter(tmp_path, contents(), 4), pytest.raises(ParameterMismatch):
        write(tmp_path, split="test", dtype="float16")


def test_files_of_another_split_are_refused(store):
    for path in list(store.iterdir()):
        path.rename(store / path.name.replace("train", "test"))
    with pytest.raises(CorruptFile, match='header of the split "train"'):
        open_features(store, "test")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda header: header.pop("chunks"), "lacks chunks"),
        (lambda header: header["chunks"].pop(), "of 2 chunks; expected 3"),
    ],
)
def test_headers_that_lack_something(change, text, store):
    header = read_header(store / "train-header.json")
    change(header)
    write_header(store / "train-header.json", header)
    with pytest.raises(CorruptFile, match=text):
        open_features(store)


def test_splits_of_one_data_set_share_a_folder(store):
    write(store, values(1), split="test", checksum="7" * 64)
    np.testing.assert_array_equal(open_features(store, "test").X[:], values(1))
    np.testing.assert_array_equal(open_features(store, split="train").X[:], values())
    with pytest.raises(BadParameter, match="has the splits test, train: choose one with split"):
        open_features(store)


def test_a_split_of_another_transform_is_refused(store):
    with pytest.raises(ParameterMismatch, match=r"transform J 2 \(stored\) instead of 4"):
        write(store, split="test", transform={"name": "scatnet", "version": 1, "J": 4})
    assert not list(store.glob("test*"))


def test_the_key_follows_every_setting(tmp_path):
    keys = set()
    changes = [{}, {"split": "test"}, {"checksum": "6" * 64}, {"dtype": "float16"}, {"transform": {"J": 3}}]
    for number, settings in enumerate(changes):
        write(tmp_path / str(number), **settings)
        keys.add(open_features(tmp_path / str(number)).key)
    assert len(keys) == len(changes)


# ---------------------------------------------------------------------- damage


def test_a_flipped_byte_is_found_when_it_is_read(store):
    flip(store / "train.npy", -48 * 4)  # in image 7, the last of the second chunk
    found = open_features(store)
    np.testing.assert_array_equal(found.X[:4], values()[:4])
    np.testing.assert_array_equal(found.X[8:], values()[8:])
    for index in (4, 7, slice(3, 5), [0, 6]):
        with pytest.raises(CorruptFile, match=r"train\.npy does not match .* chunk 1, rows 4 to 7 \(expected"):
            found.X[index]
    with pytest.raises(CorruptFile, match="chunk 1"):
        open_features(store).verify()
    with pytest.raises(CorruptFile, match="chunk 1"):
        list(open_features(store).batches())


def test_every_byte_counts(store):
    size = (store / "train.npy").stat().st_size
    for position in range(0, size, 41):
        flip(store / "train.npy", position)
        with pytest.raises(CorruptFile):
            open_features(store).verify()
        flip(store / "train.npy", position)
    open_features(store).verify()


def test_a_flipped_byte_in_the_header_or_the_labels(store):
    for name in ("train-header.json", "train-labels.npy"):
        size = (store / name).stat().st_size
        for position in range(0, size, 17):
            before = (store / name).read_bytes()
            flip(store / name, position)
            if name.endswith(".json") and json_or_none(store / name) == json.loads(before):
                continue  # a blank became another
            with pytest.raises(CorruptFile, match=name):
                open_features(store)
            (store / name).write_bytes(before)


def json_or_none(path):
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


@pytest.mark.parametrize("name", ["train.npy", "train-labels.npy", "train-header.json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
        lambda path: path.write_bytes(b"not an array at all" * 9),
    ],
    ids=["truncated", "half", "empty", "longer", "text"],
)
def test_damaged_files_are_refused(name, damage, store):
    damage(store / name)
    with pytest.raises(CorruptFile, match=name) as caught:
        open_features(store)
    assert "\n" not in str(caught.value)
    with pytest.raises(CorruptFile):  # nor is it taken for complete
        write(store)


@pytest.mark.parametrize("name", ["train.npy", "train-labels.npy"])
def test_missing_files(name, store):
    (store / name).unlink()
    with pytest.raises(CorruptFile, match=rf"{name} .*No such file"):
        open_features(store)


def test_another_array_in_place_of_the_features(store):
    np.save(store / "train.npy", values().astype(np.float64))
    with pytest.raises(CorruptFile, match=r"must hold \(11, 3, 2, 2\) of float32; found .* of float64"):
        open_features(store)


def test_a_pickle_is_not_loaded(store):
    np.save(store / "train-labels.npy", np.array([{}] * 11, dtype=object), allow_pickle=True)
    with pytest.raises(CorruptFile, match=r"train-labels\.npy"):
        open_features(store)


def test_another_format_is_refused(store):
    header = read_header(store / "train-header.json")
    write_header(store / "train-header.json", {**header, "format": 2})
    with pytest.raises(CorruptFile, match="format 2; this version reads 1"):
        FeatureStore.open(store)


# ---------------------------------------------------------------------- where there is nothing


def test_no_such_folder(tmp_path):
    with pytest.raises(DatasetNotFound, match=r"No features in .*nowhere. Write them with \"sepconc features"):
        open_features(tmp_path / "nowhere")


def test_no_such_split(store):
    with pytest.raises(DatasetNotFound, match=r'No split "val" in .*; it has train'):
        open_features(store, "val")


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadParameter, match=r"file is a file, and features go to a folder. Give another name"):
        write(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "package.json").write_text("{}")
    write(tmp_path)
    assert open_features(tmp_path).split == "train"
    assert (tmp_path / "package.json").read_text() == "{}"


@pytest.mark.parametrize("split", ["", "a/b", "..", "train-labels"])
def test_a_split_that_cannot_be_a_file(split, tmp_path):
    with pytest.raises(BadParameter, match="a split's name must be of letters"):
        write(tmp_path, split=split)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadParameter, match="can't be made"):
        write(tmp_path / "file" / "store")


def test_one_index_chooses_images(tmp_path):
    with pytest.raises(BadInput, match="One index chooses images; got 2"):
        row_numbers((0, 0), 5)
