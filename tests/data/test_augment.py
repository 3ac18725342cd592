import numpy as np
import pytest
import torch
from torch.nn import functional

from sepconc.data import augment as module
from sepconc.data.augment import AUGMENTATIONS, augment, normalise, to_float
from sepconc.errors import BadParameter


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(count=16, channels=3, height=12, width=12, dtype=torch.uint8):
    values = torch.randint(256, (count, channels, height, width), generator=generator(99))
    return values.to(dtype) if dtype == torch.uint8 else values.to(dtype) / 255


@pytest.mark.parametrize("kind", AUGMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5, 3, 12, 12), (4, 1, 9, 14), (3, 2, 1, 1), (0, 3, 8, 8)])
def test_shape_type_and_range_stay(kind, dtype, shape):
    batch = batch_of(*shape, dtype=dtype)
    before = batch.clone()
    found = augment(batch, kind, generator())
    assert found.shape == batch.shape
    assert found.dtype == dtype
    assert torch.equal(batch, before)
    if found.numel() and dtype != torch.uint8:
        assert found.min() >= 0
        assert found.max() <= 1


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_the_generator_decides(kind):
    batch = batch_of(64)
    assert torch.equal(augment(batch, kind, generator(3)), augment(batch, kind, generator(3)))
    assert not torch.equal(augment(batch, kind, generator(3)), augment(batch, kind, generator(4)))


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_every_image_has_a_draw_of_its_own(kind):
    same = batch_of(1).expand(64, -1, -1, -1)
    different = {image.numpy().tobytes() for image in augment(same, kind, generator())}
    assert len(different) == 2 if kind == "flip" else len(different) > 40


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_the_randomness_used_does_not_depend_on_the_data(kind):
    one, other = generator(), generator()
    augment(batch_of(8), kind, one)
    augment(torch.zeros(8, 1, 30, 20), kind, other)
    assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize("kind", [None, *AUGMENTATIONS])
def test_the_global_generator_is_left_alone(kind):
    before = torch.random.get_rng_state()
    augment(batch_of(8), kind, generator())
    assert torch.equal(before, torch.random.get_rng_state())


def test_none_is_the_batch_itself():
    batch, random = batch_of(), generator()
    state = random.get_state()
    assert augment(batch, None, random) is batch
    assert torch.equal(state, random.get_state())


def test_flip_mirrors_about_half():
    batch = batch_of(400)
    found = augment(batch, "flip", generator())
    mirrored = (found == batch.flip(-1)).flatten(1).all(1)
    same = (found == batch).flatten(1).all(1)
    assert bool((mirrored | same).all())
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_pad_crop_flip_is_one_of_the_crops_of_the_padded_image(dtype):
    batch = batch_of(60, height=9, width=11, dtype=dtype)
    found = augment(batch, "pad-crop-flip", generator()).numpy()
    seen = set()
    for image, view in zip(batch.numpy(), found, strict=True):
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        for top, left, step in np.ndindex(9, 9, 2):
            window = padded[:, top : top + 9, left : left + 11][:, :, :: 1 - 2 * step]
            if np.array_equal(window, view):
                seen.add((top, left, step))
                break
        else:
            pytest.fail("a view is no crop of its padded image")
    tops, lefts, flips = (set(values) for values in zip(*seen, strict=True))
    assert tops == lefts == set(range(9))
    assert flips == {0, 1}


def test_pad_crop_flip_against_a_loop():
    batch = batch_of(20)
    found = augment(batch, "pad-crop-flip", generator(5))
    random = generator(5)
    offsets = torch.randint(9, (2, 20, 1), generator=random)[..., 0].tolist()
    coins = torch.randint(2, (20,), generator=random).tolist()
    for image, view, top, left, coin in zip(batch, found, *offsets, coins, strict=True):
        window = functional.pad(image, (4, 4, 4, 4))[:, top : top + 12, left : left + 12]
        assert torch.equal(view, window.flip(-1) if coin else window)


def naive_crops(batch, seed):
    """Cut, resize and mirror the images one by one, with the boxes that the batched code draws."""
    random = generator(seed)
    height, width = batch.shape[-2:]
    boxes = module._random_boxes(len(batch), height, width, random).long().tolist()
    coins = torch.randint(2, (len(batch),), generator=random).tolist()
    for image, (top, left, h, w), coin in zip(batch, boxes, coins, strict=True):
        crop = image[None, :, top : top + h, left : left + w]
        view = functional.interpolate(crop, (height, width), mode="bilinear", align_corners=False)[0]
        yield view.flip(-1) if coin else view


@pytest.mark.parametrize("shape", [(32, 3, 24, 24), (32, 1, 17, 40), (32, 1, 40, 17)])
def test_resized_crop_is_the_resized_crop(shape):
    batch = batch_of(*shape, dtype=torch.float64)
    expected = torch.stack(list(naive_crops(batch, 7)))
    found = augment(batch, "resized-crop-flip", generator(7))
    assert (found - expected).abs().max() < 1e-12
    single = augment(batch.float(), "resized-crop-flip", generator(7))
    assert (single - expected).abs().max() < 1e-4
    whole = augment((batch * 255).to(torch.uint8), "resized-crop-flip", generator(7))
    assert (whole.double() / 255 - expected).abs().max() <= 1.6 / 255  # the input is rounded down, the result rounded


def test_resized_crop_of_a_gradient_keeps_the_geometry():
    side = 64
    columns = torch.arange(side, dtype=torch.float64).expand(side, side)
    batch = torch.stack([columns, columns.T]).expand(300, 2, side, side)
    found = augment(batch, "resized-crop-flip", generator(1))
    across, down = found[:, 0], found[:, 1]
    assert (across - across[:, :1]).abs().max() < 1e-9  # rows stay rows
    assert (down - down[:, :, :1]).abs().max() < 1e-9
    width = across[:, 0].amax(1) - across[:, 0].amin(1) + 1
    height = down[:, :, 0].amax(1) - down[:, :, 0].amin(1) + 1
    area, ratio = width * height / side**2, width / height
    assert 0.07 < area.min() < 0.15
    assert 0.9 < area.max() <= 1
    assert 0.72 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.4
    assert abs(area.mean() - 0.51) < 0.05  # large crops that don't fit are drawn again
    assert across.amin() == 0
    assert across.amax() == side - 1


def test_a_box_that_never_fits_is_the_central_one():
    boxes = module._random_boxes(200, 4, 400, generator())
    assert {tuple(box) for box in boxes.long().tolist()} >= {(0, 197, 4, 5)}
    assert bool((boxes[:, 2:] >= 1).all())
    assert bool((boxes[:, :2] + boxes[:, 2:] <= torch.tensor([4, 400])).all())


def test_an_unknown_kind_says_the_known_ones():
    with pytest.raises(BadParameter, match="flip, pad-crop-flip, resized-crop-flip; got 'rotate'"):
        augment(batch_of(), "rotate", generator())


def test_to_float():
    batch = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert torch.equal(to_float(batch), torch.tensor([0, 51, 255], dtype=torch.float32) / 255)
    assert to_float(batch, torch.float64).dtype == torch.float64
    double = torch.rand(3, dtype=torch.float64)
    assert to_float(double) is double


def test_normalise():
    batch = batch_of(2, dtype=torch.float64)
    found = normalise(batch, (0.1, 0.2, 0.3), (0.5, 1, 2))
    for k, (mean, std) in enumerate([(0.1, 0.5), (0.2, 1), (0.3, 2)]):
        assert torch.allclose(found[:, k], (batch[:, k] - mean) / std, rtol=0, atol=1e-15)
    assert torch.equal(normalise(batch, 0.5, 0.5), (batch - 0.5) / 0.5)
    with pytest.raises(BadParameter, match="1 or 3 values"):
        normalise(batch, (0.1, 0.2), 1.0)
    with pytest.raises(BadParameter, match="positive"):
        normalise(batch, 0.0, (1.0, 0.0, 1.0))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_a_gpu_makes_the_same_views(kind):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    batch = batch_of(32)
    found = augment(batch.cuda(), kind, generator(2))
    assert found.is_cuda
    assert (found.cpu().int() - augment(batch, kind, generator(2)).int()).abs().max() <= 1
