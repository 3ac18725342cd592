"""Files of another machine, fetched through a line that may be cut: continued where they stopped, hashed on the way."""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from sepconc.errors import PullError
from sepconc.registry.files import Stamp, write_error

if TYPE_CHECKING:
    from sepconc.registry.ssh.connection import Session

PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0)  # seconds before each new attempt to connect
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Changing(PullError):
    """A file there isn't what was said of it: perhaps somebody saves the classifier just now."""


class Line:
    """A session with another machine that is opened anew when it is cut, as often as there are pauses.

    Parameters
    ----------
    connect : callable
        Makes a session.
    pauses : sequence of float
        Seconds before each new attempt.
    """

    def __init__(self, connect: "Callable[[], Session]", pauses: Sequence[float] = PAUSES) -> None:
        self._connect = connect
        self._pauses = list(pauses)
        self._session: Session | None = None

    def __enter__(self) -> Self:
        self._session = self._connect()
        return self

    def __exit__(self, *error: object) -> None:
        self._hang_up()

    def run(self, work: "Callable[[Session], T]", again: Callable[[], object] = lambda: None) -> T:
        """Let ``work`` use the session; after a cut, call ``again`` and let it go on with the next session.

        Raises
        ------
        PullError
            Whatever ``work`` meets but a cut; and a cut after the last attempt.
        """
        from sepconc.registry.ssh.connection import ConnectionLost

        is_cut = False
        while True:
            try:
                if self._session is None:
                    self._session = self._connect()
                if is_cut:
                    again()
                return work(self._session)
            except ConnectionLost as error:
                self._hang_up()
                is_cut = True
                if not self._pauses:
                    message = f"{error} It was tried again several times; nothing was changed here."
                    raise PullError(message) from error
                _log.warning("%s Connecting again.", error)
                time.sleep(self._pauses.pop(0))

    def _hang_up(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None


class Download:
    """One file on its way: what of it is here, and its hash so far.

    Parameters
    ----------
    source, label : str
        The file there, and what that machine is called.
    target : Path
        The file here, which is made.
    expected : Stamp
        Size and SHA-256; without a hash, only the size is compared.
    progress : callable
        Is given the number of bytes that came.
    """

    def __init__(
        self, source: str, label: str, target: Path, expected: Stamp, progress: Callable[[int], object]
    ) -> None:
        self.source, self.label, self.target, self.expected = source, label, target, expected
        self._progress = progress
        self._hash = hashlib.sha256()
        self._done = 0

    def fetch(self, line: Line, again: Callable[[], object] = lambda: None) -> Path:
        """Fetch the file; after a cut, call ``again`` and go on at the byte where it stopped.

        Raises
        ------
        Changing
            Its bytes aren't the recorded ones.
        NoSpace, RegistryError
            It can't be written.
        PullError
            As :meth:`Line.run`.
        """
        with self._created() as descriptor:
            line.run(lambda session: self._go_on(session, descriptor), again)
        found = self._hash.hexdigest()
        if self.expected.sha256 and found != self.expected.sha256:
            hashes = f"expected {self.expected.sha256}, found {found}"
            message = (
                f"{self.source} on {self.label} does not match its recorded SHA-256 ({hashes}). It is damaged: "
                '"sepconc verify" there says more. Nothing was changed here.'
            )
            raise Changing(message)
        return self.target

    def _go_on(self, session: "Session", descriptor: int) -> None:
        for data in session.chunks(self.source, self._done, self.expected.size):
            self._write(descriptor, data)
            self._hash.update(data)
            self._done += len(data)
            self._progress(len(data))

    @contextlib.contextmanager
    def _created(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise write_error(self.target, error, self.expected.size or 0) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError as error:
            raise write_error(self.target, error, self.expected.size or 0) from error
