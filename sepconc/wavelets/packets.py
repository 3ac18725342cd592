"""The ordinary (real, separable) wavelet packet transform."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sepconc.errors import BadParameter, MissingPackage
from sepconc.wavelets.cascade import Plan, bits_of, check_input, check_padding_mode, compose, make_plan, pad
from sepconc.wavelets.qshift import NAMES, qshift


class Wpt2d(nn.Module):
    """Separable wavelet packet transform of images: 4^depth real maps per channel.

    Parameters
    ----------
    in_channels, depth, stride, padding_mode, trainable_qmf
        As of :class:`~sepconc.wavelets.DtCwpt2d`.
    wavelet : str
        A q-shift filter (its primal pair), or any discrete wavelet of PyWavelets (``haar``, ``db3``, …).

    Raises
    ------
    BadParameter, BadInput
        As of ``DtCwpt2d``.
    MissingPackage
        The wavelet is one of PyWavelets, which isn't installed.

    Examples
    --------
    >>> Wpt2d(1, depth=2, stride=4)(torch.zeros(1, 1, 64, 64)).shape
    torch.Size([1, 16, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        depth: int,
        stride: int | None = None,
        wavelet: str = "qshift_a",
        padding_mode: str = "zeros",
        *,
        trainable_qmf: bool = False,
    ) -> None:
        super().__init__()
        low, high = _filters(wavelet)
        self.in_channels = in_channels
        self.plan: Plan = make_plan(depth, stride, (len(low),) * depth)
        self.wavelet = wavelet
        self.padding_mode = check_padding_mode(padding_mode)
        self._hfilters = nn.Parameter(torch.tensor(low, dtype=torch.float32), requires_grad=trainable_qmf)
        self._gfilters = nn.Parameter(torch.tensor(high, dtype=torch.float32), requires_grad=trainable_qmf)

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.in_channels * 4**self.plan.depth

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C·4^depth, H', W'), channel by channel, map by map."""
        check_input(x, self.in_channels, self.plan)
        vertical, horizontal = self._kernels()
        planes = pad(x, self.plan.padding, self.padding_mode).flatten(0, 1).unsqueeze(1)
        columns = F.conv2d(planes, vertical, stride=(self.plan.stride, 1))
        maps = F.conv2d(columns, horizontal, stride=(1, self.plan.stride))
        return maps.unflatten(0, x.shape[:2]).flatten(1, 2)

    def _kernels(self) -> tuple[Tensor, Tensor]:
        depth = self.plan.depth
        choices = [tuple((index >> (depth - 1 - stage)) & 1 for stage in range(depth)) for index in range(2**depth)]
        pairs = torch.stack([self._hfilters, self._gfilters])
        composed = {bits: compose([pairs[bit] for bit in bits]) for bits in choices}
        vertical = torch.stack([composed[bits] for bits in choices])
        rows = []
        for n in range(4**depth):
            v, h = bits_of(n, depth)
            one = F.one_hot(torch.tensor(choices.index(v)), len(choices)).to(vertical)
            rows.append(one[:, None] * composed[h])
        return vertical[:, None, :, None], torch.stack(rows)[:, :, None]


def _filters(wavelet: str) -> tuple[Any, Any]:
    """Low- and high-pass filter of a wavelet by name."""
    if wavelet in NAMES:
        table = qshift(wavelet)
        return table.low_b, table.high_b
    try:
        import pywt
    except ImportError as error:
        message = f'The wavelet {wavelet!r} needs PyWavelets; install it with "pip install sepconc[wavelets]".'
        raise MissingPackage(message) from error
    try:
        found = pywt.Wavelet(wavelet)
    except (ValueError, TypeError, AttributeError) as error:
        message = f"wavelet must be one of {', '.join(NAMES)} or of PyWavelets (haar, db3, …); got {wavelet!r}."
        raise BadParameter(message) from error
    return found.dec_lo, found.dec_hi
