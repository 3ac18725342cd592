"""How the tests of connections read from a remote, and are refused."""

import pytest

from sepconc.registry.ssh.addresses import find_remote
from sepconc.registry.ssh.authentication import Secrets
from sepconc.registry.ssh.connection import Session, connect


def session(hostname: str | None = "lab", ask=None, **options) -> Session:
    """A session with a remote; nobody answers questions unless ``ask`` does."""
    return connect(find_remote(hostname), secrets=Secrets(ask or (lambda question: None)), **options)


def read(hostname: str | None = "lab", ask=None, **options) -> bytes:
    """What a remote's table holds."""
    with session(hostname, ask, **options) as line:
        return line.read(find_remote(hostname).csv, 1000)


def refused(kind: type[Exception], *args, **options) -> str:
    """The one line with which a connection, or reading, is refused."""
    with pytest.raises(kind) as caught:
        read(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
