"""Registries of the WCNN program: everything arrives, and what can't be taken is told and passed over."""

import contextlib
import csv
import datetime
import io
import pickletools
import random
import shutil
import zipfile

import numpy as np
import pytest
import torch

from sepconc.errors import BadParameter, CorruptFile, RegistryError, SepConcError, UnsafeFile
from sepconc.registry.legacy.archives import read_record
from sepconc.registry.legacy.importing import import_wcnn
from sepconc.registry.legacy.plain import decode, encode
from sepconc.registry.legacy.values import Inert, Name, Refused
from sepconc.registry.legacy.wcnn import convert
from sepconc.scores import EvalScores

from ..older import WHEN, Program, write_archive, write_row

SAMPLES = {"R18C": "resnet18", "R18wyC": "dtcwpt_resnet18", "R18zh3wyC_mod": "dtcwpt_zhang_resnet18"}


@pytest.fixture
def program(monkeypatch):
    return Program(monkeypatch)


@pytest.fixture
def older(tmp_path):
    """The folder of an older registry."""
    return tmp_path / "older"


@pytest.fixture
def imported(program, older, registry):
    """Import one classifier with these attributes, and load it."""

    def do(**changes):
        write_row(older, "small", program.estimator(**changes))
        (outcome,) = import_wcnn(older, registry)
        assert outcome.result == "imported", outcome
        return registry.load("small", "e2")

    return do


def leaves(value, path=()):
    """Every number, text, date and array in a value, with where it is."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    elif isinstance(value, Inert):
        yield (*path, "class"), value.name
        yield from leaves(value.args, (*path, "args"))
        yield from leaves(value.state, (*path, "state"))
    else:
        yield path, value


def arrived(stored):
    """The attributes of an estimator, put together again from what was stored of it."""
    attributes = decode(stored.record["legacy"]["attributes"], stored.histories)
    histories = stored.histories
    if "losses_" not in attributes:
        attributes["losses_"] = histories["losses"].astype(float).tolist()
    if "eval_scores_" not in attributes:
        attributes["eval_scores_"] = tree = {}
        for row in EvalScores.from_json(stored.record["scores"]).flat():
            *branches, leaf = row["settings"]["imported_as"].split("/")
            place = tree
            for branch in branches:
                place = place.setdefault(branch, {})
            place[leaf] = row
    if "grads_" not in attributes:
        attributes["grads_"] = [histories[f"grads.{i}"] for i in range(len(histories)) if f"grads.{i}" in histories]
    return attributes


def check_complete(content, stored):
    """Every leaf of what was read stands in what was stored."""
    found = arrived(stored)
    assert set(found) == set(content.state)
    assert stored.record["legacy"]["class"] == content.name
    n_leaves = 0
    for name in set(found) - {"eval_scores_"}:
        expected, got = list(leaves(content.state[name])), list(leaves(found[name]))
        assert [path for path, _ in expected] == [path for path, _ in got], name
        for (path, left), (_, right) in zip(expected, got, strict=True):
            same = (
                np.array_equal(left, right)
                if isinstance(left, np.ndarray)
                else left == right and type(left) is type(right)
            )
            assert same, (name, path)
        n_leaves += len(expected)
    return n_leaves + check_scores(content.state["eval_scores_"], found["eval_scores_"])


def check_scores(older, found):
    """Every score, with its value, date and commit."""
    if isinstance(older, Inert):
        value = older.state["val"]
        expected = value.astype(float).tolist() if isinstance(value, np.ndarray) else value
        assert found["value"] == expected
        assert found["date"] == older.state["date"].isoformat()
        assert found["commit"] == (older.state["commit"] or "")
        assert set(older.state) == {"val", "date", "commit"}
        return 3
    assert set(older) == set(found)
    return sum(check_scores(older[key], found[key]) for key in older)


# ---------------------------------------------------------------------- the published ones


@pytest.fixture
def samples(shared):
    return shared / "data" / "wcnn"


def test_samples_are_imported_and_the_missing_one_is_named(samples, registry):
    outcomes = {outcome.name: outcome for outcome in import_wcnn(samples, registry)}
    assert {name for name, outcome in outcomes.items() if outcome.is_good} == set(SAMPLES)
    assert outcomes["R34zo3wyC_mod"].result == "missing"
    assert "3ac7f11c98184081bb3b93bdf552c662" in outcomes["R34zo3wyC_mod"].reason
    rows = {row.name: row for row in registry.rows()}
    assert {name: row.arch for name, row in rows.items()} == SAMPLES
    assert {(row.status, row.dataset, row.epoch) for row in rows.values()} == {("e300", "cifar10", 300)}
    assert rows["R18wyC"].accuracy == "0.857700"


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_arrive_complete(name, samples, registry):
    list(import_wcnn(samples, registry))
    with (samples / "classif_db.csv").open() as table:
        filename = next(row["filename"] for row in csv.DictReader(table) if row["name"] == name)
    path = samples / f"{filename}.classif"
    stored = registry.load(name, "e300")
    assert check_complete(read_record(path).content, stored) > 52_800 + 5 * 300
    assert all(tensors_of(path)[i] == pytest.approx(values) for i, values in enumerate(divergences(stored)))
    files = stored.record["provenance"]["imported"]["files"]
    assert files["classif"]["name"] == path.name
    assert files["classif"]["size"] == path.stat().st_size


def tensors_of(path):
    """The storages of an archive, read by hand."""
    with zipfile.ZipFile(path) as archive:
        return [np.frombuffer(archive.read(f"archive/data/{i}"), "<f4").tolist() for i in range(3)]


def divergences(stored):
    rows = EvalScores.from_json(stored.record["scores"]).flat()
    return [row["value"] for row in rows if row["metric"] == "kldiv"]


def test_sample_is_what_the_program_says(samples, registry):
    """Numbers that were read off the file by hand."""
    list(import_wcnn(samples, registry))
    stored = registry.load("R18wyC", "e300")
    record, learned = stored.record, stored.record["learned"]
    assert record["params"]["config"] == dict(stored.row.extra)["config"] == "Ft40YEx"
    assert record["params"]["lr_scheduler"] == "StepLR100"
    assert (learned["n_params"], learned["current_epoch"]) == (11_178_141, 300)
    assert learned["val_errs"][0] == [1, [1, 0.6978000104427338]]
    assert len(learned["val_errs"]) == len(learned["lr_history"]) == 300
    assert stored.histories["losses"].shape == (52_800,)
    assert stored.histories["losses"].dtype == np.float32
    assert stored.histories["losses"][0] == 2.5025641918182373
    scores = EvalScores.from_json(record["scores"])
    assert scores["cifar10"]["test"]["onecrop"]["top1"]() == 0.857699990272522
    assert scores["cifar10"]["test"]["shifts_vertical"]["mfr"]()[4] == 0.31119999289512634
    assert len(scores["cifar10"]["test"]["shifts_diagonal"]["kldiv"]()) == 17
    score = scores["cifar10"]["val"]["tencrops"]["top1"][0]
    assert (score.date, score.commit[:7]) == ("2022-11-10T17:05:40.875721", "806ec6f")
    assert record["provenance"]["device"] == "cuda:0"
    assert record["provenance"]["date"] == "2022-11-09T00:02:52.279331"


def test_samples_name_only_what_is_known(samples):
    """The ten names that the published files hold."""
    for path in samples.glob("*.classif"):
        with zipfile.ZipFile(path) as archive:
            operations = pickletools.genops(archive.read("archive/data.pkl"))
            assert len({argument for code, argument, _ in operations if code.name == "GLOBAL"}) == 10


def test_an_eleventh_name_is_refused(samples, tmp_path):
    path = next(iter(sorted(samples.glob("*.classif"))))
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("archive/data.pkl")
        members = {name: archive.read(name) for name in archive.namelist() if "/data/" in name}
    changed = pickled.replace(b"cwcnn.metrics\ntop_N_accuracy_score\n", b"ccollections\nCounter\n")
    assert changed != pickled
    with pytest.raises(UnsafeFile, match=r"collections\.Counter"):
        read_record(write_archive(tmp_path / "a", changed, members))


# ---------------------------------------------------------------------- what a record becomes


def test_everything_arrives(imported, older):
    stored = imported()
    path = next(older.glob("*.classif"))
    assert check_complete(read_record(path).content, stored) > 40
    assert stored.row.commit == "c0ffee"
    assert (stored.row.script, stored.row.args_script) == ("train.py", "small -a x")
    assert stored.record["provenance"]["command"] == "train.py small -a x"


def test_parameters_by_our_names(imported):
    params = imported(workers=3, wavelet="qshift_b").record["params"]
    assert params["batch_size"] == 256
    assert params["print_freq"] == 50
    assert params["workers"] == 3
    assert (params["config"], params["wavelet"]) == ("Ft40YEx", "qshift_b")
    assert (params["has_l1loss"], params["lambda_params"]) == (True, [0.0, 0.005])
    assert params["augmentation"] == "resized-crop-flip"
    assert params["normalize"][0] == [0.485, 0.456, 0.406]
    assert params["image_shape"] == [3, 32, 32]
    assert "trainable_qmf" not in params


def test_no_normalisation_and_augmentation(imported):
    record = imported(normalize=False, data_augmentation=False).record
    assert record["learned"]["normalization"] == {"mean": [], "std": []}
    assert record["params"]["augmentation"] is None


@pytest.mark.parametrize(
    ("older_name", "ours"),
    [
        ("ResNet18", "resnet18"),
        ("ZouResNet34", "zou_resnet34"),
        ("DtCwptZhangResNet50", "dtcwpt_zhang_resnet50"),
        ("DtCwptAlexNet", "DtCwptAlexNet"),
    ],
)
def test_older_names_of_architectures(imported, older_name, ours):
    assert imported(arch=older_name).record["arch"] == ours


def test_older_names_of_attributes(program, older, registry):
    estimator = program.estimator()
    vars(estimator)["net"] = vars(estimator).pop("arch")
    vars(estimator)["n_epochs"] = vars(estimator).pop("epochs")
    write_row(older, "small", estimator)
    assert next(import_wcnn(older, registry)).is_good
    record = registry.load("small", "e2").record
    assert (record["arch"], record["params"]["epochs"]) == ("dtcwpt_resnet18", 2)
    assert record["legacy"]["attributes"]["net"] == "dtcwpt_resnet18"


def test_errors_of_several_ranks(imported):
    learned = imported(val_errs_={1: {1: 0.5, 5: 0.2}}, args_metrics_={"tops": [1, 5]}).record["learned"]
    assert learned["val_errs"] == [[1, [1, 0.5], [5, 0.2]]]


def test_scores_of_older_files_stand_directly_under_their_mode(program, imported):
    flips, shifted = program.score({1: 0.1, 2: 0.2}), program.score(torch.tensor([0.0, 0.5]))
    tree = {"ImageNet": {"val": {"shifts": flips, "onecrop": program.score(0.5)}, "test": {"shifts": shifted}}}
    scores = EvalScores.from_json(imported(eval_scores_=tree).record["scores"])
    assert scores["imagenet"]["val"]["shifts"]["mfr"]() == {1: 0.1, 2: 0.2}
    assert scores["imagenet"]["val"]["onecrop"]["top1"]() == 0.5
    assert scores["imagenet"]["test"]["shifts"]["kldiv"]() == [0.0, 0.5]


def test_two_names_of_one_metric_both_arrive(program, imported):
    metrics = {name: program.score({1: 0.5, 5: 0.9}) for name in ("top1_5_accuracy_scores", "list_of_accuracy_scores")}
    stored = imported(eval_scores_={"CIFAR10": {"test": {"onecrop": metrics}}})
    records = EvalScores.from_json(stored.record["scores"])["cifar10"]["test"]["onecrop"]["top1_5"]
    assert [score.settings["imported_as"].split("/")[-1] for score in records] == list(metrics)
    assert stored.row.accuracy == "0.500000"


def test_scores_of_single_images_are_histories(program, imported):
    tensor = torch.arange(30_000.0).reshape(10_000, 3)
    tree = {
        "CIFAR10": {"test": {"shifts_horizontal": {"kldiv": program.score(tensor), "mfr": program.score({1: 0.5})}}}
    }
    stored = imported(eval_scores_=tree)
    (score,) = EvalScores.from_json(stored.record["scores"])["cifar10"]["test"]["shifts_horizontal"]["kldiv"]
    assert np.array_equal(stored.histories[score.settings["array"]], tensor.numpy())
    assert score.value == tensor.double().mean(dim=0).tolist()
    assert stored.record["files"]["npz"]["size"] > tensor.numel() * 4


def test_scores_that_ours_cannot_be_are_kept_as_they_are(program, imported):
    odd = {"CIFAR10": {"test": {"onecrop": {"x": program.score("much"), "y": 5}}}, "z": program.score(0.5)}
    stored = imported(eval_scores_=odd)
    kept = decode(stored.record["legacy"]["attributes"], stored.histories)["eval_scores_"]
    assert kept["CIFAR10"]["test"]["onecrop"]["x"].state["val"] == "much"
    assert kept["z"].state == {"val": 0.5, "commit": "abc", "date": WHEN}


def test_gradients_and_other_arrays(imported):
    gradients = [torch.rand(7), torch.rand(5)]
    stored = imported(grads_=gradients, more=torch.ones(2, 2), long=[0.5] * 2000)
    assert [np.array_equal(stored.histories[f"grads.{i}"], each.numpy()) for i, each in enumerate(gradients)] == [
        True
    ] * 2
    attributes = decode(stored.record["legacy"]["attributes"], stored.histories)
    assert np.array_equal(attributes["more"], np.ones((2, 2)))
    assert attributes["long"] == [0.5] * 2000


def test_losses_that_float32_does_not_hold_stay_exact(imported):
    losses = imported(losses_=[0.1, 1e300]).histories["losses"]
    assert losses.dtype == np.float64
    assert losses.tolist() == [0.1, 1e300]


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"type": "x"},
        {1: "a", None: 2.5, "b": (1, [2])},
        {1, 2},
        (),
        b"\x00\xff",
        Name("wcnn.metrics.f"),
        Inert("wcnn.A", (1,), {"a": 2}, is_built=True),
        Inert("wcnn.A"),
        datetime.datetime(2022, 1, 2, 3, 4, 5, 6),
        datetime.timedelta(1, 2, 3),
        [float("inf")] * 1000,
    ],
    ids=repr,
)
def test_coding_loses_nothing(value):
    arrays = {}
    assert decode(encode(value, arrays), arrays) == value
    assert type(decode(encode(value, arrays), arrays)) is type(value)


WRONG = {
    "size": {"size": "x"},
    "side": {"size": 10**9},
    "classes": {"n_classes_": 10**15},
    "truth": {"n_classes_": True},
    "negative": {"current_epoch_": -1},
    "errors": {"val_errs_": {1: "x"}},
    "epochs": {"val_errs_": {"x": 0.5}},
    "rates": {"lr_history_": {1: None}},
    "history": {"lr_history_": [1]},
    "arch": {"arch": "../x"},
    "no arch": {"arch": None},
    "dataset": {"ds_name": 3},
    "date": {"training_date_and_time_": "yesterday"},
    "lr": {"lr": [0.1]},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=list(WRONG))
def test_attributes_of_another_kind_are_refused(changes, program, older, registry):
    write_row(older, "small", program.estimator(**changes))
    (outcome,) = import_wcnn(older, registry)
    assert outcome.result == "refused"
    assert f"`{next(iter(changes))}`" in outcome.reason
    assert not registry.rows()


@pytest.mark.parametrize(
    "content", [{"a": 1}, [1], None, Inert("wcnn.toolbox.InfoPrinter", (), {}), Inert("x", (), None)]
)
def test_other_things_than_classifiers_are_refused(content):
    with pytest.raises(Refused, match="not a classifier"):
        convert(content, {})


# ---------------------------------------------------------------------- weights


def test_weights_come_too(program, older, registry):
    path = write_row(older, "small", program.estimator())
    net = torch.nn.Conv2d(3, 4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    states = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": {"step_size": 30}}
    torch.save(states, path.with_suffix(".tar"))
    torch.save([torch.ones(3)], path.with_suffix(".grads"))
    (outcome,) = import_wcnn(older, registry)
    assert outcome.has_weights
    stored = registry.load("small", "e2", tensors=True)
    assert torch.equal(stored.tensors["net"]["weight"], net.weight)
    assert stored.tensors["lr_scheduler"] == {"step_size": 30}
    assert stored.histories["grads.0"].tolist() == [1, 1, 1]
    assert set(stored.record["provenance"]["imported"]["files"]) == {"classif", "tar", "grads"}


def test_weights_that_come_later_are_taken_with_overwrite(program, older, registry):
    path = write_row(older, "small", program.estimator())
    list(import_wcnn(older, registry))
    torch.save({"net": {"a": torch.ones(1)}}, path.with_suffix(".tar"))
    assert [outcome.result for outcome in import_wcnn(older, registry)] == ["exists"]
    assert [outcome.result for outcome in import_wcnn(older, registry, overwrite=True)] == ["imported"]
    assert registry.load("small", "e2", tensors=True).tensors["net"]["a"].tolist() == [1]


@pytest.mark.parametrize("states", [[1], {"net": [1]}, {"net": {"a": 1}}, {"net": {}, "other": 1}, {"optimizer": {}}])
def test_other_things_than_states(states, program, older, registry):
    torch.save(states, write_row(older, "small", program.estimator()).with_suffix(".tar"))
    (outcome,) = import_wcnn(older, registry)
    assert outcome.result == "refused"
    assert ".tar doesn't hold state dicts" in outcome.reason


@pytest.mark.parametrize("suffix", [".classif", ".tar", ".grads"])
def test_hostile_files_are_refused_and_the_others_imported(suffix, hostile, program, older, registry):
    pickled, sentinel = hostile
    bad = write_row(older, "bad", program.estimator())
    write_row(older, "good", program.estimator())
    write_archive(bad.with_suffix(suffix), pickled)
    outcomes = {outcome.name: outcome for outcome in import_wcnn(older, registry)}
    assert outcomes["bad"].result == "refused"
    assert "system" in outcomes["bad"].reason
    assert bad.stem in outcomes["bad"].reason
    assert [row.name for row in registry.rows()] == ["good"]
    assert not sentinel.exists()


# ---------------------------------------------------------------------- the table


def test_twice_is_once(program, older, registry):
    write_row(older, "small", program.estimator())
    list(import_wcnn(older, registry))
    before = registry.csv_path.read_bytes()
    assert [outcome.result for outcome in import_wcnn(older, registry)] == ["there already"]
    assert registry.csv_path.read_bytes() == before


def test_another_classifier_of_that_name_is_left_alone(program, older, registry, tools):
    tools.save_value(registry, "small", 7, ("e7",))
    write_row(older, "small", program.estimator(), status="e7")
    for dry_run in (True, False):
        (outcome,) = import_wcnn(older, registry, dry_run=dry_run)
        assert (outcome.result, outcome.is_good) == ("exists", False)
    assert tools.loaded_value(registry, "small", "e7") == 7
    assert next(import_wcnn(older, registry, prefix="old-")).name == "old-small"
    assert next(import_wcnn(older, registry, overwrite=True)).result == "imported"
    assert registry.load("small", "e7").record["arch"] == "dtcwpt_resnet18"


def test_dry_run_stores_nothing(program, older, registry):
    write_row(older, "small", program.estimator())
    assert next(import_wcnn(older, registry, dry_run=True)).result == "would be imported"
    assert not registry.csv_path.exists()


@pytest.mark.parametrize("place", ["classif", "classifs"])
def test_files_in_a_folder_beside_the_table(place, program, older, registry):
    path = write_row(older, "small", program.estimator())
    (older / place).mkdir()
    shutil.move(path, older / place)
    assert next(import_wcnn(older, registry)).is_good


VARIANTS = {
    "byte order mark": lambda text: "\ufeff" + text,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "quotes": lambda text: "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in text.split("\n")[:-1]
    ),
    "extra column": lambda text: "".join(line + ",x\n" for line in text.split("\n")[:-1]),
    "other order": lambda text: "".join(",".join(reversed(line.split(","))) + "\n" for line in text.split("\n")[:-1]),
    "blank lines": lambda text: text.replace("\n", "\n\n"),
    "only three columns": lambda text: "".join(",".join(line.split(",")[:3]) + "\n" for line in text.split("\n")[:-1]),
}


@pytest.mark.parametrize("change", VARIANTS.values(), ids=list(VARIANTS))
def test_variants_of_the_table(change, program, older, registry):
    write_row(older, "007", program.estimator())
    write_row(older, "1e5", program.estimator())
    table = older / "classif_db.csv"
    table.write_bytes(change(table.read_text()).encode())
    assert [outcome.result for outcome in import_wcnn(older, registry)] == ["imported", "imported"]
    assert registry.names() == ["007", "1e5"]


def test_bad_lines_of_the_table_are_told(program, older, registry):
    write_row(older, "good", program.estimator())
    with (older / "classif_db.csv").open("a") as table:
        table.write("../x,e2,a,,,\nx,E90,a,,,\nx,e2,../../x,,,\nx,e2,/etc/passwd,,,\nhalf,a row\ngood,e2,b,,,\n")
    outcomes = list(import_wcnn(older, registry))
    assert [outcome.result for outcome in outcomes].count("refused") == 6
    assert [outcome.name for outcome in outcomes if outcome.is_good] == ["good"]
    assert "line 3" in {outcome.name for outcome in outcomes}


def test_a_prefix_that_makes_no_name(program, older, registry):
    write_row(older, "small", program.estimator())
    (outcome,) = import_wcnn(older, registry, prefix="../")
    assert outcome.result == "refused"


@pytest.mark.parametrize("content", [b"\x00\x01", b"a,b,c\n1,2,3\n"])
def test_no_table(content, older, registry):
    older.mkdir()
    with pytest.raises(BadParameter, match=r"no classif_db\.csv"):
        list(import_wcnn(older, registry))
    (older / "classif_db.csv").write_bytes(content)
    with pytest.raises(RegistryError, match="no usable header"):
        list(import_wcnn(older, registry))


def test_own_registry_is_not_imported_into_itself(program, older, registry):
    write_row(older, "small", program.estimator())
    shutil.copy(older / "classif_db.csv", registry.csv_path)
    with pytest.raises(BadParameter, match="imported into"):
        list(import_wcnn(registry.csv_path.parent, registry))
    registry.csv_path.unlink()


def test_rows_of_ours_in_an_older_folder(older, registry, tools, in_memory):
    tools.save_value(registry, "ours", 3)
    older.mkdir()
    for path in [registry.csv_path, *registry.folder.iterdir()]:
        shutil.copy(path, older)
    other = type(registry)(in_memory / "other.csv", in_memory / "other")
    (outcome,) = import_wcnn(older, other)
    assert outcome.result == "refused"
    assert "is a record of sepconc" in outcome.reason


def test_a_recorded_hash_is_compared(program, older, registry):
    write_row(older, "small", program.estimator())
    table = older / "classif_db.csv"
    header, line = table.read_text().splitlines()
    table.write_text(f"{header},sha256\n{line},{'0' * 64}\n")
    (outcome,) = import_wcnn(older, registry)
    assert "SHA-256" in outcome.reason


@pytest.mark.parametrize("seed", range(3))
def test_damaged_classifiers_are_imported_or_refused(seed, program, older, registry):
    """Bytes of the pickle changed, with zip's checksum right: an outcome, or an error of ours."""
    path = write_row(older, "small", program.estimator())
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        data = archive.read(name)
    dice, results = random.Random(seed), []
    for _ in range(100):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 2)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        write_archive(path, bytes(damaged))
        with contextlib.suppress(SepConcError):
            results += [outcome.result for outcome in import_wcnn(older, registry, overwrite=True)]
    assert set(results) <= {"imported", "refused", "there already"}
    assert {"imported", "refused"} <= set(results)


def test_an_older_file_in_our_folder_is_told_apart(program, older, damaged):
    path = write_row(older, "small", program.estimator())
    damaged.folder.mkdir()
    shutil.copy(path, damaged.folder)
    shutil.copy(older / "classif_db.csv", damaged.csv_path)
    with pytest.raises(CorruptFile, match="older, pickled record"):
        damaged.load("small", "e2")
