"""Parameters of the transformers: the fixed transforms as scikit-learn sees them."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

from sepconc.params.field import param, params
from sepconc.params.training import parse_or_none, parse_shape


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0


def _sides(*lengths: int, expected: str) -> Callable[[Any], str | None]:
    """A check of a shape: so many positive integers, or None."""

    def check(value: Any) -> str | None:
        fits = hasattr(value, "__len__") and len(value) in lengths and all(_is_count(side) for side in value)
        return None if fits else f"be {expected} or None"

    return check


def _jobs(value: Any) -> str | None:
    fits = isinstance(value, numbers.Integral) and not isinstance(value, bool) and value != 0
    return None if fits else "be a positive number of jobs, -1 for one per processor, or None for one"


def _wavelets_per_octave(value: Any) -> str | None:
    pair = value if hasattr(value, "__len__") and len(value) == 2 else [value]
    return None if all(_is_count(count) for count in pair) else "be a positive integer, or one for each order"


def _averaging(value: Any) -> str | None:
    fits = value == "global" if isinstance(value, str) else isinstance(value, numbers.Real) and value >= 1
    return None if fits else 'be a length of at least 1 sample, "global" or None'


def _powers(value: Any) -> str | None:
    numbers_given = hasattr(value, "__len__") and len(value) and not isinstance(value, str)
    fits = numbers_given and all(isinstance(power, numbers.Real) and power > 0 for power in value)
    return None if fits else "be positive exponents"


@params
class TransformerParams:
    """How a transform is run."""

    batch_size: int = param(128, "Samples transformed at a time.", at_least=1, flags=["-b"], runtime=True)
    n_jobs: int | None = param(
        None,
        "Batches transformed side by side, in threads that torch's own work within; -1 is one per processor.",
        type=object,
        check=_jobs,
        parse=parse_or_none(int),
        runtime=True,
    )
    device: str = param("auto", 'Device to compute on: "cpu", "cuda", "cuda:1", … or "auto".', runtime=True)
    backend: str = param(
        "auto",
        "Engine that computes the transform: auto, torch, fused, kymatio, on CUDA triton(-bf16), skcuda, cupy.",
        runtime=True,
    )
    progress: Any = param(
        "auto",
        'Show a bar on stderr: True, False, or "auto" (on a terminal, when it takes more than two seconds).',
        type=object,
        choices=[True, False, "auto"],
        runtime=True,
    )


@params
class ImageTransformerParams(TransformerParams):
    """How images are given."""

    image_shape: tuple[int, ...] | None = param(
        None,
        "(height, width) or (channels, height, width) of images given as flat rows; by default the smallest square.",
        type=object,
        check=_sides(2, 3, expected="(height, width) or (channels, height, width)"),
        parse=parse_shape,
    )


@params
class PhaseParams:
    """Phase scattering."""

    L: int = param(8, "Number of orientations of the wavelets.", at_least=1)


@params
class ScatteringParams(PhaseParams):
    """The scattering transform of images."""

    J: int = param(2, "Log-scale of the transform: it averages over squares of side 2^J.", at_least=1)
    max_order: int = param(2, "Largest order, 1 or 2.", choices=[1, 2])


@params
class ScatteringTransformer2DParams(ImageTransformerParams, ScatteringParams):
    """Scattering of images."""


@params
class PhaseScatteringTransformer2DParams(ImageTransformerParams, PhaseParams):
    """Phase scattering of images."""


@params
class ScatteringTransformer1DParams(TransformerParams):
    """Scattering of signals."""

    J: int = param(6, "Log-scale of the transform: it averages over 2^J samples, unless T says otherwise.", at_least=1)
    Q: int | Sequence[int] = param(
        1, "Wavelets per octave, one number or one for each order.", type=object, check=_wavelets_per_octave
    )
    T: Any = param(
        None,
        'Samples that are averaged over; "global" averages over all of them, None over 2^J.',
        type=object,
        check=_averaging,
    )
    max_order: int = param(2, "Largest order, 1 or 2.", choices=[1, 2])
    oversampling: int = param(0, "Log-2 of how much finer than necessary the output is sampled.", at_least=0)
    shape: tuple[int, ...] | None = param(
        None,
        "(length,) or (channels, length) of signals given as flat rows; by default a row is a signal.",
        type=object,
        check=_sides(1, 2, expected="(length,) or (channels, length)"),
        parse=parse_shape,
    )


@params
class ScatteringTransformer3DParams(TransformerParams):
    """Solid harmonic scattering of volumes."""

    J: int = param(2, "Log-2 of the largest scale; there are J + 1 scales.", at_least=0)
    L: int = param(3, "Largest order of the solid harmonics.", at_least=0)
    sigma_0: float = param(1.0, "Width of the smallest wavelet, in voxels.", above=0)
    max_order: int = param(2, "Largest order, 1 or 2.", choices=[1, 2])
    rotation_covariant: bool = param(True, "Gather the wavelets of one harmonic order into their norm.")
    integral_powers: Sequence[float] = param(
        (0.5, 1, 2), "Exponents that the moduli are summed with.", type=object, check=_powers
    )
    shape: tuple[int, ...] | None = param(
        None,
        "(M, N, O) of volumes given as flat rows; by default the smallest cube, completed with zeros.",
        type=object,
        check=_sides(3, expected="(M, N, O)"),
        parse=parse_shape,
    )
