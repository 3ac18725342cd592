import numpy as np
import pytest
from PIL import Image

from sepconc.data.decode import open_rgb, random_box, random_view
from sepconc.errors import BadInput


@pytest.fixture
def gradient():
    """An image whose red channel is the column and whose green channel is the row."""
    columns, rows = np.meshgrid(np.arange(120), np.arange(80))
    return Image.fromarray(np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK"])
def test_every_mode_of_eight_bits_becomes_rgb(tmp_path, mode, gradient):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    gradient.convert(mode).save(path)
    assert open_rgb(path).mode == "RGB"
    assert open_rgb(path).size == (120, 80)


def test_transparent_palettes_are_read_without_a_warning(tmp_path):
    image = Image.new("P", (5, 4))
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert open_rgb(tmp_path / "a.png").mode == "RGB"


def test_grey_is_repeated_in_the_three_channels(tmp_path):
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "grey.png")
    pixels = np.array(open_rgb(tmp_path / "grey.png"))
    assert np.array_equal(pixels, np.repeat(np.arange(12).reshape(3, 4, 1), 3, axis=2))


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 3000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(BadInput, match=r"deep\.png .*more than 8 bits"):
        open_rgb(tmp_path / "deep.png")


def test_unreadable_files_are_named(tmp_path, photo_files):
    content = photo_files[0].read_bytes()
    cases = {"cut.JPEG": content[: len(content) // 2], "empty.png": b"", "text.png": b"hello", "missing.png": None}
    for name, data in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInput, match=name) as caught:
            open_rgb(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_random_view_keeps_the_geometry(gradient):
    for seed in range(50):
        view = np.array(random_view(gradient, 32, np.random.default_rng(seed))).astype(int)
        assert np.ptp(view[..., 0], axis=0).max() == 0  # columns stay columns
        assert np.ptp(view[..., 1], axis=1).max() == 0
        assert np.all(np.diff(view[:, 0, 1]) >= 0)  # never upside down
    mirrored = [
        np.array(random_view(gradient, 32, np.random.default_rng(seed)))[0, 0, 0]
        > np.array(random_view(gradient, 32, np.random.default_rng(seed)))[0, -1, 0]
        for seed in range(200)
    ]
    assert 70 < sum(mirrored) < 130


def test_random_boxes():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(120, 80, rng) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() == 0
    assert (boxes[:, 2].max(), boxes[:, 3].max()) == (120, 80)
    area, ratio = width * height / (120 * 80), width / height
    assert 0.07 < area.min() < 0.1
    assert area.max() > 0.85
    assert 0.72 < ratio.min() < 0.78
    assert 1.28 < ratio.max() < 1.38
    assert random_box(1000, 2, np.random.default_rng(0)) == (498, 0, 501, 2)  # nothing fits: central, ratio 4/3
