import numpy as np
import pytest
import torch
from PIL import Image

from sepconc.data import views
from sepconc.data.augment import normalise, to_float
from sepconc.data.datasets import IMAGENET_MEAN, IMAGENET_STD
from sepconc.errors import BadInput, BadParameter


@pytest.fixture(scope="module")
def pieces(golden):
    with np.load(golden / "wcnn_pieces.npz") as archive:
        return {key: archive[key] for key in archive.files if key.startswith("tf_") or key == "image"}


@pytest.fixture(params=["tensor", "pil", "array"])
def image(request, pieces):
    """The golden image as a batch of one, in each of the forms that views take."""
    forms = {
        "tensor": lambda x: torch.from_numpy(x).permute(2, 0, 1)[None],
        "pil": lambda x: [Image.fromarray(x)],
        "array": lambda x: [x],
    }
    return forms[request.param](pieces["image"])


def random_batch(*shape, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8).to(dtype)


def normalised(batch):
    return normalise(to_float(batch), IMAGENET_MEAN, IMAGENET_STD)


def test_onecrop_agrees(image, pieces):
    found = normalised(views.onecrop(image, 32))[0].numpy()
    assert np.abs(found - pieces["tf_onecrop"]).max() <= 1e-6


def test_tencrops_agree(image, pieces):
    found = normalised(views.ten_crops(image, 32))[0].numpy()
    assert np.abs(found - pieces["tf_tencrops"]).max() <= 1e-6


@pytest.mark.parametrize("divide", [1, 2])
@pytest.mark.parametrize("direction", views.DIRECTIONS)
def test_shifts_agree(image, pieces, direction, divide):
    patches = views.ShiftViews(image, 32, 2, divide, direction)
    expected = pieces[f"tf_shifts_{'None' if direction == 'all' else direction}_p{divide}"]
    assert len(patches) == len(expected)
    found = to_float(torch.cat(list(patches))).numpy()[:, :, ::2, ::2]
    assert np.array_equal(found, expected)  # no tolerance


def test_against_torchvision():
    transforms = pytest.importorskip("torchvision.transforms")
    rng = np.random.default_rng(1)
    for height, width in ((37, 61), (61, 37), (32, 32), (33, 32), (20, 90)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for size, resize in ((32, 36), (32, 32), (21, 24)):
            theirs = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(size)])(image)
            assert np.array_equal(np.array(theirs), views.onecrop([image], size, resize)[0].permute(1, 2, 0).numpy())
        theirs = transforms.FiveCrop(32)(transforms.Resize(36)(image))
        ours = views.five_crops([image], 32)[0].permute(0, 2, 3, 1).numpy()
        assert np.array_equal(np.stack([np.array(crop) for crop in theirs]), ours)


def test_ten_crops_are_the_five_each_with_its_mirror():
    batch = random_batch(3, 1, 30, 30)
    five, ten = views.five_crops(batch, 28), views.ten_crops(batch, 28)
    assert ten.shape == (3, 10, 1, 28, 28)
    assert torch.equal(ten[:, ::2], five)
    assert torch.equal(ten[:, 1::2], five.flip(-1))


def test_crops_in_order():
    batch = torch.arange(64).reshape(1, 1, 8, 8).to(torch.uint8)  # 8 = 8·7 // 7: nothing is resized
    crops = views.five_crops(batch, 7)[0, :, 0]
    assert [int(crop[0, 0]) for crop in crops] == [0, 1, 8, 9, 0]  # the centre's offset 0.5 is rounded to even


def test_colour_and_bands_agree():
    batch = random_batch(2, 3, 20, 31)
    together = views.resize_short(batch, 13)
    apart = torch.cat([views.resize_short(batch[:, k : k + 1], 13) for k in range(3)], dim=1)
    four = views.resize_short(torch.cat([batch, batch[:, :1]], dim=1), 13)
    assert together.shape == (2, 3, 13, int(13 * 31 / 20))
    assert torch.equal(together, apart)
    assert torch.equal(four[:, :3], together)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_are_not_rounded(dtype):
    whole = views.onecrop(random_batch(2, 3, 20, 31), 24, 28)
    found = views.onecrop(random_batch(2, 3, 20, 31, dtype=dtype), 24, 28)
    assert found.dtype == dtype
    assert (found - whole.to(dtype)).abs().max() <= 1.01  # PIL rounds after each of its two passes
    assert (found - found.round()).abs().max() > 0.1


def test_no_resize_no_copy(monkeypatch):
    batch = random_batch(2, 3, 32, 32)
    monkeypatch.setattr(views, "_planes", None)  # would be called by a resize
    assert torch.equal(views.onecrop(batch, 32), batch)
    assert views.resize_short(batch, 32) is batch


def test_images_of_differing_sizes():
    images = [Image.new("L", (40, 30), 7), np.full((50, 35), 9, dtype=np.uint8)]
    found = views.ten_crops(images, 28)
    assert found.shape == (2, 10, 1, 28, 28)
    assert [found[k].unique().tolist() for k in range(2)] == [[7], [9]]
    assert views.ShiftViews(images, 16, 2)[2].shape == (2, 1, 16, 16)


def test_the_content_moves_left_and_up():
    batch = random_batch(1, 1, 12, 12)
    for direction, (down, right) in {"horizontal": (0, 1), "vertical": (1, 0), "diagonal": (1, 1)}.items():
        patches = views.ShiftViews(batch, 8, 4, direction=direction)
        assert len(patches) == 5
        assert torch.equal(patches[3], batch[..., 3 * down : 3 * down + 8, 3 * right : 3 * right + 8])
    every = views.ShiftViews(batch, 8, 4, direction="all")
    assert every.offsets[:7] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]
    assert torch.equal(every[24], batch[..., 4:, 4:])


def test_shift_patches_are_made_one_by_one(monkeypatch):
    made = []
    resize = views.resize_to
    monkeypatch.setattr(views, "resize_to", lambda *a: made.append(a[0].shape[-1]) or resize(*a))
    patches = views.ShiftViews(random_batch(2, 3, 32, 32), 24, 8, 2, "all")
    assert made == [32]  # the source
    assert len(patches) == 17**2
    assert patches[100].shape == (2, 3, 24, 24)
    assert made == [32, 48]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda x: views.ShiftViews(x, 8, 2, direction="sideways"),
            BadParameter,
            "horizontal, vertical, diagonal, all",
        ),
        (lambda x: views.ShiftViews(x, 8, -1), BadParameter, "max_shift must be .* at least 0; got -1"),
        (lambda x: views.ShiftViews(x, 8, 2, 0), BadParameter, "pixel_divide must be .* at least 1; got 0"),
        (lambda x: views.center_crop(x, 13), BadParameter, "13 pixels must fit in the image; got 12×12"),
        (lambda x: views.onecrop(x[0], 8), BadInput, r"\(B, C, H, W\)"),
        (lambda x: views.onecrop(["a.png"], 8), BadInput, "got str"),
        (lambda x: views.onecrop([x[0], x[0, :2]], 8), BadInput, "channel count"),
        (lambda x: views.onecrop(x.long(), 8), BadInput, "uint8 or floating; got torch.int64"),
    ],
)
def test_wrong_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call(random_batch(2, 3, 12, 12))
