"""The lock around a change of the table, and how to notice that it doesn't lock."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from filelock import FileLock, Timeout

from sepconc.errors import RegistryBusy, RegistryError

_MEMORY = 3600.0  # seconds


class RegistryLock:
    """A lock between processes, with a note beside it (``<csv>.lock.json``) of who holds it.

    On some network file systems a lock excludes nobody. The note tells: whoever enters writes one before reading the
    table, so a holder who finds another's note on entering, or not its own before leaving, was not alone. This is
    passed on from note to note for an hour (a note left by a crash on another machine looks the same). As long as
    :meth:`was_alone` is False, files that somebody may still name must stay.
    """

    def __init__(self, csv_path: Path, timeout: float) -> None:
        self.csv_path = csv_path
        self.timeout = timeout
        self.note_path = csv_path.with_name(csv_path.name + ".lock.json")
        self._lock = FileLock(csv_path.with_name(csv_path.name + ".lock"))
        self._note: dict[str, Any] = {"pid": os.getpid(), "host": socket.gethostname(), "token": uuid4().hex}
        self._disturbed: float | None = None  # when somebody else was inside, in seconds since 1970

    def __enter__(self) -> Self:
        try:
            self._lock.acquire(timeout=self.timeout, poll_interval=0.02)
        except Timeout as error:
            raise RegistryBusy(self._busy_message()) from error
        except (OSError, NotImplementedError) as error:
            why = getattr(error, "strerror", None) or error
            message = f"{self.csv_path} can't be locked: {why}. Check that you may write to {self.csv_path.parent}."
            raise RegistryError(message) from error
        self._leave_note()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._disturbed is None and self._is_our_note():
            self._remove_note()
        self._lock.release()

    def was_alone(self) -> bool:
        """Whether nobody else was inside since we entered, as far as the notes tell."""
        return self._disturbed is None and self._is_our_note()

    def _is_our_note(self) -> bool:
        return self._read_note().get("token") == self._note["token"]

    def _leave_note(self) -> None:
        """Write the note, after a look at the one that is there."""
        other = self._read_note()
        try:
            try:
                self._place_note(os.link)
            except FileExistsError:
                self._disturbed = _disturbance(other)
                self._place_note(os.replace)
        except OSError:
            return  # without a note of ours, we never were alone

    def _place_note(self, place: Callable[[Path, Path], None]) -> None:
        """Write the note under another name, then give it its own: half a note would look like somebody else's.

        ``os.link`` raises FileExistsError where there is a note; where links aren't possible, looking first must do.
        """
        self._note |= {"since": datetime.now(UTC).isoformat(timespec="seconds"), "disturbed": self._disturbed}
        temporary = self.note_path.with_name(f".{uuid4().hex}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                os.write(descriptor, json.dumps(self._note).encode())
            finally:
                os.close(descriptor)
            try:
                place(temporary, self.note_path)
            except FileExistsError:
                raise
            except OSError:
                if self.note_path.exists() and place is os.link:
                    raise FileExistsError from None
                os.replace(temporary, self.note_path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _remove_note(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.note_path)

    def _read_note(self) -> dict[str, Any]:
        try:
            note = json.loads(self.note_path.read_bytes()[:10_000])
        except (OSError, ValueError, RecursionError):
            return {}
        return note if isinstance(note, dict) else {}

    def _busy_message(self) -> str:
        note = self._read_note()
        holder = "another process"
        if note.get("pid"):
            holder = f"process {note['pid']} on {note.get('host')}, since {note.get('since')}"
        return (
            f"{self.csv_path} is locked by {holder}; waited {self.timeout:g} s. "
            "Try again when it has finished; if it hangs, end it: the lock goes with it."
        )


def _disturbance(note: dict[str, Any]) -> float | None:
    """When the lock was last seen not to exclude others, given a note found under it; None if that is long ago.

    A note whose writer is a process of this machine that is gone only says that it crashed.
    """
    earlier = note.get("disturbed")
    if isinstance(earlier, int | float):
        return earlier if abs(time.time() - earlier) < _MEMORY else None
    return None if _is_dead(note) else time.time()


def _is_dead(note: dict[str, Any]) -> bool:
    """Whether the writer of a note was a process of this machine that is gone."""
    if note.get("host") != socket.gethostname() or not isinstance(note.get("pid"), int) or note["pid"] <= 0:
        return False
    try:
        os.kill(note["pid"], 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False
