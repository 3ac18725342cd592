"""A picture of the kernels of a network's first layer and of their spectra, drawn by matplotlib.

Every kernel is a column of panels: its image, rescaled to itself with grey for zero, and its power spectrum; a complex
kernel's real and imaginary parts share one scale and are followed by its modulus, with black for zero. In a spectrum
zero frequency is at the centre, ω_x grows to the right and ω_y downwards, from −π to π; black is no power, the
brightest colour that kernel's largest.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from sepconc.errors import BadParameter, MissingPackage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sepconc.nets.first_kernels import KernelGroup

DPI = 100  # the default: 900 pixels wide
_WIDTH, _LEFT, _RIGHT = 9.0, 0.72, 0.08  # inches, as all lengths here
_COLUMNS, _LARGEST = 16, 0.95  # kernels beside each other at most; side of a panel at most
_TOP, _HEADING, _NUMBER, _TICKS, _BOTTOM = 0.56, 0.34, 0.15, 0.16, 0.1
_GAP, _ROW_GAP = 0.04, 0.05  # between panels; between rows of kernels
_TITLE_SIZE, _HEADING_SIZE, _TEXT_SIZE, _SMALL_SIZE = 12, 10, 7.5, 6
_LONGEST = 110  # characters of a line
_LEVELS = 12  # of power: as many colours, which make small files
_TICK_LABELS = ("−π", "0", "π")
_METADATA = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
}  # neither dates nor versions
FORMATS = tuple(_METADATA)


@dataclass(frozen=True)
class Panel:
    """Where a picture of a kernel stands: lengths in inches from the left and from the top.

    Attributes
    ----------
    group, index : int
        Which kernel.
    kind : str
        ``kernel`` of a real one; ``real``, ``imaginary``, ``modulus`` of a complex one; ``spectrum``.
    left, top, side : float
    is_first, is_last : bool
        Whether it is the first one of its row; whether it is in the last row of its group.
    """

    group: int
    index: int
    kind: str
    left: float
    top: float
    side: float
    is_first: bool
    is_last: bool


@dataclass(frozen=True)
class Arrangement:
    """All panels, where the headings of the groups stand, and the height of the whole, in inches."""

    panels: list[Panel]
    headings: list[float]
    height: float


def arrange(groups: Sequence[KernelGroup], *, with_spectra: bool = True) -> Arrangement:
    """Panels in columns, a kernel each, in rows of equal length under the heading of each group."""
    panels, headings, top = [], [], _TOP
    for number, group in enumerate(groups):
        headings.append(top)
        top += _HEADING
        kinds = panel_kinds(group, with_spectra=with_spectra)
        count = len(group.kernels)
        rows = math.ceil(count / _COLUMNS)
        columns = math.ceil(count / rows)
        pitch = min((_WIDTH - _LEFT - _RIGHT + _GAP) / columns, _LARGEST)
        for start in range(0, count, columns):
            top += _NUMBER
            is_last = start + columns >= count
            for kind in kinds:
                panels += [
                    Panel(number, i, kind, _LEFT + (i - start) * pitch, top, pitch - _GAP, i == start, is_last)
                    for i in range(start, min(start + columns, count))
                ]
                top += pitch
            top += _ROW_GAP
        top += _TICKS if with_spectra else 0
    return Arrangement(panels, headings, top + _BOTTOM)


def panel_kinds(group: KernelGroup, *, with_spectra: bool = True) -> list[str]:
    """What is shown of each kernel of a group, from above."""
    images = ["real", "imaginary", "modulus"] if group.is_complex else ["kernel"]
    return [*images, "spectrum"] if with_spectra else images


def kernel_image(kernel: np.ndarray, kind: str) -> np.ndarray:
    """The RGB image, 0 to 1, of a kernel (colours, K, K), of one of its parts or of its modulus: (K, K, 3).

    A kernel and its parts are divided by twice the largest modulus and centred at grey, 0.5; a modulus is divided by
    its largest value.
    """
    largest = np.abs(kernel).max() or 1.0
    values = {"imaginary": np.imag, "modulus": np.abs}.get(kind, np.real)(kernel) / largest
    image = np.moveaxis(values if kind == "modulus" else 0.5 + values / 2, 0, -1)
    return np.broadcast_to(image, (*image.shape[:2], 3))


def fewer(group: KernelGroup, count: int | None) -> KernelGroup:
    """At most ``count`` kernels of a group, evenly chosen from the first to the last."""
    if count is None or len(group.kernels) <= count:
        return group
    chosen = np.linspace(0, len(group.kernels) - 1, count).round().astype(int)
    return replace(group, kernels=group.kernels[chosen], channels=[group.channels[i] for i in chosen])


def draw(
    groups: Sequence[KernelGroup],
    form: str = "png",
    *,
    title: str = "",
    subtitle: str = "",
    with_spectra: bool = True,
    max_kernels: int | None = None,
    dpi: int = DPI,
) -> bytes:
    """The picture as the content of a file; equal kernels and texts give equal bytes.

    Parameters
    ----------
    groups : sequence of KernelGroup
        See :func:`~sepconc.nets.first_kernels.kernel_groups`.
    form : str
        One of :data:`FORMATS`.
    title, subtitle : str
        Two lines above; characters that the font lacks become question marks.
    with_spectra : bool
        Whether spectra are drawn.
    max_kernels : int, optional
        Of each group, evenly chosen.
    dpi : int
        Pixels per inch; the picture is nine inches wide.

    Raises
    ------
    BadParameter
        For another form.
    MissingPackage
        Without matplotlib.
    """
    if form not in FORMATS:
        message = f"form must be one of {', '.join(FORMATS)}; got {form!r}."
        raise BadParameter(message)
    library, out = _matplotlib(), io.BytesIO()
    chosen = [fewer(group, max_kernels) for group in groups]
    totals = [len(group.kernels) for group in groups]
    with _own_style(library):
        figure = kernel_figure(chosen, totals, title=title, subtitle=subtitle, with_spectra=with_spectra)
        figure.savefig(out, format=form, dpi=dpi, metadata=_METADATA[form])
    return out.getvalue()


def kernel_figure(
    groups: Sequence[KernelGroup], totals: Sequence[int], *, title: str, subtitle: str, with_spectra: bool
) -> Figure:
    """The figure of kernels out of ``totals``; it belongs to no window and to no global list of figures."""
    from sepconc.nets.first_kernels import spectra

    library = _matplotlib()
    plan = arrange(groups, with_spectra=with_spectra)
    figure = library.figure.Figure((_WIDTH, plan.height))
    powers = [spectra(group.kernels) for group in groups] if with_spectra else []
    colours = library.colormaps["inferno"].resampled(_LEVELS)
    _write(library, figure, 0.08, 0.22, title, fontsize=_TITLE_SIZE, fontweight="bold")
    _write(library, figure, 0.08, 0.43, subtitle, fontsize=_HEADING_SIZE, color="0.35")
    for top, group, total in zip(plan.headings, groups, totals, strict=True):
        _write(library, figure, 0.08, top + 0.22, heading(group, total), fontsize=_HEADING_SIZE)
    for panel in plan.panels:
        group = groups[panel.group]
        axes = _axes(figure, panel, plan.height)
        if panel.kind == "spectrum":
            _draw_spectrum(axes, powers[panel.group][panel.index], colours, panel)
        else:
            axes.imshow(kernel_image(group.kernels[panel.index], panel.kind), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        _label(axes, group, panel, is_top=panel.kind in ("kernel", "real"))
    return figure


def heading(group: KernelGroup, total: int) -> str:
    """What a group is: name, number, kind and size of the kernels."""
    count, side = len(group.kernels), group.kernels.shape[-1]
    number = f"{count}" if count == total else f"{count} of {total}"
    kind = "complex kernel" if group.is_complex else "kernel"
    return f"{group.name}: {number} {kind}{'' if total == 1 else 's'} of {side}×{side}"


def _axes(figure: Figure, panel: Panel, height: float) -> Axes:
    bottom = height - panel.top - panel.side
    axes = figure.add_axes((panel.left / _WIDTH, bottom / height, panel.side / _WIDTH, panel.side / height))
    for spine in axes.spines.values():
        spine.set(linewidth=0.4, color="0.6")
    return axes


def _draw_spectrum(axes: Axes, power: np.ndarray, colours: Any, panel: Panel) -> None:
    whole = np.pad(power, (0, 1), mode="wrap")  # π is −π again
    edge = 1 + 1 / len(power)  # in units of π, half a pixel outside
    style = {"interpolation": "bilinear", "interpolation_stage": "data"}
    axes.imshow(whole, colours, vmin=0, vmax=power.max() or 1.0, extent=(-edge, edge, edge, -edge), **style)
    axes.axhline(0, color="white", linewidth=0.3, alpha=0.5)
    axes.axvline(0, color="white", linewidth=0.3, alpha=0.5)
    axes.set(xlim=(-1, 1), ylim=(1, -1), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axes.tick_params(length=1.5, width=0.4, pad=1.5, labelsize=_SMALL_SIZE, color="0.4", labelcolor="0.35")
    axes.set_xticklabels(_TICK_LABELS if panel.is_last else [])
    axes.set_yticklabels(_TICK_LABELS if panel.is_first else [])
    for text, side in zip(axes.get_xticklabels(), ("left", "center", "right"), strict=False):
        text.set(horizontalalignment=side)
    for text, side in zip(axes.get_yticklabels(), ("top", "center", "bottom"), strict=False):
        text.set(verticalalignment=side)
    if panel.is_first and panel.is_last:
        left, below = -0.16 / panel.side, -0.03 / panel.side
        axes.text(left, below, "$\\omega_x$", transform=axes.transAxes, fontsize=_TEXT_SIZE, ha="right", va="top")


def _label(axes: Axes, group: KernelGroup, panel: Panel, *, is_top: bool) -> None:
    """The channel above a kernel's first panel, and what it is before a row's first panel."""
    if is_top:
        channel = group.channels[panel.index]
        text = f"{channel}, {channel + 1}" if group.is_complex else str(channel)
        axes.set_title(text, fontsize=_SMALL_SIZE, pad=1.5, color="0.35")
    if panel.is_first:
        text = {"real": "real part", "spectrum": "spectrum\n$\\omega_y$"}.get(panel.kind, panel.kind)
        left = (0.08 - panel.left) / panel.side
        axes.text(left, 0.5, text, transform=axes.transAxes, fontsize=_TEXT_SIZE, ha="left", va="center")


def _write(library: ModuleType, figure: Figure, left: float, top: float, text: str, **options: Any) -> None:
    height = figure.get_size_inches()[1]
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    figure.text(left / _WIDTH, 1 - top / height, _in_font(library, text), parse_math=False, **options)


def _in_font(library: ModuleType, text: str) -> str:
    """The text, with question marks for what the font can't show."""
    manager = library.font_manager
    font = manager.get_font(manager.findfont("DejaVu Sans"))
    return "".join(each if each.isprintable() and font.get_char_index(ord(each)) else "?" for each in text)


def _matplotlib() -> ModuleType:
    """matplotlib, imported here only; its ``pyplot``, which keeps figures and may open windows, isn't."""
    try:
        import matplotlib
        import matplotlib.figure
        import matplotlib.font_manager
    except ImportError as error:
        message = 'Pictures are drawn by matplotlib, which isn\'t installed: pip install "sepconc[plot]".'
        raise MissingPackage(message) from error
    return matplotlib


@contextlib.contextmanager
def _own_style(library: ModuleType) -> Iterator[None]:
    """matplotlib's own style, whatever is set on this machine; nothing random in an SVG. Everything is put back."""
    with library.rc_context():
        library.rcdefaults()
        library.rcParams["svg.hashsalt"] = "sepconc"
        yield
