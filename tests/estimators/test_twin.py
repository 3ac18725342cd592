"""AlexNets, ResNets and their twins as classifiers: names, regulariser, gradients, first weights, half precision."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional as F

import sepconc
from sepconc import ImageClassifier, TwinClassifier
from sepconc.data.images import ArrayImages
from sepconc.errors import (
    BadInput,
    BadParameter,
    ClassifierNotFound,
    CorruptFile,
    NotResumable,
    ParameterMismatch,
)
from sepconc.estimators.resuming import Resume
from sepconc.nets.regularisation import mixing_weights
from sepconc.params.archs import find_arch
from sepconc.params.twin_configs import find_config, twin_archs, twin_configs
from sepconc.registry.store import configured_registry

TWIN = {"arch": "dtcwpt_resnet18", "config": "Ft40YEx_mod"}
QUICK = {"epochs": 1, "batch_size": 8, "lr": 0.01, "random_state": 0, "device": "cpu", "augmentation": None}
REGULARISED = {"has_l1loss": True, "lambda_params": (0.1, 0.02), "get_gradients": True, "config": "Ft40Y"}


def twin(**params):
    return TwinClassifier(**{**QUICK, **TWIN, **params})


@pytest.fixture(scope="module")
def images():
    """16 random images of 16 pixels, in three classes."""
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (16, 3, 16, 16), dtype=np.uint8), np.arange(16) % 3


@pytest.fixture(scope="module")
def fitted(images):
    """A twin after two updates with the regulariser, which recorded gradients; don't change it."""
    return twin(**REGULARISED).fit(*images)


def refused(error, *texts):
    message = str(error.value)
    assert "\n" not in message
    assert all(text in message for text in texts), message


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize("arch", [name for name in twin_archs() if twin_configs(name)])
def test_every_name_is_a_classifier_with_its_configurations(arch):
    assert sepconc.make_classifier(arch).arch == arch
    assert sepconc.list_configs(arch) == list(twin_configs(arch)) == list(find_arch(arch).configs)


def test_the_one_that_has_no_configuration_says_so():
    with pytest.raises(BadParameter) as error:
        sepconc.make_classifier("WptAlexNet")
    refused(error, "WptAlexNet", "can't be built by name", "DtCwptAlexNet")


@pytest.mark.parametrize(
    ("arch", "config", "texts"),
    [
        ("AlexNet", "Ft32Y", ["AlexNet has no", "Std", "Ks20", "Did you mean -a DtCwptAlexNet --config Ft32Y?"]),
        ("dtcwpt_resnet18", None, ["needs a configuration", "Ft40YEx_mod"]),
        ("dtcwpt_resnet18", "Ft40YBf3Ex", ["Ft40YEx", "Did you mean -a dtcwpt_zhang_resnet18"]),
        ("dtcwpt_zou_resnet18", "Ft40YBf4Ex", ["Ft40YBf3Ex", "Ft40YBf5Ex"]),
        ("zou_resnet18", "Bf4", ["Bf3", "Bf5", "Bf7"]),
        ("dtcwpt_zhang_resnet34", "Ft40YBf3Ex_abl", ["Did you mean --config Ft40YBf3Ex_abl2?"]),
        ("resnet18", "Bf3", ["Std, Frozen", "Did you mean -a zhang_resnet18 --config Bf3?"]),
    ],
)
def test_a_meaningless_pair_lists_the_valid_ones(arch, config, texts, images):
    with pytest.raises(BadParameter) as error:
        TwinClassifier(arch=arch, config=config).fit(*images)
    refused(error, *texts)


# ---------------------------------------------------------------------- networks


def test_weights_follow_the_seed_and_leave_torch_s_stream_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    nets = [
        sepconc.build_network("dtcwpt_resnet18", config="Ft40", num_classes=3, image_shape=(3, 32, 32), random_state=s)
        for s in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    states = [net.state_dict() for net in nets]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    changed = [key for key in states[0] if not torch.equal(states[0][key], states[2][key])]
    assert {"conv1.freeconv.weight", "conv1.wptblock.featmapmix.0.weight", "layer1.0.conv1.weight", "fc.bias"} <= set(
        changed
    )


def test_a_fitted_twin_has_what_the_readme_says(fitted, images):
    assert fitted.net_.first_conv.resulting_kernel.weight.shape[:2] == (64, 3)
    assert fitted.n_params_ == sum(p.numel() for p in fitted.net_.parameters() if p.requires_grad)
    assert fitted.transform(images[0]).shape == (16, 512)
    assert len(fitted.get_feature_names_out()) == 512
    np.testing.assert_allclose(fitted.predict_proba(images[0]).sum(1), 1)


@pytest.mark.slow
def test_the_features_of_an_alexnet(images):
    clf = TwinClassifier(**{**QUICK, "arch": "DtCwptAlexNet", "config": "Ft32Y_mod", "batch_size": 4})
    X = np.kron(images[0][:4], np.ones((4, 4), np.uint8))
    clf.fit(X, images[1][:4])
    assert clf.transform(X).shape == (4, 4096)
    linear = clf.net_.last_linear.double()
    logits = linear(torch.from_numpy(clf.transform(X))).detach().numpy()
    np.testing.assert_allclose(logits, clf.decision_function(X), rtol=1e-9, atol=1e-12)


def test_grey_images_and_rows_become_coloured_ones():
    X, y = load_digits(return_X_y=True)
    clf = twin(batch_size=16).fit(X[:32] / 16, y[:32])
    assert clf.image_shape_ == (1, 32, 32)
    grey = np.zeros((2, 1, 32, 32), np.float32)
    grey[1, :, 8:] = 0.7
    net = clf.net_.eval()
    with torch.no_grad():
        torch.testing.assert_close(net(torch.from_numpy(grey)), net(torch.from_numpy(grey).repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_refused(channels):
    with pytest.raises(BadInput) as error:
        twin().fit(np.zeros((4, channels, 32, 32), np.uint8), [0, 1, 0, 1])
    refused(error, "dtcwpt_resnet18", f"got {channels} channels")


@pytest.mark.parametrize(
    ("arch", "config", "side"),
    [("zhang_resnet18", "Bf4", 32), ("ZhangAlexNet", "Bf3", 64), ("AlexNet", "Std", 48), ("zhang_resnet18", "Bf3", 8)],
)
def test_images_too_small_for_the_network_are_refused(arch, config, side):
    clf = TwinClassifier(**{**QUICK, "arch": arch, "config": config})
    with pytest.raises(BadInput) as error:
        clf.fit(np.zeros((4, 3, side, side), np.uint8), [0, 1, 0, 1])
    refused(error, "too small", "larger images")
    assert clf.min_side() > side


def test_auto_means_what_was_published():
    info = sepconc.load_dataset("digits", n_imgs=20).info
    known = ArrayImages(np.zeros((2, 3, 8, 8), np.uint8), info=sepconc.data.datasets.dataset_info("cifar10"))
    unaugmented = ArrayImages(np.zeros((2, 1, 8, 8), np.uint8), info=info)
    assert twin().usual_augmentation(known) == "resized-crop-flip"
    assert sepconc.ScatNetClassifier().usual_augmentation(known) == "pad-crop-flip"
    assert twin().usual_augmentation(unaugmented) is None
    assert twin().usual_augmentation(ArrayImages(np.zeros((2, 3, 8, 8), np.uint8))) is None


def test_photographs_are_taken_at_the_network_s_side(tmp_path):
    rng = np.random.default_rng(3)
    for number in range(8):
        folder = tmp_path / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    images = sepconc.load_dataset(f"folder:{tmp_path}", "train", validation=False, size=32)
    assert twin(augmentation="auto", workers=0).train(images, max_steps=1).eval_resize_ is None
    assert sepconc.ScatNetClassifier(**QUICK, scattering_J=2).train(images, max_steps=1).eval_resize_ is not None


def test_the_published_defaults():
    clf = TwinClassifier()
    assert (clf.epochs, clf.lr, clf.momentum, clf.weight_decay, clf.batch_size) == (90, 0.1, 0.9, 1e-4, 256)
    assert (clf.lr_scheduler, clf.snapshots, clf.save_best, clf.batch_accum) == ("StepLR30", 30, False, 1)


def test_options_of_the_wavelets_reach_the_network():
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    usual, learned, other, reflected = (
        sepconc.build_network(
            "dtcwpt_resnet18", config="Ft40", num_classes=3, image_shape=(3, 32, 32), random_state=0, **options
        ).eval()
        for options in ({}, {"trainable_qmf": True}, {"wavelet": "qshift_d"}, {"padding_mode": "reflect"})
    )
    counts = [sum(p.numel() for p in net.parameters() if p.requires_grad) for net in (usual, learned)]
    assert counts[1] - counts[0] == 40
    with torch.no_grad():
        assert not torch.allclose(usual.first_conv(x), reflected.first_conv(x))
    assert other.first_conv.wptblock.wpt._hfilters.shape == (2, 18)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"arch": "resnet18", "config": None, "padding_mode": "reflect"}, "`padding_mode` of TwinClassifier"),
        ({"arch": "resnet18", "config": None, "trainable_qmf": True}, "`trainable_qmf`"),
        ({"repairs": ("alignment",)}, 'repair "alignment" of TwinClassifier changes nothing in dtcwpt_resnet18'),
        ({"repairs": ("pasa-softmax",)}, '"pasa-softmax"'),
        ({"arch": "DtCwptZhangAlexNet", "config": "Ft32YBf3", "repairs": ("blur-size",)}, '"blur-size"'),
    ],
)
def test_options_without_a_meaning_are_refused(params, text, images):
    with pytest.raises(BadParameter) as error:
        twin(**params).fit(*images)
    refused(error, text, "leave it out")


# ---------------------------------------------------------------------- regulariser and gradients


def penalty_of(net, lambdas):
    """λ-weighted Σ ‖w‖₁ / ‖w‖_∞ − 1, written out with loops."""
    total = 0.0
    for factor, weight in zip(lambdas, mixing_weights(net), strict=True):
        for row in weight.detach().double().flatten(1):
            total += factor * float(row.abs().sum() / row.abs().max() - 1)
    return total


def test_the_first_loss_is_cross_entropy_with_the_penalty(images):
    plain = twin(config="Ft40Y", batch_size=16).train(*images, max_steps=1)
    clf = twin(**REGULARISED, batch_size=16).train(*images, max_steps=1)
    start = sepconc.build_network(
        "dtcwpt_resnet18", config="Ft40Y", num_classes=3, image_shape=(3, 16, 16), random_state=0
    )  # the same seed: the same first weights
    assert clf.losses_[0] - plain.losses_[0] == pytest.approx(penalty_of(start, (0.1, 0.02)), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["dtcwpt_resnet18", "dtcwpt_zou_resnet50", "DtCwptAlexNet", "resnet18"])
def test_every_scale_has_its_weights(arch):
    for config in sepconc.list_configs(arch):
        net = sepconc.build_network(arch, config=config, num_classes=3, image_shape=(3, 64, 64))
        assert len(mixing_weights(net)) == find_config(arch, config).scales


def test_recorded_gradients_are_those_of_the_first_update(images):
    X, y = images
    clf = twin(**REGULARISED, batch_size=16, batch_accum=2).train(X, y, max_steps=1)
    net = sepconc.build_network(
        "dtcwpt_resnet18", config="Ft40Y", num_classes=3, image_shape=(3, 16, 16), random_state=0
    ).train()
    x = torch.from_numpy(X).float() / 255
    order = _first_order(clf)
    for part in order.reshape(2, 8):
        (F.cross_entropy(net(x[part]), torch.from_numpy(y)[part]) / 2).backward()
    rows = [weight.flatten(1) for weight in mixing_weights(net)]
    sum(
        factor * ((row.abs().sum(1) / row.abs().amax(1)) - 1).sum()
        for factor, row in zip((0.1, 0.02), rows, strict=True)
    ).backward()
    for found, weight in zip(clf.grads_, mixing_weights(net), strict=True):
        np.testing.assert_allclose(found, weight.grad.flatten(1).abs().amax(1), rtol=1e-4, atol=1e-7)


def _first_order(clf):
    """The order of the first epoch's images, from the seed."""
    from sepconc.training.randomness import RandomStreams, permutation

    streams = RandomStreams(clf.seed_, torch.device("cpu"))
    return np.asarray(permutation(16, streams.order, streams.order.get_state()))


def test_gradients_are_stored_and_go_on(images, fitted):
    two = twin(**REGULARISED, epochs=2).fit(*images)
    assert [len(each) for each in fitted.grads_] == [2 * 12, 2 * 12]
    assert [len(each) for each in two.grads_] == [4 * 12, 4 * 12]
    twin(**REGULARISED).fit(*images, name="net")
    resumed = twin(**REGULARISED, epochs=2).fit(*images, name="net")
    loaded = ImageClassifier.load("net")
    for one, other, stored in zip(two.grads_, resumed.grads_, loaded.grads_, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, stored)
    np.testing.assert_array_equal(two.losses_, resumed.losses_)
    for key, value in two.net_.state_dict().items():
        assert torch.equal(value, resumed.net_.state_dict()[key]), key
    assert ImageClassifier.load("net", load_net=False).grads_[1].dtype == np.float32


def test_gradients_of_an_incomplete_epoch_are_kept(images):
    clf = twin(**REGULARISED).train(*images, max_steps=1)
    assert [len(each) for each in clf.grads_] == [12, 12]


def test_weights_of_the_regulariser_may_be_an_array(images):
    given = twin(**{**REGULARISED, "lambda_params": np.array([0.1, 0.02])}).train(*images, max_steps=1)
    np.testing.assert_array_equal(given.losses_, twin(**REGULARISED).train(*images, max_steps=1).losses_)


def test_a_regulariser_that_was_added_later_is_recorded(images):
    clf = twin(config="Ft40Y").fit(*images)
    clf.set_params(**REGULARISED, warm_start=True).fit(*images).save("net")
    assert ImageClassifier.load("net", load_net=False).lambda_params == (0.1, 0.02)


def test_without_asking_no_gradients_are_recorded(images):
    assert twin(config="Ft40Y").fit(*images).grads_ == []


def test_the_penalty_of_single_inputs_is_nothing(images):
    plain = twin().train(*images, max_steps=2)
    same = twin(has_l1loss=True, lambda_params=(1, 2, 3, 4, 5)).train(*images, max_steps=2)
    np.testing.assert_array_equal(plain.losses_, same.losses_)


@pytest.mark.parametrize(
    ("params", "texts"),
    [
        ({**REGULARISED, "lambda_params": (0.1,)}, ["2 scales of dtcwpt_resnet18 Ft40Y", "(0.1,)"]),
        ({**REGULARISED, "lambda_params": (0, 0.1, 0.2)}, ["2 scales", "(0, 0.1, 0.2)"]),
        ({**REGULARISED, "lambda_params": None}, ["`lambda_params`", "2 scales", "None"]),
        ({"lambda_params": (0.0,) * 5}, ["`lambda_params`", "without `has_l1loss`"]),
        ({"arch": "resnet18", "config": None, "has_l1loss": True, "lambda_params": (1,)}, ["`has_l1loss`", "has none"]),
        ({"arch": "resnet18", "config": None, "get_gradients": True}, ["`get_gradients`", "resnet18 has none"]),
        ({"batch_size": 8, "batch_accum": 3}, ["`batch_accum`", "must divide", "8 images", "3 equal parts"]),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(params, texts, images):
    clf = twin(**params)
    with pytest.raises(BadParameter) as error:
        clf.fit(*images)
    refused(error, "TwinClassifier", *texts)
    assert not hasattr(clf, "classes_")


# ---------------------------------------------------------------------- first weights


@pytest.fixture
def stored(fitted):
    """The registry has it as ``first``."""
    fitted.save("first")
    return fitted


def test_first_weights_are_those_of_the_stored_one(stored, images):
    clf = twin(config="Ft40Y", pretrained_model="first", lr=1e-12).train(*images, max_steps=1)
    for key, value in stored.net_.named_parameters():
        torch.testing.assert_close(clf.net_.get_parameter(key), value, rtol=0, atol=1e-8)


def test_a_last_layer_of_other_classes_is_new(stored, images, caplog):
    with caplog.at_level(logging.INFO):
        clf = twin(config="Ft40Y", pretrained_model="first", lr=1e-12).train(images[0], np.arange(16) % 2, max_steps=1)
    assert clf.net_.fc.out_features == 2
    torch.testing.assert_close(clf.net_.conv1.freeconv.weight, stored.net_.conv1.freeconv.weight, rtol=0, atol=1e-8)
    assert '"first" (checkpoint) has 3 classes: the last layer starts from new weights' in caplog.text


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"config": "Ft40YEx"}, "config Ft40Y (stored) instead of Ft40YEx"),
        ({"arch": "resnet18", "config": None}, "arch dtcwpt_resnet18 (stored) instead of resnet18"),
        ({"config": "Ft40Y", "wavelet": "qshift_b"}, "wavelet qshift_a (stored) instead of qshift_b"),
    ],
)
def test_another_network_as_the_first_one_is_refused(stored, params, text, images):
    with pytest.raises(BadParameter) as error:
        twin(**params, pretrained_model="first").fit(*images)
    refused(error, '`pretrained_model` "first"', text)


def test_an_unknown_first_one_is_refused(stored, images):
    clf = twin(config="Ft40Y", pretrained_model="fisrt")
    with pytest.raises(ClassifierNotFound) as error:
        clf.fit(*images)
    refused(error, '"fisrt"', '"first"')
    assert not hasattr(clf, "net_")  # nothing that could predict


def test_the_status_of_the_first_one_counts(stored, images):
    changed = ImageClassifier.load("first")
    with torch.no_grad():
        changed.net_.fc.bias += 1
    changed.save("first", "e1")
    params = {"config": "Ft40Y", "pretrained_model": "first", "lr": 1e-12}
    clf = twin(**params, status_pretrained="e1").train(*images, max_steps=1)
    torch.testing.assert_close(clf.net_.fc.bias, stored.net_.fc.bias + 1, rtol=0, atol=1e-6)


def test_none_and_std_are_one_configuration(images):
    plain = {"arch": "resnet18", "config": None}
    twin(**plain).fit(*images, name="plain")
    std = {**plain, "config": "Std"}
    assert twin(**std, pretrained_model="plain").train(*images, max_steps=1).losses_.shape == (1,)
    assert twin(**std, epochs=2).fit(*images, name="plain").current_epoch_ == 2


def test_another_class_of_classifier_is_refused_as_the_first_one(images):
    sepconc.ScatNetClassifier(**QUICK, scattering_J=2).fit(*images).save("scattered")
    with pytest.raises(BadParameter) as error:
        twin(pretrained_model="scattered").fit(*images)
    refused(error, "arch scatnet (stored) instead of dtcwpt_resnet18")


def test_first_weights_are_not_looked_for_when_a_training_goes_on(stored, images):
    params = {"config": "Ft40Y", "pretrained_model": "first"}
    twin(**params).fit(*images, name="net")
    configured_registry().remove("first", "checkpoint")
    assert twin(**params, epochs=2).fit(*images, name="net").current_epoch_ == 2


# ---------------------------------------------------------------------- half precision


def test_half_precision_predicts_and_cannot_go_on(stored, images):
    stored.save("half", "e1", half=True)
    loaded = ImageClassifier.load("half", "e1")
    assert all(p.dtype == torch.float32 for p in loaded.net_.parameters())
    np.testing.assert_allclose(loaded.predict_proba(images[0]), stored.predict_proba(images[0]), atol=2e-3)
    for key, value in stored.net_.state_dict().items():
        assert torch.equal(loaded.net_.state_dict()[key], value.half().float() if value.is_floating_point() else value)
    tars = [configured_registry().paths(clf.stored_as_)["tar"] for clf in (loaded, ImageClassifier.load("first"))]
    assert tars[0].stat().st_size < 0.3 * tars[1].stat().st_size
    with pytest.raises(NotResumable) as error:
        ImageClassifier.load("half", "e1", train=True)
    refused(error, '"half" (e1)', "half precision", "can't go on training", "pretrained_model")
    stored.save("half", half=True)
    with pytest.raises(NotResumable):
        twin(**REGULARISED, epochs=2).fit(*images, name="half")
    tar = configured_registry().paths(loaded.stored_as_)["tar"]
    with pytest.raises(NotResumable):
        twin(**REGULARISED, epochs=2).train(*images, name="other", resume=Resume(path=tar))
    loaded.save("again")
    with pytest.raises(NotResumable, match="without the state of its training"):
        ImageClassifier.load("again", train=True)
    clf = twin(config="Ft40Y", pretrained_model="half", status_pretrained="e1", lr=1e-12).train(*images, max_steps=1)
    torch.testing.assert_close(clf.net_.fc.weight, loaded.net_.fc.weight, rtol=0, atol=1e-8)


def test_numbers_too_large_for_half_precision_are_refused(images):
    clf = twin().fit(*images)
    with torch.no_grad():
        clf.net_.fc.bias[0] = 1e6
    with pytest.raises(BadInput) as error:
        clf.save("half", half=True)
    refused(error, "fc.bias", "half precision", "half=False")
    assert configured_registry().rows() == []


# ---------------------------------------------------------------------- what is stored


def test_a_stored_twin_comes_back(stored, images):
    loaded = ImageClassifier.load("first")
    assert type(loaded) is TwinClassifier
    assert loaded.get_params() == stored.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(images[0]), stored.predict_proba(images[0]))
    row = loaded.stored_as_
    assert (row.arch, row.epoch) == ("dtcwpt_resnet18", 1)


def test_the_state_of_another_configuration_is_refused(stored, images):
    stored.save("net")
    with pytest.raises(ParameterMismatch) as error:
        twin(**{**REGULARISED, "config": "Ft40", "epochs": 2}).fit(*images, name="net")
    refused(error, '"net"', "config 'Ft40Y' (stored) instead of 'Ft40'")
    state = twin(config="Ft40YEx").fit(*images).net_.state_dict()
    with pytest.raises(CorruptFile) as error:
        sepconc.estimators.persistence.load_weights(stored.net_, state, "the file")
    refused(error, "the file", "conv1.wptblock.featmapmix.2.weight is unknown", "They were not loaded")


def test_every_status_is_written(images):
    X, y = images
    clf = twin(epochs=3, snapshots=2, save_best=True, lr_scheduler="ReduceLROnPlateau")
    clf.fit(X, y, X[:6], y[:6], name="net")
    assert sorted(configured_registry().statuses("net")) == ["best", "checkpoint", "e2", "e3"]
    assert sorted(clf.val_errs_) == [1, 2, 3]


@pytest.mark.slow
def test_repairs_are_stored_and_change_the_network(images):
    X, y = images
    params = {"arch": "dtcwpt_zou_resnet18", "config": "Ft40YBf3Ex_mod"}
    X = np.kron(X, np.ones((2, 2), np.uint8))
    clf = twin(**params, repairs=("pasa-softmax",)).fit(X, y)
    clf.save("net")
    loaded = ImageClassifier.load("net")
    assert loaded.repairs == ("pasa-softmax",)
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    published = twin(**params).build_network((3, 32, 32), 3)
    published.load_state_dict(clf.net_.state_dict())
    x = torch.from_numpy(X).float() / 255
    with torch.no_grad():
        assert not torch.allclose(published.eval()(x), clf.net_.eval()(x), rtol=1e-2)
