"""Whatever is done to a registry in whatever order, with crashes in between, it holds what a dictionary would.

A crash is played in this process: from the N-th call of the system on, every call that would change the disk fails
with an exception that nothing catches.
"""

import contextlib
import gc as memory
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sepconc.errors import ClassifierExists, ClassifierNotFound, CorruptFile
from sepconc.registry import files
from sepconc.registry.archive import export, import_archive
from sepconc.registry.parcels import Parcel
from sepconc.registry.store import Registry
from sepconc.registry.upkeep import gc, rebuild
from sepconc.registry.verify import verify

CALLS = ("open", "write", "fsync", "replace", "unlink", "link", "mkdir", "rmdir")
NAMES = st.sampled_from(["a", "b", "007"])
STATUSES = st.sampled_from(["checkpoint", "best", "e1", "e2"])
CRASHES = st.none() | st.integers(1, 70)
Key = tuple[str, str]


class Crash(BaseException):
    """The process ends here."""


class Entry(NamedTuple):
    """What a name and status holds: what its parts say, whether its weights are here, its score."""

    value: int
    weights: bool
    score: float | None = None


Model = dict[Key, Entry]


@contextlib.contextmanager
def crashing(number: int):
    """From the ``number``-th call of the system on, none is made."""
    count = itertools.count(1)

    def wrap(name: str, real: Callable) -> Callable:
        def call(*args, **kwargs):
            if name == "open" and not args[1] & (os.O_CREAT | os.O_TRUNC):
                return real(*args, **kwargs)
            if next(count) < number:
                return real(*args, **kwargs)
            if name == "write" and next(count) == number + 1:
                real(args[0], args[1][: len(args[1]) // 2])
            raise Crash

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrap(name, getattr(os, name)))
        yield


def save_value(registry: Registry, name: str, value: int, statuses: list[str], *, weights: bool = True) -> None:
    record = {"value": value, "epoch": value, "provenance": {"commit": f"c{value}"}}
    registry.save(
        name,
        dict.fromkeys(statuses, record),
        histories={"losses": np.full(3, value)},
        tensors={"weight": [value] * 5} if weights else None,
        row={"commit": f"c{value}"},
    )


def read(registry: Registry) -> Model:
    """What a registry holds; all parts of a state must say the same."""
    model = {}
    for row in registry.rows():
        has_weights = registry.paths(row)["tar"].exists()
        stored = registry.load(*row.key, tensors=has_weights)
        value = stored.record["value"]
        assert stored.histories["losses"].tolist() == [value] * 3
        assert stored.tensors == ({"weight": [value] * 5} if has_weights else None)
        assert row.commit == f"c{value}"
        model[row.key] = Entry(value, has_weights, stored.record.get("score"))
    return model


class Machine(RuleBasedStateMachine):
    """A registry, another one that things come from, an archive, and dictionaries of what they should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(files, "write_tensors", files.write_json)  # lists stand for tensors; they are read the same
        self.patch.setattr(files, "read_tensors", files.read_json)
        self.place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.registry = self.open("here")
        self.source = self.open("there")
        self.model: Model = {}
        self.there: Model = {}
        self.packed: Model = {}
        self.packed_hashes: dict[Key, str] = {}

    def open(self, name: str) -> Registry:
        return Registry(self.place / name / "classif_db.csv", self.place / name / "classif", lock_timeout=2.0)

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.place)

    # ---- one change -------------------------------------------------------------------------------------------------

    def change(self, action: Callable[[], object], after: Model, crash: int | None) -> None:
        """Do something that leads from the model to ``after``; a crash may leave either."""
        try:
            with crashing(crash) if crash else contextlib.nullcontext():
                action()
        except Crash:
            memory.collect()  # lets go of the lock, as the end of a process does
            self.forget_the_process()
            found = read(self.registry)
            assert found in (self.model, after)
            self.model = found
        else:
            self.model = after

    def forget_the_process(self) -> None:
        """The note about the lock is of a process that is gone, or an hour has passed since half a note was left."""
        note = self.registry.csv_path.with_name("classif_db.csv.lock.json")
        if note.exists():
            try:
                note.write_text(json.dumps(json.loads(note.read_text()) | {"pid": 2**22 + 1}))
            except ValueError:
                note.unlink()

    def refused(self, action: Callable[[], object], error: type[Exception]) -> None:
        """Something that isn't possible says so; the invariant sees that nothing changed."""
        with pytest.raises(error):
            action()

    def of(self, name: str) -> Model:
        return {key: entry for key, entry in self.model.items() if key[0] == name}

    # ---- what people do ---------------------------------------------------------------------------------------------

    @initialize(value=st.integers(1, 9))
    def begin(self, value: int) -> None:
        save_value(self.source, "a", value, ["checkpoint", "best"])
        save_value(self.source, "b", value + 1, ["checkpoint"], weights=False)
        self.there = read(self.source)
        save_value(self.registry, "a", value, ["best", "e1"])
        save_value(self.registry, "007", value + 2, ["checkpoint"])
        row = self.source.find("a")
        self.registry.adopt([Parcel(row, {k: path for k, path in self.source.paths(row).items() if k != "tar"})])
        self.model = read(self.registry)

    @rule(
        name=NAMES,
        statuses=st.lists(STATUSES, min_size=1, max_size=3, unique=True),
        value=st.integers(1, 9),
        weights=st.booleans(),
        crash=CRASHES,
    )
    def save(self, name: str, statuses: list[str], value: int, weights: bool, crash: int | None) -> None:
        after = self.model | {(name, status): Entry(value, weights) for status in statuses}
        self.change(lambda: save_value(self.registry, name, value, statuses, weights=weights), after, crash)

    @rule(name=NAMES, status=STATUSES, score=st.sampled_from([0.25, 0.5]), crash=CRASHES)
    def update(self, name: str, status: str, score: float, crash: int | None) -> None:
        def action() -> None:
            row = self.registry.find(name, status)
            self.registry.update_record(name, status, row, lambda record: record | {"score": score})

        if (name, status) not in self.model:
            self.refused(action, ClassifierNotFound)
            return
        after = self.model | {(name, status): self.model[name, status]._replace(score=score)}
        self.change(action, after, crash)

    @rule(name=NAMES, status=st.none() | STATUSES, crash=CRASHES)
    def remove(self, name: str, status: str | None, crash: int | None) -> None:
        gone = {key for key in self.of(name) if status in (None, key[1])}
        if not gone:
            self.refused(lambda: self.registry.remove(name, status), ClassifierNotFound)
            return
        after = {key: entry for key, entry in self.model.items() if key not in gone}
        self.change(lambda: self.registry.remove(name, status), after, crash)

    @rule(
        name=NAMES, new=NAMES, status=st.none() | STATUSES, keep=st.booleans(), overwrite=st.booleans(), crash=CRASHES
    )
    def rename(self, name: str, new: str, status: str | None, keep: bool, overwrite: bool, crash: int | None) -> None:
        status = status if keep else None

        def action() -> None:
            if keep:
                self.registry.copy(name, new, status, overwrite=overwrite)
            else:
                self.registry.move(name, new, overwrite=overwrite)

        rows = {key: entry for key, entry in self.of(name).items() if status in (None, key[1])}
        if name == new:
            return
        if not rows:
            self.refused(action, ClassifierNotFound)
            return
        in_the_way = self.of(new) if status is None else {key for key in self.of(new) if key[1] == status}
        if in_the_way and not overwrite:
            self.refused(action, ClassifierExists)
            return
        after = {key: entry for key, entry in self.model.items() if key not in in_the_way and (keep or key not in rows)}
        self.change(action, after | {(new, key[1]): entry for key, entry in rows.items()}, crash)

    # ---- what comes from elsewhere ----------------------------------------------------------------------------------

    @rule(value=st.integers(1, 9))
    def train_elsewhere(self, value: int) -> None:
        save_value(self.source, "a", value, ["checkpoint", "best"])
        self.there = read(self.source)

    def taken(self, coming: Model, hashes: dict[Key, str], overwrite: bool) -> Model | None:
        """What is here after ``coming`` came in; None if that is refused."""
        after = dict(self.model)
        for key, entry in coming.items():
            here = self.model.get(key)
            if here is not None and self.registry.find(*key).sha256 == hashes[key]:
                after[key] = entry if entry.weights and not here.weights else here
            elif here is not None and not overwrite:
                return None
            else:
                after[key] = entry
        return after

    @rule(
        keys=st.lists(
            st.sampled_from([("a", "checkpoint"), ("a", "best"), ("b", "checkpoint")]), min_size=1, unique=True
        ),
        with_weights=st.booleans(),
        overwrite=st.booleans(),
        crash=CRASHES,
    )
    def pull(self, keys: list[Key], with_weights: bool, overwrite: bool, crash: int | None) -> None:
        parcels = []
        for row in (self.source.find(*key) for key in keys):
            kinds = {kind: path for kind, path in self.source.paths(row).items() if path.exists()}
            parcels.append(Parcel(row, kinds if with_weights else {**kinds, "tar": None}))
        parcels = [Parcel(p.row, {kind: path for kind, path in p.files.items() if path}) for p in parcels]
        coming = {key: self.there[key]._replace(weights=self.there[key].weights and with_weights) for key in keys}
        self.take(
            lambda: self.registry.adopt(parcels, overwrite=overwrite), coming, self.source_hashes(), overwrite, crash
        )

    def source_hashes(self) -> dict[Key, str]:
        return {row.key: row.sha256 for row in self.source.rows()}

    def take(self, action: Callable, coming: Model, hashes: dict, overwrite: bool, crash: int | None) -> None:
        after = self.taken(coming, hashes, overwrite)
        if after is None:
            self.refused(action, ClassifierExists)
        else:
            self.change(action, after, crash)

    @precondition(lambda self: self.model)
    @rule(name=NAMES)
    def pack(self, name: str) -> None:
        rows = [row for row in self.registry.rows() if row.name == name]
        if rows:
            export(self.registry, rows, self.place / "archive.zip", overwrite=True)
            self.packed = self.of(name)
            self.packed_hashes = {row.key: row.sha256 for row in rows}

    @precondition(lambda self: self.packed)
    @rule(overwrite=st.booleans(), crash=CRASHES)
    def unpack(self, overwrite: bool, crash: int | None) -> None:
        action: Callable[[], Any] = lambda: import_archive(  # noqa: E731
            self.registry, self.place / "archive.zip", overwrite=overwrite
        )
        self.take(action, self.packed, self.packed_hashes, overwrite, crash)

    # ---- looking after it -------------------------------------------------------------------------------------------

    @rule(crash=CRASHES)
    def collect(self, crash: int | None) -> None:
        self.change(lambda: gc(self.registry, older_than=-1) if self.model else None, self.model, crash)
        if crash is None and self.model:
            assert self.registry.orphans(-1) == []

    @precondition(lambda self: self.model)
    @rule(crash=CRASHES)
    def lose_the_table_and_rebuild(self, crash: int | None) -> None:
        gc(self.registry, older_than=-1)
        before, self.model = self.model, {}
        self.registry.csv_path.unlink()
        self.change(lambda: rebuild(self.registry, older_than=-1), before, crash)
        if not self.model:
            rebuild(self.registry, older_than=-1)
            self.model = before

    @precondition(lambda self: self.model)
    @rule(place=st.floats(0, 0.999), kind=st.sampled_from(["classif", "npz", "tar"]), which=st.integers(0, 99))
    def damage(self, place: float, kind: str, which: int) -> None:
        """A flipped bit is noticed by whoever reads that file, and by verify; then the file is restored."""
        row = self.registry.rows()[which % len(self.model)]
        path = self.registry.paths(row)[kind]
        if not path.exists():
            return
        data = path.read_bytes()
        at = int(place * len(data))
        status = path.stat()
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CorruptFile):
            self.registry.load(*row.key, tensors=self.model[row.key].weights)
        assert ":".join(row.key) in {finding.where for finding in verify(self.registry).findings}
        path.write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    @rule(name=NAMES, status=STATUSES)
    def load(self, name: str, status: str) -> None:
        if (name, status) not in self.model:
            self.refused(lambda: self.registry.load(name, status), ClassifierNotFound)
        elif not self.model[name, status].weights:
            self.refused(lambda: self.registry.load(name, status, tensors=True), CorruptFile)

    @invariant()
    def holds_what_the_dictionary_holds(self) -> None:
        assert read(self.registry) == self.model
        kinds = {finding.kind for finding in verify(self.registry, older_than=-1).findings}
        assert kinds <= {"orphan", "temporary", "not fetched", *(() if self.model else ("table",))}
        unnamed = {path.name for path in self.registry.orphans(-1)}
        named = {path.name for row in self.registry.rows() for path in self.registry.paths(row).values()}
        there = set(os.listdir(self.registry.folder)) if self.registry.folder.exists() else set()
        assert there - named <= unnamed


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


class TestMachine(Machine.TestCase):
    settings = settings(max_examples=10, stateful_step_count=20, **COMMON)


@pytest.mark.slow
class TestMachineAtLength(Machine.TestCase):
    settings = settings(max_examples=300, stateful_step_count=40, **COMMON)
