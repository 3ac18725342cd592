"""A server, a home that knows it, and servers in this process."""

import pytest

from ..ssh_place import FakeServer, Place, a_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for tests that leave it as it is."""
    with a_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def place(server, tmp_path, monkeypatch) -> Place:
    """A home that knows the server, and a file to read there."""
    place = Place(server, tmp_path, monkeypatch)
    place.there.csv_path.parent.mkdir()
    place.there.csv_path.write_bytes(b"some text")
    return place


@pytest.fixture
def fake():
    """A function that makes servers in this process."""
    servers = []

    def make(**options):
        servers.append(FakeServer(**options))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()
