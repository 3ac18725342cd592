"""Bytes that the CUDA engines move through a GPU's memory, step by step: the floor beside every time.

    python benchmarks/traffic.py [B C H W J] [--kymatio]

Counted is what cannot stay in a cache: every kernel reads what it takes and writes what it gives once, a Fourier
transform of a plane is two passes, filters cost nothing. float32, order 2. "steps" are the engines that leave Fourier
transforms to a library, ``triton`` and ``skcuda``; "lines" is ``cupy``. With --kymatio, also what the operations of
Kymatio's torch frontend move by the same rules, counted while it transforms four images.
"""

from __future__ import annotations

import argparse
from collections import Counter
from math import prod
from typing import Any

import torch
from scattering2d import images, kymatio
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sepconc.scattering.geometry import Geometry

REAL, COMPLEX = 4, 8
ORDER = (
    "spectra of real maps",
    "products and aliases",
    "inverse transforms",
    "moduli",
    "low-pass",
    "products and columns",
    "rows and moduli",
    "on the way back",
)


def moved(engine: str, shape: tuple[int, ...], J: int, L: int = 8, backward: bool = False) -> Counter[str]:
    """Bytes by step, of images (..., H, W); ``backward`` adds a backward pass from kept wavelet coefficients."""
    geometry = Geometry(tuple(shape[-2:]), J, L)
    counted = (_Lines if engine == "cupy" else _Steps)(geometry).all(backward)
    return Counter({step: count * prod(shape[:-2]) for step, count in counted.items()})


class _Count:
    """Of one image; children say what a layer moves."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry, self.steps = geometry, Counter()
        self.outputs = prod(geometry.output_shape)

    def all(self, backward: bool) -> Counter[str]:
        (M, N), J, L = self.geometry.padded_shape, self.geometry.J, self.geometry.L
        self.steps["spectra of real maps"] += M * N * REAL + 3 * self.half(1, M, N)
        self.low_pass(1, M, N)
        for j1 in range(J):
            layers = [(1, j1, 0, j1 < J - 1, j1 > 0), *((L, j2, j1, False, j2 > j1 + 1) for j2 in range(j1 + 1, J))]
            for maps, j, r, further, added in layers:
                self.forward(maps, j, r, further)
                if backward:
                    self.backward(maps, j, r, further, added)
        if backward:
            self.image(M, N)
        return self.steps

    def half(self, maps: int, m: int, n: int) -> int:
        return maps * m * (n // 2 + 1) * COMPLEX

    def low_pass(self, maps: int, m: int, n: int) -> None:
        """Two products with matrices, and a copy to where the coefficients belong."""
        self.steps["low-pass"] += maps * REAL * (m * n + 2 * m * self.geometry.output_shape[1] + 3 * self.outputs)

    def sides(self, j: int) -> tuple[int, int]:
        """Of maps subsampled by 2^j."""
        M, N = self.geometry.padded_shape
        return M >> j, N >> j

    def forward(self, maps: int, j: int, r: int, further: bool) -> None:
        """From spectra of ``maps`` maps of resolution r to coefficients at scale j; ``further``: to their spectra."""
        raise NotImplementedError

    def backward(self, maps: int, j: int, r: int, further: bool, added: bool) -> None:
        """The way back of `forward`; ``added``: to what another scale gave."""
        raise NotImplementedError

    def image(self, M: int, N: int) -> None:
        """The end of the way back."""
        raise NotImplementedError


class _Steps(_Count):
    """Every step of all angles at once."""

    def forward(self, maps: int, j: int, r: int, further: bool) -> None:
        (m, n), answers = self.sides(j), maps * self.geometry.L * prod(self.sides(j))
        self.steps["products and aliases"] += self.half(maps, *self.sides(r)) + answers * COMPLEX
        self.steps["inverse transforms"] += 4 * answers * COMPLEX
        self.steps["moduli"] += answers * (COMPLEX + REAL)
        self.low_pass(maps * self.geometry.L, m, n)
        if further:
            self.steps["spectra of real maps"] += answers * REAL + 3 * self.half(maps * self.geometry.L, m, n)

    def backward(self, maps: int, j: int, r: int, further: bool, added: bool) -> None:
        (m, n), w, L = self.sides(j), self.geometry.output_shape[1], self.geometry.L
        answers = maps * L * m * n
        back = maps * L * REAL * (self.outputs + 2 * m * w + m * n)  # the adjoint of the low-pass
        back += 2 * answers * COMPLEX + answers * REAL  # of the modulus
        back += 4 * answers * COMPLEX  # of the inverse transform
        back += answers * COMPLEX + 2 * self.half(maps, *self.sides(r))  # of the product, always added
        if further:
            back += 6 * self.half(L, m, n) + 4 * answers * REAL  # of the spectrum of |z|, added to what is there
        self.steps["on the way back"] += back

    def image(self, M: int, N: int) -> None:
        self.steps["on the way back"] += 6 * self.half(1, M, N) + 4 * M * N * REAL


class _Lines(_Count):
    """Transforms of columns and of rows, each with what is before and after it."""

    def forward(self, maps: int, j: int, r: int, further: bool) -> None:
        (m, n), w, made = self.sides(j), self.geometry.output_shape[1], maps * self.geometry.L
        answers, narrow = made * m * n * COMPLEX, made * m * w * REAL
        self.steps["products and columns"] += self.half(maps, *self.sides(r)) + answers
        self.steps["rows and moduli"] += answers + narrow
        self.steps["low-pass"] += narrow + made * self.outputs * REAL
        if further:
            self.steps["spectra of real maps"] += 3 * self.half(made, m, n)

    def backward(self, maps: int, j: int, r: int, further: bool, added: bool) -> None:
        (m, n), w, made = self.sides(j), self.geometry.output_shape[1], maps * self.geometry.L
        answers, whole = made * m * n * COMPLEX, maps * prod(self.sides(r)) * COMPLEX
        back = made * REAL * (self.outputs + 2 * m * w)  # the adjoint of the low-pass
        back += (2 + further) * answers  # of the rows, with what the next order gave
        back += answers + (1 + added) * whole  # of the product and the columns
        self.steps["on the way back"] += back

    def image(self, M: int, N: int) -> None:
        self.steps["on the way back"] += M * N * (3 * COMPLEX + 4 * REAL)


class _Operations(TorchDispatchMode):
    """Adds up the tensors that operations read and write; what is expanded counts once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.calls = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = operation(*args, **(kwargs or {}))
        name = operation.name()
        if operation.is_view or name.startswith(("aten::empty", "aten::detach")):
            return out
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        if name.startswith("aten::copy_"):
            tensors = list(args[:2])
        passes = 2 if "fft" in name else 1
        self.bytes += passes * sum(map(_stored, tensors))
        self.calls += 1
        return out


def _stored(tensor: Tensor) -> int:
    sides = (side for side, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return prod(sides) * tensor.element_size()


def of_kymatio(shape: tuple[int, ...], J: int, backward: bool) -> tuple[float, int]:
    """Bytes and operations."""
    some = (4, *shape[1:])
    x = images(some).requires_grad_(backward)
    transform = kymatio(some, J)
    with _Operations() as counted:
        out = transform(x)
        if backward:
            out.backward(torch.ones_like(out))
    return counted.bytes * shape[0] / some[0], counted.calls


def main() -> None:
    """Print the table of one size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", type=int, nargs="*", metavar="B C H W J", default=(128, 3, 256, 256, 2))
    parser.add_argument("--kymatio", action="store_true")
    options = parser.parse_args()
    if len(options.size) != 5:
        parser.error("a size is B C H W J, or nothing")
    *shape, J = options.size
    engines = {"steps": "triton", "lines": "cupy"}
    counts = {title: moved(engine, tuple(shape), J, backward=True) for title, engine in engines.items()}
    forward = {title: moved(engine, tuple(shape), J).total() for title, engine in engines.items()}
    print(f"{'GB':<24}" + "".join(f"{title:>10}" for title in engines))
    for step in ORDER:
        print(f"{step:<24}" + "".join(f"{counts[title][step] / 1e9:>10.1f}" for title in engines))
    print(f"{'forward':<24}" + "".join(f"{forward[title] / 1e9:>10.1f}" for title in engines))
    print(f"{'forward + backward':<24}" + "".join(f"{counts[title].total() / 1e9:>10.1f}" for title in engines))
    for backward in (False, True) if options.kymatio else ():
        size, calls = of_kymatio(tuple(shape), J, backward)
        print(f"Kymatio, forward{' + backward' * backward}: {size / 1e9:.1f} GB in {calls} operations")


if __name__ == "__main__":
    main()
