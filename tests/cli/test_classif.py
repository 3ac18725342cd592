"""``sepconc list | archs | configs | datasets``, and the table of commands."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import sepconc as package
from sepconc.data.datasets import DATASETS
from sepconc.params.archs import ARCHS

from .conftest import SMALL, one_line_error


def names(table: str) -> list[tuple[str, str]]:
    """(name, status) of the rows of a table."""
    return [tuple(line.split()[:2]) for line in table.splitlines()[2:]]


def test_an_empty_registry_lists_nothing(sepconc, place):
    outcome = sepconc("list")
    assert outcome == (0, "", "sepconc list: no classifiers in the registry.\n")
    assert sorted(path.name for path in place.iterdir()) == ["config.yml"]


def test_the_list_has_the_last_checkpoints(sepconc, trained):
    outcome = sepconc("list")
    assert outcome.code == 0
    assert names(outcome.out) == [("net", "checkpoint")]
    header, _, row = outcome.out.splitlines()
    assert header.split()[:5] == ["name", "status", "arch", "dataset", "epoch"]
    assert row.split()[:5] == ["net", "checkpoint", "scatnet", "digits", "2"]
    assert "kB" in row


def test_every_status_is_listed(sepconc, trained):
    assert set(names(sepconc("list", "--all").out)) == {("net", "checkpoint"), ("net", "e1"), ("net", "e2")}


def test_a_name_without_checkpoint_is_listed_with_what_it_has(sepconc, trained):
    path = trained / "classif_db.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if ",checkpoint," not in line), encoding="utf-8")
    assert set(names(sepconc("list").out)) == {("net", "e1"), ("net", "e2")}


@pytest.mark.parametrize(
    ("pattern", "found"), [("n*", ["net"]), ("ne?", ["net"]), ("net", ["net"]), ("N*", []), ("x*", [])]
)  # names that differ by case are different names
def test_a_pattern(sepconc, trained, pattern, found):
    outcome = sepconc("list", pattern)
    assert outcome.code == 0
    assert [name for name, _ in names(outcome.out)] == found


COLUMNS = "name,status,filename,arch,dataset,epoch,accuracy,size,sha256,date,note"
ROWS = """\
b-2,checkpoint,f1,scatnet,mnist,9,0.9,900,,2026-01-02,x
b-2,e5,f2,scatnet,mnist,5,,1000,,2026-01-01,
b-10,checkpoint,f3,scatnetblock,cifar10,100,0.85,,,2026-01-03,"1,5"
R18C,e300,f4,dtcwpt_resnet18,ImageNet,300,,70,,,7
a,checkpoint,f5,,,,,,,,30
a,best,f6,,,,,,,,y
"""


@pytest.fixture
def listed(place):
    """A table of classifiers; listing needs no other file."""
    (place / "classif_db.csv").write_text(f"{COLUMNS}\n{ROWS}", encoding="utf-8")
    return place


def keys(outcome) -> list[str]:
    """NAME:STATUS of the listed rows."""
    assert (outcome.code, outcome.err) == (0, "")
    return [":".join(each) for each in names(outcome.out)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], "b-2:checkpoint b-10:checkpoint R18C:e300 a:checkpoint"),
        (["--all"], "b-2:checkpoint b-2:e5 b-10:checkpoint R18C:e300 a:checkpoint a:best"),
        (["b-*", "a"], "b-2:checkpoint b-10:checkpoint a:checkpoint"),
        (["b-2:e*", "R*"], "b-2:e5 R18C:e300"),
        (["*:best"], "a:best"),
        (["--status", "best", "--status", "e?"], "b-2:e5 a:best"),
        (["--arch", "scatnet"], "b-2:checkpoint"),
        (["--arch", "scatnet*", "--dataset", "CIFAR10"], "b-10:checkpoint"),
        (["--dataset", "imagenet", "--dataset", "mnist", "--all"], "b-2:checkpoint b-2:e5 R18C:e300"),
        (["--arch", "dtcwpt_*"], "R18C:e300"),
    ],
)
def test_patterns_and_filters(sepconc, listed, words, found):
    assert keys(sepconc("list", *words)) == found.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--sort", "epoch"], "b-2 b-10 R18C a"),
        (["--sort", "epoch", "--reverse"], "R18C b-10 b-2 a"),
        (["--sort=-epoch"], "R18C b-10 b-2 a"),
        (["--sort=-epoch", "--reverse"], "b-2 b-10 R18C a"),
        (["--sort", "accuracy"], "b-10 b-2 R18C a"),
        (["--sort", "size"], "R18C b-2 b-10 a"),
        (["--sort", "name"], "R18C a b-10 b-2"),
        (["--sort", "date", "--reverse"], "b-10 b-2 R18C a"),
        (["--sort", "note"], "R18C a b-10 b-2"),
        (["--reverse"], "a R18C b-10 b-2"),
    ],
)
def test_sorting(sepconc, listed, words, found):
    assert [key.partition(":")[0] for key in keys(sepconc("list", *words))] == found.split()


def test_statuses_are_sorted_by_their_epochs(sepconc, listed):
    found = keys(sepconc("list", "--all", "--sort", "status"))
    assert [key.partition(":")[2] for key in found] == [*["checkpoint"] * 3, "best", "e5", "e300"]


def test_csv_has_every_column_as_it_is(sepconc, listed):
    outcome = sepconc("list", "--all", "--format", "csv")
    assert outcome.err == ""
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    given = list(csv.DictReader(io.StringIO(f"{COLUMNS}\n{ROWS}")))
    assert [{column: row[column] for column in COLUMNS.split(",")} for row in rows] == given
    assert list(rows[0])[:3] == ["name", "status", "filename"]
    assert {"commit", "args_script", "version", "note"} < set(rows[0])


def test_json_has_numbers_and_nulls(sepconc, listed):
    outcome = sepconc("list", "--format", "json", "--sort", "name", "--reverse")
    rows = json.loads(outcome.out)
    assert [row["name"] for row in rows] == ["b-2", "b-10", "a", "R18C"]
    assert (rows[0]["epoch"], rows[0]["accuracy"], rows[0]["size"]) == (9, 0.9, 900)
    assert (rows[2]["epoch"], rows[2]["accuracy"], rows[2]["arch"], rows[2]["note"]) == (None, None, None, "30")
    assert set(rows[0]) == {*COLUMNS.split(","), "commit", "script", "args_script", "dirty", "version"}


@pytest.mark.parametrize(
    ("words", "found"),
    [([], "b-2 b-10 R18C a"), (["a", "--all"], "a:checkpoint a:best"), (["b-2:*"], "b-2:checkpoint b-2:e5")],
)
def test_names_alone(sepconc, listed, words, found):
    outcome = sepconc("list", *words, "--format", "names")
    assert outcome == (0, "".join(f"{name}\n" for name in found.split()), "")


@pytest.mark.parametrize(("form", "out"), [("csv", "name,status,filename,"), ("json", "[]"), ("names", "")])
def test_nothing_is_no_words_for_a_program(sepconc, place, form, out):
    for words in ([], ["x*"]):
        outcome = sepconc("list", *words, "--format", form)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith(out)
        assert outcome.out.count("\n") == (0 if form == "names" else 1)


def test_nothing_that_matches_is_said_to_a_person(sepconc, listed):
    assert sepconc("list", "x*") == (0, "", "sepconc list: nothing matches.\n")


def test_csv_is_utf8_on_a_terminal_without_it(sepconc, listed, monkeypatch, capsys):
    path = listed / "classif_db.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("mnist", "folder:/é"), encoding="utf-8")
    sys.stdout.reconfigure(encoding="ascii")
    assert "folder:/é" in sepconc("list", "--format", "csv").out


HEAVY = "print(*sorted({'torch', 'sklearn', 'pandas', 'scipy', 'paramiko'} & set(sys.modules)), file=sys.stderr)"


def run(*arguments: str) -> str:
    """What a fresh interpreter writes to stderr."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return done.stderr.strip()


@pytest.mark.parametrize(
    "words",
    [
        ["list", "--all", "--sort", "accuracy", "--format", "json"],
        ["list", "--format", "csv"],
        ["show", "net"],
        ["show", "net", "--script"],
        ["configs", "scatnet"],
        ["completion", "bash"],
        ["doctor", "--help"],
    ],
)
def test_nothing_heavy_is_imported(trained, words):
    assert run("-c", f"import sys; from sepconc.cli.main import main; assert main({words}) == 0; {HEAVY}") == ""


def test_a_corrupted_row_is_reported_and_the_good_ones_listed(sepconc, trained):
    path = trained / "classif_db.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "../../evil,checkpoint,x,,,\nshort,row\n", encoding="utf-8")
    outcome = sepconc("list")
    assert outcome.code == 0
    assert names(outcome.out) == [("net", "checkpoint")]
    warnings = outcome.err.splitlines()
    assert len(warnings) == 2
    assert all(line.startswith("sepconc list: ") for line in warnings)
    assert "5" in warnings[0]
    assert path.read_text(encoding="utf-8") == text + "../../evil,checkpoint,x,,,\nshort,row\n"


def test_a_corrupted_row_stays_when_a_training_is_stored(sepconc, train, trained):
    path = trained / "classif_db.csv"
    path.write_text(path.read_text(encoding="utf-8") + "short,row\n", encoding="utf-8")
    assert train("other", *SMALL, "--epochs", "1").code == 0
    assert "short,row" in path.read_text(encoding="utf-8")
    assert {name for name, _ in names(sepconc("list").out)} == {"net", "other"}


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["show", "nett"], ['"nett"', '"net"']),
        (["show", "net", "-s", "e9"], ['"e9"', "e1"]),
        (["show", "net", "-s", "last"], ["last", "checkpoint"]),
        (["show", "a/b"], ["a/b"]),
        (["show"], ["NAME"]),
        (["configs", "resnet"], ['"resnet"', "resnet18"]),
        (["lst"], ["lst", "list"]),
        ([], ["COMMAND"]),
        (["list", "--every"], ["--every"]),
        (["list", "--sort", "epochs"], ['"epochs"', '"epoch"', "accuracy"]),
        (["list", "--format", "xml"], ["xml", "csv"]),
        (["show", "net:e1", "-s", "e2"], ["net:e1", "e2"]),
    ],
)
def test_wrong_use_is_one_line(sepconc, trained, words, texts):
    one_line_error(sepconc(*words), *texts)


def test_architectures(sepconc):
    outcome = sepconc("archs")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()[2:]] == list(ARCHS) == package.list_archs()


@pytest.mark.parametrize("arch", ARCHS)
def test_configurations(sepconc, arch):
    outcome = sepconc("configs", arch)
    assert outcome.code == 0
    names = "\n".join(package.list_configs(arch))
    assert outcome.out == f"{names or f'{arch} has parameters only, no configurations.'}\n"


def test_data_sets(sepconc):
    outcome = sepconc("datasets")
    assert [line.split()[0] for line in outcome.out.splitlines()[2 : 2 + len(DATASETS)]] == list(DATASETS)
    assert "1×32×32" in outcome.out
    assert "folder:PATH" in outcome.out


@pytest.mark.parametrize(
    ("words", "column", "values"),
    [
        (["archs"], "name", list(ARCHS)),
        (["datasets"], "name", list(DATASETS)),
        (["configs", "scatnet"], "config", []),
    ],
)
def test_what_there_is_for_programs(sepconc, words, column, values):
    outcome = sepconc(*words, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [row[column] for row in rows] == values
    assert column in outcome.out.splitlines()[0].split(",")
    assert [row[column] for row in json.loads(sepconc(*words, "--format", "json").out)] == values


def test_configurations_are_listed(sepconc, monkeypatch):
    arch = replace(ARCHS["scatnet"], configs=("small", "large"))
    monkeypatch.setitem(ARCHS, "scatnet", arch)
    assert sepconc("configs", "scatnet").out == "small\nlarge\n"
    assert sepconc("configs", "scatnet", "--format", "csv").out == "arch,config\nscatnet,small\nscatnet,large\n"
    assert "small large" in sepconc("archs", "--format", "csv").out


@pytest.mark.parametrize("word", ["--version", "train", "eval"])
def test_the_version(sepconc, word):
    words = [word] if word == "--version" else [word, "--version"]
    assert sepconc(*words) == (0, f"sepconc {package.__version__}\n", "")


@pytest.mark.parametrize("words", [[], ["train"], ["eval"], ["list"], ["show"], ["archs"], ["configs"], ["datasets"]])
def test_help(sepconc, words):
    outcome = sepconc(*words, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(" ".join(["usage: sepconc", *words]))


def test_train_and_eval_are_commands_too(sepconc, place):
    outcome = sepconc("train", "net", *SMALL, "--epochs", "1")
    assert outcome.code == 0
    assert "sepconc eval net -em onecrop" in outcome.out
    outcome = sepconc("eval", "net", "--n-imgs", "20")
    assert outcome.code == 0
    assert "onecrop" in outcome.out
    one_line_error(sepconc("eval", "nett"), "sepconc eval: error", '"net"')


def test_the_registry_of_the_configuration_is_listed(sepconc, trained, monkeypatch):
    other = Path("other")
    other.mkdir()
    (other / "config.yml").write_text("path_to_csv: ../classif_db.csv\npath_to_classif: ../classif\n")
    monkeypatch.setenv("SEPCONC_CONFIG", str(other / "config.yml"))
    assert names(sepconc("list").out) == [("net", "checkpoint")]


def test_a_broken_configuration_is_one_line(sepconc, place):
    (place / "config.yml").write_text("registry: [1\n")
    one_line_error(sepconc("list"), "config.yml")
