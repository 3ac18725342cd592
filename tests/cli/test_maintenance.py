"""``sepconc verify | gc | rm | mv | cp | export | import``."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import sepconc as package
from sepconc.cli.maintenance import select
from sepconc.errors import BadName, ClassifierNotFound
from sepconc.registry.store import Registry, configured_registry

from .conftest import SMALL, one_line_error

COMMANDS = ["verify", "gc", "rm", "mv", "cp", "export", "import"]
STEM = "a" * 32


@pytest.fixture
def registry(place) -> Registry:
    """The configured registry, with ``net`` (checkpoint, best, e1) and ``other``."""
    registry = configured_registry()
    histories = {"losses": np.zeros(3)}
    registry.save("net", {status: {"epoch": 1} for status in ("checkpoint", "best", "e1")}, histories=histories)
    registry.save("other", {"checkpoint": {"epoch": 2}}, histories=histories)
    return registry


@pytest.fixture
def terminal(monkeypatch):
    """Let somebody sit at a terminal and type an answer."""

    def type_in(answer: str) -> None:
        stdin = io.StringIO(answer)
        stdin.isatty = lambda: True
        monkeypatch.setattr(sys, "stdin", stdin)

    return type_in


def damage(registry: Registry, name: str = "net", status: str = "checkpoint") -> Path:
    path = registry.paths(registry.find(name, status))["npz"]
    data = path.read_bytes()
    path.unlink()  # its other names stay whole
    path.write_bytes(data[:-1])
    return path


def keys(registry: Registry) -> list[str]:
    return sorted(f"{row.name}:{row.status}" for row in registry.rows())


@pytest.mark.parametrize("command", COMMANDS)
def test_help(sepconc, command):
    outcome = sepconc(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"usage: sepconc {command}")


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["rm"], ["NAME"]),
        (["mv", "net"], ["NEW"]),
        (["export", "net"], ["FILE"]),
        (["import"], ["FILE"]),
        (["verify", "--fast"], ["--fast"]),
        (["verify", "net:e1"], ['"net:e1"', "name alone"]),
        (["gc", "--older-than", "soon"], ["'soon'", "seconds"]),
        (["gc", "--older-than", "-1"], ["--older-than"]),
        (["gc", "--older-than", "nan"], ["seconds"]),
        (["rm", "nett", "-y"], ['"nett"', '"net"']),
        (["rm", "net:e9", "-y"], ['"e9"', "e1"]),
        (["rm", "net:last", "-y"], ["last", "checkpoint"]),
        (["rm", "a/b", "-y"], ["a/b"]),
        (["rm", "x*", "-y"], ["x*"]),
        (["mv", "nett", "new"], ['"nett"']),
        (["mv", "net", "other"], ['"other"', "already", "--overwrite"]),
        (["mv", "net:e1", "new"], ['"net:e1"', "sepconc cp"]),
        (["mv", "net", "../new"], ["../new"]),
        (["mv", "net", "net"], ["net"]),
        (["cp", "net:e9", "new"], ['"e9"']),
        (["cp", "net", "a b"], ["a b"]),
        (["export", "nobody", "a.zip"], ['"nobody"']),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(sepconc, registry, words, texts):
    before = keys(registry)
    one_line_error(sepconc(*words), *texts)
    assert keys(registry) == before


# ---- verify and gc ----------------------------------------------------------------------------------------------


def test_verify_of_nothing_and_of_what_is_whole(sepconc, place):
    assert sepconc("verify") == (0, "Nothing is wrong (0 rows, 0 B checked).\n", "")
    assert sorted(path.name for path in place.iterdir()) == ["config.yml"]


def test_verify_says_what_is_wrong(sepconc, registry):
    assert sepconc("verify").out.startswith("Nothing is wrong (4 rows, ")
    path = damage(registry)
    outcome = sepconc("verify")
    assert (outcome.code, outcome.err) == (1, "")
    first, last = outcome.out.splitlines()
    assert first.startswith(f"damaged: net:checkpoint: {path.name} ")
    assert last.startswith("Found: 1 damaged (4 rows, ")
    assert sepconc("verify", "--quick").code == 1
    assert sepconc("verify", "oth*").code == 0
    outcome = sepconc("verify", "x*")
    assert (outcome.code, outcome.out) == (2, "")
    assert 'No classifier matches "x*". List them with "sepconc list".' in outcome.err
    assert 'Close names: "other"' in sepconc("verify", "othr").err


def test_verify_of_a_trained_classifier(sepconc, trained):
    assert sepconc("verify").out.startswith("Nothing is wrong (3 rows, ")


def test_bad_rows_are_told_once(sepconc, registry):
    with registry.csv_path.open("a") as file:
        file.write("half,row\n")
    outcome = sepconc("verify")
    assert outcome.code == 1
    assert outcome.err == ""
    assert outcome.out.splitlines()[0].startswith("bad row: classif_db.csv, line 6: it has 2 fields")


def test_names_that_differ_by_case_are_a_remark(sepconc, registry):
    sepconc("cp", "net:e1", "NET")
    outcome = sepconc("verify")
    assert outcome.code == 0
    assert "case: NET, net:" in outcome.out
    assert outcome.out.splitlines()[-1].endswith("; remarks: 1 case.")


def test_a_lost_table_is_rebuilt(sepconc, registry):
    before = keys(registry)
    registry.csv_path.unlink()
    outcome = sepconc("verify", "--rebuild")
    assert "0 rows rebuilt." in outcome.out
    assert outcome.out.count("younger than 60 s") == 4
    outcome = sepconc("verify", "--rebuild", "--older-than", "0")
    assert outcome.code == 0
    assert "4 rows rebuilt.\nNothing is wrong (4 rows, " in outcome.out
    assert keys(registry) == before


def test_a_rebuilt_classifier_predicts_as_before(sepconc, trained):
    before = package.ImageClassifier.load("net").net_.state_dict()
    (trained / "classif_db.csv").unlink()
    assert sepconc("verify", "--rebuild", "--older-than", "0").code == 0
    after = package.ImageClassifier.load("net").net_.state_dict()
    assert all((before[key] == after[key]).all() for key in before)
    row = configured_registry().find("net")
    assert (row.arch, row.dataset, row.epoch) == ("scatnet", "digits", 2)
    assert row.script in ("train.py", "sepconc train")


def test_gc_says_what_goes(sepconc, registry):
    path = registry.folder / f"{STEM}.tar"
    path.write_bytes(bytes(2000))
    assert sepconc("gc").out == "0 files removed, 0 B freed.\n"
    outcome = sepconc("gc", "--older-than", "0", "--dry-run")
    assert outcome.out == f"would remove: {path} (2.0 kB)\n1 file would be removed, 2.0 kB freed.\n"
    assert path.exists()
    assert sepconc("gc", "--older-than", "0").out == f"removed: {path} (2.0 kB)\n1 file removed, 2.0 kB freed.\n"
    assert not path.exists()
    assert sepconc("verify").code == 0


def test_gc_without_the_table_fails(sepconc, registry):
    registry.csv_path.unlink()
    outcome = sepconc("gc", "--older-than", "0")
    assert outcome.code == 1
    assert "--rebuild" in outcome.err
    assert len(list(registry.folder.glob("*.classif"))) == 4


# ---- rm, mv, cp -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["net"], ["other:checkpoint"]),
        (["net:e1"], ["net:best", "net:checkpoint", "other:checkpoint"]),
        (["*:checkpoint"], ["net:best", "net:e1"]),
        (["net:e*", "net:best", "other"], ["net:checkpoint"]),
        (["*"], []),
    ],
)
def test_rm_removes_what_it_lists(sepconc, registry, names, left):
    before = keys(registry)
    outcome = sepconc("rm", *names, "-y")
    assert outcome.code == 0
    *lines, last = outcome.out.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(set(before) - set(left))
    assert last.endswith("removed.")
    assert keys(registry) == left
    assert sepconc("verify").code == 0
    assert len(list(registry.folder.glob("*.classif"))) == len(left)


@pytest.mark.parametrize(
    ("answer", "removed"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_rm_asks(sepconc, registry, terminal, answer, removed):
    terminal(answer)
    outcome = sepconc("rm", "net")
    assert "Remove 3 rows and their files (" in outcome.out
    assert outcome.code == (0 if removed else 1)
    assert (registry.statuses("net") == []) == removed


def test_rm_without_a_terminal_needs_y(sepconc, registry, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    outcome = sepconc("rm", "net")
    assert outcome.code == 2
    assert outcome.err == "sepconc rm: error: there is no terminal to ask on. Add -y to remove what is listed.\n"
    assert len(registry.statuses("net")) == 3


def test_rm_leaves_what_was_saved_while_it_asked(sepconc, registry, monkeypatch):
    class Slow(io.StringIO):
        def isatty(self):
            return True

        def readline(self):
            registry.save("net", {"checkpoint": {"epoch": 5}})
            return "y\n"

    monkeypatch.setattr(sys, "stdin", Slow())
    outcome = sepconc("rm", "net:checkpoint")
    assert outcome.code == 1
    assert "changed since it was listed" in outcome.err
    assert registry.load("net").record["epoch"] == 5


def test_mv_and_cp(sepconc, registry):
    assert sepconc("mv", "net", "new").out == "net is called new now (checkpoint, best, e1).\n"
    assert sepconc("cp", "new:e1", "one").out == "new:e1 was copied to one (e1).\n"
    assert sepconc("cp", "new", "two").code == 0
    assert sepconc("mv", "other", "one", "--overwrite").code == 0
    expected = ["new:best", "new:checkpoint", "new:e1", "one:checkpoint", "two:best", "two:checkpoint", "two:e1"]
    assert keys(registry) == expected
    assert registry.load("two", "best").record["name"] == "two"
    assert sepconc("verify").code == 0


def test_a_renamed_classifier_trains_on(sepconc, train, trained):
    assert sepconc("mv", "net", "renamed").code == 0
    assert train("renamed", *SMALL, "--epochs", "3").code == 0
    assert configured_registry().find("renamed").epoch == 3
    assert sepconc("verify").code == 0


# ---- export, import ---------------------------------------------------------------------------------------------


def test_there_and_back(sepconc, registry, place):
    outcome = sepconc("export", "net:e*", "oth?r", "two.zip")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["net:e1", "other:checkpoint", "two.zip:"]
    assert zipfile.ZipFile(place / "two.zip").testzip() is None
    assert len(sepconc("import", "two.zip", "--list").out.splitlines()) == 2
    assert "0 rows imported." in sepconc("import", "two.zip").out
    before = keys(registry)
    sepconc("rm", "*", "-y")
    assert sepconc("import", "two.zip").out.endswith("2 rows imported.\n")
    assert keys(registry) == ["net:e1", "other:checkpoint"]
    assert set(keys(registry)) < set(before)
    assert sepconc("verify").code == 0


def test_what_is_there_is_kept_unless_asked(sepconc, registry, place):
    assert sepconc("export", "net:e1", "a.zip").code == 0
    one_line_error(sepconc("export", "net", "a.zip"), "a.zip", "--overwrite")
    assert sepconc("export", "other", "a.zip", "--overwrite").code == 0
    registry.save("other", {"checkpoint": {"epoch": 9}})
    one_line_error(sepconc("import", "a.zip"), '"other"', "newer", "--overwrite")
    assert registry.find("other").epoch == 9
    assert sepconc("import", "a.zip", "--overwrite").code == 0
    assert registry.find("other").epoch == 2
    assert sepconc("import", "a.zip", "--name", "third").code == 0
    assert registry.find("third").epoch == 2


def test_an_imported_classifier_predicts_as_before(sepconc, trained):
    before = package.ImageClassifier.load("net").net_.state_dict()
    assert sepconc("export", "net", "net.zip").code == 0
    assert sepconc("rm", "net", "-y").code == 0
    assert sepconc("import", "net.zip", "--name", "again").code == 0
    after = package.ImageClassifier.load("again").net_.state_dict()
    assert all((before[key] == after[key]).all() for key in before)


@pytest.mark.parametrize("damage", ["cut", "text", "missing"])
def test_a_damaged_archive_fails_with_one_line(sepconc, registry, place, damage):
    sepconc("export", "net", "a.zip")
    data = (place / "a.zip").read_bytes()
    (place / "a.zip").unlink()
    if damage != "missing":
        (place / "a.zip").write_bytes(data[:-30] if damage == "cut" else b"hello")
    before = keys(registry)
    outcome = sepconc("import", "a.zip", "--name", "new")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "a.zip" in outcome.err
    assert keys(registry) == before


# ---- selecting --------------------------------------------------------------------------------------------------


def test_a_selection_is_sorted_and_has_no_row_twice(registry):
    assert [f"{row.name}:{row.status}" for row in select(registry, ["other", "n*", "net:e1", "*:best"])] == [
        "net:checkpoint",
        "net:best",
        "net:e1",
        "other:checkpoint",
    ]
    with pytest.raises(ClassifierNotFound, match="matches"):
        select(registry, ["net", "z*"])
    with pytest.raises(BadName):
        select(registry, ["net:latest"])


# ---- surroundings -----------------------------------------------------------------------------------------------


def run(place: Path, *words: str, environment: dict | None = None, **options) -> subprocess.CompletedProcess:
    path = {"PYTHONPATH": str(Path(package.__file__).parents[1]), "SEPCONC_CONFIG": str(place / "config.yml")}
    command = [sys.executable, "-m", "sepconc.cli.main", *words]
    environment = {"PATH": os.environ["PATH"], **path, **(environment or {})}
    return subprocess.run(command, cwd=place, env=environment, timeout=120, text=True, errors="replace", **options)


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Pacific/Kiritimati"},
        pytest.param(
            {"LC_ALL": "tr_TR.UTF-8", "TZ": "nonsense", "COLUMNS": "1", "TERM": "dumb"}, marks=pytest.mark.slow
        ),
    ],
)
def test_strange_surroundings(registry, place, environment):
    """No HOME, another locale and time zone, no terminal, a place whose name isn't UTF-8."""
    strange = Path(os.fsdecode(os.fsencode(place) + b"/a \xff\xe9 place"))
    strange.mkdir()
    for name in ("config.yml", "classif_db.csv", "classif"):
        (place / name).rename(strange / name)
    for words in (["verify"], ["cp", "net", "new"], ["gc"], ["export", "new", "a.zip"], ["verify", "--rebuild"]):
        done = run(strange, *words, environment=environment, capture_output=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert (strange / "a.zip").exists()


def test_nobody_reads_the_output(registry, place):
    """As in ``sepconc verify | head -0``: no trace, and what was to be done is done."""
    reading, writing = os.pipe()
    os.close(reading)
    done = run(place, "rm", "net", "-y", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert registry.names() == ["other"] or len(registry.statuses("net")) == 3
    assert run(place, "verify", capture_output=True).returncode == 0


def test_neither_torch_nor_sklearn_is_imported_for_what_needs_none(registry, place):
    program = (
        "import sys; from sepconc.cli.main import main; code = main(sys.argv[1:]);"
        "bad = {'torch', 'sklearn', 'pandas', 'scipy'} & set(sys.modules); sys.exit(str(bad) if bad else code)"
    )
    path = {"PYTHONPATH": str(Path(package.__file__).parents[1]), "SEPCONC_CONFIG": str(place / "config.yml")}
    for words in (
        ["verify", "--quick"],
        ["gc", "-n"],
        ["export", "net", "a.zip"],
        ["import", "a.zip"],
        ["mv", "net", "x"],
    ):
        command = [sys.executable, "-c", program, *words]
        done = subprocess.run(command, cwd=place, env=os.environ | path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (words, done.stderr)
