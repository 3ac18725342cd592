"""Classifiers of the WCNN program, imported: they load as twins, predict with their weights, and go on training."""

import numpy as np
import pytest
import torch

from sepconc import ImageClassifier, TwinClassifier
from sepconc.errors import CorruptFile, SepConcError
from sepconc.registry.legacy.importing import import_wcnn
from sepconc.registry.store import configured_registry

from ..registry.older import Program, write_row

QUICK = {"epochs": 1, "batch_size": 8, "lr": 0.01, "random_state": 0, "device": "cpu", "augmentation": None}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (16, 3, 32, 32), dtype=np.uint8), np.arange(16) % 3


@pytest.mark.parametrize(
    ("name", "arch", "config"),
    [("R18C", "resnet18", None), ("R18zh3wyC_mod", "dtcwpt_zhang_resnet18", "Ft40YBf3Ex_mod")],
)
def test_a_published_one_is_a_twin_classifier(name, arch, config, shared):
    list(import_wcnn(shared / "data" / "wcnn", configured_registry()))
    clf = ImageClassifier.load(name, "e300", load_net=False)
    assert type(clf) is TwinClassifier
    assert (clf.arch, clf.config, clf.lr, clf.lr_scheduler) == (arch, config, 0.1, "StepLR100")
    net = clf.build_network((3, 32, 32), 10)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == clf.n_params_
    assert len(clf.losses_) == 52_800
    assert clf.grads_ == []
    with pytest.raises(SepConcError, match="was stored without weights"):
        ImageClassifier.load(name, "e300")


@pytest.fixture
def older(tmp_path, monkeypatch, images):
    """A function that stores a trained twin as the program would, and what was stored."""

    def store(**changes):
        clf = TwinClassifier(**QUICK, arch="dtcwpt_resnet18", config="Ft40YEx_mod").fit(*images)
        state = clf.training_state_
        optimizer = {**state["optimizer"], "param_groups": [dict(each) for each in state["optimizer"]["param_groups"]]}
        for group in optimizer["param_groups"]:  # an older torch has fewer settings
            for key in ("foreach", "differentiable", "fused", "maximize"):
                group.pop(key, None)
        tensors = {"net": clf.net_.state_dict(), "optimizer": optimizer, "lr_scheduler": state["lr_scheduler"]}
        attributes = {"config": "Ft40YEx_mod", "size": 32, "n_classes_": 3, "batch_size_train": 8, "lr": 0.01}
        attributes |= {"lr_scheduler": "StepLR30", "has_l1loss": False, "lambda_params": None} | changes
        path = write_row(tmp_path / "older", "R18wyC_mod", Program(monkeypatch).estimator(**attributes))
        torch.save(tensors, path.with_suffix(".tar"))
        (outcome,) = import_wcnn(tmp_path / "older", configured_registry())
        assert outcome.has_weights, outcome
        return clf

    return store


def test_it_predicts_with_its_weights(older, images):
    clf = older()
    loaded = ImageClassifier.load("R18wyC_mod", "e2")
    for key, value in clf.net_.state_dict().items():
        assert torch.equal(loaded.net_.state_dict()[key], value)
    assert loaded.normalization_.mean == (0.485, 0.456, 0.406)
    assert loaded.predict(images[0]).shape == (16,)


def test_it_goes_on_where_it_stopped(older, images):
    older()
    loaded = ImageClassifier.load("R18wyC_mod", "e2", train=True)
    weights = loaded.net_.fc.weight.clone()
    loaded.set_params(warm_start=True, epochs=1, device="cpu").fit(*images)
    assert loaded.current_epoch_ == 3
    assert len(loaded.losses_) == 3 + 2
    assert isinstance(loaded.seed_, int)
    assert not torch.equal(loaded.net_.fc.weight, weights)


def test_one_whose_regulariser_could_not_be_now_still_predicts(older, images):
    older(has_l1loss=True, lambda_params=[0.0, 0.005])  # cut off silently there; five scales
    loaded = ImageClassifier.load("R18wyC_mod", "e2")
    assert loaded.lambda_params == (0.0, 0.005)
    assert loaded.predict(images[0]).shape == (16,)
    with pytest.raises(ValueError, match="5 scales"):
        loaded.set_params(warm_start=True, epochs=3).fit(*images)


def test_weights_of_another_configuration_are_refused(older):
    older(config="Ft40YEx")
    with pytest.raises(CorruptFile) as error:
        ImageClassifier.load("R18wyC_mod", "e2")
    assert "don't fit the network" in str(error.value)
    assert "\n" not in str(error.value)
