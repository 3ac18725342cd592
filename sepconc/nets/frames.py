"""Tight frames: analysis, non-linearity, synthesis; the Parseval step; diagnostics of a learned operator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepconc.errors import BadParameter

NORM_FLOOR = 1e-6
"""Norms are not taken smaller than this when dividing, so that a zero patch stays zero and has a finite gradient."""

THRESHOLD = {"relu": 1.0, "softshrink": 1.5, "absolute": 0.0}
"""c in λ = c/√(atoms)."""


@dataclass(frozen=True)
class FrameSpec:
    """What a :class:`TightFrame` is made of, besides its input channels."""

    width: int
    kernel_size: int
    stride: int
    non_linearity: str
    zero_bias: bool


class TightFrame(nn.Module):
    r"""Concentration in a learned frame: :math:`x ← Fᵀ ρ_λ(F x)`.

    F has ``spec.width`` atoms over C·k² entries. With ``normalize`` (or k > 1) the frame sees patches of k × k pixels,
    each divided by its Euclidean norm. Overlapping patches are averaged by the synthesis. λ = c/√width.
    At every forward pass the atoms are rescaled to norm √(C·k²/width) (1 where the frame is not redundant), outside the
    graph: in place in training, in a copy in evaluation.

    Source: Zarka, Guth and Mallat (2021), section 3.2.

    Shapes: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, channels: int, spec: FrameSpec, *, normalize: bool, generator: torch.Generator | None) -> None:
        super().__init__()
        self.spec = spec
        self.normalize = normalize or spec.kernel_size > 1
        entries = channels * spec.kernel_size**2
        self.atom_norm = math.sqrt(entries / spec.width) if spec.width > entries else 1.0
        self.threshold = 0.0 if spec.zero_bias and spec.non_linearity == "relu" else THRESHOLD[spec.non_linearity]
        self.threshold /= math.sqrt(spec.width)
        weight = torch.empty(spec.width, entries)
        nn.init.orthogonal_(weight, generator=generator)
        self.weight = nn.Parameter(weight.view(spec.width, channels, spec.kernel_size, spec.kernel_size))
        with torch.no_grad():
            self.weight.copy_(self._rescaled())

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        weight = self._weight_for_this_pass()
        stride = self.spec.stride
        coefficients = F.conv2d(x, weight, stride=stride)  # (B, width, h, w)
        if self.normalize:
            coefficients = coefficients / self._patch_norms(x)
        concentrated = self._non_linearity(coefficients)
        left_over = [(side - self.spec.kernel_size) % stride for side in x.shape[-2:]]
        synthesis = F.conv_transpose2d(concentrated, weight, stride=stride, output_padding=left_over)
        return synthesis if self.spec.kernel_size == 1 and stride == 1 else synthesis / self._covering(x)

    def _weight_for_this_pass(self) -> Tensor:
        if not self.training:
            return self._rescaled()
        with torch.no_grad():
            self.weight.copy_(self._rescaled())
        return self.weight

    def _rescaled(self) -> Tensor:
        norms = torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)
        return self.weight * (self.atom_norm / norms.clamp_min(NORM_FLOOR))

    def _patch_norms(self, x: Tensor) -> Tensor:
        """Euclidean norm of every patch, (B, 1, h, w)."""
        energy = x.square().sum(dim=1, keepdim=True)
        ones = torch.ones(1, 1, self.spec.kernel_size, self.spec.kernel_size, dtype=x.dtype, device=x.device)
        energy = F.conv2d(energy, ones, stride=self.spec.stride)
        return energy.clamp_min(NORM_FLOOR**2).sqrt()

    def _covering(self, x: Tensor) -> Tensor:
        """How many patches cover each pixel, at least 1, (1, 1, H, W)."""
        k, stride = self.spec.kernel_size, self.spec.stride
        h, w = ((side - k) // stride + 1 for side in x.shape[-2:])
        left_over = [(side - k) % stride for side in x.shape[-2:]]
        patches = torch.ones(1, 1, h, w, dtype=x.dtype, device=x.device)
        kernel = torch.ones(1, 1, k, k, dtype=x.dtype, device=x.device)
        return F.conv_transpose2d(patches, kernel, stride=stride, output_padding=left_over).clamp_min(1)

    def _non_linearity(self, u: Tensor) -> Tensor:
        if self.spec.non_linearity == "absolute":
            return u.abs()
        if self.spec.non_linearity == "softshrink":
            return F.softshrink(u, self.threshold)
        return F.relu(u - self.threshold)


def check_frame(spec: FrameSpec, height: int, width: int, block: int) -> None:
    """Refuse atoms larger than the image that the frame sees."""
    if spec.kernel_size > min(height, width):
        message = (
            f"`frame_kernel_size` must be at most the side of the image it sees; got {spec.kernel_size} for "
            f"{height}×{width} at block {block}. Choose a smaller one, or larger images."
        )
        raise BadParameter(message)
    if spec.stride > spec.kernel_size:
        message = (
            f"`frame_stride` must be at most `frame_kernel_size`, or pixels are lost; got {spec.stride} for "
            f"{spec.kernel_size} at block {block}."
        )
        raise BadParameter(message)


@torch.no_grad()
def parseval_step(weight: Tensor, beta: float) -> None:
    r"""Move an operator towards a tight frame, in place: :math:`M ← (1+β) M − β M MᵀM`.

    M has one row per atom (first dimension of ``weight``); the smaller Gram matrix is formed.
    Source: Zarka, Guth and Mallat (2021), section 4; Cissé et al. (2017), Parseval networks.
    """
    matrix = weight.flatten(1)
    rows, columns = matrix.shape
    product = matrix @ (matrix.T @ matrix) if rows > columns else (matrix @ matrix.T) @ matrix
    weight.mul_(1 + beta).sub_(product.view(weight.shape), alpha=beta)


@torch.no_grad()
def frame_diagnostics(weight: Tensor) -> dict[str, float]:
    """How tight and how coherent an operator is.

    Parameters
    ----------
    weight : (atoms, ...) operator; its rows are the atoms.

    Returns
    -------
    dict with ``atoms_off_norm`` (atoms whose norm differs by more than 0.01 from that of a tight frame's equal atoms,
    √(entries/atoms), at most 1), ``norm_ratio`` (largest over smallest), ``gram_min`` and ``gram_max`` (extreme
    eigenvalues of the smaller Gram matrix: 1 and 1 for a tight frame), ``coherence_max`` and ``coherence_median``
    (between different atoms, normalised).
    """
    matrix = weight.detach().reshape(weight.shape[0], -1).double().cpu()
    norms = torch.linalg.vector_norm(matrix, dim=1)
    rows, columns = matrix.shape
    eigenvalues = torch.linalg.eigvalsh(matrix.T @ matrix if rows > columns else matrix @ matrix.T)
    unit = matrix / norms.clamp_min(NORM_FLOOR)[:, None]
    coherences = (unit @ unit.T).abs()[~torch.eye(rows, dtype=torch.bool)]
    return {
        "atoms_off_norm": int((norms - min(1.0, math.sqrt(columns / rows))).abs().gt(0.01).sum()),
        "norm_ratio": float(norms.max() / norms.min().clamp_min(NORM_FLOOR)),
        "gram_min": float(eigenvalues.min()),
        "gram_max": float(eigenvalues.max()),
        "coherence_max": float(coherences.max()) if rows > 1 else 0.0,
        "coherence_median": float(coherences.median()) if rows > 1 else 0.0,
    }
