"""Saving and loading: the same classifier comes back, or an error says which file is wrong."""

import errno
import hashlib
import json
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

import sepconc
from sepconc.errors import (
    BadInput,
    BadName,
    BadParameter,
    ClassifierExists,
    ClassifierNotFound,
    CorruptFile,
    NoSpace,
    RegistryError,
    ScoreExists,
)
from sepconc.registry import files
from sepconc.registry.store import configured_registry as registry

load = sepconc.ImageClassifier.load
ARCHS = ("analysis", "scatnet", "scatnetblock", "scatnetblockanalysis")
PREDICTING = ("predict", "predict_proba", "decision_function", "transform")


@pytest.fixture
def data(images):
    X, y = images
    return X[:100], y[:100], X[100:], y[100:]


@pytest.fixture
def stored(small, data):
    """A classifier stored as "net", after two epochs with validation."""
    return small("scatnet").fit(*data).save("net")


def paths(status="checkpoint"):
    return registry().paths(registry().find("net", status))


def load_with_losses(**options):
    """Load "net" and its histories, which are read when they are asked for."""
    clf = load("net", **options)
    assert len(clf.losses_)
    return clf


# ---------------------------------------------------------------------- identity


@pytest.mark.parametrize("arch", ARCHS)
def test_what_is_loaded_is_what_was_saved(small, data, arch, same_learned):
    clf = small(arch, normalize="fit", classifier_type="mlp", nb_hidden_units=8).fit(*data)
    clf.evaluate(data[:2])
    assert clf.save("net") is clf
    other = load("net")
    assert type(other) is type(clf)
    assert other.get_params() == clf.get_params()
    same_learned(other, clf)
    for method in PREDICTING:
        np.testing.assert_array_equal(getattr(other, method)(data[0]), getattr(clf, method)(data[0]))
    for name in ("n_features_in_", "normalization_", "augmentation_", "eval_resize_", "elapsed_time_", "eval_scores_",
                 "frame_diagnostics_", "n_params_by_part_", "row_layout_", "dataset_"):  # fmt: skip
        assert getattr(other, name) == getattr(clf, name), name
    assert other.score(*data[2:]) == clf.score(*data[2:])
    assert not other.net_.training


@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y,
        lambda y: y - 5,
        lambda y: y.astype(np.uint8),
        lambda y: y + 0.5 - 0.5,
        lambda y: y > 4,
        lambda y: np.array([f"number {k}" for k in y]),
        lambda y: np.array([f"number {k}" for k in y], dtype=object),
        lambda y: np.array([f'é,"{k}"\n' for k in y]),
    ],
    ids=["int", "negative", "uint8", "float", "bool", "text", "object", "odd text"],
)
def test_labels_of_any_kind_come_back(small, images, labels):
    X, y = images[0], labels(images[1])
    clf = small("scatnet").fit(X, y).save("net")
    other = load("net")
    assert other.classes_.dtype == clf.classes_.dtype
    np.testing.assert_array_equal(other.classes_, clf.classes_)
    np.testing.assert_array_equal(other.predict(X), clf.predict(X))
    assert other.score(X, y) == clf.score(X, y)


def test_rows_and_their_names_come_back(small, rows):
    import pandas as pd

    frame = pd.DataFrame(rows[0][:, :50], columns=[f"pixel{k}" for k in range(50)])
    clf = small("scatnet").fit(frame, rows[1]).save("net")
    other = load("net")
    np.testing.assert_array_equal(other.predict_proba(frame), clf.predict_proba(frame))
    assert list(other.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        other.predict(frame.rename(columns={"pixel0": "other"}))


def test_saving_again_what_was_loaded(small, data, stored, same_learned):
    load("net").save("copy")
    load("net", train=True).save("copy", status="e2")
    for status in ("checkpoint", "e2"):
        same_learned(load("copy", status), stored)
    copy = load("copy", "e2", train=True).set_params(warm_start=True)
    same_learned(copy.fit(*data), small("scatnet", epochs=4).fit(*data))


def test_a_loaded_training_goes_on_with_another_rate(data, stored):
    clf = load("net", train=True).set_params(warm_start=True, epochs=1, lr=0.0007, momentum=0.5)
    clf.fit(*data).save("slower")
    assert clf.lr_history_[3] == 0.0007
    assert {group["momentum"] for group in clf.training_state_["optimizer"]["param_groups"]} == {0.5}
    assert load("slower", load_net=False).lr == 0.0007
    assert load("net").set_params(warm_start=True, epochs=1, lr=0.0007).fit(*data).lr_history_[3] == 0.0007


def test_the_table(stored):
    frame = sepconc.ImageClassifier.list()
    assert list(frame.columns)[:6] == ["name", "status", "filename", "commit", "script", "args_script"]
    (row,) = frame.to_dict("records")
    assert (row["name"], row["status"], row["arch"], row["epoch"]) == ("net", "checkpoint", "scatnet", 2)
    assert row["size"] == sum(path.stat().st_size for path in paths().values())
    assert row["sha256"] == hashlib.sha256(paths()["classif"].read_bytes()).hexdigest()
    assert set(registry().load("net", tensors=True).tensors) == {
        "net", "optimizer", "lr_scheduler", "generators", "progress",
    }  # fmt: skip


def test_the_record_is_json(stored):
    record = json.loads(paths()["classif"].read_text())
    assert (record["format_version"], record["name"], record["status"]) == (1, "net", "checkpoint")
    assert record["params"]["scattering_J"] == 2
    assert record["provenance"]["threads"] == torch.get_num_threads()
    assert {"python", "torch", "numpy"} <= {*record["provenance"]["versions"], *record["provenance"]}


# ---------------------------------------------------------------------- without the network, and going on


def test_without_the_network(stored, data):
    paths()["tar"].unlink()
    clf = load("net", load_net=False)
    np.testing.assert_array_equal(clf.losses_, stored.losses_)
    assert clf.val_errs_ == stored.val_errs_
    assert clf.frame_diagnostics_ == stored.frame_diagnostics_
    for method in (*PREDICTING, "score", "evaluate"):
        with pytest.raises(ValueError, match=r"loaded without its network. Load it with load_net=True"):
            getattr(clf, method)(data[0])
    with pytest.raises(ValueError, match="loaded without its network"):
        clf.save("other")


@pytest.mark.parametrize("options", [{}, {"train": True}, {"load_net": False, "train": True}])
def test_a_missing_tar_is_an_error(stored, options):
    paths()["tar"].unlink()
    with pytest.raises(CorruptFile, match=rf"{paths()['tar']} is missing.*Restore it from a copy"):
        load("net", **options)


@pytest.mark.parametrize("kind", ["classif", "npz"])
def test_another_missing_file_is_an_error(stored, kind):
    paths()[kind].unlink()
    for options in ({}, {"load_net": False}, {"train": True}):
        with pytest.raises(CorruptFile, match=rf"{paths()[kind]} is missing"):
            load_with_losses(**options)


@pytest.mark.parametrize("arch", ARCHS)
def test_loaded_for_training_it_goes_on_as_if_never_stopped(small, images, arch, same_learned):
    params = {
        "augmentation": "pad-crop-flip",
        "classifier_type": "mlp",
        "nb_hidden_units": 8,
        "lr_scheduler": "StepLR3",
    }
    small(arch, epochs=2, **params).fit(*images).save("net")
    clf = load("net", train=True).set_params(warm_start=True)
    same_learned(clf.fit(*images), small(arch, epochs=4, **params).fit(*images))


def test_loaded_for_training_partial_fit_goes_on(small, images, same_learned):
    small("scatnet", cache_features=False).fit(*images).save("net")
    clf = load("net", train=True).partial_fit(*images)
    same_learned(clf, small("scatnet", epochs=3, cache_features=False).fit(*images))


def test_a_classifier_of_another_machine_s_device(small, images, monkeypatch, caplog):
    clf = small("scatnet").fit(*images)
    clf.set_params(device="cuda:7").save("net")
    caplog.set_level("INFO", "sepconc")
    other = load("net")
    assert other.device == "auto"
    assert "cuda:7" in caplog.text
    assert other.predict(images[0]).shape == images[1].shape


# ---------------------------------------------------------------------- names


def test_nothing_to_save(small):
    with pytest.raises(ValueError, match="not fitted"):
        small("scatnet").save("net")


@pytest.mark.parametrize("name", ["a/b", "../x", "..", "a b", "-x", "", "é", "a" * 101, "x."])
def test_names_that_can_be_none(stored, name):
    for act in (stored.save, load):
        with pytest.raises(BadName):
            act(name)
    assert registry().names() == ["net"]


@pytest.mark.parametrize("status", ["last", "e0", "e01", "", "checkpoint ", "../x"])
def test_statuses_that_can_be_none(stored, status):
    for act in (stored.save, load):
        with pytest.raises(BadName):
            act("net", status)


def test_unknown_names_say_the_close_ones(stored):
    with pytest.raises(ClassifierNotFound, match=r'No classifier "nett".*"net"'):
        load("nett")
    with pytest.raises(ClassifierNotFound, match=r"e90.*checkpoint"):
        load("net", "e90")


def test_an_existing_name_is_kept(small, images, stored):
    row = registry().find("net")
    other = small("scatnet", random_state=1).fit(*images)
    with pytest.raises(ClassifierExists, match="net"):
        other.save("net")
    assert registry().find("net") == row
    other.save("net", "e2")
    other.save("net", overwrite=True)
    np.testing.assert_array_equal(load("net").losses_, other.losses_)


# ---------------------------------------------------------------------- damaged files


class Hostile:
    """A pickle of it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self):
        return os.mkdir, (str(self.sentinel),)


def rerecord(kind: str) -> None:
    """Write the hashes of the changed file into the record and the table, as somebody who means harm would."""
    found = paths()
    if kind != "classif":
        record = json.loads(found["classif"].read_text())
        content = found[kind].read_bytes()
        record["files"][kind] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        found["classif"].write_text(json.dumps(record))
    before = registry().find("net").sha256
    after = hashlib.sha256(found["classif"].read_bytes()).hexdigest()
    table = registry().csv_path
    table.write_text(table.read_text().replace(before, after))


DAMAGES = {
    "truncated": lambda content, sentinel: content[: len(content) // 2],
    "empty": lambda content, sentinel: b"",
    "flipped byte": lambda content, sentinel: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    "longer": lambda content, sentinel: content + b"\0",
    "pickle": lambda content, sentinel: pickle.dumps(Hostile(sentinel)),
    "text": lambda content, sentinel: b"not what it was",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["classif", "npz", "tar"])
def test_damaged_files_are_named_and_not_loaded(stored, kind, damage, tmp_path):
    path = paths()[kind]
    path.write_bytes(DAMAGES[damage](path.read_bytes(), tmp_path / "sentinel"))
    with pytest.raises(CorruptFile, match=str(path)) as error:
        load_with_losses()
    assert "not loaded" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "pickle", "text"])
@pytest.mark.parametrize("kind", ["classif", "npz", "tar"])
def test_damaged_files_with_matching_hashes(stored, kind, damage, tmp_path):
    path = paths()[kind]
    path.write_bytes(DAMAGES[damage](path.read_bytes(), tmp_path / "sentinel"))
    rerecord(kind)
    with pytest.raises(CorruptFile, match=str(path)):
        load_with_losses()
    assert not (tmp_path / "sentinel").exists()


def drop(state):
    state["net"].pop("head.linear.bias")


def add(state):
    state["net"]["head.linear.gain"] = torch.zeros(3)


def reshape(state):
    state["net"]["head.linear.bias"] = torch.zeros(3)


def spoil(state):
    state["net"]["head.linear.bias"][2] = float("nan")


def retype(state):
    state["net"]["head.linear.bias"] = "text"


def replacing_bias(replace):
    def change(state):
        state["net"]["head.linear.bias"] = replace(state["net"]["head.linear.bias"])

    return change


def all_of_them(state):
    state["net"] = {f"other.{key}": value for key, value in state["net"].items()}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (drop, r"head\.linear\.bias is missing"),
        (add, r"head\.linear\.gain is unknown"),
        (reshape, r"head\.linear\.bias has shape \(3,\) instead of \(10,\)"),
        (spoil, r"head\.linear\.bias isn't finite"),
        (retype, r"head\.linear\.bias"),
        (replacing_bias(torch.Tensor.double), r"bias has type torch\.float64 instead of torch\.float32"),
        (replacing_bias(lambda bias: bias.to(torch.complex64)), r"bias has type torch\.complex64"),
        (replacing_bias(lambda bias: bias.to("meta")), r"bias holds no plain numbers"),
        (all_of_them, r"is missing; .* is missing; .*They were not loaded"),
        (lambda state: state.pop("net"), "net"),
    ],
)
def test_weights_that_do_not_fit(stored, change, text):
    state = torch.load(paths()["tar"], weights_only=True)
    change(state)
    torch.save(state, paths()["tar"])
    rerecord("tar")
    with pytest.raises(CorruptFile, match=text):
        load("net")


@pytest.mark.parametrize("key", ["optimizer", "generators", "progress"])
def test_a_state_that_cannot_be_gone_on_from(small, data, key):
    small("scatnet").fit(*data, name="net")
    state = torch.load(paths()["tar"], weights_only=True)
    del state[key]
    torch.save(state, paths()["tar"])
    rerecord("tar")
    with pytest.raises(CorruptFile, match=f"doesn't fit.*{key}"):
        small("scatnet", epochs=3).fit(*data, name="net")


@pytest.mark.parametrize("key", ["arch", "params", "learned", "scores"])
def test_a_record_without_a_part(stored, key):
    record = json.loads(paths()["classif"].read_text())
    del record[key]
    paths()["classif"].write_text(json.dumps(record))
    rerecord("classif")
    with pytest.raises(CorruptFile, match=f"{paths()['classif']}.*{key}"):
        load("net")


def test_a_record_of_an_unknown_architecture_or_parameter(stored):
    record = json.loads(paths()["classif"].read_text())
    for change in ({"arch": "vgg"}, {"params": {**record["params"], "kernel": 3}}):
        paths()["classif"].write_text(json.dumps({**record, **change}))
        rerecord("classif")
        with pytest.raises(ValueError, match=r"vgg|kernel"):
            load("net")


# ---------------------------------------------------------------------- a full disk


def test_a_full_disk_leaves_the_earlier_checkpoint(small, data, monkeypatch):
    before = small("scatnet", epochs=1).fit(*data, name="net")
    rows, content = registry().rows(), sorted(registry().folder.iterdir())
    written, real = 0, files._write_all

    def full(descriptor, chunk):
        nonlocal written
        written += len(chunk)
        if written > 5000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor, chunk)

    monkeypatch.setattr(files, "_write_all", full)
    with pytest.raises(NoSpace, match=r"No space left.*stored before is untouched"):
        small("scatnet", epochs=3).fit(*data, name="net")
    with pytest.raises(NoSpace, match="No space left"):
        before.save("net", overwrite=True)
    monkeypatch.setattr(files, "_write_all", real)
    assert registry().rows() == rows
    assert sorted(registry().folder.iterdir()) == content
    np.testing.assert_array_equal(load("net").predict_proba(data[0]), before.predict_proba(data[0]))
    assert small("scatnet", epochs=3).fit(*data, name="net").current_epoch_ == 3


def test_a_limit_on_the_size_of_files(small, data):
    """The system's own refusal, in a child that may write files of 3 kB only."""
    before = small("scatnet").fit(*data).save("net")
    rows = registry().rows()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        code = 1
        try:
            before.save("net", overwrite=True)
        except NoSpace:
            code = 42
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 42
    assert registry().rows() == rows
    np.testing.assert_array_equal(load("net").predict_proba(data[0]), before.predict_proba(data[0]))


def test_a_registry_that_cannot_be_written_is_known_before_training(small, data, tmp_path, monkeypatch):
    (tmp_path / "config.yml").write_text("registry:\n  csv: here/classif_db.csv\n  folder: taken\n")
    (tmp_path / "taken").write_text("a file where the folder should be")
    monkeypatch.setenv("SEPCONC_CONFIG", str(tmp_path / "config.yml"))
    clf = small("scatnet")
    with pytest.raises(RegistryError, match="taken"):
        clf.fit(*data, name="net")
    assert not hasattr(clf, "net_")


# ---------------------------------------------------------------------- scores


def test_scores_are_added_without_touching_the_weights(stored, data):
    before = registry().load("net", tensors=True)
    clf = load("net")
    values = clf.evaluate(data[2:], store=True)
    clf.evaluate(data[2:], "shifts", store=True, max_shift=1)
    after = registry().load("net", tensors=True)
    for kind in ("npz", "tar"):
        assert after.record["files"][kind] == before.record["files"][kind]
    assert after.record["learned"] == before.record["learned"]
    scores = load("net", load_net=False).eval_scores_
    assert scores["arrays"]["test"]["onecrop"]["top1"]() == values["top1"]
    assert set(scores["arrays"]["test"]) == {"onecrop", "shifts_horizontal"}
    assert scores == clf.eval_scores_


def test_scores_of_two_readers_are_both_kept(stored, data):
    one, other = load("net"), load("net")
    one.evaluate(data[2:], store=True)
    other.evaluate(data[:2], "tencrops", store=True)
    assert set(load("net").eval_scores_["arrays"]["test"]) == {"onecrop", "tencrops"}
    with pytest.raises(ScoreExists):
        other.evaluate(data[2:], store=True)


def test_scores_of_weights_that_were_replaced_are_refused(small, data):
    small("scatnet", epochs=1).fit(*data, name="net")
    clf = load("net")
    small("scatnet", epochs=2).fit(*data, name="net")
    with pytest.raises(RegistryError, match="changed meanwhile"):
        clf.evaluate(data[2:], store=True)
    assert load("net").eval_scores_ == {}
    clf.evaluate(data[2:], overwrite=True)  # without the registry it is a measurement like any other


def test_scores_of_what_was_never_stored(small, data):
    clf = small("scatnet").fit(*data)
    with pytest.raises(ClassifierNotFound, match="save"):
        clf.evaluate(data[2:], store=True)
    assert clf.eval_scores_ == {}


# ---------------------------------------------------------------------- going on without optimiser and generators


def test_loaded_for_prediction_partial_fit_goes_on(small, data):
    small("scatnet", lr_scheduler="StepLR2", lr=0.02).fit(*data).save("net")
    before = load("net")
    clf = load("net").partial_fit(*data[:2])
    assert clf.current_epoch_ == 3
    assert clf.lr_history_ == pytest.approx({1: 0.02, 2: 0.02, 3: 0.002})
    assert clf.val_errs_ == before.val_errs_
    np.testing.assert_array_equal(clf.losses_[:8], before.losses_)
    assert len(clf.losses_) == 12
    assert clf.elapsed_time_ > before.elapsed_time_
    np.testing.assert_array_equal(clf.save("more").predict(data[0]), load("more").predict(data[0]))


def test_loaded_for_prediction_warm_start_goes_on(small, data):
    small("scatnet").fit(*data).save("net")
    clf = load("net").set_params(warm_start=True, epochs=1).fit(*data)
    assert clf.current_epoch_ == 3
    assert list(clf.val_errs_) == list(clf.lr_history_) == [1, 2, 3]
    assert len(clf.losses_) == 12
    assert clf.losses_[8:].mean() < clf.losses_[:4].mean()


def test_without_its_network_there_is_nothing_to_go_on_with(stored, data):
    clf = load("net", load_net=False)
    with pytest.raises(BadInput, match=r"loaded without its network.*load_net=True"):
        clf.partial_fit(*data[:2])
    assert clf.current_epoch_ == 2


def test_the_epochs_of_a_snapshot_are_its_own(stored):
    with pytest.raises(BadParameter, match='"e99" means epoch 99; this classifier has 2 epochs'):
        stored.save("net", "e99")
    assert registry().statuses("net") == ["checkpoint"]


@pytest.mark.parametrize("go_on", [False, True])
def test_the_parameters_of_the_network_are_recorded(small, data, go_on):
    clf = small("scatnet").fit(*data)
    clf.set_params(P_proj_size=9, scattering_J=1, batch_size=20)
    if go_on:
        clf.partial_fit(*data[:2])
    clf.save("net")
    other = load("net")
    assert (other.P_proj_size, other.scattering_J) == (6, 2)
    assert other.batch_size == (20 if go_on else 32)
    np.testing.assert_array_equal(other.predict_proba(data[0]), clf.predict_proba(data[0]))


def test_a_pickle_predicts_the_same(small, data):
    for clf in (small("scatnet").fit(*data), small("scatnet").fit(sepconc.load_dataset("digits", size=8, n_imgs=60))):
        copy = pickle.loads(pickle.dumps(clf))
        for method in PREDICTING:
            np.testing.assert_array_equal(getattr(copy, method)(data[0]), getattr(clf, method)(data[0]))
        assert vars(copy).get("class_names_") == clf.class_names_
        assert copy.score(*data[2:]) == clf.score(*data[2:])
