"""Every parameter of every architecture, and what the parameters do to the images."""

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone

import sepconc
from sepconc.data import views
from sepconc.data.datasets import dataset_info
from sepconc.data.images import ArrayImages
from sepconc.errors import (
    BadParameter,
    DeviceUnavailable,
    EngineUnavailable,
    SepConcError,
    UnknownArchitecture,
)
from sepconc.estimators.devices import check_device, find_device
from sepconc.params.archs import ARCHS, find_arch, resolve
from sepconc.params.field import param_infos

OTHER = {  # a legal value that isn't the default, for every field; they all go together
    "epochs": 3,
    "batch_size": 64,
    "batch_accum": 2,
    "lr": 0.02,
    "momentum": 0.5,
    "weight_decay": 1e-3,
    "lr_scheduler": "StepLR2",
    "start_epoch": 1,
    "normalize": ((0.3,), (0.4,)),
    "augmentation": "flip",
    "eval_resize": 9,
    "image_shape": (8, 8),
    "random_state": 3,
    "device": "cpu",
    "backend": "reference",
    "workers": 1,
    "print_freq": 7,
    "snapshots": 2,
    "save_best": True,
    "cache_features": False,
    "predict_dtype": "float32",
    "log_dir": "runs of the test",
    "warm_start": True,
    "n_blocks": 2,
    "pars_beta": 1e-3,
    "classifier_type": "mlp",
    "avg_ker_size": 2,
    "nb_hidden_units": 10,
    "dropout_p_mlp": 0.1,
    "nb_l_mlp": 1,
    "scat_angles": 4,
    "P_proj_size": 6,
    "P_kernel_size": 3,
    "frame_width": 12,
    "frame_kernel_size": 2,
    "frame_stride": 2,
    "non_linearity": "absolute",
    "zero_bias": True,
    "scattering_J": 2,
    "arch": "dtcwpt_resnet18",
    "config": "Ft40YBf3Ex_abl1ada",
    "wavelet": "qshift_b",
    "padding_mode": "symmetric",
    "trainable_qmf": True,
    "repairs": ("pasa-softmax",),
    "has_l1loss": True,
    "lambda_params": (0.1, 0, 1e-3, 2, 0.5),
    "get_gradients": True,
    "pretrained_model": "first",
    "status_pretrained": "e2",
}
PER_BLOCK = {  # the same, one value per block, in the forms that sequences come in
    "scat_angles": (4, 3),
    "P_proj_size": [5, 6],
    "P_kernel_size": (1, 3),
    "frame_width": (12, 10),
    "frame_kernel_size": (2, 1),
    "frame_stride": (1, 1),
}
WRONG = {
    "epochs": [0, -1, 1.5, "3", True, None, np.nan],
    "batch_size": [1, 0, 2.0],
    "batch_accum": [0, "2"],
    "lr": [0, -0.1, np.nan, "fast", None, True],
    "momentum": [-0.1, np.nan, "heavy"],
    "weight_decay": [-1e-9, None],
    "lr_scheduler": ["StepLR0", "StepLR", "cosine", 5],
    "start_epoch": [-1, 0.5],
    "normalize": [3, (1, 2, 3), True],
    "augmentation": [3, True],
    "eval_resize": [0, -3, "big", 1.5, True],
    "image_shape": [(0, 8), 8, (8,), "88", (8.0, 8.0)],
    "random_state": [-1, "seed", 1.5],
    "device": [3, None],
    "backend": [None, 1],
    "workers": [-1, 0.5],
    "print_freq": [0],
    "snapshots": [0, None],
    "save_best": ["yes", 1, None],
    "cache_features": [1],
    "predict_dtype": ["float16", None, np.float32],
    "log_dir": [3],
    "warm_start": [None, 0],
    "n_blocks": [0, 2.0],
    "pars_beta": [-1e-9, None],
    "classifier_type": ["svm", None],
    "avg_ker_size": [0],
    "nb_hidden_units": [0],
    "dropout_p_mlp": [-0.1, 1.1, np.nan],
    "nb_l_mlp": [0],
    "scat_angles": [0, (4, 0), (), "8", None, (4, 2.5)],
    "P_proj_size": [0, (6, -1), [], 2.5],
    "P_kernel_size": [0, (1, 0)],
    "frame_width": [0, (12, 0), None],
    "frame_kernel_size": [0],
    "frame_stride": [0, (1, 0)],
    "non_linearity": ["tanh", None],
    "zero_bias": [1, None],
    "scattering_J": [0, 2.0, None],
    "arch": ["resnet19", "scatnet", None],
    "config": [3],
    "wavelet": ["db3", "qshift_b_bp", "near_sym_a", None],
    "padding_mode": ["same", None],
    "trainable_qmf": [1, None],
    "repairs": ["alignment", ("alignment", "star"), None],
    "has_l1loss": ["yes", None],
    "lambda_params": [(), (-1.0,), (True,), ("1",), 0.1, "0.1", (float("inf"),)],
    "get_gradients": [0],
    "pretrained_model": [3],
    "status_pretrained": [None, 3],
}


def fields(arch):
    return param_infos(resolve(find_arch(arch).params))


OF_EACH_CLASS = ("analysis", "scatnet", "scatnetblock", "scatnetblockanalysis", "resnet18")
ALL = [(arch, field) for arch in OF_EACH_CLASS for field in fields(arch)]


def make(arch, /, **params):
    """A classifier of the class of ``arch``, whose name can be among ``params``."""
    row = find_arch(arch)
    return resolve(row.estimator)(**{**row.preset, **params})


def other_params(arch, per_block=False):
    chosen = {**OTHER, **(PER_BLOCK if per_block and arch in ("scatnetblock", "scatnetblockanalysis") else {})}
    return {field: chosen[field] for field in fields(arch)}


@pytest.fixture(scope="module", params=OF_EACH_CLASS)
def arch(request):
    return request.param


def stored_and_loaded(arch, rows, monkeypatch, folder, per_block=False):
    monkeypatch.chdir(folder)
    if "pretrained_model" in fields(arch):
        first = {**other_params(arch), "pretrained_model": None, "epochs": 2}
        make(arch, **first).fit(*rows).save("first", "e2")
    clf = make(arch, **other_params(arch, per_block)).fit(*rows)
    clf.save("every-field")
    return clf, sepconc.ImageClassifier.load("every-field")


# ---------------------------------------------------------------------- one definition


def test_these_tables_are_complete():
    assert {ARCHS[arch].estimator for arch in OF_EACH_CLASS} == {row.estimator for row in ARCHS.values()}
    assert {field for _, field in ALL} == set(OTHER) == set(WRONG)


@pytest.mark.parametrize(("arch", "field"), ALL)
def test_the_estimator_has_the_fields_default(arch, field):
    default, _ = fields(arch)[field]
    assert sepconc.make_classifier(arch).get_params()[field] == default
    assert resolve(find_arch(arch).estimator)().get_params()[field] == default
    assert OTHER[field] != default or field in ("scattering_J",)


@pytest.mark.parametrize(("arch", "field"), ALL)
def test_a_value_is_stored_unchanged(arch, field):
    value = PER_BLOCK.get(field, OTHER[field])
    clf = make(arch, **{field: value})
    assert getattr(clf, field) is value
    assert clf.get_params()[field] is value
    assert sepconc.make_classifier(arch).set_params(**{field: value}).get_params()[field] is value
    assert clone(clf).get_params()[field] == value


@pytest.mark.parametrize(
    ("arch", "per_block"),
    [
        *((arch, per_block) for arch in OF_EACH_CLASS[:-1] for per_block in (False, True)),
        pytest.param("resnet18", False, marks=pytest.mark.slow),
    ],
)
def test_every_field_survives_fit_save_and_load(arch, per_block, rows, monkeypatch, tmp_path):
    clf, loaded = stored_and_loaded(arch, rows, monkeypatch, tmp_path, per_block)
    for field, value in other_params(arch, per_block).items():
        assert getattr(clf, field) is value, field
        expected = tuple(value) if isinstance(value, list) else value
        assert getattr(loaded, field) == expected, field
        assert type(getattr(loaded, field)) is type(expected), field
    np.testing.assert_array_equal(loaded.predict_proba(rows[0]), clf.predict_proba(rows[0]))


def test_arrays_per_block_survive_as_tuples(small, rows):
    clf = small("scatnetblock", P_proj_size=np.array([5, 6]), lr=np.float64(0.02), epochs=np.int64(1)).fit(*rows)
    clf.save("arrays")
    loaded = sepconc.ImageClassifier.load("arrays")
    assert (loaded.P_proj_size, loaded.lr, loaded.epochs) == ((5, 6), 0.02, 1)


@pytest.mark.parametrize(("arch", "field"), ALL)
def test_wrong_values_are_refused_in_fit(arch, field, rows):
    for value in WRONG[field]:
        clf = make(arch, **{field: value})
        with pytest.raises(BadParameter, match=rf"^`{field}` of {type(clf).__name__} must .*got .*\.$") as error:
            clf.fit(*rows)
        shown = tuple(value) if isinstance(value, list) and value else value
        assert repr(shown) in str(error.value)
        assert "\n" not in str(error.value)
        assert not hasattr(clf, "classes_")
        with pytest.raises(BadParameter, match=f"`{field}`"):
            clf.partial_fit(*rows)


def test_the_wrong_block_is_named(rows):
    clf = sepconc.ScatNetBlockAnalysisClassifier(frame_width=(1024, 0, 4096, 8192))
    message = (
        r"^`frame_width` of ScatNetBlockAnalysisClassifier must be at least 1 in every block; "
        r"got \(1024, 0, 4096, 8192\) at block 2\.$"
    )
    with pytest.raises(BadParameter, match=message):
        clf.fit(*rows)


@pytest.mark.parametrize("field", PER_BLOCK)
def test_a_list_of_the_wrong_length(small, rows, field):
    clf = small("scatnetblockanalysis", **{field: (1, 1, 1)})
    with pytest.raises(BadParameter, match=rf"`{field}` has 3 values for 2 blocks: \(1, 1, 1\)"):
        clf.fit(*rows)


@pytest.mark.parametrize("name", ["scatering_J", "frame_width", "learning_rate", "J"])
def test_unknown_parameters(name):
    with pytest.raises(BadParameter, match=f"has no parameter `{name}`") as error:
        sepconc.make_classifier("scatnet", **{name: 1})
    if name == "scatering_J":
        assert "scattering_J" in str(error.value)
    with pytest.raises(TypeError, match=name):
        sepconc.ScatNetClassifier(**{name: 1})


@pytest.mark.parametrize(("name", "close"), [("scatnett", "scatnet"), ("ScatNet", "scatnet"), ("vgg", "analysis")])
def test_unknown_architectures(name, close):
    for make in (sepconc.make_classifier, sepconc.list_configs):
        with pytest.raises(UnknownArchitecture, match=rf'No architecture "{name}".*{close}'):
            make(name)
    with pytest.raises(UnknownArchitecture, match=name):
        sepconc.build_network(name, num_classes=2, image_shape=(1, 8, 8))


def test_the_network_alone(arch):
    import torch

    params = {name: value for name, value in other_params(arch).items() if name != "image_shape"}
    name = params.pop("arch", arch)
    nets = [sepconc.build_network(name, num_classes=7, image_shape=(3, 8, 8), **params) for _ in range(2)]
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one, other = (net.eval()(x) for net in nets)
    assert one.shape == (2, 7)
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    with pytest.raises(BadParameter, match="`epochs`"):
        sepconc.build_network(arch, num_classes=2, image_shape=(1, 8, 8), epochs=0)


# ---------------------------------------------------------------------- projections


@pytest.mark.parametrize(("arch", "J", "channels"), [("scatnet", 1, 9), ("scatnet", 2, 81), ("scatnet", 3, 217)])
def test_projection_takes_all_channels_up_to_256(small, images, arch, J, channels):
    clf = small(arch, scattering_J=J, scat_angles=8, P_proj_size=None, epochs=1).fit(*images)
    assert dict(clf.net_.operators())["0.projection"].shape[:2] == (channels, channels)


def test_projection_is_256_at_most(small, colours):
    clf = small("scatnet", scattering_J=2, scat_angles=16, P_proj_size=None, epochs=1).fit(*colours)
    assert dict(clf.net_.operators())["0.projection"].shape[:2] == (256, 3 * (1 + 2 * 16 + 16 * 16))


def test_an_explicit_projection_wider_than_its_input(small, images):
    with pytest.raises(BadParameter, match=r"`P_proj_size` must be at most.*got 26 for 25 channels at block 1"):
        small("scatnet", P_proj_size=26).fit(*images)
    small("scatnet", P_proj_size=25, epochs=1).fit(*images)
    with pytest.raises(BadParameter, match="at block 2"):
        small("scatnetblock", P_proj_size=(6, 1000)).fit(*images)


# ---------------------------------------------------------------------- devices and engines


@pytest.mark.parametrize("device", ["gpu", "tpu:0", "meta", "", "cuda:x"])
def test_a_device_that_is_none(small, rows, device):
    with pytest.raises(BadParameter, match=r'`device` must be "auto", "cpu", "cuda" or "cuda:<number>"'):
        small("scatnet", device=device).fit(*rows)


def test_cuda_is_the_current_device_of_this_thread(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    names = {"auto": "cuda:1", "cuda": "cuda:1", "cuda:0": "cuda:0", "cpu": "cpu"}
    assert {name: str(find_device(name)) for name in names} == names
    monkeypatch.setattr("torch.cuda.current_device", lambda: pytest.fail("CUDA was initialised"))
    assert [str(check_device(name)) for name in names] == ["cuda", "cuda", "cuda:0", "cpu"]


def test_a_driver_that_fails(monkeypatch):
    def fail():
        message = "CUDA driver initialization failed"
        raise RuntimeError(message)

    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.current_device", fail)
    with pytest.raises(DeviceUnavailable, match=r'"cuda" can.t be used \(CUDA driver initialization failed\)'):
        find_device("cuda")


@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_no_cuda_where_it_was_asked(small, rows, device, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(DeviceUnavailable, match=rf'"{device}" was asked for.*no CUDA device.*device="cpu"'):
        small("scatnet", device=device).fit(*rows)


def test_an_engine_that_is_none(small, rows):
    with pytest.raises(BadParameter, match=r"engine .* must be.*got 'referense'.*reference"):
        small("scatnet", backend="referense").fit(*rows)


@pytest.mark.parametrize(
    ("arch", "backend"), [("scatnet", "skcuda"), ("scatnet", "triton"), ("scatnetblock", "kymatio")]
)
def test_an_engine_that_is_not_there(small, rows, arch, backend):
    """CUDA's engines run on a GPU only, Kymatio's has no phase scattering."""
    with pytest.raises(EngineUnavailable, match=backend):
        small(arch, backend=backend, device="cpu").fit(*rows)


def test_the_engines_agree(small, rows):
    one, other = (small("scatnet", backend=backend).fit(*rows) for backend in ("reference", "kymatio"))
    np.testing.assert_allclose(one.losses_, other.losses_, rtol=1e-3)


# ---------------------------------------------------------------------- normalisation


@pytest.mark.parametrize(
    ("normalize", "mean", "std"),
    [
        ("mnist", (0.1307,), (0.3081,)),
        ("MNIST", (0.1307,), (0.3081,)),
        ((0.5, 0.25), (0.5,), (0.25,)),
        ([[0.5], [0.25]], (0.5,), (0.25,)),
        (None, (), ()),
        ("none", (), ()),
        ("auto", (), ()),
    ],
)
def test_normalisation_of_grey_images(small, images, normalize, mean, std):
    clf = small("scatnet", epochs=1, normalize=normalize).fit(*images)
    assert clf.normalization_.mean == pytest.approx(mean)
    assert clf.normalization_.std == pytest.approx(std)


@pytest.mark.parametrize("normalize", ["cifar10", ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), (0.5, 0.25)])
def test_normalisation_of_colours(small, colours, normalize):
    clf = small("scatnet", normalize=normalize).fit(*colours)
    mean, std = clf.normalization_.mean, clf.normalization_.std
    X = (colours[0] / 255 - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    by_hand = small("scatnet", normalize=None).fit(X, colours[1])
    np.testing.assert_allclose(clf.losses_, by_hand.losses_, rtol=1e-4)
    np.testing.assert_allclose(clf.predict_proba(colours[0]), by_hand.predict_proba(X), atol=1e-5)


def test_measured_normalisation(small, colours):
    X, y = colours
    clf = small("scatnet", epochs=1, normalize="fit").fit(X, y)
    np.testing.assert_allclose(clf.normalization_.mean, (X / 255).mean(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(clf.normalization_.std, (X / 255).std(axis=(0, 2, 3)), rtol=1e-9)


def test_measured_normalisation_of_a_constant_channel(small, colours):
    X = colours[0].copy()
    X[:, 1] = 200
    clf = small("scatnet", epochs=1, normalize="fit").fit(X, colours[1])
    assert clf.normalization_.std[1] == 1
    assert np.isfinite(clf.losses_).all()


def test_normalisation_survives_save_and_load(small, colours):
    clf = small("scatnet", epochs=1, normalize="fit").fit(*colours)
    clf.save("normalised")
    assert sepconc.ImageClassifier.load("normalised").normalization_ == clf.normalization_


@pytest.mark.parametrize("normalize", [((0.1, 0.2), (0.3, 0.4)), (0.5, 0), (0.5, -1), ((0.1,) * 3, (0.2,))])
def test_normalisation_that_does_not_fit_the_channels(small, colours, normalize):
    with pytest.raises(BadParameter, match=r"`normalize` of ScatNetClassifier must be .* 3 channels; got"):
        small("scatnet", normalize=normalize).fit(*colours)


def test_normalisation_of_another_number_of_channels_by_name(small, images):
    with pytest.raises(BadParameter, match=r"`normalize`.*channel"):
        small("scatnet", normalize="cifar10").fit(*images)


def test_normalisation_by_an_unknown_name(small, images):
    with pytest.raises(BadParameter, match=r"`normalize` must be .*mnits.*mnist"):
        small("scatnet", normalize="mnits").fit(*images)


def test_normalisation_pairs_that_are_no_numbers(small, images):
    for normalize in (("a", "b"), ((0.1, None), (1, 2))):
        with pytest.raises(SepConcError, match="`normalize`"):
            small("scatnet", normalize=normalize).fit(*images)


# ---------------------------------------------------------------------- augmentation and views


def of_cifar(colours):
    X, y = colours
    return ArrayImages(X, y, info=dataset_info("cifar10"))


def test_auto_follows_the_data_set(small, colours, images):
    clf = small("scatnet", epochs=1).fit(of_cifar(colours))
    assert clf.augmentation_ == "pad-crop-flip"
    assert clf.normalization_.mean == tuple(dataset_info("cifar10").mean)
    plain = small("scatnet", epochs=1).fit(*images)
    assert (plain.augmentation_, plain.eval_resize_) == (None, None)


@pytest.mark.parametrize("augmentation", ["flip", "pad-crop-flip", "resized-crop-flip"])
def test_augmentation_is_random_in_training_and_absent_in_prediction(small, colours, augmentation):
    X, y = colours
    one, again, other = (small("scatnet", augmentation=a).fit(X, y) for a in (augmentation, augmentation, None))
    assert one.augmentation_ == augmentation
    np.testing.assert_array_equal(one.losses_, again.losses_)
    assert np.abs(one.losses_ - other.losses_).max() > 1e-4
    np.testing.assert_array_equal(one.predict_proba(X), one.predict_proba(X))


def test_no_augmentation_overrides_the_data_sets(small, colours):
    for augmentation in (None, "none"):
        clf = small("scatnet", epochs=1, augmentation=augmentation).fit(of_cifar(colours))
        assert clf.augmentation_ is None


def test_an_unknown_augmentation(small, colours):
    with pytest.raises(BadParameter, match=r"`augmentation` of ScatNetClassifier must be one of .*'flip'.*got 'spin'"):
        small("scatnet", augmentation="spin").fit(*colours)


@pytest.fixture
def folder(tmp_path, colours):
    """Eight photographs of different sizes in two classes."""
    rng = np.random.default_rng(0)
    for k in range(8):
        path = tmp_path / "train" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20 + k, 25 - k, 3), dtype=np.uint8)
        pixels[: 10 + k % 2 * 10] //= 4
        Image.fromarray(pixels).save(path)
    return sepconc.load_dataset(f"folder:{tmp_path}", "train", validation=False, size=8)


@pytest.mark.parametrize(("eval_resize", "side"), [(None, 8), ("none", 8), (10, 10), (16, 16)])
def test_eval_resize_is_applied_by_predict(small, folder, eval_resize, side):
    clf = small("scatnet", epochs=1, batch_size=8, workers=0, eval_resize=eval_resize, P_proj_size=6).fit(folder)
    sources = [folder.raw(i) for i in range(len(folder))]
    by_hand = views.onecrop(sources, 8, side).numpy()
    assert clf.eval_resize_ == (None if side == 8 else side)
    np.testing.assert_allclose(clf.predict_proba(folder), clf.predict_proba(by_hand), atol=1e-12)
    assert clf.score(folder) == clf.evaluate(folder, metrics="top1")["top1"]


def test_photographs_are_trained_on_random_views(small, folder):
    one, again, fixed = (
        small("scatnet", batch_size=8, workers=0, augmentation=augmentation).fit(folder)
        for augmentation in ("auto", "auto", None)
    )
    assert one.augmentation_ == "resized-crop-flip"
    np.testing.assert_array_equal(one.losses_, again.losses_)
    assert np.abs(one.losses_ - fixed.losses_).max() > 1e-4
