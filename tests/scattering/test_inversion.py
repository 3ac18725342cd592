"""Signals from coefficients: the published settings, the two methods, wrong use."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from sepconc.errors import BadInput, BadParameter
from sepconc.scattering import PhaseScattering2D, Scattering1D, Scattering2D, invert, psnr


@pytest.fixture(scope="module")
def photograph():
    """A piece of a colour photograph, (3, 64, 64) in [0, 1]."""
    image = load_sample_image("china.jpg")[150:214, 300:364]
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


def test_relative_loss_falls_twentyfold_at_order_two(photograph):
    scattering = Scattering2D(2, (64, 64))
    target = scattering(photograph)
    result = invert(scattering, target)
    assert len(result.losses) == 101
    assert min(result.losses) <= result.losses[0] / 20
    reached = (scattering(result.signal) - target).abs().mean() / target.abs().mean()
    assert reached.item() == pytest.approx(min(result.losses), rel=1e-5)
    smooth = np.convolve(result.losses, np.full(10, 0.1), mode="valid")
    assert (np.diff(smooth) < 0).all()  # monotone but for the noise of Adam's steps


def test_order_two_is_nearer_than_order_one(photograph):
    found = {}
    for order in (1, 2):
        scattering = Scattering2D(2, (64, 64), max_order=order)
        options = {"steps": 50, "lr": 1.0, "loss": "mse", "start": "uniform", "schedule": "constant"}
        found[order] = psnr(invert(scattering, scattering(photograph), **options).signal.clamp(0, 1), photograph)
    assert found[2] >= found[1] > 15


def test_a_signal_by_the_bold_driver():
    scattering = Scattering1D(5, 512, Q=4)
    time = torch.arange(512) / 512
    target = scattering(torch.sin(2 * torch.pi * 40 * time**2))
    result = invert(scattering, target, steps=100, method="bold-driver", loss="l2")
    assert min(result.losses) < 0.2 * result.losses[0]
    assert result.signal.shape == (512,)


def test_phase_scattering_loses_next_to_nothing(photograph):
    transform = PhaseScattering2D((64, 64))
    result = invert(transform, transform(photograph), steps=100, lr=0.1)
    assert psnr(result.signal, photograph) > 25


def test_batches_arrays_and_callback():
    scattering = Scattering2D(1, (8, 10), L=2)
    coefficients = scattering(torch.rand(2, 3, 8, 10)).numpy()
    seen = []
    result = invert(scattering, coefficients, steps=4, callback=lambda step, loss: seen.append((step, loss)))
    assert isinstance(result.signal, np.ndarray)
    assert result.signal.shape == (2, 3, 8, 10)
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4]
    assert tuple(loss for _, loss in seen) == result.losses


def test_the_seed_decides_the_start():
    scattering = Scattering2D(1, (8, 8), L=2)
    target = scattering(torch.rand(8, 8))
    first, again, other = (invert(scattering, target, steps=3, seed=seed).signal for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    warm = invert(scattering, target, steps=1, start=first, lr=1e-6)
    assert (warm.signal - first).abs().max() < 1e-5


def test_a_zero_signal_is_found():
    scattering = Scattering2D(1, (8, 8), L=2)
    result = invert(scattering, torch.zeros(scattering.output_shape), steps=60, lr=0.05)
    assert result.signal.isfinite().all()
    assert result.losses[-1] < 0.5 * result.losses[0]


def test_psnr():
    x = torch.rand(8, 8)
    assert psnr(x, x) == float("inf")
    assert psnr(x + 0.1, x) == pytest.approx(20.0, abs=1e-3)
    assert psnr(x + 0.1, x, peak=10) == pytest.approx(40.0, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"steps": 0}, "`steps`"),
        ({"lr": 0.0}, "`lr`"),
        ({"lr": float("nan")}, "`lr`"),
        ({"loss": "l3"}, "`loss` must be one of l1, mse, l2"),
        ({"schedule": "step"}, "`schedule` must be one of cosine, constant"),
        ({"method": "sgd"}, "`method` must be one of adam, bold-driver"),
        ({"start": "ones"}, "`start` must be one of normal, uniform"),
        ({"steps": True}, "`steps`"),
        ({"lr": True}, "`lr`"),
        ({"seed": "a"}, "`seed` must be an integer from 0"),
        ({"seed": 2**70}, "`seed`"),
        ({"callback": 3}, "`callback` must be a function"),
        ({"method": list(range(1000))}, "`method` must be .*…"),
    ],
)
def test_wrong_options(options, text):
    scattering = Scattering2D(1, (8, 8), L=2)
    with pytest.raises(BadParameter, match=text):
        invert(scattering, torch.zeros(scattering.output_shape), **options)


def test_wrong_coefficients():
    scattering = Scattering2D(1, (8, 8), L=2)
    with pytest.raises(BadInput, match=r"shape \(\.\.\., 3, 4, 4\); got \(3, 4, 5\)"):
        invert(scattering, torch.zeros(3, 4, 5))
    with pytest.raises(BadInput, match="finite"):
        invert(scattering, torch.full((3, 4, 4), float("nan")))
    with pytest.raises(BadInput, match="`start` must have the shape"):
        invert(scattering, torch.zeros(3, 4, 4), start=torch.zeros(4, 4))
    for kind in (object, np.longdouble, int):
        with pytest.raises(BadInput, match=f"`coefficients` .* array of {np.dtype(kind)}"):
            invert(scattering, np.zeros((3, 4, 4), kind))
    for start in (np.zeros((8, 8), "U3"), np.zeros((8, 8), complex)):
        with pytest.raises(BadInput, match="`start` must be tensors or arrays"):
            invert(scattering, torch.zeros(3, 4, 4), start=start)
    with pytest.raises(BadInput, match="`start` must be a signal of finite"):
        invert(scattering, torch.zeros(3, 4, 4), start=torch.full((8, 8), float("nan")))
    with pytest.raises(BadParameter, match="out_type"):
        invert(Scattering2D(1, (8, 8), L=2, out_type="list"), torch.zeros(3, 4, 4))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((None, torch.zeros(3, 4, 4)), BadParameter, "`transform` must be a transform"),
        ((Scattering2D(1, (8, 8), L=2), [1.0]), BadInput, "`coefficients` must be a tensor or an array; got a list"),
        ((Scattering2D(1, (8, 8), L=2), torch.zeros(0, 3, 4, 4)), BadInput, "one signal at least"),
    ],
)
def test_wrong_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        invert(*arguments)


def test_padded_images_and_arrays_of_any_order():
    scattering = Scattering2D(1, (8, 8), L=2, pre_pad=True)
    coefficients = scattering(torch.rand(12, 12)).numpy()
    result = invert(scattering, coefficients.astype(">f4")[:, ::-1][:, ::-1], steps=np.int64(2))
    assert result.signal.shape == scattering.input_shape


def test_the_exact_signal_stays():
    scattering = Scattering2D(1, (8, 8), L=2)
    x = torch.rand(8, 8)
    result = invert(scattering, scattering(x), loss="l2", start=x, steps=3)
    assert np.isfinite(result.losses).all()
    assert torch.equal(result.signal, x)


def test_inside_inference_mode():
    scattering = Scattering2D(1, (8, 8), L=2)
    with torch.inference_mode():
        result = invert(scattering, scattering(torch.rand(8, 8)), steps=5)
    assert result.losses[-1] < result.losses[0]


def test_arrays_as_a_start():
    scattering = Scattering2D(1, (8, 8), L=2)
    x = np.random.default_rng(0).random((8, 8), np.float32)
    result = invert(scattering, scattering(x), start=x, steps=1)
    np.testing.assert_array_equal(result.signal, x)
    other = invert(scattering, scattering(x), start=x.astype(">f4")[::-1][::-1], steps=1)
    np.testing.assert_array_equal(other.signal, x)
    assert psnr(x[::-1], x.astype(">f8")[::-1]) == float("inf")
    assert psnr(result.signal, x) == float("inf")
    assert psnr(x + 0.5, x) == pytest.approx(20 * np.log10(2), abs=1e-4)


@pytest.mark.gpu
def test_arrays_on_a_gpu():
    scattering = Scattering2D(2, (16, 16))
    target = scattering(np.random.default_rng(0).random((16, 16), np.float32))
    on_cpu = invert(scattering, target, steps=5)
    on_gpu = invert(scattering.cuda(), target, steps=5)
    assert isinstance(on_gpu.signal, np.ndarray)
    np.testing.assert_allclose(on_gpu.losses[0], on_cpu.losses[0], rtol=1e-4)
