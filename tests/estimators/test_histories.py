"""Histories of a loaded classifier: read when they are asked for, verified, and never another classifier's."""

import copy
import inspect
import pickle

import numpy as np
import pytest
from sklearn.base import clone

import sepconc
from sepconc.errors import ClassifierNotFound, CorruptFile, RegistryError
from sepconc.registry import files
from sepconc.registry.store import configured_registry as registry

load = sepconc.ImageClassifier.load


@pytest.fixture
def stored(small, images):
    """A classifier stored as "net"."""
    X, y = images
    return small("scatnet").fit(X[:100], y[:100]).save("net")


@pytest.fixture
def reads(monkeypatch):
    """The files of histories that are read, in their order."""
    found = []
    read = files.read_npz

    def counted(path, stamp):
        found.append(path)
        return read(path, stamp)

    monkeypatch.setattr(files, "read_npz", counted)
    return found


def npz():
    return registry().paths(registry().find("net"))["npz"]


@pytest.mark.parametrize("load_net", [True, False])
def test_they_are_read_at_the_first_access_and_kept(stored, reads, load_net):
    clf = load("net", load_net=load_net)
    assert reads == []
    assert clf.val_errs_ == {}
    assert clf.current_epoch_ == stored.current_epoch_
    assert reads == []
    np.testing.assert_array_equal(clf.losses_, stored.losses_)
    assert clf.losses_ is clf.losses_
    assert reads == [npz()]


def test_for_training_they_are_read_at_once(stored, reads):
    clf = load("net", train=True)
    assert reads == [npz()]
    assert "unread_histories_" not in vars(clf)
    npz().unlink()
    np.testing.assert_array_equal(clf.losses_, stored.losses_)


def test_what_is_no_history_is_not_read_for(stored, reads):
    clf = load("net")
    assert not hasattr(clf, "loss_")
    with pytest.raises(AttributeError, match="'ScatNetClassifier' object has no attribute 'losses'"):
        _ = clf.losses
    assert clf.get_params() == stored.get_params()
    assert not hasattr(clone(clf), "losses_")
    assert "losses_" not in dict(inspect.getmembers(clf))
    repr(clf)
    clf._repr_html_()
    assert reads == []


def test_a_new_classifier_has_none(small):
    clf = small("scatnet")
    assert not hasattr(clf, "losses_")
    with pytest.raises(AttributeError, match="'ScatNetClassifier' object has no attribute 'losses_'"):
        _ = clf.losses_


def test_an_error_within_a_property_is_told_as_it_is(small):
    with pytest.raises(AttributeError, match="no attribute 'net_'"):
        _ = small("scatnet")._n_features_out


@pytest.mark.parametrize("duplicate", [lambda clf: pickle.loads(pickle.dumps(clf)), copy.deepcopy])
def test_a_copy_has_them_without_a_registry(stored, duplicate):
    copied = duplicate(load("net"))
    registry().remove("net")
    np.testing.assert_array_equal(copied.losses_, stored.losses_)
    assert "unread_histories_" not in vars(copied)


def test_losses_that_were_set_are_kept(stored, reads):
    clf = load("net")
    clf.losses_ = np.ones(3, np.float32)
    clf.grads_ = []
    pickle.dumps(clf)
    assert clf.losses_.tolist() == [1, 1, 1]
    assert reads == []


def test_one_that_was_set_is_kept_when_the_other_is_read(stored, reads):
    clf = load("net")
    clf.losses_ = np.ones(3, np.float32)
    assert clf.grads_ == []
    assert clf.losses_.tolist() == [1, 1, 1]
    assert len(reads) == 1


def test_a_record_that_was_updated_meanwhile_has_the_same_histories(stored):
    clf = load("net")
    before = npz()
    registry().update_record("net", "checkpoint", clf.stored_as_, lambda record: {**record, "note": "scored"})
    assert not before.exists()
    np.testing.assert_array_equal(clf.losses_, stored.losses_)


def test_a_classifier_that_was_replaced_is_an_error(stored, small, images):
    clf = load("net")
    X, y = images
    small("scatnet", random_state=1).fit(X[:100], y[:100]).save("net", overwrite=True)
    for _ in range(2):
        with pytest.raises(RegistryError, match=r'"net" with status "checkpoint" .* another training was saved'):
            _ = clf.losses_
    np.testing.assert_array_equal(clf.predict(X), stored.predict(X))


def test_a_classifier_that_was_removed_is_an_error(stored, images):
    clf = load("net")
    registry().remove("net")
    with pytest.raises(ClassifierNotFound, match=r'"net" with status "checkpoint" .* was removed from classif_db.csv'):
        _ = clf.losses_
    np.testing.assert_array_equal(clf.predict(images[0]), stored.predict(images[0]))


def test_the_registry_is_the_one_that_it_was_loaded_from(stored, monkeypatch, tmp_path):
    clf = load("net")
    (tmp_path / "other.yml").write_text("registry: {csv: other.csv}\n")
    monkeypatch.setenv("SEPCONC_CONFIG", str(tmp_path / "other.yml"))
    np.testing.assert_array_equal(clf.losses_, stored.losses_)


def test_a_changed_byte_is_found_at_the_first_access(stored):
    content = bytearray(npz().read_bytes())
    content[-40] ^= 1
    npz().write_bytes(bytes(content))
    clf = load("net")
    with pytest.raises(CorruptFile, match=r"\.npz does not match its recorded SHA-256"):
        _ = clf.losses_


@pytest.mark.parametrize("go_on", ["partial_fit", "warm_start", "save"])
def test_going_on_reads_them_first(stored, images, go_on):
    X, y = images
    clf = load("net").set_params(warm_start=True, epochs=1)
    before = len(stored.losses_)
    if go_on == "save":
        clf.save("other").save("net", overwrite=True)
    else:
        clf.partial_fit(X[:100], y[:100]) if go_on == "partial_fit" else clf.fit(X[:100], y[:100])
        assert len(clf.losses_) > before
    np.testing.assert_array_equal(clf.losses_[:before], stored.losses_)


@pytest.mark.parametrize("go_on", ["partial_fit", "warm_start"])
def test_going_on_from_what_was_removed_fails_before_anything_is_learned(stored, images, go_on):
    X, y = images
    clf = load("net").set_params(warm_start=True)
    registry().remove("net")
    train = clf.partial_fit if go_on == "partial_fit" else clf.fit
    with pytest.raises(ClassifierNotFound, match="was removed"):
        train(X[:100], y[:100])
    np.testing.assert_array_equal(clf.predict_proba(X), stored.predict_proba(X))


def test_a_second_fit_forgets_them(stored, images, reads):
    X, y = images
    clf = load("net").set_params(epochs=1)
    clf.fit(X[:100], y[:100])
    assert reads == []
    assert "unread_histories_" not in vars(clf)
    assert len(clf.losses_) < len(stored.losses_) + 1


def test_histories_without_losses_are_empty_ones(stored):
    record = registry().load("net", tensors=True)
    registry().save("other", {"checkpoint": record.record}, histories={}, tensors=record.tensors)
    assert load("other").losses_.shape == (0,)
    assert load("other", train=True).losses_.shape == (0,)


def test_long_histories_of_a_large_registry_are_read_when_asked_for(stored, reads):
    stored.losses_ = np.zeros(400_000, np.float32)
    stored.val_errs_ = {epoch: {1: 0.5, 5: 0.1} for epoch in range(1, 301)}
    stored.save("long")
    lines = registry().csv_path.read_text().splitlines()
    others = [lines[-1].replace("long", f"net-{i}", 1) for i in range(1000)]
    registry().csv_path.write_text("\n".join([*lines, *others, ""]))
    clf = load("long", load_net=False)
    assert reads == []
    assert len(clf.losses_) == 400_000
    assert len(reads) == 1
