"""The machine that reads older pickles: what it reads, and that it does nothing else."""

import collections
import contextlib
import datetime
import os
import pickle
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconc.registry.legacy import pickles
from sepconc.registry.legacy.pickles import read_pickle
from sepconc.registry.legacy.values import Inert, Name, Refused

PROTOCOL = b"\x80\x02"
STOP = b"."


def text(value):
    """The operation that pushes a text."""
    encoded = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def name(module, attribute):
    """GLOBAL."""
    return b"c" + f"{module}\n{attribute}\n".encode()


def call(module, attribute, *arguments):
    """GLOBAL, arguments, REDUCE."""
    return name(module, attribute) + b"(" + b"".join(text(argument) for argument in arguments) + b"tR"


def state_of(value):
    """An object of the older program whose state holds a value."""
    return PROTOCOL + name("wcnn.toolbox", "InfoPrinter") + b")\x81}" + text("verbose") + value + b"sb" + STOP


class Calling:
    """What Python's pickle writes of an object that makes a file when it is loaded."""

    def __init__(self, sentinel, how=os.system):
        self.sentinel, self.how = sentinel, how

    def __reduce__(self):
        return self.how, (f"touch {self.sentinel}",)


# ---------------------------------------------------------------------- what it reads

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda items: (
        st.lists(items)
        | st.tuples(items, items)
        | st.dictionaries(st.text() | st.integers(-(2**62), 2**62), items)
        | st.sets(st.integers(0, 100))
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(plain, st.sampled_from([2, 3, 4, 5]))
def test_plain_values_are_what_python_reads(value, protocol):
    assert read_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2022, 11, 9, 0, 2, 52, 279331),
        datetime.datetime(1, 1, 1),
        datetime.timedelta(-3, 5, 7),
        collections.OrderedDict([("b", 1), ("a", [2.5])]),
        {"bytes": b"\x00\xff"},
        np.float64(0.125),
        np.float32(0.1),
        np.int16(-3),
        np.bool_(True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_listed_values(value, protocol):
    found = read_pickle(pickle.dumps(value, protocol))
    assert found == value
    assert (
        list(found) == list(value)
        if isinstance(value, dict)
        else type(found) in (type(value), type(value).__bases__[0], bool, int, float)
    )


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((3, 2), ">f4")), np.zeros(0)])
def test_arrays(array):
    shared = [array, array]
    for found in read_pickle(pickle.dumps(shared, 2)):
        assert np.array_equal(found, array)
        assert found.dtype == array.dtype.newbyteorder("=")


def test_objects_are_inert():
    found = read_pickle(state_of(b"K\x05"))
    assert found == Inert("wcnn.toolbox.InfoPrinter", (), {"verbose": 5}, is_built=True)
    assert read_pickle(PROTOCOL + name("wcnn.metrics", "top_N_accuracy_score") + STOP) == Name(
        "wcnn.metrics.top_N_accuracy_score"
    )


# ---------------------------------------------------------------------- what it refuses


def bodies(sentinel):
    """Parts of pickles, each of which must be refused; those that would run something would make a file."""
    sentinel = str(sentinel)
    touch, python = f"touch {sentinel}", f"__import__('pathlib').Path('{sentinel}').touch()"
    return {
        "system": call("os", "system", touch),
        "posix": call("posix", "system", touch),
        "eval": call("builtins", "eval", python),
        "exec": call("builtins", "exec", python),
        "old builtins": call("__builtin__", "eval", python),
        "open": call("io", "open", sentinel, "w"),
        "getattr": call("builtins", "getattr", "x", "upper"),
        "import": call("importlib", "import_module", "antigravity"),
        "popen": call("subprocess", "Popen", touch),
        "torch.load": call("torch", "load", sentinel),
        "torch.hub": call("torch.hub", "load", sentinel),
        "numpy.load": call("numpy", "load", sentinel),
        "joblib": call("joblib", "load", sentinel),
        "pickle": call("pickle", "loads", "x"),
        "copyreg": call("copyreg", "_reconstructor", "x"),
        "dotted": call("wcnn.toolbox", "os.system", touch),
        "dotted value": name("collections", "OrderedDict.__init__.__globals__"),
        "empty module": name("", "os.system"),
        "reduce of the older program": call("wcnn.toolbox", "run", touch),
        "reduce of a reference": call("torch.optim.lr_scheduler", "StepLR", "x"),
        "reduce of a text": text("os.system") + b"(" + text(touch) + b"tR",
        "encode by a codec": call("_codecs", "encode", "x", "rot13"),
        "new object": name("os", "_wrap_close") + b")\x81",
        "new object of a value": name("collections", "OrderedDict") + b")\x81",
        "new object with keywords": name("wcnn.toolbox", "A") + b")}\x92",
        "inst": b"(" + text(touch) + b"ios\nsystem\n",
        "obj": b"(" + name("os", "system") + text(touch) + b"o",
        "obj of the older program": b"(" + name("wcnn.toolbox", "A") + text(touch) + b"o",
        "inst of the older program": b"(iwcnn.toolbox\nA\n",
        "stack global": text("os") + text("system") + b"\x93(" + text(touch) + b"tR",
        "stack global of bytes": b"U\x02osU\x06system\x93",
        "stack global computed": b"]" + text("system") + b"\x93",
        "stack global dotted": text("wcnn.a") + text("b.c") + b"\x93",
        "extension 1": b"\x82\x01",
        "extension 2": b"\x83\x01\x00",
        "extension 4": b"\x84\x01\x00\x00\x00",
        "persistent text": b"Pos.system\n",
        "persistent global": name("os", "system") + b"Q",
        "persistent without storages": b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu")
        + b"K\x01tQ",
        "persistent of another kind": b"(" + text("module") + name("torch", "FloatStorage") + text("0") + text("cpu")
        + b"K\x01tQ",
        "state of a dictionary": b"}}" + text("__class__") + text("x") + b"sb",
        "state of a list": b"]" + text("x") + b"b",
        "state of a name": name("wcnn.toolbox", "A") + b"}b",
        "state twice": name("wcnn.toolbox", "A") + b")\x81}b}b",
        "buffers": b"\x97",
        "long 4": b"\x8b\xff\xff\xff\x7f",
        "unicode 8": b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
        "bytes 8": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        "bytearray 8": b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
        "unicode": b"X\xff\xff\xff\x7f",
        "negative text": b"T\xff\xff\xff\xff",
        "string": b"S'x'\n",
        "memo": b"j\x00\x00\x00\x00",
        "appended to a text": text("x") + b"Na",
        "list as a key": b"}]Ns",
        "object as a key": b"}" + name("wcnn.toolbox", "A") + b")\x81Ns",
        "odd number of items": b"}(Nu",
        "mark as a value": b"(",
        "two values": b"NN",
        "no value": b"",
        "integer of 65 bits": b"\x8a\x09" + b"\xff" * 8 + b"\x01",
        "protocol 6": b"\x80\x06N",
        "date": name("datetime", "datetime") + b"C\x0a" + b"\xff" * 10 + b"\x85R",
        "dtype of objects": call("numpy", "dtype", "O8"),
        "dtype by itself": call("numpy", "dtype", "f8"),
        "array of objects": name("numpy.core.multiarray", "_reconstruct")
        + name("os", "system")
        + b"K\x00\x85C\x01b\x87R",
        "array without content": name("numpy.core.multiarray", "_reconstruct")
        + name("numpy", "ndarray")
        + b"K\x00\x85C\x01b\x87R",
        "tensor of nothing": name("torch._utils", "_rebuild_tensor_v2") + b"(NK\x00))\x89NtR",
        "device": call("torch", "device", "cuda", "0", "x"),
    }  # fmt: skip


HOSTILE = list(bodies("x"))
RUNNING = ["system", "posix", "eval", "exec", "inst", "obj", "stack global"]
DOUBLED = b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
BOMBS = {
    "lists of twice the same": b"](]q\x00" + DOUBLED + b"e",
    "tuples of twice the same": b"](Nq\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"e",
    "duplicates": b"N" + b"2\x86" * 40,
    "deep lists": b"]" * 20_000 + b"a" * 19_999,
    "deep tuples": b"N" + b"\x85" * 20_000,
    "deep states": (name("wcnn.toolbox", "A") + b")\x81") * 2000 + b"N" + b"b" * 2000,
    "a list in itself": b"]q\x00h\x00a",
    "a state in itself": name("wcnn.toolbox", "A") + b")\x81q\x00h\x00b",
    "operations": b"(" + b"N" * 20_000 + b"t",
    "length": b"X\x64\x00\x00\x00" + b"x" * 100,
}


@pytest.fixture
def sentinel(tmp_path):
    path = tmp_path / "sentinel"
    yield path
    assert not path.exists()


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("place", ["by itself", "in a state", "in a dictionary"])
def test_refused(what, place, sentinel):
    body = bodies(sentinel)[what]
    data = {
        "by itself": PROTOCOL + body + STOP,
        "in a state": state_of(body),
        "in a dictionary": PROTOCOL + b"}" + text("x") + body + b"s" + STOP,
    }[place]
    with pytest.raises(Refused) as refusal:
        read_pickle(data)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("what", RUNNING)
def test_python_would_run_them(what, tmp_path):
    """The files above are what they seem: Python's unpickler makes the sentinel."""
    sentinel = tmp_path / "sentinel"
    with contextlib.suppress(Exception):
        pickle.loads(PROTOCOL + bodies(sentinel)[what] + STOP)
    assert sentinel.exists()


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("system", "os.system"),
        ("eval", "builtins.eval"),
        ("dotted", "wcnn.toolbox.os.system"),
        ("reduce of the older program", "wcnn.toolbox.run"),
        ("new object", "os._wrap_close"),
        ("inst", "INST ('os system')"),
        ("stack global", "os.system"),
        ("torch.hub", "torch.hub.load"),
        ("new object with keywords", "NEWOBJ_EX"),
        ("extension 1", "EXT1"),
    ],
)
def test_what_is_refused_is_named(what, named, sentinel):
    with pytest.raises(Refused) as refusal:
        read_pickle(PROTOCOL + bodies(sentinel)[what] + STOP)
    assert named in str(refusal.value)
    assert refusal.value.unsafe


def test_python_written_reduce_is_refused(sentinel):
    for protocol in range(2, 6):
        with pytest.raises(Refused, match="system"):
            read_pickle(pickle.dumps({"a": [Calling(sentinel)]}, protocol))
    with pytest.raises(Refused):
        read_pickle(pickle.dumps(Calling(sentinel), 0))


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("lists of twice the same", "stands for more than"),
        ("tuples of twice the same", "stands for more than"),
        ("duplicates", "DUP"),
        ("deep lists", "nested more than"),
        ("deep tuples", "nested more than"),
        ("deep states", "nested more than"),
        ("a list in itself", "nested more than"),
        ("a state in itself", "nested more than"),
        ("operations", "more than 15,000 operations"),
        ("length", "bytes, more than 100"),
    ],
)
def test_bombs_are_refused(what, reason, monkeypatch):
    monkeypatch.setattr(pickles, "MOST_VALUES", 100_000)
    if what == "operations":
        monkeypatch.setattr(pickles, "MOST_OPERATIONS", 15_000)
    if what == "length":
        monkeypatch.setattr(pickles, "LONGEST", 100)
    tracemalloc.start()
    with pytest.raises(Refused, match=reason):
        read_pickle(PROTOCOL + BOMBS[what] + STOP)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize(
    ("limit", "value", "many", "reason"),
    [
        ("MOST_COPIED", [1] * 1000, name("builtins", "set") + b"h\x09\x85R", "makes copies"),
        ("MOST_TEXT", "a" * 1000, b"h\x09", "stands for .* of text"),
        ("MOST_NUMBERS", np.zeros(1000), b"h\x09", "bytes of text and .* of numbers"),
    ],
)
def test_a_large_value_again_and_again_is_refused(limit, value, many, reason, monkeypatch):
    """A reference takes two bytes of a file; what it stands for is copied, or written out, each time."""
    monkeypatch.setattr(pickles, limit, 200_000)
    body = pickle.dumps(value, 2)[:-1] + b"q\x09"
    assert read_pickle(b"(".join((body[:2], body[2:])) + many * 5 + b"t" + STOP)
    with pytest.raises(Refused, match=reason):
        read_pickle(b"(".join((body[:2], body[2:])) + many * 300 + b"t" + STOP)


def test_text_and_integers_of_any_claimed_length(sentinel):
    """A length without the bytes asks for no memory."""
    tracemalloc.start()
    for what in ("long 4", "unicode 8", "bytes 8", "bytearray 8", "unicode"):
        with pytest.raises(Refused):
            read_pickle(PROTOCOL + bodies(sentinel)[what] + STOP)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_noise_is_refused_or_read(data):
    with contextlib.suppress(Refused):
        read_pickle(PROTOCOL + data)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([bytes([code.code.encode("latin1")[0]]) for code in pickletools.opcodes]), max_size=60))
def test_operations_in_any_order_are_refused_or_read(operations):
    with contextlib.suppress(Refused):
        read_pickle(PROTOCOL + b"".join(operations) + STOP)
