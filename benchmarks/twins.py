"""The first layer of a wavelet twin against the published program's way to compute it, and whole training steps.

    python benchmarks/twins.py [--threads 2] [--repeats 5]

"published" computes every map of the four trees, stage by stage, and then selects (``published_block.py``); modules
and weights are the same. Forward + backward, in training, on (64, 3, 224, 224); the error is the largest difference of
outputs, relative to the largest. The memory is the growth of the peak resident set of a process for each. The second
table has whole training steps (forward, backward, SGD) of twins as a multiple of the plain network's, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from published_block import PublishedBlock
from timing import Run, compare, own_peak, peak_of_process
from torch import Tensor, nn

from sepconc.nets.twins import build_twin

FIRST_LAYERS = (
    ("dtcwpt_resnet18", "Ft40YEx_mod"),
    ("dtcwpt_resnet18", "Ft40YEx"),
    ("dtcwpt_resnet18", "Ft40_mod"),
    ("DtCwptAlexNet", "Ft32Y_mod"),
)
PLAIN = ("resnet18", "Std")
TWINS = (
    ("dtcwpt_resnet18", "Ft40YEx_mod"),
    ("dtcwpt_zhang_resnet18", "Ft40YBf3Ex_mod"),
    ("zhang_resnet18", "Bf3"),
)
STEPS = ((128, 32), (16, 224))


class PublishedHybrid(nn.Module):
    """A hybrid layer with its wavelet block computed as in the published program."""

    def __init__(self, hybrid: nn.Module) -> None:
        super().__init__()
        self.hybrid, self.block = hybrid, PublishedBlock(hybrid.wptblock)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H', W')."""
        free, wavelet = self.hybrid.freeconv(x), self.block(x)
        side = min(free.shape[-1], wavelet.shape[-1])
        first = [round((part.shape[-1] - side) / 2) for part in (free, wavelet)]
        parts = zip((free, wavelet), first, strict=True)
        return torch.cat([part[..., at : at + side, at : at + side] for part, at in parts], 1)


def layers(arch: str, config: str) -> dict[str, nn.Module]:
    """The first layer, ours and as published, with the same weights."""
    torch.manual_seed(0)
    hybrid = build_twin(arch, config, 10).first_conv
    return {"ours": hybrid, "published": PublishedHybrid(hybrid)}


def images(batch: int, side: int) -> Tensor:
    """Noise (batch, 3, side, side)."""
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def both_ways(layer: nn.Module, x: Tensor) -> Run:
    """Forward and backward to the layer's weights, as in training."""

    def run() -> Tensor:
        layer.zero_grad()
        y = layer(x)
        y.sum().backward()
        return y.detach()

    return run


def first_layers(repeats: int) -> None:
    """Print the table of first layers."""
    print(f"{'first layer, (64, 3, 224, 224)':<34}{'ours':>11}{'published':>11}{'ratio':>8}{'error':>10}{'memory':>22}")
    for arch, config in FIRST_LAYERS:
        found = layers(arch, config)
        x = images(64, 224)
        result = compare(both_ways(found["ours"], x), both_ways(found["published"], x), repeats)
        peaks = [peak_of_process("--peak", arch, config, which) for which in found]
        share = f"{peaks[0]:.0f} / {peaks[1]:.0f} MB"
        print(f"{arch + ' ' + config:<34}{result.columns()}{share:>22}", flush=True)


def peak(arch: str, config: str, which: str) -> float:
    """Growth of this process's peak resident set by a forward and a backward pass, in MB."""
    layer, x = layers(arch, config)[which], images(64, 224)
    both_ways(layer, x[:1])()
    Path("/proc/self/clear_refs").write_text("5")  # forget what building the network took
    before = own_peak()
    both_ways(layer, x)()
    return own_peak() - before


def step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """Seconds of a training step."""
    start = time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()
    return time.perf_counter() - start


def training_steps(repeats: int) -> None:
    """Print the table of training steps."""
    print(f"\n{'training step':<38}" + "".join(f"{f'{batch} images of {side}':>24}" for batch, side in STEPS))
    nets = {names: build_twin(*names, 10) for names in (PLAIN, *TWINS)}
    optimizers = {names: torch.optim.SGD(net.parameters(), 0.1, 0.9) for names, net in nets.items()}
    cells: dict[tuple[str, str], str] = dict.fromkeys(nets, "")
    for batch, side in STEPS:
        x, y = images(batch, side), torch.randint(10, (batch,), generator=torch.Generator().manual_seed(2))
        turns = [{names: step(nets[names], optimizers[names], x, y) for names in nets} for _ in range(repeats + 1)][1:]
        for names in nets:
            ratio = statistics.median(turn[names] / turn[PLAIN] for turn in turns)
            seconds = statistics.median(turn[names] for turn in turns)
            cells[names] += f"{f'{1e3 * seconds:.0f} ms, {ratio:.2f}x':>24}"
    for names, text in cells.items():
        print(f"{' '.join(names):<38}{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", nargs=3, metavar=("ARCH", "CONFIG", "WHICH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(peak(*options.peak))
        return
    first_layers(options.repeats)
    training_steps(options.repeats)


if __name__ == "__main__":
    main()
