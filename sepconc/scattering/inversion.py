"""Signals from their scattering coefficients, by gradient descent on the distance of the coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sepconc.errors import BadInput, BadParameter
from sepconc.scattering.checks import is_count, is_positive, refuse

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda difference: difference.abs().mean(),
    "mse": lambda difference: difference.square().mean(),
    "l2": lambda difference: torch.linalg.vector_norm(difference),
}
CHOICES = {
    "loss": tuple(LOSSES),
    "method": ("adam", "bold-driver"),
    "schedule": ("cosine", "constant"),
    "start": ("normal", "uniform"),
}

Loss = Callable[[Tensor], Tensor]


class Transform(Protocol):
    """What can be inverted: a differentiable module of signals whose axes are the last ones."""

    input_shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """The coefficients of signals."""


@dataclass(frozen=True)
class Inversion:
    """What `invert` found.

    Attributes
    ----------
    signal : Tensor or array
        The iterate of least loss, (..., *input_shape) of the transform, of the kind of the coefficients.
    losses : tuple of float
        Relative loss ℓ(Sx − Sx₀) / ℓ(Sx₀) at the start of every step; the best one belongs to ``signal``.
    """

    signal: Tensor | np.ndarray
    losses: tuple[float, ...]


def invert(
    transform: Transform,
    coefficients: Tensor | np.ndarray,
    *,
    steps: int = 100,
    lr: float | None = None,
    loss: str = "l1",
    method: str = "adam",
    schedule: str = "cosine",
    start: str | Tensor | np.ndarray = "normal",
    seed: int = 0,
    callback: Callable[[int, float], None] | None = None,
) -> Inversion:
    """Find a signal with given coefficients: x̃ = argmin ℓ(Sx − Sx₀), from noise.

    Good reconstructions need a small scale (2^J = 4 pixels): a larger one averages more away. The gradient of a modulus
    is taken as zero where the modulus is. The loss is normalised by that of a zero signal, which changes no step of
    Adam's, and makes one learning rate fit coefficients of any size.

    Parameters
    ----------
    transform : Scattering2D, PhaseScattering2D, Scattering1D, or another differentiable module with an ``input_shape``
    coefficients : Tensor or array
        What ``transform`` gives for the signals that are looked for, (..., as one signal's).
    steps : int
    lr : float, optional
        Learning rate: by default 0.5 for Adam, 100 for the bold driver.
    loss : {"l1", "mse", "l2"}
        Mean of absolute or of squared differences, or the Euclidean norm.
    method : {"adam", "bold-driver"}
        The bold driver is gradient descent whose rate grows by a tenth when the loss fell; when it rose, the step is
        taken back and the rate multiplied by 0.55.
    schedule : {"cosine", "constant"}
        How Adam's rate goes down to zero, or doesn't; the published settings keep it constant, where the loss stops at
        the noise of the steps (a tenth at lr=0.5, for images in [0, 1]).
    start : {"normal", "uniform"}, Tensor or array
        Gaussian noise of standard deviation 0.1, uniform noise in [0, 1), or a signal to start from.
    seed : int
        Of the noise.
    callback : callable, optional
        Called at every step with its number and the relative loss.

    Returns
    -------
    Inversion

    Raises
    ------
    BadParameter
        An unknown name, or a number out of range.
    BadInput
        Coefficients of another shape than ``transform`` gives, or that aren't finite.

    References
    ----------
    Bruna and Mallat (2013), "Audio texture synthesis with scattering moments"; Andén et al. (2018), Kymatio's examples.

    Examples
    --------
    >>> import torch
    >>> from sepconc.scattering import Scattering2D, invert
    >>> S, x = Scattering2D(J=1, shape=(16, 16), L=4), torch.rand(16, 16)
    >>> result = invert(S, S(x), steps=30)
    >>> result.signal.shape, result.losses[-1] < result.losses[0]
    (torch.Size([16, 16]), True)
    """
    _check(transform, coefficients, steps, lr)
    _check_run(seed, callback)
    _check_choices({"loss": loss, "method": method, "schedule": schedule, "start": start})
    with torch.inference_mode(False), torch.enable_grad():
        target = _tensor(coefficients, transform)
        x = _start(transform, target, start, seed)
        scale = LOSSES[loss](target)
        scale = torch.where(scale > 0, scale, 1.0)

        def relative_loss(signal: Tensor) -> Tensor:
            return LOSSES[loss](transform(signal) - target) / scale

        if not math.isfinite(float(relative_loss(x))):
            message = "`coefficients` must be finite numbers, of a size that the transform gives; got others."
            raise BadInput(message)
        best = _Best(x, callback)
        if method == "adam":
            _adam(relative_loss, x, steps, 0.5 if lr is None else lr, schedule, best)
        else:
            _bold_driver(relative_loss, x, steps, 100.0 if lr is None else lr, best)
    signal = best.signal if isinstance(coefficients, Tensor) else best.signal.numpy(force=True)
    return Inversion(signal, tuple(best.losses))


def psnr(signal: Tensor | np.ndarray, reference: Tensor | np.ndarray, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(peak² / mean((signal − reference)²)), of tensors or arrays."""
    one, other = (_number_tensor("`signal` and `reference`", value) for value in (signal, reference))
    difference = one.double() - other.double()
    error = difference.square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


class _Best:
    """The losses so far, and the signal of the least one."""

    def __init__(self, x: Tensor, callback: Callable[[int, float], None] | None) -> None:
        self.signal, self.losses, self.callback = x.detach().clone(), [], callback

    def add(self, x: Tensor, loss: Tensor) -> float:
        value = loss.item()
        if value < min(self.losses, default=math.inf):
            self.signal = x.detach().clone()
        self.losses.append(value)
        if self.callback is not None:
            self.callback(len(self.losses) - 1, value)
        return value


def _adam(loss_of: Loss, x: Tensor, steps: int, lr: float, schedule: str, best: _Best) -> None:
    x = x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=lr)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(x)
        best.add(x, loss)
        loss.backward()
        optimizer.step()
        if schedule == "cosine":
            rates.step()
    best.add(x, loss_of(x))


def _bold_driver(loss_of: Loss, x: Tensor, steps: int, rate: float, best: _Best) -> None:
    x = x.requires_grad_()
    loss = loss_of(x)
    current = best.add(x, loss)
    (gradient,) = torch.autograd.grad(loss, x)
    for _ in range(steps):
        tried = (x - rate * gradient).detach().requires_grad_()
        loss = loss_of(tried)
        value = best.add(tried, loss)
        if value < current:
            x, current, rate = tried, value, 1.1 * rate
            (gradient,) = torch.autograd.grad(loss, x)
        else:
            rate *= 0.55


def _check(transform: Any, coefficients: Any, steps: int, lr: float | None) -> None:
    if not callable(transform) or not isinstance(getattr(transform, "input_shape", None), tuple):
        message = f"`transform` must be a transform of sepconc.scattering; got a {type(transform).__name__}."
        raise BadParameter(message)
    if not isinstance(coefficients, Tensor | np.ndarray):
        message = f"`coefficients` must be a tensor or an array; got a {type(coefficients).__name__}."
        raise BadInput(message)
    if 0 in coefficients.shape:
        message = f"`coefficients` must be those of one signal at least; got shape {tuple(coefficients.shape)}."
        raise BadInput(message)
    if not is_count(steps, 1):
        refuse("`steps`", "be an integer of at least 1", steps)
    if lr is not None and not is_positive(lr):
        refuse("`lr`", "be a positive number", lr)


def _check_run(seed: Any, callback: Any) -> None:
    if not is_count(seed, 0) or seed >= 2**64:
        refuse("`seed`", "be an integer from 0 to 2^64 - 1", seed)
    if callback is not None and not callable(callback):
        refuse("`callback`", "be a function of a step's number and its loss", callback)


def _check_choices(chosen: dict[str, Any]) -> None:
    for name, value in chosen.items():
        if name == "start" and isinstance(value, Tensor | np.ndarray):
            continue
        if not isinstance(value, str) or value not in CHOICES[name]:
            refuse(f"`{name}`", f"be one of {', '.join(CHOICES[name])}", value)


def _tensor(coefficients: Tensor | np.ndarray, transform: Transform) -> Tensor:
    if isinstance(coefficients, Tensor):
        return coefficients.detach().clone()  # not one of inference mode
    return _number_tensor("`coefficients`", coefficients).to(getattr(transform, "device", "cpu"))


def _number_tensor(name: str, value: Tensor | np.ndarray) -> Tensor:
    """A tensor, or a real array of any byte order and strides as one."""
    if isinstance(value, Tensor):
        return value.detach()
    if not isinstance(value, np.ndarray) or value.dtype.newbyteorder("=") not in (np.float32, np.float64):
        what = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        message = f"{name} must be tensors or arrays of float32 or float64; got {what}."
        raise BadInput(message)
    return torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))


def _start(transform: Transform, target: Tensor, start: str | Tensor | np.ndarray, seed: int) -> Tensor:
    with torch.no_grad():
        zero = transform(torch.zeros(transform.input_shape, dtype=target.dtype, device=target.device))
    if not isinstance(zero, Tensor):
        message = f'`transform` must give one tensor; got a {type(zero).__name__}. Build it with out_type="array".'
        raise BadParameter(message)
    of_one = zero.shape
    batch = target.shape[: target.ndim - len(of_one)]
    if target.shape != (*batch, *of_one):
        message = f"`coefficients` must have the shape (..., {', '.join(map(str, of_one))}); got {tuple(target.shape)}."
        raise BadInput(message)
    shape = (*batch, *transform.input_shape)
    if not isinstance(start, str):
        start = _number_tensor("`start`", start)
        if not start.isfinite().all():
            message = "`start` must be a signal of finite numbers; got others."
            raise BadInput(message)
        if start.shape != shape:
            message = f"`start` must have the shape {shape} of the signals; got {tuple(start.shape)}."
            raise BadInput(message)
        return start.detach().to(target).clone()
    generator = torch.Generator().manual_seed(seed)
    if start == "uniform":
        return torch.rand(shape, generator=generator, dtype=target.dtype).to(target.device)
    return (0.1 * torch.randn(shape, generator=generator, dtype=target.dtype)).to(target.device)
