"""Archives of ``torch.save``: read, or refused whole."""

import contextlib
import os
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import torch

from sepconc.errors import CorruptFile, SepConcError, UnsafeFile
from sepconc.registry.legacy.archives import read_record, read_states
from sepconc.registry.legacy.values import Inert

from ..older import Program, write_archive


@pytest.fixture
def program(monkeypatch):
    return Program(monkeypatch)


@pytest.fixture
def stored(program, tmp_path):
    """A classifier, stored by torch.save."""
    path = tmp_path / "a.classif"
    torch.save(program.estimator(), path)
    return path


def tensor_pickle(count=3, size=(3,), stride=(1,), offset=0, key="0", storage="FloatStorage"):
    """A pickle of a tensor that says what the arguments say."""
    integers = b"".join(b"J" + struct.pack("<i", each) for each in (offset,))
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n"
        + storage.encode()
        + b"\nX"
        + struct.pack("<I", len(key))
        + key.encode()
        + b"X\x03\x00\x00\x00cpuJ"
        + struct.pack("<i", count)
        + b"tQ"
        + integers
        + b"".join(b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in part) + b"t" for part in (size, stride))
        + b"\x89ccollections\nOrderedDict\n)RtR."
    )


def test_a_tensor_of_each_kind(tmp_path):
    kinds = [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
    ]
    tensors = {str(kind): torch.arange(24).reshape(2, 3, 4).to(kind) for kind in kinds}
    tensors |= {"bool": torch.tensor([True, False]), "number": torch.tensor(2.5), "empty": torch.zeros(0, 3)}
    tensors |= {"transposed": tensors["torch.float32"].transpose(0, 2), "part": tensors["torch.int64"][1, 1:, ::2]}
    torch.save(tensors, tmp_path / "a")
    found = read_record(tmp_path / "a").content
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.numpy().dtype
        assert np.array_equal(found[name], tensor.numpy())


def test_numbers_of_the_file(stored):
    record = read_record(stored)
    assert record.stamp.size == stored.stat().st_size
    assert len(record.stamp.sha256) == 64
    assert isinstance(record.content, Inert)


def test_an_own_record_is_told_apart(tmp_path):
    (tmp_path / "a").write_text('{"format_version": 1}')
    with pytest.raises(CorruptFile, match="is a record of sepconc"):
        read_record(tmp_path / "a")


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "a")


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(CorruptFile, match="not an ordinary file"):
        read_record(tmp_path / "a")


@pytest.mark.parametrize("reader", [read_record, read_states])
def test_hostile_pickles_are_refused_with_file_and_name(reader, hostile, tmp_path):
    pickled, sentinel = hostile
    path = write_archive(tmp_path / "a.classif", pickled)
    with pytest.raises(UnsafeFile, match=r"a\.classif names .*system"):
        reader(path)
    two = pickled.replace(b"(S'", b"(X" + struct.pack("<I", len(f"touch {sentinel}"))).replace(b"'\n", b"")
    with pytest.raises(UnsafeFile, match=r"os\.system"):
        reader(write_archive(tmp_path / "b.classif", b"\x80\x02" + two))
    assert not sentinel.exists()


def test_hostile_states_written_by_torch(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'sentinel'}",)

    torch.save({"net": {"a": torch.zeros(2)}, "optimizer": {"x": [Hostile()]}}, tmp_path / "a.tar")
    with pytest.raises(UnsafeFile, match="system"):
        read_states(tmp_path / "a.tar")
    assert not (tmp_path / "sentinel").exists()


def test_a_bare_pickle_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps({"a": 1}))
    for reader in (read_record, read_states):
        with pytest.raises(CorruptFile, match="not a sound archive"):
            reader(tmp_path / "a")


TENSORS = {
    "larger than its storage": {"size": (4,)},
    "beyond its storage": {"offset": 1},
    "ten gigabytes by repetition": {"size": (2_500_000_000,), "stride": (0,)},
    "ten gigabytes of a short storage": {"size": (2_500_000_000,), "count": 2_000_000_000},
    "steps beyond its storage": {"size": (2,), "stride": (3,)},
    "negative offset": {"offset": -1},
    "negative steps": {"stride": (-1,)},
    "negative size": {"size": (-1,)},
    "steps for another size": {"stride": (1, 1)},
    "overflowing": {"size": (2**62, 2**62, 16), "stride": (0, 0, 0)},
    "overflowing steps": {"size": (2,), "stride": (2**62,)},
    "no storage": {"key": "1"},
    "a path as key": {"key": "../version"},
    "another kind": {"storage": "DoubleStorage"},
    "unknown kind": {"storage": "QInt8Storage"},
    "no numbers": {"storage": "load"},
}


def test_the_handmade_tensor_is_one(tmp_path):
    path = write_archive(tmp_path / "a", tensor_pickle(), {"archive/data/0": struct.pack("<3f", 1, 2, 3)})
    assert read_record(path).content.tolist() == [1, 2, 3]
    assert read_states(path)[0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("reader", [read_record, read_states])
@pytest.mark.parametrize("what", TENSORS)
def test_tensors_that_are_not_in_the_file(reader, what, tmp_path):
    path = write_archive(tmp_path / "a", tensor_pickle(**TENSORS[what]), {"archive/data/0": bytes(12)})
    tracemalloc.start()
    with pytest.raises(CorruptFile):
        reader(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


MEMBERS = {
    "upwards": "archive/../../x",
    "absolute": "/etc/passwd",
    "beside": "other/version",
    "code": "archive/code/__torch__.py",
    "constants": "archive/constants.pkl",
    "backslash": "archive\\data\\1",
    "new line": "archive/data/1\n",
    "folder": "archive/data/",
    "letters": "archive/data/a",
    "hidden folder": ".hidden/version",
}


@pytest.mark.parametrize("reader", [read_record, read_states])
@pytest.mark.parametrize("name", MEMBERS.values(), ids=list(MEMBERS))
def test_members_with_other_names(reader, name, tmp_path):
    path = write_archive(tmp_path / "a", b"\x80\x02N.", {name: b""})
    with pytest.raises(CorruptFile):
        reader(path)
    assert sorted(tmp_path.rglob("*")) == [path]


def test_members_twice(tmp_path):
    path = write_archive(tmp_path / "a", b"\x80\x02N.")
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("archive/data.pkl", b"\x80\x02K\x01.")
    with pytest.raises(UnsafeFile, match="twice"):
        read_record(path)


def test_compressed_members(tmp_path):
    path = write_archive(
        tmp_path / "a", b"\x80\x02N.", {"archive/data/0": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 100_000
    with pytest.raises(UnsafeFile, match="compressed"):
        read_record(path)


def test_members_that_share_their_bytes(tmp_path):
    """Many members at the same place: each is as large as the file."""
    path = write_archive(tmp_path / "a", b"\x80\x02N.", {"archive/data/0": bytes(10_000)})
    data = path.read_bytes()
    start, entries = data.rindex(b"PK\x05\x06"), data.index(b"PK\x01\x02")
    last = data.rindex(b"PK\x01\x02", 0, start)
    again = b"".join(data[last:start].replace(b"data/0", b"data/%d" % i) for i in range(1, 10))
    central = data[entries:start] + again
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 12, 12, len(central), entries, 0)
    path.write_bytes(data[:entries] + central + end)
    assert len(zipfile.ZipFile(path).infolist()) == 12
    with pytest.raises(UnsafeFile, match="larger than the file"):
        read_record(path)


def test_no_pickle(tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("archive/version", b"3\n")
    with pytest.raises(CorruptFile, match=r"no data\.pkl"):
        read_record(tmp_path / "a")


def test_another_byte_order(tmp_path):
    with pytest.raises(CorruptFile, match="byte order"):
        read_record(write_archive(tmp_path / "a", b"\x80\x02N.", {"archive/byteorder": b"big"}))


def test_state_dicts_of_modules_and_optimisers(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 30)
    states = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict()}
    torch.save(states, tmp_path / "a")
    found, stamp = read_states(tmp_path / "a")
    assert stamp.size == (tmp_path / "a").stat().st_size
    assert list(found["net"]) == list(net.state_dict())
    assert all(torch.equal(found["net"][key], value) for key, value in net.state_dict().items())
    assert torch.equal(found["optimizer"]["state"][0]["momentum_buffer"], net[0].weight.grad)
    with pytest.raises(UnsafeFile, match="sets the state of a dict"):
        read_record(tmp_path / "a")  # attributes of a dictionary would be lost


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused_or_read(seed, stored, tmp_path):
    """Bytes changed, cut and put in: nothing comes out but a value or an error of ours."""
    data, dice, refused = stored.read_bytes(), random.Random(seed), 0
    path = tmp_path / "damaged"
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(damaged))
            kind = dice.randrange(4)
            if kind == 0:
                damaged[place] = dice.randrange(256)
            elif kind == 1:
                damaged[place] ^= 1 << dice.randrange(8)
            elif kind == 2:
                del damaged[place : place + dice.randint(1, 50)]
            else:
                damaged[place:place] = dice.randbytes(dice.randint(1, 9))
        path.write_bytes(damaged)
        with contextlib.suppress(SepConcError):
            read_record(path)
            refused -= 1
        refused += 1
    assert refused > 100  # zip's own checksum sees most


@pytest.mark.parametrize("seed", range(4))
def test_damaged_pickles_are_refused_or_read(seed, stored, tmp_path):
    """The same with the checksum made anew, so that the pickle is what is damaged."""
    with zipfile.ZipFile(stored) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        data = archive.read(name)
    dice = random.Random(seed)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 3)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        with contextlib.suppress(SepConcError):
            read_record(write_archive(tmp_path / "damaged", bytes(damaged)))
