"""The four separation-concentration classifiers (Zarka, Guth and Mallat, ICLR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from sepconc.estimators.base import ImageClassifier
from sepconc.nets.frames import FrameSpec, frame_diagnostics
from sepconc.nets.heads import HeadSpec
from sepconc.nets.separation import BlockSpec, SeparationNetwork, WaveletSpec
from sepconc.params.field import document, spread
from sepconc.params.separation import AnalysisParams, ScatNetBlockAnalysisParams, ScatNetBlockParams, ScatNetParams


class SeparationClassifier(ImageClassifier):
    """What the four classifiers share.

    Attributes
    ----------
    frame_diagnostics_ : dict, operator -> norms, extreme eigenvalues of the Gram matrix and coherences
        (:func:`sepconc.nets.frames.frame_diagnostics`), after the last epoch.
    n_params_by_part_ : dict, trainable parameters in ``projections``, ``frames`` and ``head``.
    """

    def blocks(self) -> Sequence[BlockSpec]:
        """One description per block."""
        raise NotImplementedError

    def build_network(
        self, image_shape: tuple[int, int, int], num_classes: int, generator: torch.Generator | None = None
    ) -> SeparationNetwork:
        head = HeadSpec(
            self.classifier_type, self.avg_ker_size, self.nb_hidden_units, self.dropout_p_mlp, self.nb_l_mlp
        )
        return SeparationNetwork(tuple(image_shape), num_classes, self.blocks(), head, generator=generator)

    def parameter_groups(self, net: nn.Module) -> list[dict[str, Any]]:
        operators = [parameter for _, parameter in net.operators()]
        known = {id(parameter) for parameter in operators}
        others = [parameter for parameter in net.parameters() if id(parameter) not in known]
        return [{"params": others, "weight_decay": self.weight_decay}, {"params": operators, "weight_decay": 0.0}]

    def after_step(self, net: nn.Module) -> None:
        if self.pars_beta:
            net.parseval_step(self.pars_beta)

    def diagnose(self) -> dict[str, Any]:
        operators = dict(self.net_.operators())
        sizes = {
            kind: sum(operator.numel() for name, operator in operators.items() if name.endswith(kind))
            for kind in ("projection", "frame")
        }
        head = self.n_params_ - sum(sizes.values())
        return {
            "frame_diagnostics_": {name: frame_diagnostics(operator) for name, operator in operators.items()},
            "n_params_by_part_": {"projections": sizes["projection"], "frames": sizes["frame"], "head": head},
        }

    def front_end_description(self) -> str:
        return repr(self.blocks()[0].wavelets)

    def _engine(self) -> str | None:
        return None if self.backend == "auto" else self.backend

    def _phase_blocks(self, frames: Sequence[FrameSpec | None]) -> list[BlockSpec]:
        angles, sizes, kernels = (
            spread(name, getattr(self, name), self.n_blocks) for name in ("scat_angles", "P_proj_size", "P_kernel_size")
        )
        return [
            BlockSpec(WaveletSpec(None, L, self._engine()), size, kernel, frame)
            for L, size, kernel, frame in zip(angles, sizes, kernels, frames, strict=True)
        ]

    def _frames(self, n_blocks: int) -> list[FrameSpec]:
        widths, kernels, strides = (
            spread(name, getattr(self, name), n_blocks) for name in ("frame_width", "frame_kernel_size", "frame_stride")
        )
        return [
            FrameSpec(
                width, kernel, max(kernel // 2, 1) if stride is None else stride, self.non_linearity, self.zero_bias
            )
            for width, kernel, stride in zip(widths, kernels, strides, strict=True)
        ]


@document
class AnalysisClassifier(AnalysisParams, SeparationClassifier):
    """Concentration of the image in a learned tight frame, then a classifier; one block whatever ``n_blocks`` is.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sepconc import AnalysisClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = AnalysisClassifier(frame_kernel_size=4, frame_stride=2, frame_width=64, epochs=3).fit(X, y)
    """

    arch = "analysis"

    def min_side(self) -> int:
        return int(np.max(self.frame_kernel_size))

    def blocks(self) -> list[BlockSpec]:
        return [BlockSpec(None, None, None, self._frames(1)[0])]


@document
class ScatNetClassifier(ScatNetParams, SeparationClassifier):
    """The scattering transform, a learned projection and a classifier; one block whatever ``n_blocks`` is.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sepconc import ScatNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ScatNetClassifier(scattering_J=2, epochs=5).fit(X, y)
    """

    arch = "scatnet"

    def min_side(self) -> int:
        return 2**self.scattering_J

    def blocks(self) -> list[BlockSpec]:
        (L,), (size,), (kernel,) = (
            spread(name, getattr(self, name), 1) for name in ("scat_angles", "P_proj_size", "P_kernel_size")
        )
        return [BlockSpec(WaveletSpec(self.scattering_J, L, self._engine()), size, kernel, None)]


@document
class ScatNetBlockClassifier(ScatNetBlockParams, SeparationClassifier):
    """Blocks of phase scattering and learned projection, then a classifier.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sepconc import ScatNetBlockClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ScatNetBlockClassifier(n_blocks=2, P_proj_size=(16, 32), epochs=3).fit(X, y)
    """

    arch = "scatnetblock"

    def min_side(self) -> int:
        return 2**self.n_blocks

    def blocks(self) -> list[BlockSpec]:
        return self._phase_blocks([None] * self.n_blocks)


@document
class ScatNetBlockAnalysisClassifier(ScatNetBlockAnalysisParams, SeparationClassifier):
    """Separation by phase scattering, concentration in learned tight frames, block after block; then a classifier.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sepconc import ScatNetBlockAnalysisClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ScatNetBlockAnalysisClassifier(n_blocks=2, P_proj_size=16, frame_width=32, epochs=3).fit(X, y)
    """

    arch = "scatnetblockanalysis"

    def min_side(self) -> int:
        return 2**self.n_blocks

    def blocks(self) -> list[BlockSpec]:
        return self._phase_blocks(self._frames(self.n_blocks))
