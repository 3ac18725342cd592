"""How a classifier came about, as its record and its row tell it: commands, errors and losses of the epochs.

Records may come from other programs: whatever they lack, or write in another way, is left out.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sepconc.cli.curve import can_show, curve
from sepconc.registry.store import Stored
from sepconc.registry.table import Row
from sepconc.report import duration

UNKNOWN = "unknown"
_WIDEST = 120
_SIDE_BY_SIDE = 76  # columns from which two curves stand beside each other


def find(record: Any, *keys: str) -> Any:
    """What a record has under a path of keys; None where it ends before."""
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def first_of(*values: Any) -> Any:
    """The first value that isn't None."""
    return next((value for value in values if value is not None), None)


def text_of(value: Any) -> str:
    """A value on one line, or unknown."""
    if value is None or value == "":
        return UNKNOWN
    return "".join(character if character.isprintable() else "?" for character in str(value))


def commands(record: Any, rows: Sequence[Row]) -> list[str]:
    """The commands that took part, in their order; older records don't tell them, but the rows of all statuses do."""
    trainings = find(record, "provenance", "trainings")
    if isinstance(trainings, list) and trainings and not find(record, "provenance", "imported"):
        return [_training(each) for each in trainings]
    told: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row.epoch or 0, row.date)):
        text = f"{row.script} {row.args_script}".strip()
        if text:
            told.setdefault(text_of(text), []).append(row.status)
    own = find(record, "provenance", "command")
    if own and text_of(own) not in told:
        told[text_of(own)] = [find(record, "status")]
    return [f"{text}   ({', '.join(statuses)})" for text, statuses in told.items()] or [_no_command(record)]


def _training(entry: Any) -> str:
    """One training: its command, the epochs that it added, when, and how long it took."""
    epochs, seconds = find(entry, "epochs"), find(entry, "seconds")
    details = [
        f"epochs {epochs[0] + 1} to {epochs[1]}" if _are_numbers(epochs) else "",
        text_of(find(entry, "date")),
        duration(seconds) if _are_numbers([seconds, 0]) else "",
    ]
    return f"{text_of(find(entry, 'command') or 'from Python')}   ({', '.join(detail for detail in details if detail)})"


def _are_numbers(pair: Any) -> bool:
    """Whether these are two finite numbers."""
    return (
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, int | float) and math.isfinite(x) for x in pair)
    )


def _no_command(record: Any) -> str:
    is_ours = find(record, "provenance", "command") == "" and not find(record, "provenance", "imported")
    return "none: trained from Python" if is_ours else UNKNOWN


def validation_errors(record: Any) -> dict[int, float]:
    """Top-1 validation error after each epoch, fractions."""
    found, entries = {}, find(record, "learned", "val_errs")
    for entry in entries if isinstance(entries, list) else []:
        try:
            epoch, *errors = entry
            found[int(epoch)] = float({int(k): error for k, error in errors}[1])
        except (LookupError, TypeError, ValueError):
            continue  # another program's way to write them
    return found


def epoch_losses(stored: Stored) -> dict[int, float]:
    """Mean training loss of each epoch, from the losses of the updates."""
    losses = (stored.histories or {}).get("losses")
    last = first_of(find(stored.record, "learned", "current_epoch"), stored.row.epoch)
    first = find(stored.record, "params", "start_epoch") or 0
    if losses is None or losses.ndim != 1 or losses.dtype.kind not in "fiu":
        return {}
    if not (isinstance(first, int) and isinstance(last, int) and 0 < last - first <= len(losses)):
        return {}
    parts = np.array_split(losses.astype(np.float64), last - first)
    return {first + 1 + i: float(part.mean()) for i, part in enumerate(parts)}


def curves(stored: Stored) -> str:
    """Training loss and validation error over the epochs, beside each other where the terminal is wide enough."""
    columns = terminal_width()
    beside = columns >= _SIDE_BY_SIDE
    width = (columns - 3) // 2 if beside else columns
    errors = {epoch: 100 * error for epoch, error in validation_errors(stored.record).items()}
    drawn = [
        _drawn("training loss", epoch_losses(stored), width),
        _drawn("validation error, %", errors, width),
    ]
    drawn = [lines for lines in drawn if lines]
    if beside:
        pairs = itertools.zip_longest(*drawn, fillvalue="")
        return "\n".join("   ".join(line.ljust(width) for line in pair).rstrip() for pair in pairs)
    return "\n\n".join("\n".join(lines) for lines in drawn)


def _drawn(title: str, values: Mapping[int, float], width: int) -> list[str]:
    """A curve with its title; nothing for fewer than two epochs."""
    epochs = sorted(epoch for epoch, value in values.items() if math.isfinite(value))
    if len(epochs) < 2:
        return []
    lines = curve([values[epoch] for epoch in epochs], width=width, plain=not can_show("│⠉⣿"))
    return [f"{title}, epochs {epochs[0]} to {epochs[-1]}", *lines]


def terminal_width() -> int:
    """Columns for a page; 80 where there is no terminal and COLUMNS isn't set."""
    return min(shutil.get_terminal_size().columns, _WIDEST)
