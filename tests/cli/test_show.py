"""``sepconc show``: everything that is known of a classifier, on a page."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from sepconc.registry.store import configured_registry

from .conftest import one_line_error


def save(record, status="checkpoint", **options):
    """Store a record as "other"; nothing says that it is one of ours."""
    return configured_registry().save("other", {status: record}, histories=options.pop("histories", {}), **options)


def section(text: str, title: str) -> list[str]:
    """The lines under a title."""
    parts = [part.splitlines() for part in text.split("\n\n")]
    (found,) = [lines[1:] for lines in parts if lines[0] == title]
    return found


def test_show_tells_what_is_known(sepconc, trained):
    outcome = sepconc("show", "net")
    assert (outcome.code, outcome.err) == (0, "")
    texts = ["net (checkpoint)", "scatnet", "digits (train, 200 images, 10 classes)", "scattering_J = 2"]
    texts += ["P_proj_size = 8", "random_state = 0", "train.py net -ds digits", "No scores.", "epochs:       2\n"]
    texts += ["on cpu", "thread", "torch", "validation "]
    assert [text for text in texts if text not in outcome.out] == []
    assert "unknown" not in outcome.out.replace("commit:       unknown", "")


@pytest.mark.parametrize("words", [["net", "-s", "e1"], ["net:e1"], ["net:e1", "--status", "e1"]])
def test_show_of_a_snapshot(sepconc, trained, words):
    outcome = sepconc("show", *words)
    assert "net (e1)" in outcome.out
    assert "epochs:       1\n" in outcome.out


def test_the_history_has_every_status_and_file(sepconc, trained):
    outcome = sepconc("show", "net:e2")
    statuses = section(outcome.out, "statuses")
    assert [line.split()[:2] for line in statuses[2:]] == [["checkpoint", "2"], ["e1", "1"], ["e2", "2"]]
    folder, *table = section(outcome.out, "files")
    for line in table[2:]:
        name, *_, sha256 = line.split()
        assert hashlib.sha256(Path(folder.strip().removeprefix("in "), name).read_bytes()).hexdigest() == sha256
    assert [Path(line.split()[0]).suffix for line in table[2:]] == [".classif", ".npz", ".tar"]
    (line,) = section(outcome.out, "commands")
    assert "train.py net -ds digits -a scatnet" in line
    assert "   (epochs 1 to 2, 20" in line


def test_every_command_that_took_part_is_told(sepconc, place):
    trainings = [
        {"date": "2026-01-02", "command": "train.py other --epochs 2", "epochs": [0, 2], "seconds": 65},
        {"date": "2026-01-03", "command": "", "epochs": [2, 5], "seconds": 1.5},
        {"command": "b\x1b", "epochs": "many"},
        "odd",
    ]
    save({"provenance": {"trainings": trainings}})
    assert section(sepconc("show", "other").out, "commands") == [
        "  train.py other --epochs 2   (epochs 1 to 2, 2026-01-02, 1 min 05 s)",
        "  from Python   (epochs 3 to 5, 2026-01-03, 1.5 s)",
        "  b?   (unknown)",
        "  from Python   (unknown)",
    ]


def test_commands_of_an_older_record_are_those_of_the_rows(sepconc, place):
    save({"epoch": 3}, "e3", row={"script": "train.py", "args_script": "other --epochs 3"})
    save({"epoch": 5, "provenance": {"command": "train.py other --epochs 5"}}, row={})
    assert section(sepconc("show", "other").out, "commands") == [
        "  train.py other --epochs 3   (e3)",
        "  train.py other --epochs 5   (checkpoint)",
    ]


def test_the_curves(sepconc, trained, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = sepconc("show", "net").out.splitlines()[-6:]
    assert lines[0].split("   ")[0] == "training loss, epochs 1 to 2"
    assert "validation error, %, epochs 1 to 2" in lines[0]
    stored = configured_registry().load("net")
    losses = [f"{half.mean():.4g}" for half in np.array_split(stored.histories["losses"].astype(float), 2)]
    assert lines[1].strip().startswith(losses[0])
    assert lines[-1].strip().startswith(losses[1])
    errors = [dict(errors)[1] for _, *errors in stored.record["learned"]["val_errs"]]
    assert f"{100 * max(errors):.4g}│" in lines[1]
    assert f"{100 * min(errors):.4g}│" in lines[-1]
    assert max(map(len, lines)) <= 100


def test_the_curves_of_a_narrow_terminal_without_utf8(sepconc, trained, monkeypatch, capsys):
    import sys

    sys.stdout.reconfigure(encoding="ascii")
    monkeypatch.setenv("COLUMNS", "40")
    text = sepconc("show", "net").out
    assert text.isascii()
    curves = text.split("\n\n")[-2:]
    assert [curve.splitlines()[0].split(",")[0] for curve in curves] == ["training loss", "validation error"]
    assert all("*" in curve and "?" not in curve for curve in curves)
    assert max(len(line) for curve in curves for line in curve.splitlines()) <= 40


def test_one_epoch_is_no_curve(sepconc, trained):
    assert "training loss" not in sepconc("show", "net:e1").out


def test_the_record_as_json(sepconc, trained):
    outcome = sepconc("show", "net", "--format", "json")
    record = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    registry = configured_registry()
    assert record == json.loads(registry.paths(registry.find("net"))["classif"].read_text())


def test_the_program_that_trains_it_again(sepconc, trained):
    outcome = sepconc("show", "net", "--script")
    assert "python train.py net" in outcome.out
    assert "parameters" not in outcome.out


def test_show_of_a_damaged_record(sepconc, trained):
    for path in (trained / "classif").glob("*.classif"):
        text = path.read_text(encoding="utf-8")
        path.unlink()
        path.write_text(text.replace("scatnet", "scatnot"), encoding="utf-8")
    outcome = sepconc("show", "net")
    assert outcome.code == 1
    assert ".classif" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("damage", ["missing", "flipped byte"])
def test_show_of_damaged_histories_tells_the_rest(sepconc, trained, damage):
    registry = configured_registry()
    path = registry.paths(registry.find("net"))["npz"]
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped byte":
        content[-40] ^= 1
        path.write_bytes(bytes(content))
    outcome = sepconc("show", "net")
    assert outcome.code == 1
    assert str(path) in outcome.err
    assert outcome.err.count("\n") == 1
    assert "scattering_J = 2" in outcome.out
    assert "validation error" in outcome.out
    assert "training loss" not in outcome.out


def test_tensors_that_were_never_fetched(sepconc, trained):
    registry = configured_registry()
    registry.paths(registry.find("net"))["tar"].unlink()
    outcome = sepconc("show", "net")
    assert outcome.code == 0
    assert "not here" in section(outcome.out, "files")[-1]


def test_a_name_without_checkpoint_shows_what_it_has(sepconc, place):
    save({"arch": "scatnet"}, "e3")
    save({"arch": "scatnet"}, "e12")
    assert "other (e12)" in sepconc("show", "other").out
    assert json.loads(sepconc("show", "other", "--format", "json").out)["status"] == "e12"


FOREIGN = {
    "empty": {},
    "wcnn": {
        "arch": "dtcwpt_resnet18",
        "params": {"J": 2, "widths": [1, 2]},
        "learned": {
            "epoch": 300,
            "val_errs": {"1": [0.3]},
            "classes": "all",
            "dataset": "ImageNet",
            "n_params": "many",
        },
        "scores": {"imagenet": [0.5]},
        "provenance": {"versions": "1.0", "date": None},
    },
    "texts": {"arch": "a\x1b[31m", "params": "none", "learned": [], "scores": None, "provenance": "me"},
    "numbers for lists": {"params": {"start_epoch": "x"}, "learned": {"val_errs": 7, "current_epoch": 3, "classes": 2}},
    "odd numbers": {
        "params": {"start_epoch": 9},
        "learned": {"elapsed_time": float("nan"), "current_epoch": 4, "val_errs": [[1], [2, [1, 0.5]], [3, [1, 0.25]]]},
    },
}


@pytest.mark.parametrize("record", FOREIGN.values(), ids=FOREIGN)
def test_a_record_of_another_program_is_shown_as_far_as_it_is_known(sepconc, place, record):
    losses = np.zeros((3, 2)) if "scores" in record else np.zeros(9)
    save(record, histories={"losses": losses, "acc": np.ones(4)}, row={"dataset": "ImageNet"})
    outcome = sepconc("show", "other")
    assert (outcome.code, outcome.err) == (0, "")
    assert "name:         other (checkpoint)" in outcome.out
    assert "unknown" in outcome.out
    assert "ImageNet" in outcome.out
    assert "\x1b" not in outcome.out
    assert sepconc("list").out.splitlines()[2].split()[:2] == ["other", "checkpoint"]
    assert json.loads(sepconc("show", "other", "--format", "json").out)["name"] == "other"


@pytest.mark.parametrize(
    ("provenance", "commands"),
    [({"command": ""}, "none: trained from Python"), ({}, "unknown"), ({"command": "", "imported": {}}, "unknown")],
)
def test_no_command(sepconc, place, provenance, commands):
    if "imported" in provenance:
        provenance = {**provenance, "imported": {"program": "wcnn", "name": "R18", "date": "2026-11-22"}}
    save({"provenance": provenance})
    out = sepconc("show", "other").out
    assert section(out, "commands") == [f"  {commands}"]
    assert ('imported:     from wcnn, where it was "R18", 2026-11-22\n' in out) == ("imported" in provenance)


def test_errors_that_are_understood_are_drawn(sepconc, place):
    save(FOREIGN["odd numbers"])
    out = sepconc("show", "other").out
    assert "validation 25.0 %, best 25.0 % at epoch 3" in out
    assert "validation error, %, epochs 2 to 3" in out


def test_a_name_that_isn_t_there(sepconc, trained):
    one_line_error(sepconc("show", "nett"), '"nett"', '"net"')
