"""Many processes change one registry: no row is lost, none is doubled, none is broken, even where locks don't lock."""

import filelock
import pytest

from sepconc.errors import RegistryError
from sepconc.registry import commit
from sepconc.registry.store import Registry
from sepconc.registry.table import Table

SIZES = [(2, 10), pytest.param(4, 30, marks=pytest.mark.slow), pytest.param(8, 25, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("workers", "rows"), SIZES)
def test_no_row_is_lost(run_script, in_memory, workers, rows):
    result = run_script("writers", in_memory, "rows", workers, rows)
    assert result["codes"] == [0] * workers
    expected = {f"w{w}-{i}:checkpoint": w * 1000 + i for w in range(workers) for i in range(rows)}
    assert result["values"] == expected
    assert result["left over"] == 0


@pytest.mark.parametrize(("workers", "rows"), SIZES)
def test_one_name_saved_by_all_is_the_last_one_without_mixture_and_readers_never_fail(
    run_script, in_memory, workers, rows
):
    result = run_script("writers", in_memory, "same", workers, rows)
    assert result["codes"] == [0] * workers
    assert set(result["values"]) == {"net:checkpoint", "net:best"}
    (value,) = set(result["values"].values())
    assert value in {w * 1000 + rows - 1 for w in range(workers)}
    assert result["left over"] == 0
    assert result["reads"] > 0


@pytest.mark.parametrize(("workers", "rows"), SIZES)
def test_renaming_copying_removing_and_verifying_among_savers(run_script, in_memory, workers, rows):
    result = run_script("writers", in_memory, "mixed", workers, rows)
    assert result["codes"] == [0] * workers
    assert sorted(result["names"]) == sorted(result["expected"])


@pytest.mark.parametrize(("workers", "rows"), [(3, 4), pytest.param(4, 12, marks=pytest.mark.slow)])
def test_with_a_lock_that_excludes_nobody_no_row_is_broken(run_script, in_memory, workers, rows):
    result = run_script("writers", in_memory, "nolock", workers, rows)
    assert set(result["codes"]) <= {0, 8}
    assert "net:checkpoint" in result["values"]
    assert result["left over"] > 0  # somebody noticed, and kept what he had replaced


@pytest.fixture
def no_lock(monkeypatch) -> None:
    for name in ("acquire", "release"):
        monkeypatch.setattr(filelock.FileLock, name, lambda self, *args, **kwargs: None)


def between(monkeypatch, registry: Registry, *others) -> None:
    """Let others change the registry after the next writer has read the table and before he writes it."""
    real, waiting = commit._write, list(others)

    def late(*args):
        calls, waiting[:] = list(waiting), []
        for call in calls:
            call()
        return real(*args)

    monkeypatch.setattr(commit, "_write", late)


def test_a_stale_writer_brings_back_a_row_whose_files_are_still_there(registry, tools, monkeypatch, no_lock):
    """Nobody may delete what a writer inside the lock that doesn't lock has read, however many come and go."""
    tools.save_value(registry, "net", 1)
    between(
        monkeypatch, registry, *[lambda value=value: tools.save_value(registry, "net", value) for value in (2, 3, 4)]
    )
    tools.save_value(registry, "other", 5)
    assert tools.loaded_value(registry, "net") == 1
    assert tools.loaded_value(registry, "other") == 5


def test_a_row_that_another_writer_dropped_is_written_again(registry, tools, monkeypatch, no_lock):
    tools.save_value(registry, "net", 1)
    stale = registry.csv_path.read_bytes()
    real, reads = Table.read, []

    def read(path):
        reads.append(path)
        if len(reads) == 3:  # the one that compares
            path.write_bytes(stale)
        return real(path)

    monkeypatch.setattr(Table, "read", read)
    tools.save_value(registry, "other", 2)
    assert len(reads) > 3
    assert registry.names() == ["net", "other"]
    assert tools.loaded_value(registry, "other") == 2


def test_a_writer_who_is_undone_again_and_again_says_so(registry, tools, monkeypatch, no_lock):
    tools.save_value(registry, "net", 1)
    stale = registry.csv_path.read_bytes()
    real = commit._write
    monkeypatch.setattr(commit, "_write", lambda path, *args: [real(path, *args), path.write_bytes(stale)][0])
    with pytest.raises(RegistryError, match="again and again"):
        tools.save_value(registry, "net", 2)
    assert tools.loaded_value(registry, "net") == 1


def test_a_faster_writer_of_the_same_name_wins(registry, tools, monkeypatch, no_lock):
    tools.save_value(registry, "net", 1)
    real = commit._confirm

    def late(*args):
        monkeypatch.setattr(commit, "_confirm", real)
        tools.save_value(registry, "net", 3)
        return real(*args)

    monkeypatch.setattr(commit, "_confirm", late)
    tools.save_value(registry, "net", 2)
    assert tools.loaded_value(registry, "net") == 3
