"""The dual-tree complex wavelet packet transform, as one pass of composed filters per axis.

I. Bayram and I. W. Selesnick, "On the dual-tree complex wavelet packet and M-band transforms", IEEE Transactions on
Signal Processing 56 (2008), with Kingsbury's q-shift filters; the first layers of H. Leterme et al., "From CNNs to
Shift-Invariant Twin Models Based on Complex Wavelets" (arXiv:2212.00394).

With F = a + ib, the composed filters of trees a and b along an axis, the complex maps are

    Ψa = F_vertical ⊗ F_horizontal,    Ψb = F_vertical ⊗ conj(F_horizontal),

so that one vertical and one horizontal correlation give any choice of maps; the others are never computed.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sepconc.errors import BadParameter
from sepconc.wavelets.cascade import Plan, band, bits_of, check_input, check_padding_mode, compose, make_plan, pad
from sepconc.wavelets.kernels import ResultingKernel
from sepconc.wavelets.qshift import qshift

Bits = tuple[int, ...]


class DtCwpt2d(nn.Module):
    """Dual-tree complex wavelet packet transform of images.

    Parameters
    ----------
    in_channels : int
        Channels of the images; each is transformed by itself.
    depth : int
        Stages, at least 1.
    stride : int, optional
        Total subsampling, a power of two up to 2^depth (the default).
    wavelet : str
        ``qshift_06``, ``qshift_a`` (10 taps), ``qshift_b``, ``qshift_c``, ``qshift_d`` or ``qshift_32``.
    padding_mode : str
        ``zeros``, ``reflect``, ``replicate``, ``circular`` or ``symmetric``.
    make_analytic : bool
        Whether maps are conjugated so that each has its energy at positive horizontal frequencies.
    trainable_qmf : bool
        Whether the filters are learned.
    keep : sequence of int, optional
        Indices f = t·4^depth + n of the maps that are computed, in the order of the output; all of them by default.
        t is 0 for Ψa and 1 for Ψb; n's base-4 digits are 2v + h, stage by stage, with v and h the choice of the high
        band along the vertical and the horizontal axis.

    Attributes
    ----------
    _hfilters, _gfilters : Parameter
        Low- and high-pass filters (2, taps): tree b of the tables first ("primal"), then tree a ("dual").

    Raises
    ------
    BadParameter
        For a parameter outside its range, or a wavelet without a dual tree.
    BadInput
        In ``forward``, for tensors that aren't images (N, in_channels, H, W), or too small ones.

    Examples
    --------
    >>> DtCwpt2d(1, depth=2, stride=2)(torch.zeros(1, 1, 32, 32)).shape
    torch.Size([1, 64, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        depth: int,
        stride: int | None = None,
        wavelet: str = "qshift_a",
        padding_mode: str = "zeros",
        *,
        make_analytic: bool = True,
        trainable_qmf: bool = False,
        keep: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        table = qshift(wavelet)
        taps = len(table.low_a)
        self.in_channels = in_channels
        self.plan: Plan = make_plan(depth, stride, (taps + 2, *(taps,) * (depth - 1)))
        self.wavelet = wavelet
        self.padding_mode = check_padding_mode(padding_mode)
        self.make_analytic = make_analytic
        self.trainable_qmf = trainable_qmf
        self.keep = check_maps(range(2 * 4**depth) if keep is None else keep, 2 * 4**depth)
        self._hfilters = _pair(table.low_b, table.low_a, trainable=trainable_qmf)
        self._gfilters = _pair(table.high_b, table.high_a, trainable=trainable_qmf)
        self.register_buffer("_vertical", None, persistent=False)
        self.register_buffer("_horizontal", None, persistent=False)
        self.register_load_state_dict_post_hook(_rebuild_after_loading)
        self._rebuild()

    @property
    def out_channels(self) -> int:
        """Real channels of the output: two for every map of every input channel."""
        return 2 * len(self.keep) * self.in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Transform images.

        Parameters
        ----------
        x : Tensor
            (N, C, H, W).

        Returns
        -------
        Tensor
            (N, 2·C·maps, H', W'): channel by channel, map by map, real and imaginary part.
        """
        check_input(x, self.in_channels, self.plan)
        vertical, horizontal = self.kernels()
        columns = self.columns(pad(x, self.plan.padding, self.padding_mode), vertical)
        planes = columns.unflatten(1, (self.in_channels, -1)).flatten(0, 1)
        maps = F.conv2d(planes, horizontal, stride=(1, self.plan.stride))  # (N·C, 2·maps, H', W')
        return maps.unflatten(0, x.shape[:2]).flatten(1, 2)

    def columns(self, padded: Tensor, vertical: Tensor) -> Tensor:
        """The vertical pass: padded images (N, C, H, W) -> (N, C·V, H', W)."""
        planes = padded.flatten(0, 1).unsqueeze(1)
        filtered = F.conv2d(planes, vertical, stride=(self.plan.stride, 1))
        return filtered.unflatten(0, padded.shape[:2]).flatten(1, 2)

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Kernels of the vertical pass (V, 1, K, 1) and of the horizontal one (2·maps, V, 1, K)."""
        return self._compose() if self.trainable_qmf else (self._vertical, self._horizontal)

    @property
    def resulting_kernel(self) -> ResultingKernel:
        """The dense kernel (2·C·maps, C, K, K) of the whole transform."""
        vertical, horizontal = self._compose()
        kernels = torch.einsum("vy,mvx->myx", vertical[:, 0, :, 0], horizontal[:, :, 0])  # (2·maps, K, K)
        eye = torch.eye(self.in_channels, dtype=kernels.dtype, device=kernels.device)
        weight = torch.einsum("cd,myx->cmdyx", eye, kernels).flatten(0, 1)
        return ResultingKernel(weight, self.plan.stride, -self.plan.padding)

    def extra_repr(self) -> str:
        plan = self.plan
        return (
            f"{self.in_channels}, {self.out_channels}, depth={plan.depth}, stride={plan.stride}, "
            f"wavelet={self.wavelet!r}, maps={len(self.keep)}, padding_mode={self.padding_mode!r}"
        )

    # ---- the kernels --------------------------------------------------------------------------------------------

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> "DtCwpt2d":
        module = super()._apply(fn, *args, **kwargs)
        self._rebuild()
        return module

    def _rebuild(self) -> None:
        """Compose the kernels of fixed filters, in double precision."""
        with torch.no_grad():
            self._vertical, self._horizontal = self._compose()

    def _compose(self) -> tuple[Tensor, Tensor]:
        """Kernels (2·vertical, 1, K, 1) and (2·maps, 2·vertical, 1, K), in the precision of the filters."""
        low, high = self._hfilters.double(), self._gfilters.double()
        maps = [(f >= 4**self.plan.depth, *bits_of(f % 4**self.plan.depth, self.plan.depth)) for f in self.keep]
        rows = sorted({v for _, v, _ in maps})
        columns = {h: torch.stack(_trees(low, high, h)) for h in {h for *_, h in maps}}
        vertical = torch.cat([torch.stack(_trees(low, high, v)) for v in rows])
        zeros = vertical.new_zeros(2, 2, len(vertical[0]))
        blocks = []
        for conjugated, v, h in maps:
            block = _map_kernels(columns[h], conjugated=conjugated, negated=self._is_negated(conjugated, h))
            blocks.append(torch.cat([block if v == row else zeros for row in rows], dim=1))
        horizontal = torch.cat(blocks)
        dtype = self._hfilters.dtype
        return vertical[:, None, :, None].to(dtype), horizontal[:, :, None].to(dtype)

    def _is_negated(self, conjugated: bool, horizontal: Bits) -> bool:
        """Whether the imaginary part changes its sign to make a map's horizontal frequency positive."""
        return self.make_analytic and (not any(horizontal[1:])) != conjugated


def _rebuild_after_loading(module: DtCwpt2d, _: Any) -> None:
    """A hook of loading; a function of the module, so that transforms can be pickled."""
    module._rebuild()


def check_maps(keep: Sequence[int], count: int) -> tuple[int, ...]:
    """The indices of maps as a tuple; BadParameter unless they lie in 0 … count − 1, at least one of them."""
    keep = tuple(keep)
    if not keep or not all(isinstance(f, int) and not isinstance(f, bool) and 0 <= f < count for f in keep):
        message = f"keep must hold indices of maps in 0 … {count - 1}, at least one; got {keep!r}."
        raise BadParameter(message)
    return keep


def frequency(f: int, depth: int) -> tuple[float, float]:
    """The centre (ω_x, ω_y) of map ``f``'s band after conjugation, in units of π; rows count downwards."""
    conjugated, (v, h) = f >= 4**depth, bits_of(f % 4**depth, depth)
    centres = [(band(bits) + 0.5) / 2**depth for bits in (h, v)]
    signs = [1 if any(bits[1:]) else -1 for bits in (h, v)]
    return centres[0], centres[1] * signs[0] * signs[1] * (-1 if conjugated else 1)


def _pair(primal: Any, dual: Any, *, trainable: bool) -> nn.Parameter:
    rows = torch.stack([torch.from_numpy(primal), torch.from_numpy(dual)]).float()
    return nn.Parameter(rows, requires_grad=trainable)


def _trees(low: Tensor, high: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Composed filters (K,) of trees a and b for the choices ``bits``."""
    return compose(_chain(low, high, bits, dual=False)), compose(_chain(low, high, bits, dual=True))


def _chain(low: Tensor, high: Tensor, bits: Bits, *, dual: bool) -> list[Tensor]:
    """The filters of one tree, stage by stage.

    The first stage has the primal pair with a delay of one sample between the trees. A high-pass there swaps the
    trees; below any later high-pass both have the primal pair.
    """
    first, *others = bits
    chain = [_first_stage(low[0], high[0], high_pass=bool(first), dual=dual)]
    tree = int(dual) ^ first
    for bit in others:
        chain.append((high if bit else low)[tree])
        tree = 0 if bit else tree
    return chain


def _first_stage(low: Tensor, high: Tensor, *, high_pass: bool, dual: bool) -> Tensor:
    """Filters of two more taps: the pair of the primal tree, delayed."""
    if high_pass:
        return F.pad(-high, (1, 1)) if dual else F.pad(high, (0, 2))
    return F.pad(low, (1, 1)) if dual else F.pad(low, (2, 0))


def _map_kernels(trees: Tensor, *, conjugated: bool, negated: bool) -> Tensor:
    """Horizontal kernels (2, 2, K) of a map, real and imaginary, for columns of trees a and b, from filters (2, K)."""
    a, b = trees
    sign = -1 if conjugated else 1
    kernels = torch.stack([torch.stack([a, -sign * b]), torch.stack([sign * b, a])])
    return torch.stack([kernels[0], -kernels[1]]) if negated else kernels
