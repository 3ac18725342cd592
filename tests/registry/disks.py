"""Run by test_faults.py in a name space of its own, where it may mount: a registry on small, full and read-only disks.

``disks.py FOLDER MODE`` mounts a file system in memory on FOLDER and prints what happened as a JSON object. The mount
goes with the process.
"""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import check_verified, check_whole, left_over, loaded_value, save_value

from sepconc.errors import NoSpace, RegistryError
from sepconc.registry.archive import export, import_archive
from sepconc.registry.store import Registry
from sepconc.registry.upkeep import gc
from sepconc.registry.verify import verify


def mount(folder: Path, options: str) -> None:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)


def at(folder: Path) -> Registry:
    return Registry(folder / "classif_db.csv", folder / "classif")


def save_large(registry: Registry, name: str, kilobytes: int) -> None:
    half = kilobytes * 128
    registry.save(
        name, {"checkpoint": {"epoch": 1}}, histories={"losses": np.zeros(half, np.float32)}, tensors=torch.zeros(half)
    )


def refused(action: Callable[[], object], kind: type[Exception]) -> str:
    """What the error says, which must be of a kind and on one line."""
    with pytest.raises(kind) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def whole(registry: Registry, value: int) -> None:
    check_whole(registry)
    check_verified(registry)
    assert loaded_value(registry, "net") == value
    assert left_over(registry) == [], left_over(registry)


def full(disk: Path) -> dict[str, Any]:
    """A megabyte that is full: saves, imports and exports fail with a sentence, and what was there stays whole."""
    mount(disk, "size=1m")
    registry, elsewhere = at(disk), at(disk.with_name("elsewhere"))
    save_value(registry, "net", 1)
    messages = [refused(lambda: save_large(registry, "large", 2000), NoSpace)]
    whole(registry, 1)
    save_large(elsewhere, "large", 2000)
    export(elsewhere, elsewhere.rows(), disk.with_name("large.zip"))
    messages.append(refused(lambda: import_archive(registry, disk.with_name("large.zip")), NoSpace))
    messages.append(refused(lambda: export(elsewhere, elsewhere.rows(), disk / "large.zip"), NoSpace))
    whole(registry, 1)
    save_large(registry, "part", 700)
    messages.append(refused(lambda: save_large(registry, "part", 700), NoSpace))
    assert registry.load("part", tensors=True).tensors.shape == (700 * 128,)
    whole(registry, 1)
    registry.remove("part")
    save_large(registry, "part", 700)
    for message in messages:
        assert re.search(r"No space left on .*: needed [\d,]+ bytes, free [\d,]+ bytes", message), message
    return {"refused": len(messages)}


def filled(disk: Path) -> dict[str, Any]:
    """Each amount of free space in turn: every change is made or refused, and nothing is half done."""
    mount(disk, "size=1m")
    registry = at(disk)
    save_value(registry, "net", 1)
    archive = disk.with_name("net.zip")
    export(registry, registry.rows(), archive)
    counts = {"done": 0, "refused": 0, "unlocked": 0}
    changes: tuple[Callable[[], object], ...] = (
        lambda: save_value(registry, "new", 1),
        lambda: registry.copy("net", "new"),
        lambda: import_archive(registry, archive, name="new"),
        lambda: registry.update_record("net", "checkpoint", registry.find("net"), dict),
        lambda: export(registry, registry.rows(), disk / "net.zip", overwrite=True),
    )
    for free in range(0, 60, 4):
        for change in changes:
            ballast = disk / "ballast"
            with open(ballast, "wb", buffering=0) as file:
                with contextlib.suppress(OSError):
                    while file.write(bytes(4096)):
                        pass
                file.truncate(max(0, file.tell() - free * 1024))
            try:
                change()
                counts["done"] += 1
            except RegistryError as error:  # the lock's file can't be written either, which is no NoSpace
                counts["refused" if isinstance(error, NoSpace) else "unlocked"] += 1
            (disk / "net.zip").unlink(missing_ok=True)
            ballast.unlink()
            whole(registry, 1)
            if "new" in registry.names():
                registry.remove("new")
    return counts


def inodes(disk: Path) -> dict[str, Any]:
    """Room for bytes but for no more names."""
    mount(disk, "size=1m,nr_inodes=10")
    registry = at(disk)
    save_value(registry, "net", 1)
    message = refused(lambda: save_value(registry, "other", 1), NoSpace)
    whole(registry, 1)
    return {"message": message}


def read_only(disk: Path) -> dict[str, Any]:
    """Reading works, writing is refused and names the reason."""
    mount(disk, "size=4m")
    registry = at(disk)
    save_value(registry, "net", 1)
    export(registry, registry.rows(), disk.with_name("net.zip"))
    (registry.folder / f"{'a' * 32}.tar").write_bytes(b"garbage")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert loaded_value(registry, "net") == 1
    assert verify(registry).is_clean
    export(registry, registry.rows(), disk.with_name("again.zip"))
    assert len(gc(registry, older_than=-1, dry_run=True)) == 1
    changes: tuple[Callable[[], object], ...] = (
        lambda: save_value(registry, "net", 2),
        lambda: registry.remove("net"),
        lambda: registry.move("net", "new"),
        lambda: registry.copy("net", "new"),
        lambda: import_archive(registry, disk.with_name("net.zip"), name="new"),
        lambda: gc(registry, older_than=-1),
        lambda: export(registry, registry.rows(), disk / "net.zip"),
        registry.probe,
    )
    messages = [refused(change, RegistryError) for change in changes]
    assert loaded_value(registry, "net") == 1
    return {"messages": messages}


def apart(disk: Path) -> dict[str, Any]:
    """The table on one file system, the files on another, which is reached through a symbolic link."""
    mount(disk, "size=4m")
    table = disk.with_name("table")
    mount(table, "size=1m")
    (disk / "files").mkdir()
    (table / "classif").symlink_to(disk / "files")
    registry = at(table)
    save_value(registry, "net", 1, ("checkpoint", "best"))
    save_value(registry, "net", 2, ("checkpoint", "best"))
    registry.copy("net", "new")
    registry.move("new", "third")
    export(registry, registry.rows(), table / "all.zip")
    registry.remove("third")
    import_archive(registry, table / "all.zip")
    (table / "all.zip").unlink()
    whole(registry, 2)
    assert (table / "classif").is_symlink()
    devices = {path.stat().st_dev for path in (registry.csv_path, *registry.paths(registry.find("net")).values())}
    return {"names": registry.names(), "file systems": len(devices)}


if __name__ == "__main__":
    result = globals()[sys.argv[2]](Path(sys.argv[1]) / "disk")
    sys.stdout.write(json.dumps(result))
