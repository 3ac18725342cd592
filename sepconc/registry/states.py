"""The files of one state: record, histories and tensors under one stem, written new and never changed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sepconc.errors import CorruptFile, RegistryError
from sepconc.registry import files
from sepconc.registry.files import Stamp
from sepconc.registry.parcels import Parcel, read_parcel, tame
from sepconc.registry.records import epoch_of, full_record, new_row
from sepconc.registry.table import Row

SUFFIXES = (".classif", ".npz", ".tar")


class StateFiles:
    """The folder of a registry's files; knows nothing of the table.

    Every method that writes returns rows with the size and SHA-256 of what is there. A row's ``size`` is the number
    of bytes of its files that are there: one that lacks exactly the tensors says that they were never fetched.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self, row: Row) -> dict[str, Path]:
        """Where the files of a row are, by kind: ``classif``, ``npz``, ``tar``; they needn't exist."""
        return {suffix[1:]: self.folder / f"{row.filename}{suffix}" for suffix in SUFFIXES}

    def make(self) -> None:
        """Make the folder; RegistryError if that can't be."""
        make_folder(self.folder)

    def write(
        self,
        name: str,
        states: Mapping[str, Mapping[str, Any]],
        filenames: Mapping[str, str],
        cells: Mapping[str, str],
        histories: Mapping[str, np.ndarray],
        tensors: Any,
    ) -> dict[str, Row]:
        """Write the files of one moment: histories and tensors once, linked for the other statuses, then records."""
        self.make()
        first, *others = (self.folder / filename for filename in filenames.values())
        stamps = {"npz": files.write_npz(first.with_name(f"{first.name}.npz"), histories)}
        if tensors is not None:
            stamps["tar"] = files.write_tensors(first.with_name(f"{first.name}.tar"), tensors)
        for other in others:
            self._link(first.name, other.name, stamps)
        rows = {}
        for status, record in states.items():
            row = new_row(name, status, filenames[status], record, cells)
            rows[status] = self._write_record(row, record, stamps)
        return rows

    def rewrite(
        self,
        old: Row,
        new: Row,
        before: Mapping[str, Any],
        record: Mapping[str, Any],
        updated_from: Sequence[str] = (),
    ) -> Row:
        """Write a new record of a state whose histories and tensors stay; ``new`` names key and stem.

        ``updated_from`` lists the stems that the state had under the same name and status.
        """
        stamps = {kind: Stamp(**stamp) for kind, stamp in before["files"].items()}
        self._link(old.filename, new.filename, stamps)
        fetched = self.was_fetched(old, before)
        return self._write_record(new, record, stamps, updated_from, fetched=fetched)

    def adopt(self, parcel: Parcel, filename: str) -> Row:
        """Take the files of a parcel in under a stem, byte for byte, and check them where they lie then."""
        row = replace(tame(parcel.row), filename=filename)
        self.make()
        taken = {kind: path for kind, path in self.paths(row).items() if kind in parcel.files}
        for kind, path in taken.items():
            files.take(parcel.files[kind], path, ours=self.folder)
        record = read_parcel(Parcel(row, taken))
        return replace(
            row,
            epoch=epoch_of(row.status, record, row.cells()),
            size=sum(path.stat().st_size for path in taken.values()),
            sha256=files.digest(taken["classif"]),
        )

    def was_fetched(self, row: Row, record: Mapping[str, Any]) -> bool:
        """Whether the tensors that a record names came with it, as far as the row's size tells."""
        if "tar" not in record["files"] or row.size is None:
            return True
        try:
            own = self.paths(row)["classif"].stat().st_size
        except OSError:
            return True
        return row.size != own + record["files"]["npz"]["size"]

    def remove(self, filenames: Iterable[str]) -> None:
        """Delete the files of some stems; what can't be deleted stays."""
        for filename in filenames:
            for suffix in SUFFIXES:
                files.unlink_quietly(self.folder / f"{filename}{suffix}")

    def _write_record(
        self,
        row: Row,
        record: Mapping[str, Any],
        stamps: Mapping[str, Stamp],
        updated_from: Sequence[str] = (),
        *,
        fetched: bool = True,
    ) -> Row:
        """Write ``<filename>.classif`` and return the row with its size and SHA-256."""
        full = full_record(row, record, stamps, updated_from)
        stamp = files.write_json(self.paths(row)["classif"], full)
        there = [each for kind, each in stamps.items() if fetched or kind != "tar"]
        return replace(row, size=sum(each.size or 0 for each in (stamp, *there)), sha256=stamp.sha256)

    def _link(self, source: str, target: str, kinds: Iterable[str]) -> None:
        """Give histories and tensors a second name; tensors that aren't there stay missing."""
        for kind in kinds:
            try:
                files.link_or_copy(self.folder / f"{source}.{kind}", self.folder / f"{target}.{kind}")
            except FileNotFoundError as error:
                if kind != "tar":
                    message = f"{self.folder / source}.{kind} is missing, though the registry names it. Restore it."
                    raise CorruptFile(message) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; RegistryError if that can't be."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        message = f"{folder} can't be made: {error.strerror or error}. Give another place for the registry."
        raise RegistryError(message) from error
