"""``sepconc doctor``: what works here, on one screen, whatever is broken."""

import json
import os

import pytest

import sepconc as package
from sepconc.cli import probes
from sepconc.cli.probes import FINE, NOTE, PROBLEM, Finding
from sepconc.config import load_config
from sepconc.data.datasets import DATASETS
from sepconc.errors import DatasetNotFound, EngineUnavailable
from sepconc.registry.store import configured_registry
from sepconc.scattering import engines

from .conftest import CONFIG


def found(probe, *arguments) -> dict[str, Finding]:
    """Findings by name."""
    return {finding.name: finding for finding in probe(*arguments)}


@pytest.fixture
def quick(monkeypatch):
    """No probe that imports anything; what is left depends on the configuration only."""
    for name in ("torch", "packages", "extras", "processor", "GPU", "engines"):
        monkeypatch.delitem(probes.OF_THE_MACHINE, name)


def test_one_screen_says_what_works(sepconc, trained, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    outcome = sepconc("doctor")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert len(lines) < 40
    assert all(len(line) <= 100 or len(line[22:].split()) == 1 for line in lines)  # a long path isn't broken
    assert lines[-1] == "Usable."
    names = {line[2:].partition(":")[0] for line in lines[:-2]} - {""}
    assert {"python", "sepconc", "torch", "packages", "extra remote", "processor", "GPU", "engines"} <= names
    assert {"configuration", "data sets", "registry", "free space"} <= names
    text = " ".join(outcome.out.split())
    for part in (f"sepconc: {package.__version__}", "scikit-learn 1.", "numpy 2.", "reference", "3 rows, writable"):
        assert part in text


def test_the_same_for_programs(sepconc, trained):
    outcome = sepconc("doctor", "--format", "json")
    told = json.loads(outcome.out)
    assert (outcome.code, outcome.err, told["usable"]) == (0, "", True)
    assert all(set(finding) == {"name", "text", "level"} for finding in told["findings"])
    assert [finding for finding in told["findings"] if finding["level"] == PROBLEM] == []


def test_a_probe_that_fails_does_not_stop_the_others(sepconc, place, quick, monkeypatch):
    def broken():
        yield Finding("first", "told")
        message = "libcuda.so is damaged"
        raise OSError(message)

    monkeypatch.setitem(probes.OF_THE_MACHINE, "broken", broken)
    outcome = sepconc("doctor")
    assert outcome.code == 1
    assert "! broken:             OSError: libcuda.so is damaged\n" in outcome.out
    assert "first:" in outcome.out
    assert "free space:" in outcome.out
    assert outcome.out.endswith("These don't work: broken.\n")


@pytest.mark.parametrize(
    ("needed", "level", "text"),
    [
        (True, PROBLEM, "doesn't import: RuntimeError: operator nms does not exist"),
        (False, NOTE, "doesn't import: RuntimeError: operator nms does not exist; images go without"),
    ],
)
def test_a_package_that_does_not_import_is_named(tmp_path, monkeypatch, needed, level, text):
    (tmp_path / "broken_package.py").write_text("raise RuntimeError('operator nms does not exist\\nat line 3')\n")
    monkeypatch.syspath_prepend(tmp_path)
    packages = {"numpy": "numpy"} | ({"broken": "broken_package"} if needed else {})
    monkeypatch.setattr(probes, "_NEEDED", packages)
    monkeypatch.setattr(probes, "_FOR_A_PART", {} if needed else {"broken": ("broken_package", "images go without")})
    findings = found(probes.packages)
    assert findings["packages"].text.startswith("numpy 2")
    assert findings["broken"] == Finding("broken", text, level)


def test_an_extra_that_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(probes, "_EXTRAS", {"remote": {"numpy": "numpy", "paramiko": "no_such_module"}})
    finding = found(probes.extras)["extra remote"]
    assert finding.text.endswith('paramiko isn\'t installed, pip install "sepconc[remote]"')
    assert finding.level == FINE


def test_an_engine_that_was_not_built_is_worth_a_note(monkeypatch):
    load = engines.load

    def without_fused(name, function="scatter2d"):
        if name == "fused":
            message = "Engine 'fused' doesn't import"
            raise EngineUnavailable(message) from ImportError("its compiled part was not built; install it")
        return load(name, function)

    monkeypatch.setattr(engines, "load", without_fused)
    monkeypatch.setattr(engines, "importable", lambda name: name != "fused")
    findings = found(probes.engines)
    assert findings["engine fused"] == Finding("engine fused", "not here: its compiled part was not built", NOTE)
    assert "fused" not in findings["engines"].text
    assert "reference for scatter2d" in findings["chosen on cpu"].text


def test_a_configuration_that_is_wrong(sepconc, place, quick):
    (place / "config.yml").write_text("registry: [1\n")
    outcome = sepconc("doctor")
    assert outcome.code == 1
    assert "config.yml is not valid YAML" in " ".join(outcome.out.split())
    assert "python:" in outcome.out


def test_a_device_that_is_asked_for_and_is_not_here(sepconc, place, quick):
    (place / "config.yml").write_text(f"{CONFIG}defaults: {{device: 'cuda:99'}}\n")
    outcome = sepconc("doctor")
    assert outcome.code == 1
    assert 'DeviceUnavailable: Device "cuda:99"' in " ".join(outcome.out.split())


# ---------------------------------------------------------------------- data sets


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_data_sets_are_looked_for_where_their_readers_look(name, place):
    root = place / "data"
    root.mkdir()
    with pytest.raises(DatasetNotFound) as error:
        package.load_dataset(name, "test", root=root)
    assert str(root / probes._FILES[name][0]) in str(error.value)
    assert name in found(probes.datasets, load_config())["not found"].text


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, path) for name, paths in probes._FILES.items() for path in paths],
)
def test_data_sets_are_found(name, path, place):
    path = place / "data" / path
    path.mkdir(parents=True)
    assert (f"{name} in" in found(probes.datasets, load_config())["data sets"].text) == (path.name != "val")
    (path / "n01440764").mkdir()
    assert f"{name} in {path.parent}" in found(probes.datasets, load_config())["data sets"].text


def test_a_compressed_data_set_is_found(place):
    folder = place / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "t10k-images-idx3-ubyte.gz").touch()
    assert f"mnist in {folder}" in found(probes.datasets, load_config())["data sets"].text


def test_a_data_set_that_is_configured_and_is_not_there(sepconc, place, quick):
    (place / "config.yml").write_text(CONFIG.replace("{root: data}", "{root: data, imagenet: nowhere}"))
    outcome = sepconc("doctor")
    assert outcome.code == 1
    assert "! data.imagenet:" in outcome.out
    assert "nowhere" in outcome.out


# ---------------------------------------------------------------------- the registry


def test_damage_of_the_registry_is_seen(sepconc, trained, quick):
    registry = configured_registry()
    registry.paths(registry.find("net", "e1"))["classif"].unlink()
    registry.csv_path.write_text(registry.csv_path.read_text() + "short,row\n")
    outcome = sepconc("doctor")
    assert outcome.code == 1
    text = " ".join(outcome.out.split())
    assert "1 bad lines in the table, 1 rows without their record (first: net:e1); see sepconc verify" in text


def test_a_registry_that_is_read_only_is_worth_a_note(sepconc, trained, quick, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    outcome = sepconc("doctor")
    assert outcome.code == 0
    assert "- registry:" in outcome.out
    assert "read-only for you" in outcome.out


def test_a_registry_that_is_not_made_yet(sepconc, place, quick):
    outcome = sepconc("doctor")
    assert outcome.code == 0
    assert "not made yet, writable" in " ".join(outcome.out.split())
    assert sorted(path.name for path in place.iterdir()) == ["config.yml"]


def test_little_space_is_worth_a_note(monkeypatch, place):
    monkeypatch.setattr(probes.shutil, "disk_usage", lambda path: _Usage())
    assert found(probes.space, load_config())["free space"] == Finding(
        "free space", "5.0 MB (registry), 5.0 MB (cache)", NOTE
    )


class _Usage:
    free = 5_000_000


@pytest.mark.parametrize(("version", "level"), [("5.1", FINE), (ModuleNotFoundError("no paramiko"), PROBLEM)])
def test_remotes_need_paramiko(monkeypatch, version, level):
    class Configured:
        remotes = {"cluster": None}  # noqa: RUF012

    monkeypatch.setattr(probes, "_version", lambda name, module: version)
    finding = found(probes.remotes, Configured())["remotes"]
    assert finding.level == level
    assert finding.text.startswith("cluster")
