"""The two-dimensional transforms on CUDA: torch's Fourier transforms, and kernels in Triton for what is between them.

float32 and float64, any device that Triton compiles for. With ``TRITON_INTERPRET=1`` the kernels run in Triton's
interpreter, on the CPU and slowly, which is how their arithmetic is tested where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sepconc.errors import EngineUnavailable
from sepconc.scattering.engines import Filters2D, cascade
from sepconc.scattering.engines.primitives import TILE, Primitives, Wavelets
from sepconc.scattering.geometry import Geometry

try:
    import triton
    import triton.language as tl
except ImportError as error:
    message = f"its kernels need Triton, which comes with torch's CUDA builds: {error}"
    raise ImportError(message) from error

MAPS = 4  # spectra that one program does for a tile of frequencies, so that a filter's values serve them all
BLOCK = 512  # samples that one program does of everything else


def scatter2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Scattering coefficients of a batch of images on CUDA, (B, H, W) -> (B, K, H // 2^J, W // 2^J).

    Raises
    ------
    EngineUnavailable
        For images on another device.
    """
    return cascade.scatter2d(on_cuda(x), filters, geometry, cascade.Options(PRIMITIVES))


def phase2d(x: Tensor, filters: Filters2D, geometry: Geometry) -> Tensor:
    """Phase scattering of a batch of images on CUDA, (B, H, W) -> (B, 1 + 4L, H // 2, W // 2).

    Raises
    ------
    EngineUnavailable
        For images on another device.
    """
    return cascade.phase2d(on_cuda(x), filters, geometry, cascade.Options(PRIMITIVES))


def on_cuda(x: Tensor) -> Tensor:
    """``x``, which has to be where the kernels run."""
    if not x.is_cuda and not triton.knobs.runtime.interpret:
        message = f"Engine 'triton' takes images on a CUDA device; got {x.device}. Move them, or leave engine=None."
        raise EngineUnavailable(message)
    return x


def _product(spectra: Tensor, wavelets: Wavelets) -> Tensor:
    b, P, _, _ = spectra.shape
    out = spectra.new_empty(b, P, len(wavelets.values), *wavelets.coarse)
    _launch_product(_product_kernel, spectra, wavelets, wavelets.support, out)
    return out


def _add_product_adjoint(gradient: Tensor, wavelets: Wavelets, total: Tensor) -> None:
    _launch_product(_product_adjoint_kernel, gradient, wavelets, wavelets.mirrored, total)


def _launch_product(kernel: Any, source: Tensor, wavelets: Wavelets, support: Tensor, target: Tensor) -> None:
    (L, M, N), maps, tiles = wavelets.values.shape, source.shape[0] * source.shape[1], support.shape[-1]
    _launch(
        kernel,
        tiles * triton.cdiv(maps, MAPS),
        (torch.view_as_real(source.contiguous()), wavelets.values, support, torch.view_as_real(target)),
        (maps, M, N, *wavelets.coarse, tiles, L),
        STEP=wavelets.step,
        MAPS=MAPS,
        TILE=TILE,
    )


def _modulus(pairs: Tensor) -> Tensor:
    out = pairs.new_empty(pairs.shape[:-1])
    _launch_blocks(_modulus_kernel, len(out), out[0].numel(), (pairs, out), ())
    return out


def _modulus_adjoint(pairs: Tensor, gradient: Tensor) -> Tensor:
    out = torch.empty_like(pairs, dtype=gradient.dtype)
    _launch_blocks(_modulus_adjoint_kernel, len(out), out[0].numel() // 2, (pairs, gradient.contiguous(), out), ())
    return out


def _phases(pairs: Tensor, out: Tensor) -> None:
    b, L, _, _, _ = pairs.shape
    h, w = out.shape[-2:]
    _launch_blocks(_phases_kernel, b, L * h * w, (pairs, out), (out.stride(0), L, h, w))


def _phases_adjoint(pairs: Tensor, gradient: Tensor) -> Tensor:
    out = torch.empty_like(pairs)
    h, w = gradient.shape[-2:]
    numbers = (gradient.stride(0), pairs.shape[1], h, w)
    _launch_blocks(_phases_adjoint_kernel, len(out), out[0].numel() // 2, (pairs, gradient, out), numbers)
    return out


def _launch_blocks(kernel: Any, images: int, size: int, tensors: tuple[Tensor, ...], numbers: tuple[int, ...]) -> None:
    """One program for each block of the ``size`` samples of each image."""
    blocks = triton.cdiv(size, BLOCK)
    _launch(kernel, images * blocks, tensors, (size, blocks, *numbers), BLOCK=BLOCK)


def _launch(
    kernel: Any, programs: int, tensors: tuple[Tensor, ...], numbers: tuple[int, ...], **constants: int
) -> None:
    with torch.cuda.device_of(tensors[-1]):
        kernel[(programs,)](*tensors, *numbers, **constants, enable_fp_fusion=True)


PRIMITIVES = Primitives(
    product=_product,
    add_product_adjoint=_add_product_adjoint,
    modulus=_modulus,
    modulus_adjoint=_modulus_adjoint,
    phases=_phases,
    phases_adjoint=_phases_adjoint,
)


@triton.jit
def _load_pairs(pairs, at, mask, real: tl.constexpr):
    """Complex numbers ``at`` somewhere, as real and imaginary parts."""
    parts = tl.expand_dims(pairs + 2 * at, -1) + tl.arange(0, 2)
    return tl.split(tl.load(parts, mask=tl.expand_dims(mask, -1), other=0.0).to(real))


@triton.jit
def _store_pairs(pairs, at, re, im, mask):
    parts = tl.expand_dims(pairs + 2 * at, -1) + tl.arange(0, 2)
    tl.store(parts, tl.join(re, im), mask=tl.expand_dims(mask, -1))


@triton.jit
def _hypotenuse(a, b):
    """√(a² + b²) without overflow; NaN where one of them is."""
    a, b = tl.abs(a), tl.abs(b)
    large = tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
    small = tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
    ratio = small / tl.where(large > 0, large, 1.0)
    return large * tl.sqrt(1.0 + ratio * ratio)


@triton.jit(do_not_specialize=["maps", "M", "N", "m", "n", "tiles", "L"])
def _product_kernel(
    spectra, wavelets, support, out, maps, M, N, m, n, tiles, L,
    STEP: tl.constexpr, MAPS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """out[p, θ, k] = Σ over aliases f of k of spectra[p, f]·wavelets[θ, f]; the spectra are half ones."""
    real: tl.constexpr = out.dtype.element_ty
    tile = tl.program_id(0) % tiles
    p = tl.program_id(0) // tiles * MAPS + tl.arange(0, MAPS)
    k = tile * TILE + tl.arange(0, TILE)
    row, col = k // n, k % n
    there = k < m * n
    inside = (p < maps)[:, None] & there[None, :]
    half = N // 2 + 1
    source = spectra + (p.to(tl.int64) * (2 * M * half))[:, None]
    target = out + (p.to(tl.int64) * (2 * m * n * L))[:, None]
    for theta in range(L):
        re = tl.zeros((MAPS, TILE), real)
        im = tl.zeros((MAPS, TILE), real)
        for alias in range(STEP * STEP):
            if tl.load(support + (theta * STEP * STEP + alias) * tiles + tile) != 0:
                f, g = row + alias // STEP * m, col + alias % STEP * n
                mirrored = g > N // 2
                at = tl.where(mirrored, (M - f) % M * half + N - g, f * half + g)
                weight = tl.load(wavelets + theta * M * N + f * N + g, mask=there, other=0.0)[None, :]
                a, b = _load_pairs(source, at[None, :], inside, real)
                re += weight * a
                im += tl.where(mirrored[None, :], -weight, weight) * b
        _store_pairs(target, (theta * m * n + k)[None, :], re, im, inside)


@triton.jit(do_not_specialize=["maps", "M", "N", "m", "n", "tiles", "L"])
def _product_adjoint_kernel(
    gradient, wavelets, support, total, maps, M, N, m, n, tiles, L,
    STEP: tl.constexpr, MAPS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """total[p, f] += (h[p, f] + conj h[p, −f]) / 2,  h[p, f] = Σ_θ wavelets[θ, f]·gradient[p, θ, f mod (m, n)].

    A program does a tile of the coarse half-plane, and of each of its frequencies k the aliases f; those in the half
    of the fine plane that isn't stored stand for −f, but where k has its opposite in the half-plane too.
    """
    real: tl.constexpr = total.dtype.element_ty
    tile = tl.program_id(0) % tiles
    p = tl.program_id(0) // tiles * MAPS + tl.arange(0, MAPS)
    k = tile * TILE + tl.arange(0, TILE)
    wide, half = n // 2 + 1, N // 2 + 1
    row, col = k // wide, k % wide
    there = k < m * wide
    inside = (p < maps)[:, None] & there[None, :]
    here, opposite = row * n + col, (m - row) % m * n + (n - col) % n
    source = gradient + (p.to(tl.int64) * (2 * m * n * L))[:, None]
    target = total + (p.to(tl.int64) * (2 * M * half))[:, None]
    for alias in range(STEP * STEP):
        f, g = row + alias // STEP * m, col + alias % STEP * n
        minus_f, minus_g = (M - f) % M, (N - g) % N
        re = tl.zeros((MAPS, TILE), real)
        im = tl.zeros((MAPS, TILE), real)
        for theta in range(L):
            if tl.load(support + (theta * STEP * STEP + alias) * tiles + tile) != 0:
                v = tl.load(wavelets + theta * M * N + f * N + g, mask=there, other=0.0)[None, :]
                w = tl.load(wavelets + theta * M * N + minus_f * N + minus_g, mask=there, other=0.0)[None, :]
                a, b = _load_pairs(source, (theta * m * n + here)[None, :], inside, real)
                c, d = _load_pairs(source, (theta * m * n + opposite)[None, :], inside, real)
                re += v * a + w * c
                im += v * b - w * d
        direct = g <= N // 2
        at = tl.where(direct, f * half + g, minus_f * half + minus_g)[None, :]
        stored = inside & (direct | ((col > 0) & (2 * col != n)))[None, :]
        before_re, before_im = _load_pairs(target, at, stored, real)
        im = tl.where(direct[None, :], im, -im)
        _store_pairs(target, at, before_re + 0.5 * re, before_im + 0.5 * im, stored)


@triton.jit(do_not_specialize=["size", "blocks"])
def _modulus_kernel(pairs, out, size, blocks, BLOCK: tl.constexpr):
    image = (tl.program_id(0) // blocks).to(tl.int64)
    e = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    a, b = _load_pairs(pairs + image * size * 2, e, e < size, pairs.dtype.element_ty)
    tl.store(out + image * size + e, _hypotenuse(a, b), mask=e < size)


@triton.jit(do_not_specialize=["size", "blocks"])
def _modulus_adjoint_kernel(pairs, gradient, out, size, blocks, BLOCK: tl.constexpr):
    """out = z/|z|·gradient, 0 where z is."""
    image = (tl.program_id(0) // blocks).to(tl.int64)
    e = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    a, b = _load_pairs(pairs + image * size * 2, e, e < size, out.dtype.element_ty)
    given = tl.load(gradient + image * size + e, mask=e < size, other=0.0)
    modulus = _hypotenuse(a, b)
    factor = tl.where(modulus == 0, 0.0, given / tl.where(modulus == 0, 1.0, modulus))
    _store_pairs(out + image * size * 2, e, factor * a, factor * b, e < size)


@triton.jit(do_not_specialize=["size", "blocks", "stride", "L", "h", "w"])
def _phases_kernel(pairs, out, size, blocks, stride, L, h, w, BLOCK: tl.constexpr):
    """ρ(Re), ρ(Im), ρ(−Re), ρ(−Im) of each angle's answers, without their border."""
    image = (tl.program_id(0) // blocks).to(tl.int64)
    e = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = e < size
    angle, pixel = e // (h * w), e % (h * w)
    at = (angle * (h + 2) + pixel // w + 1) * (w + 2) + pixel % w + 1
    re, im = _load_pairs(pairs + image * (2 * L * (h + 2) * (w + 2)), at, mask, pairs.dtype.element_ty)
    target = out + image * stride + 4 * angle * h * w + pixel
    tl.store(target, tl.where(re <= 0, 0.0, re), mask=mask)
    tl.store(target + h * w, tl.where(im <= 0, 0.0, im), mask=mask)
    tl.store(target + 2 * h * w, tl.where(re >= 0, 0.0, -re), mask=mask)
    tl.store(target + 3 * h * w, tl.where(im >= 0, 0.0, -im), mask=mask)


@triton.jit(do_not_specialize=["size", "blocks", "stride", "L", "h", "w"])
def _phases_adjoint_kernel(pairs, gradient, out, size, blocks, stride, L, h, w, BLOCK: tl.constexpr):
    image = (tl.program_id(0) // blocks).to(tl.int64)
    e = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = e < size
    plane = (h + 2) * (w + 2)
    row, col = e % plane // (w + 2) - 1, e % plane % (w + 2) - 1
    inside = mask & (row >= 0) & (row < h) & (col >= 0) & (col < w)
    re, im = _load_pairs(pairs + image * size * 2, e, mask, pairs.dtype.element_ty)
    source = gradient + image * stride + 4 * (e // plane) * h * w + row * w + col
    up = tl.load(source, mask=inside & (re > 0), other=0.0)
    down = tl.load(source + 2 * h * w, mask=inside & (re < 0), other=0.0)
    up_im = tl.load(source + h * w, mask=inside & (im > 0), other=0.0)
    down_im = tl.load(source + 3 * h * w, mask=inside & (im < 0), other=0.0)
    _store_pairs(out + image * size * 2, e, up - down, up_im - down_im, mask)
