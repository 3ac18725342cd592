"""The picture of a first layer's kernels: what stands where, what is drawn, and its bytes."""

import io
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from sepconc import kernel_plots
from sepconc.errors import BadParameter, MissingPackage
from sepconc.kernel_plots import FORMATS, arrange, draw, fewer, heading, kernel_figure, kernel_image
from sepconc.nets.first_kernels import KernelGroup, kernel_groups, spectra
from sepconc.nets.twins import build_twin

matplotlib = pytest.importorskip("matplotlib", reason="pictures need matplotlib")
Image = pytest.importorskip("PIL.Image")


def group(count, side=5, *, is_complex=False, name="free convolution", seed=0):
    rng = np.random.default_rng(seed)
    kernels = rng.normal(size=(count, 3, side, side))
    if is_complex:
        kernels = kernels + 1j * rng.normal(size=kernels.shape)
    return KernelGroup(name, kernels, list(range(0, 2 * count, 2) if is_complex else range(count)))


def figure_of(groups, *, title="net", subtitle="", with_spectra=True):
    totals = [len(each.kernels) for each in groups]
    return kernel_figure(groups, totals, title=title, subtitle=subtitle, with_spectra=with_spectra)


def wave(omega_x, omega_y, side=16):
    """A complex Gabor kernel (3, side, side)."""
    t = np.arange(side) - side // 2
    x, y = t[None, :], t[:, None]
    return np.stack(3 * [np.exp(-(x**2 + y**2) / 18) * np.exp(1j * np.pi * (omega_x * x + omega_y * y))])


# ---- what stands where ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "config", "with_spectra", "panels"),
    [
        ("dtcwpt_resnet18", "Ft40YEx_mod", True, 40 * 2 + 24 * 4),
        ("dtcwpt_resnet18", "Ft40YEx_mod", False, 40 + 24 * 3),
        ("dtcwpt_resnet18", "Ft40Ex", True, 64 * 2),
        ("resnet18", None, True, 64 * 2),
        ("AlexNet", None, False, 64),
        ("DtCwptAlexNet", "Ft32Y_mod", True, 32 * 2 + 32 * 4),
    ],
)
def test_number_of_panels(arch, config, with_spectra, panels):
    plan = arrange(kernel_groups(build_twin(arch, config, 10).first_conv), with_spectra=with_spectra)
    assert len(plan.panels) == panels
    assert len({(p.group, p.index, p.kind) for p in plan.panels}) == panels
    assert len(plan.headings) == (1 if config is None else 2)


@pytest.mark.parametrize("counts", [(1,), (16,), (17,), (40, 24), (64,), (3, 1, 100)])
@pytest.mark.parametrize("with_spectra", [True, False])
def test_panels_lie_in_the_picture_and_not_on_each_other(counts, with_spectra):
    groups = [group(count, is_complex=bool(i % 2)) for i, count in enumerate(counts)]
    plan = arrange(groups, with_spectra=with_spectra)
    taken = set()
    for panel in plan.panels:
        assert 0.5 < panel.left < panel.left + panel.side < 9
        assert plan.headings[panel.group] < panel.top < panel.top + panel.side < plan.height
        later = [top for top in plan.headings if top > plan.headings[panel.group]]
        assert all(panel.top + panel.side < top for top in later)
        centre = (panel.left + panel.side / 2, panel.top + panel.side / 2)
        for other in taken:
            assert max(abs(centre[0] - other[0]), abs(centre[1] - other[1])) > (panel.side + other[2]) / 2
        taken.add((*centre, panel.side))


def test_parts_of_a_kernel_are_below_each_other():
    plan = arrange([group(20, is_complex=True)])
    of_kernel = [panel for panel in plan.panels if panel.index == 13]
    assert [panel.kind for panel in of_kernel] == ["real", "imaginary", "modulus", "spectrum"]
    assert len({panel.left for panel in of_kernel}) == 1
    assert sorted(panel.top for panel in of_kernel) == [panel.top for panel in of_kernel]


def test_rows_are_of_equal_length():
    firsts = [panel.index for panel in arrange([group(40)]).panels if panel.is_first and panel.kind == "kernel"]
    assert firsts == [0, 14, 28]


@pytest.mark.parametrize(("count", "chosen"), [(None, 40), (50, 40), (40, 40), (3, [0, 20, 39]), (1, [0])])
def test_fewer_kernels(count, chosen):
    whole = group(40)
    some = fewer(whole, count)
    if isinstance(chosen, int):
        assert some is whole
    else:
        assert some.channels == chosen
        np.testing.assert_array_equal(some.kernels, whole.kernels[chosen])


def test_headings():
    assert heading(group(40, 7), 40) == "free convolution: 40 kernels of 7×7"
    assert heading(group(1, 7), 40) == "free convolution: 1 of 40 kernels of 7×7"
    assert heading(group(1, 30, is_complex=True, name="wavelet packets"), 1) == (
        "wavelet packets: 1 complex kernel of 30×30"
    )


# ---- what is drawn --------------------------------------------------------------------------------------------------


def test_zero_is_grey_and_the_largest_value_is_the_brightest():
    kernel = np.zeros((3, 2, 2))
    kernel[0, 0, 1], kernel[2, 1, 0] = 4, -2  # red upper right, blue lower left
    image = kernel_image(kernel, "kernel")
    assert image[0, 0].tolist() == [0.5, 0.5, 0.5]
    assert image[0, 1].tolist() == [1, 0.5, 0.5]
    assert image[1, 0].tolist() == [0.5, 0.5, 0.25]


def test_parts_share_the_scale_of_the_modulus():
    kernel = np.zeros((3, 1, 2), complex)
    kernel[:, 0, 0], kernel[:, 0, 1] = 3 + 4j, 1j
    assert kernel_image(kernel, "real")[0, :, 0] == pytest.approx([0.8, 0.5])
    assert kernel_image(kernel, "imaginary")[0, :, 0] == pytest.approx([0.9, 0.6])
    assert kernel_image(kernel, "modulus")[0, :, 0] == pytest.approx([1, 0.2])


def test_a_kernel_of_zeros_and_one_of_a_single_colour():
    assert (kernel_image(np.zeros((3, 2, 2)), "kernel") == 0.5).all()
    assert kernel_image(np.ones((1, 2, 2)), "kernel").shape == (2, 2, 3)


@pytest.mark.parametrize("omega", [(0.5, 0.25), (0.5, -0.25), (-0.25, 0.5)])
def test_the_brightest_point_of_a_spectrum_panel_stands_at_the_frequency(omega):
    kernels = KernelGroup("wavelet packets", wave(*omega)[None], [0])
    (axes,) = [axes for axes in figure_of([kernels]).axes if axes.get_xlabel() == "" and len(axes.get_xticks()) == 3]
    (image,) = axes.images
    values, (left, right, bottom, top) = image.get_array(), image.get_extent()
    row, column = np.unravel_index(values.argmax(), values.shape)
    x = left + (column + 0.5) / values.shape[1] * (right - left)
    y = top + (row + 0.5) / values.shape[0] * (bottom - top)  # images have their first row at the top
    assert image.origin == "upper"
    assert (x, y) == pytest.approx(omega, abs=1e-9)
    assert axes.get_xlim() == (-1, 1)
    assert axes.get_ylim() == (1, -1)  # downwards
    assert [text.get_text() for text in axes.get_xticklabels()] == ["−π", "0", "π"]


def test_the_brightest_pixel_of_the_file_is_where_the_frequency_is():
    kernels = KernelGroup("wavelet packets", wave(0.5, 0.25).real[None], [0])
    plan = arrange([kernels])
    (panel,) = [panel for panel in plan.panels if panel.kind == "spectrum"]
    pixels = np.asarray(Image.open(io.BytesIO(draw([kernels], dpi=200))).convert("RGB")).sum(2)
    edge = 4  # pixels of the frame
    top, left, side = (round(200 * length) for length in (panel.top, panel.left, panel.side))
    inside = pixels[top + edge : top + side - edge, left + edge : left + side - edge]
    rows, columns = np.nonzero(inside == inside.max())
    omega_x = 2 * (columns + 0.5 + edge) / side - 1
    omega_y = 2 * (rows + 0.5 + edge) / side - 1
    positive = omega_x > 0
    assert (omega_x[positive].mean(), omega_y[positive].mean()) == pytest.approx((0.5, 0.25), abs=0.04)
    assert (omega_x[~positive].mean(), omega_y[~positive].mean()) == pytest.approx((-0.5, -0.25), abs=0.04)


def test_the_figure_holds_what_was_planned():
    groups = [group(3), group(2, 9, is_complex=True, name="wavelet packets")]
    figure = figure_of(groups, title="R18$x$", subtitle="dtcwpt_resnet18 Ft40YEx_mod, cifar10, 300 epochs")
    assert len(figure.axes) == 3 * 2 + 2 * 4
    texts = [text.get_text() for text in figure.texts]
    assert texts == [
        "R18$x$",
        "dtcwpt_resnet18 Ft40YEx_mod, cifar10, 300 epochs",
        "free convolution: 3 kernels of 5×5",
        "wavelet packets: 2 complex kernels of 9×9",
    ]
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["0", "1", "2", "0, 1", "2, 3"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), kernel_image(groups[0].kernels[0], "kernel"))
    whole = figure.axes[3].images[0].get_array()
    np.testing.assert_array_equal(whole[:-1, :-1], spectra(groups[0].kernels)[0])


def test_no_text_is_taken_for_a_formula_or_leaves_the_font_or_the_page():
    figure = figure_of([group(1)], title="a$b$\n漢", subtitle="x" * 300)
    assert [text.get_text() for text in figure.texts][:2] == ["a$b$??", "x" * 109 + "…"]
    assert not any(text.get_parse_math() for text in figure.texts)
    figure.savefig(io.BytesIO(), format="png")
    width = figure.texts[1].get_window_extent().x1 / figure.dpi
    assert width <= 9


# ---- the file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "beginning"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_equal_kernels_give_equal_bytes(form, beginning):
    groups = [group(2), group(2, is_complex=True)]
    one = draw(groups, form, title="net", subtitle="of 2026")
    with matplotlib.rc_context({"figure.facecolor": "red", "axes.spines.top": False, "svg.hashsalt": None}):
        assert draw(groups, form, title="net", subtitle="of 2026") == one
    assert one.startswith(beginning)
    assert form in FORMATS
    assert b"Date" not in one
    assert matplotlib.__version__.encode() not in one


def test_other_kernels_and_texts_give_other_bytes():
    pictures = {draw([group(2)]), draw([group(2, seed=1)]), draw([group(2)], title="net"), draw([group(2)], dpi=50)}
    pictures |= {draw([group(2)], with_spectra=False), draw([group(2)], max_kernels=1)}
    assert len(pictures) == 6


@pytest.mark.parametrize("dpi", [50, 100])
def test_the_picture_is_nine_inches_wide(dpi):
    width, height = struct.unpack(">II", draw([group(2)], dpi=dpi)[16:24])
    assert width == 9 * dpi
    assert height == int(arrange([group(2)]).height * dpi)


def test_the_style_of_the_caller_stays():
    before = dict(matplotlib.rcParams)
    draw([group(1)], "svg")
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_left_alone():
    program = (
        "import sys, numpy as np; from sepconc.kernel_plots import draw\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules), 'imported too early'\n"
        "from sepconc.nets.first_kernels import KernelGroup\n"
        "draw([KernelGroup('convolution', np.ones((1, 3, 3, 3)), [0])], max_kernels=1)\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_an_unknown_form():
    with pytest.raises(BadParameter, match="one of png, pdf, svg; got 'gif'"):
        draw([group(1)], "gif")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackage, match=r'pip install "sepconc\[plot\]"'):
        draw([group(1)])


def test_kernels_of_zeros_are_drawn_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw([KernelGroup("convolution", np.zeros((1, 3, 3, 3)), [0])])


@pytest.mark.slow
def test_the_picture_of_a_readme_is_small():
    torch.manual_seed(0)
    groups = kernel_groups(build_twin("dtcwpt_resnet18", "Ft40YEx_mod", 10).first_conv)
    picture = draw(groups, title="R18wyC_mod", subtitle="dtcwpt_resnet18 Ft40YEx_mod, CIFAR10, 0 epochs")
    assert len(picture) < 250_000
    assert struct.unpack(">I", picture[16:20]) == (900,)
    assert kernel_plots.DPI == 100
