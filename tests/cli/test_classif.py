"""``sepconc list | show | archs | configs | datasets``."""

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
    assert outcome == (0, "No classifiers in the registry.\n", "")
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
)
def test_a_pattern(sepconc, trained, pattern, found):
    outcome = sepconc("list", pattern)
    assert outcome.code == 0
    assert [name for name, _ in names(outcome.out)] == found


def test_a_corrupted_row_is_reported_and_the_good_ones_listed(sepconc, trained):
    path = trained / "classif_db.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "../../evil,checkpoint,x,,,\nshort,row\n", encoding="utf-8")
    outcome = sepconc("list")
    assert outcome.code == 0
    assert names(outcome.out) == [("net", "checkpoint")]
    warnings = outcome.err.splitlines()
    assert len(warnings) == 2
    assert all(line.startswith("sepconc: ") for line in warnings)
    assert "5" in warnings[0]
    assert path.read_text(encoding="utf-8") == text + "../../evil,checkpoint,x,,,\nshort,row\n"


def test_a_corrupted_row_stays_when_a_training_is_stored(sepconc, train, trained):
    path = trained / "classif_db.csv"
    path.write_text(path.read_text(encoding="utf-8") + "short,row\n", encoding="utf-8")
    assert train("other", *SMALL, "--epochs", "1").code == 0
    assert "short,row" in path.read_text(encoding="utf-8")
    assert {name for name, _ in names(sepconc("list").out)} == {"net", "other"}


def test_show_tells_what_is_known(sepconc, trained):
    outcome = sepconc("show", "net")
    assert outcome.code == 0
    texts = ["net (checkpoint)", "scatnet", "digits", "scattering_J = 2", "P_proj_size = 8", "random_state = 0"]
    texts += ["train.py net -ds digits", "1 threads" if "1 threads" in outcome.out else "threads", "No scores."]
    assert [text for text in texts if text not in outcome.out] == []


def test_show_of_a_snapshot(sepconc, trained):
    outcome = sepconc("show", "net", "-s", "e1")
    assert "net (e1)" in outcome.out
    assert "epochs:       1\n" in outcome.out


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["show", "nett"], ['"nett"', '"net"']),
        (["show", "net", "-s", "e9"], ['"e9"', "e1"]),
        (["show", "net", "-s", "last"], ["last", "checkpoint"]),
        (["show", "a/b"], ["a/b"]),
        (["show"], ["NAME"]),
        (["configs", "resnet"], ['"resnet"', "scatnet"]),
        (["lst"], ["lst", "list"]),
        ([], ["COMMAND"]),
        (["list", "--every"], ["--every"]),
    ],
)
def test_wrong_use_is_one_line(sepconc, trained, words, texts):
    one_line_error(sepconc(*words), *texts)


def test_show_of_a_damaged_record(sepconc, trained):
    for path in (trained / "classif").glob("*.classif"):
        text = path.read_text(encoding="utf-8")
        path.unlink()
        path.write_text(text.replace("scatnet", "scatnot"), encoding="utf-8")
    outcome = sepconc("show", "net")
    assert outcome.code == 1
    assert ".classif" in outcome.err
    assert outcome.err.count("\n") == 1


def test_architectures(sepconc):
    outcome = sepconc("archs")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()[2:]] == list(ARCHS) == package.list_archs()


@pytest.mark.parametrize("arch", ARCHS)
def test_configurations(sepconc, arch):
    outcome = sepconc("configs", arch)
    assert outcome.code == 0
    assert outcome.out == f"{arch} has parameters only, no configurations.\n"


def test_data_sets(sepconc):
    outcome = sepconc("datasets")
    assert [line.split()[0] for line in outcome.out.splitlines()[2 : 2 + len(DATASETS)]] == list(DATASETS)
    assert "1×32×32" in outcome.out
    assert "folder:PATH" in outcome.out


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
