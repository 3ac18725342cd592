"""A pull over SSH against paramiko's own ``get`` and ``scp``: one file over a real server on the loopback interface.

    python benchmarks/pull.py [--megabytes 200] [--repeats 7]

Ours writes, hashes (SHA-256) and compares what it fetches; ``get`` writes only, and looks at the size. Both use the
same server, in turns, over connections of their own; connecting isn't timed. ``scp`` is timed whole, and its time to
connect is told beside it. Needs an OpenSSH server and paramiko.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import paramiko

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "registry"))
from sshd import Sshd, find_sshd, serving

from sepconc.registry.files import Stamp
from sepconc.registry.ssh.addresses import find_remote
from sepconc.registry.ssh.connection import connect
from sepconc.registry.ssh.download import Download, Line


def make_file(path: Path, megabytes: int) -> Stamp:
    """Write random bytes; what they are."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for _ in range(megabytes):
            block = os.urandom(1_000_000)
            digest.update(block)
            file.write(block)
    return Stamp(path.stat().st_size, digest.hexdigest())


def configure(server: Sshd, folder: Path) -> None:
    """A home that knows the server, and a configuration whose remote it is."""
    (folder / "home" / ".ssh").mkdir(parents=True)
    (folder / "home" / ".ssh" / "known_hosts").write_text(server.known_hosts_line())
    keys = f"host: 127.0.0.1, port: {server.port}, user: {server.user}, identity_file: {server.identity}"
    (folder / "config.yml").write_text(f"remotes:\n  lab: {{{keys}, path: {folder}}}\n")
    os.environ |= {"HOME": str(folder / "home"), "SEPCONC_CONFIG": str(folder / "config.yml")}


def ours(server: Sshd, source: Path, target: Path, stamp: Stamp) -> float:
    """Seconds of a download, hash included."""
    with Line(lambda: connect(find_remote("lab"))) as line:
        begin = time.perf_counter()
        Download(str(source), "lab", target, stamp, lambda size: None).fetch(line)
        return time.perf_counter() - begin


def theirs(server: Sshd, source: Path, target: Path, stamp: Stamp) -> float:
    """Seconds of paramiko's ``get``, without a hash."""
    transport = paramiko.Transport(("127.0.0.1", server.port))
    transport.connect(username=server.user, pkey=paramiko.PKey.from_path(str(server.identity)))
    with transport, paramiko.SFTPClient.from_transport(transport) as client:
        begin = time.perf_counter()
        client.get(str(source), str(target))
        return time.perf_counter() - begin


def scp(server: Sshd, source: Path, target: Path, stamp: Stamp) -> float:
    """Seconds of ``scp``, connecting included."""
    options = ["-q", "-B", "-o", f"UserKnownHostsFile={os.environ['HOME']}/.ssh/known_hosts", "-F", "none"]
    where = f"{server.user}@127.0.0.1:{source}"
    command = ["scp", *options, "-i", server.identity, "-P", str(server.port), where, target]
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Time all three in turns and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the files are written (default: the temporary folder)")
    options = parser.parse_args()
    if not find_sshd():
        parser.error("there is no sshd here")
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    ways: dict[str, Callable[..., float]] = {"ours, SHA-256 included": ours, "paramiko get": theirs, "scp": scp}
    try:
        with serving(folder / "sshd") as server:
            configure(server, folder)
            stamp = make_file(folder / "file", options.megabytes)
            (folder / "empty").write_bytes(b"")
            for way in ways.values():  # once to warm up
                way(server, folder / "file", folder / "copy", stamp)
            turns = [
                [way(server, folder / "file", folder / "copy", stamp) for way in ways.values()]
                for _ in range(options.repeats)
            ]
            connecting = statistics.median(
                scp(server, folder / "empty", folder / "copy", stamp) for _ in range(options.repeats)
            )
    finally:
        shutil.rmtree(folder)
    size = options.megabytes
    print(f"{size} MB over the loopback interface, paramiko {paramiko.__version__}, median of {options.repeats}\n")
    print(f"{'':<24}{'seconds':>9}{'MB/s':>8}{'of get':>9}")
    for place, name in enumerate(ways):
        seconds = statistics.median(turn[place] for turn in turns)
        share = statistics.median(turn[1] / turn[place] for turn in turns)
        print(f"{name:<24}{seconds:>9.2f}{size / seconds:>8.0f}{share:>8.2f}x")
    print(f"\nscp takes {connecting:.2f} s for an empty file. Shares are medians of the ratios of one turn.")


if __name__ == "__main__":
    main()
