"""Files appear whole or not at all, and are read only if they are what was recorded; nothing in them runs."""

import contextlib
import errno
import io
import logging
import math
import os
import re
import resource
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sepconc.errors import CorruptFile, NoSpace, RegistryError
from sepconc.registry import files
from sepconc.registry.files import Stamp, decode_json, encode_json, write_atomically

UNKNOWN = Stamp(None, "")
WRITERS = {
    "classif": lambda path: files.write_json(path, {"value": list(range(200))}),
    "npz": lambda path: files.write_npz(path, {"losses": np.arange(300.0)}),
    "tar": lambda path: files.write_tensors(path, {"net": {"weight": torch.arange(300.0)}}),
}
READERS = {"classif": files.read_json, "npz": files.read_npz, "tar": files.read_tensors}
DAMAGES = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "without the last byte": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\n",
    "flipped at the start": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "flipped in the middle": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :]
    ),
    "flipped at the end": lambda data: data[:-1] + bytes([data[-1] ^ 128]),
    "zeros": lambda data: bytes(len(data)),
}


# ---- writing ----------------------------------------------------------------------------------------------------


def test_a_written_file_is_what_its_stamp_says(tmp_path):
    path = tmp_path / "file"
    stamp = write_atomically(path, lambda sink: [sink.write(b"abc"), sink.write(bytearray(3_000_000))])
    assert stamp.size == path.stat().st_size == 3_000_003
    assert files.read_bytes(path) == b"abc" + bytes(3_000_000)
    with files._verified(path, stamp) as file:
        assert file.read(3) == b"abc"


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_atomically(path, lambda sink: sink.write(b"new"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_writer_that_fails_leaves_the_earlier_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(sink):
        sink.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("kind", WRITERS)
def test_an_error_of_the_disk_at_any_step_is_named_and_leaves_the_earlier_file(tmp_path, monkeypatch, kind, code, call):
    path = tmp_path / f"file.{kind}"
    path.write_bytes(b"old")
    real = getattr(os, call)

    def fail(*args, **kwargs):
        if call == "open" and not args[1] & os.O_CREAT:
            return real(*args, **kwargs)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(RegistryError) as caught:
            WRITERS[kind](path)
    assert isinstance(caught.value, NoSpace) == (code in (errno.ENOSPC, errno.EDQUOT))
    assert path.name in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_larger_than_allowed_is_refused_at_every_size(tmp_path, kind):
    """The limit of the system on file sizes stands for a full disk; it needs no privilege."""
    path = tmp_path / f"file.{kind}"
    size = WRITERS[kind](tmp_path / "whole").size
    (tmp_path / "whole").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in sorted({0, 1, 17, size // 2, size - 1}):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(NoSpace) as caught:
                WRITERS[kind](path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(tmp_path.iterdir()) == []
        assert re.search(rf"No space left on .*needed {size:,} bytes, free [\d,]+ bytes", str(caught.value))
    assert WRITERS[kind](path).size == size


def test_a_small_disk_that_is_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system in memory isn't allowed here")
    try:
        stamp = files.write_tensors(disk / "a", {"x": torch.zeros(50_000)})
        with pytest.raises(NoSpace, match=r"needed .* free"):
            files.write_tensors(disk / "a", {"x": torch.zeros(500_000)})
        assert [path.name for path in disk.iterdir()] == ["a"]
        assert files.read_tensors(disk / "a", stamp)["x"].shape == (50_000,)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("place", ["nowhere/file", "x" * 300, "file/inside"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RegistryError, match="can't be written"):
        write_atomically(tmp_path / place, lambda sink: sink.write(b""))


def test_where_links_are_not_possible_the_file_is_copied(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"content" * 1000)

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    files.link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content" * 1000
    with pytest.raises(FileNotFoundError):
        files.link_or_copy(tmp_path / "missing", tmp_path / "c")


def test_equal_histories_give_equal_files(tmp_path):
    stamps = [files.write_npz(tmp_path / name, {"losses": np.arange(3.0)}) for name in "ab"]
    assert stamps[0] == stamps[1]


# ---- reading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_before_anything_is_parsed(tmp_path, monkeypatch, kind, damage):
    path = tmp_path / f"file.{kind}"
    stamp = WRITERS[kind](path)
    data = path.read_bytes()
    path.write_bytes(DAMAGES[damage](data))
    monkeypatch.setattr(files, "_parsing", None)  # parsing would now fail with a TypeError
    with pytest.raises(CorruptFile, match=r"expected .*found ") as caught:
        READERS[kind](path, stamp)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_truncated_file_without_a_recorded_hash_is_refused_too(tmp_path, kind, caplog):
    path = tmp_path / f"file.{kind}"
    WRITERS[kind](path)
    data = path.read_bytes()
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(CorruptFile, match=re.escape(str(path))):
            READERS[kind](path, UNKNOWN)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "sepconc.registry.files"):
        READERS[kind](path, UNKNOWN)
    assert "can't be verified" in caplog.text


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_ordinary_file_is_refused(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "loop", "folder", "missing"):
        with pytest.raises(CorruptFile, match=name):
            READERS[kind](tmp_path / name, UNKNOWN)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("wrap", ["bare", "torch zip", "npz"])
def test_a_hostile_pickle_does_not_run(tmp_path, hostile, kind, wrap):
    pickled, sentinel = hostile
    path = tmp_path / f"file.{kind}"
    path.write_bytes({"bare": pickled, "torch zip": _torch_zip(pickled), "npz": _npz(pickled)}[wrap])
    stamp = Stamp(path.stat().st_size, "")
    with pytest.raises(CorruptFile):
        READERS[kind](path, stamp)
    assert not sentinel.exists()


def test_the_hostile_pickle_is_hostile(hostile):
    pickled, sentinel = hostile
    program = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    subprocess.run([sys.executable, "-c", program], input=pickled, check=True)
    assert sentinel.exists()


def test_an_older_pickled_record_says_what_it_is(tmp_path, hostile):
    path = tmp_path / "old.classif"
    path.write_bytes(_torch_zip(hostile[0]))
    with pytest.raises(CorruptFile, match="older, pickled record"):
        files.read_json(path, UNKNOWN)


def test_a_header_that_promises_more_than_is_there_takes_no_memory(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    (tmp_path / "big.npz").write_bytes(_npz(header.getvalue()))
    with pytest.raises(CorruptFile, match="header"):
        files.read_npz(tmp_path / "big.npz", UNKNOWN)
    torch.save({"x": torch.zeros(4)}, tmp_path / "small")
    with zipfile.ZipFile(tmp_path / "small") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in parts if name.endswith("data.pkl"))
    parts[pickled] = parts[pickled].replace(b"K\x04", b"\x8a\x05" + (10**10).to_bytes(5, "little"))
    with zipfile.ZipFile(tmp_path / "big.tar", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(CorruptFile):
        files.read_tensors(tmp_path / "big.tar", UNKNOWN)


def test_nobody_is_advised_to_load_a_pickle_all_the_same(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(CorruptFile, match="other things than tensors") as caught:
        files.read_tensors(tmp_path / "x.tar", UNKNOWN)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{", b"NaN", b'{"a": Infinity}', b"\xff\xfe", b'{"$odd": 1}', b""])
def test_what_is_not_our_json_is_refused(tmp_path, text):
    path = tmp_path / "x.classif"
    path.write_bytes(text)
    with pytest.raises(CorruptFile, match="is not a JSON record"):
        files.read_json(path, UNKNOWN)


@given(st.binary(max_size=300))
def test_no_bytes_make_a_reader_fail_in_another_way(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "junk"
    path.write_bytes(data)
    for kind in ("classif", "npz"):
        with contextlib.suppress(CorruptFile):  # junk may happen to be JSON
            READERS[kind](path, UNKNOWN)


# ---- round trips ------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["$float", "$", "$$float", "$dict"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_a_record_comes_back_as_it_was(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "record"
    stamp = files.write_json(path, value)
    assert repr(files.read_json(path, stamp)) == repr(value)
    assert repr(decode_json(encode_json(value))) == repr(value)


def test_tuples_become_lists_and_numpy_scalars_python_numbers():
    value = {"t": (1, (2,)), "f": np.float32(0.5), "i": np.int64(3), "b": np.True_, "s": np.str_("x")}
    encoded = encode_json(value)
    assert encoded == {"t": [1, [2]], "f": 0.5, "i": 3, "b": True, "s": "x"}
    assert [type(encoded[key]) for key in "fibs"] == [float, int, bool, str]
    assert encode_json([np.float64("inf"), -math.inf]) == [{"$float": "inf"}, {"$float": "-inf"}]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": {"b": [1, {2}]}}, "record.a.b[1]"),
        ({"a": np.zeros(2)}, "record.a"),
        ({"a": torch.zeros(1)}, "record.a"),
        ({"a": {1: 2}}, "record.a"),
        ({"a": np.datetime64("2026-01-01")}, "record.a"),
        ({"a": np.timedelta64(1, "s")}, "record.a"),
        ({"a": 1j}, "record.a"),
        ({"a": b"x"}, "record.a"),
    ],
)
def test_what_json_cannot_hold_is_named(value, where):
    with pytest.raises(TypeError, match=re.escape(f"{where} must be")):
        encode_json(value)


@given(
    st.dictionaries(
        st.text("abc/._", min_size=1, max_size=6),
        arrays.arrays(
            arrays.boolean_dtypes() | arrays.integer_dtypes() | arrays.floating_dtypes(),
            arrays.array_shapes(min_dims=0, min_side=0),
        ),
        max_size=3,
    )
)
def test_histories_come_back_bit_for_bit(tmp_path_factory, histories):
    path = tmp_path_factory.getbasetemp() / "histories"
    read = files.read_npz(path, files.write_npz(path, histories))
    assert list(read) == list(histories)
    for name, array in histories.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("array", [np.array([{}]), np.zeros(2, dtype=[("é", "f8")])])
def test_histories_of_objects_are_refused(tmp_path, array):
    with pytest.raises(TypeError, match="losses"):
        files.write_npz(tmp_path / "x.npz", {"losses": array})
    assert list(tmp_path.iterdir()) == []


def test_histories_agree_with_numpys_own_reader(tmp_path):
    files.write_npz(tmp_path / "x.npz", {"a": np.arange(3), "b": np.eye(2)})
    with np.load(tmp_path / "x.npz", allow_pickle=False) as read:
        assert read["a"].tolist() == [0, 1, 2]
        assert read["b"].tolist() == [[1, 0], [0, 1]]


def test_tensors_and_generator_states_come_back(tmp_path):
    generator = torch.Generator().manual_seed(3)
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state()}
    read = files.read_tensors(tmp_path / "x.tar", files.write_tensors(tmp_path / "x.tar", state))
    assert torch.equal(read["net"]["weight"], net.weight)
    assert torch.equal(read["generator"], generator.get_state())
    assert read["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]


def _torch_zip(pickled: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    return data.getvalue()


def _npz(array_file: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("x.npy", array_file)
    return data.getvalue()
