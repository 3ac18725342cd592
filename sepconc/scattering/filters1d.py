"""The one-dimensional Morlet filter bank and its sizes, in the Fourier domain, with Kymatio's conventions.

Frequencies are in cycles per sample, 1/2 is Nyquist's. A wavelet of centre ξ and width σ is, at the frequency ω,

    ψ̂(ω) = c (ĝ(ω − ξ) − κ ĝ(ω)),   ĝ(ω) = exp(−ω² / 2σ²),   κ such that ψ̂(0) = 0, c such that Σ_t |ψ(t)| = 1,

both Gaussians made periodic; the low-pass is c ĝ with σ = 0.1/T. Centres fall by 2^(−1/Q) as long as widths are above
0.1/2^J, then in equal steps at that width (Lostanlen, "Convolutional operators in the time-frequency domain", 2017).
A filter applied to a signal that was subsampled by 2^k is the *mean* of its 2^k aliases: such coefficients carry a
factor 2^−k. That is how the reference bank, Kymatio's of version 0.3.0, is scaled.

Everything is computed in double precision and rounded once. Filters are kept only where they are more than 1e-17 of
their largest value.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SIGMA_0 = 0.1  # width of the low-pass at T = 1
ALPHA = 5.0  # a filter is taken to end so many widths from its centre
WIDEST_XI = 0.35  # the first centre is at least that
HALF_POWER = math.sqrt(0.5)  # of a wavelet where it meets the next one
TAIL = 1e-3  # of the l1 norm of the low-pass: what its half support leaves outside
PADDING = 3  # half supports on each side of the signal
PERIODS = 5  # at most, on the side of positive frequencies
DISCONTINUITY = 1e-7  # of a Gaussian at the end of its last period
REACH = 9.5  # widths beyond which a Gaussian is below 1e-19
NOTHING = 1e-17  # part of a filter's largest value that isn't kept


@dataclass(frozen=True)
class Wavelet1D:
    """Centre ``xi`` and width ``sigma`` in cycles per sample; 2^``j`` is the subsampling the wavelet allows."""

    xi: float
    sigma: float

    @property
    def j(self) -> int:
        """Log-2 of the largest subsampling without aliasing: ξ + 5σ stays below 2^−(j+1)."""
        return math.floor(-math.log2(min(self.xi + ALPHA * self.sigma, 0.5))) - 1


@dataclass(frozen=True)
class Band:
    """A filter of a periodic spectrum, where it is not nothing.

    Attributes
    ----------
    start : int
        Bin of the first value, negative for negative frequencies.
    values : array
        Float32 values (w,), at the bins ``start``, ``start + 1``, …; w is at most the length of the spectrum.
    """

    start: int
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class FilterBank1D:
    """The filters of one transform.

    Attributes
    ----------
    phi : tuple of Band
        The low-pass for signals subsampled by 2^k, k = 0, 1, ….
    psi1 : tuple of Band
        The wavelets of order 1, for the padded signal.
    psi2 : tuple of tuples of Band
        ``psi2[n][k]``: the wavelets of order 2, for signals subsampled by 2^k.
    """

    phi: tuple[Band, ...]
    psi1: tuple[Band, ...]
    psi2: tuple[tuple[Band, ...], ...]

    def bands(self) -> tuple[Band, ...]:
        """All filters, low-passes first, then order 1, then order 2 by wavelet and level."""
        return (*self.phi, *self.psi1, *(band for levels in self.psi2 for band in levels))


@dataclass(frozen=True)
class Geometry1D:
    """Parameters and sizes of one transform; what an engine gets beside the signals and the filters.

    Attributes
    ----------
    length : int
        Samples N of a signal, before padding.
    J : int
        Log-2 of the largest scale.
    Q : (int, int)
        Wavelets per octave, at orders 1 and 2.
    T : float
        Samples over which the low-pass averages. It sets the padding even where nothing is averaged.
    max_order, oversampling : int
        The largest order; log-2 of how many times more samples are kept than needed.
    average : str
        ``"local"`` by the low-pass, ``"global"`` by the mean over time, ``"none"``.
    """

    length: int
    J: int
    Q: tuple[int, int]
    T: float
    max_order: int = 2
    oversampling: int = 0
    average: str = "local"

    @cached_property
    def padded(self) -> int:
        """Samples of a padded signal: a power of two, below 3N − 1 so that one reflection is enough."""
        wanted = math.ceil(math.log2(self.length + 2 * PADDING * half_support(self.length, SIGMA_0 / self.T)))
        return 2 ** min(wanted, (3 * self.length - 2).bit_length() - 1)

    @property
    def padding(self) -> tuple[int, int]:
        """Samples added at the left and at the right."""
        excess = self.padded - self.length
        return excess // 2, excess - excess // 2

    @property
    def log2_T(self) -> int:
        """Log-2 of the subsampling that the low-pass allows."""
        return math.floor(math.log2(self.T))

    @cached_property
    def wavelets1(self) -> tuple[Wavelet1D, ...]:
        """The wavelets of order 1, from the highest frequency."""
        return wavelets(self.J, self.Q[0])

    @cached_property
    def wavelets2(self) -> tuple[Wavelet1D, ...]:
        """The wavelets of order 2, from the highest frequency."""
        return wavelets(self.J, self.Q[1])

    def level(self, j: int) -> int:
        """Log-2 of the subsampling after a wavelet that allows 2^j."""
        return max((min(j, self.log2_T) if self.average == "local" else j) - self.oversampling, 0)

    @property
    def output_level(self) -> int:
        """Log-2 of the subsampling after the low-pass."""
        return max(self.log2_T - self.oversampling, 0)

    def kept(self, level: int) -> slice:
        """Where a padded signal subsampled by 2^level holds samples of the signal itself."""
        left, step = self.padding[0], 2**level
        return slice(-(-left // step), -(-(left + self.length) // step))

    def kept_length(self, level: int) -> int:
        """How many samples those are."""
        kept = self.kept(level)
        return kept.stop - kept.start

    def children(self, j1: int) -> list[int]:
        """Wavelets of order 2 that follow one of order 1 at the scale j1: those with j2 > j1."""
        if self.max_order == 1:
            return []
        return [n for n, wavelet in enumerate(self.wavelets2) if wavelet.j > j1]


@lru_cache(maxsize=64)
def wavelets(J: int, Q: int) -> tuple[Wavelet1D, ...]:
    """The wavelets of a bank of ``Q`` per octave up to the scale 2^J, from the highest frequency."""
    highest, narrowest = max(1 / (1 + 2 ** (3 / Q)), WIDEST_XI), SIGMA_0 / 2**J
    elbow, bank = width(highest, Q), []  # where no wavelet is wide enough, the steps start from the first width
    if width(highest, Q) > narrowest:
        bank = [Wavelet1D(highest, width(highest, Q))]
        while bank[-1].sigma > narrowest * 2 ** (1 / Q):
            bank.append(Wavelet1D(bank[-1].xi / 2 ** (1 / Q), bank[-1].sigma / 2 ** (1 / Q)))
        elbow = bank[-1].xi
    return (*bank, *(Wavelet1D(elbow - q / Q * elbow, narrowest) for q in range(1, Q)))


def width(xi: float, Q: int) -> float:
    """Width σ of the wavelet of centre ``xi`` that meets its neighbour, of Q per octave, at half its power."""
    ratio = 1 / 2 ** (1 / Q)
    return xi * ((1 - ratio) / (1 + ratio)) * (1 / math.sqrt(2 * math.log(1 / HALF_POWER)))


def half_support(length: int, sigma: float) -> int:
    """Samples after which less than 1e-3 of the low-pass is left, or half the length where that never happens."""
    half = length // 2
    response = np.abs(np.fft.ifft(gaussian(length, sigma)))[:half]
    rest = np.cumsum(response[::-1])[::-1]  # l1 norm from each sample on
    small = np.flatnonzero(rest <= TAIL)
    return int(small[0]) + 1 if small.size else half


@lru_cache(maxsize=16)
def filter_bank_1d(padded: int, J: int, Q: tuple[int, int], T: float) -> FilterBank1D:
    """Build the filters for signals padded to ``padded`` samples, equal to the bank of Kymatio 0.3.0.

    Andreux et al., "Kymatio: scattering transforms in Python", 2020. Spectra and levels are real.
    """
    first, second = wavelets(J, Q[0]), wavelets(J, Q[1])
    deepest = max(wavelet.j for wavelet in (*first, *second))
    return FilterBank1D(
        phi=_levels(gaussian(padded, SIGMA_0 / T), min(deepest, math.floor(math.log2(T)))),
        psi1=tuple(_band(morlet(padded, wavelet)) for wavelet in first),
        psi2=tuple(_levels(morlet(padded, wavelet), _before(wavelet, first)) for wavelet in second),
    )


def _before(wavelet: Wavelet1D, first: tuple[Wavelet1D, ...]) -> int:
    """The deepest level of the signals that a wavelet of order 2 is applied to."""
    return max((parent.j for parent in first if parent.j < wavelet.j), default=0)


def morlet(size: int, wavelet: Wavelet1D) -> Floats:
    """The spectrum of a wavelet of unit l1 norm, at the bins 0 … size − 1."""
    carrier, envelope = (_periodic(size, xi, wavelet.sigma) for xi in (wavelet.xi, 0.0))
    return _unit(carrier - carrier[0] / envelope[0] * envelope)


def gaussian(size: int, sigma: float) -> Floats:
    """The spectrum of a low-pass of unit l1 norm, at the bins 0 … size − 1."""
    return _unit(_periodic(size, 0.0, sigma))


def _periodic(size: int, xi: float, sigma: float) -> Floats:
    """exp(−(ω − ξ)² / 2σ²) summed over its periods, at ω = 0, 1/size, …; only where it is more than nothing."""
    periods = min(math.ceil(math.sqrt(-2 * sigma**2 * math.log(DISCONTINUITY)) + 1), PERIODS)
    first = max(math.floor((xi - REACH * sigma) * size), (1 - periods) * size)
    last = min(math.ceil((xi + REACH * sigma) * size), periods * size - 1)
    bins = np.arange(first, last + 1)
    return np.bincount(bins % size, np.exp(-((bins / size - xi) ** 2) / (2 * sigma**2)), minlength=size)


def _unit(spectrum: Floats) -> Floats:
    return spectrum / np.abs(np.fft.ifft(spectrum)).sum()


def _levels(spectrum: Floats, deepest: int) -> tuple[Band, ...]:
    """The filter for signals subsampled by 1, 2, … 2^deepest: the means of its aliases."""
    return tuple(_band(spectrum.reshape(2**level, -1).mean(axis=0)) for level in range(deepest + 1))


def _band(spectrum: Floats) -> Band:
    """Keep what lies around the peak, and round it."""
    size, magnitude = len(spectrum), np.abs(spectrum)
    origin = int(magnitude.argmax()) - size // 2
    inside = np.flatnonzero(np.roll(magnitude, -origin) > NOTHING * magnitude.max())
    values = np.roll(spectrum, -origin)[inside[0] : inside[-1] + 1].astype(np.float32)
    values.flags.writeable = False
    return Band(origin + int(inside[0]), values)


def narrowed(band: Band, floor: float) -> Band:
    """The part of a filter that is above ``floor`` times its largest value, without its tails."""
    magnitude = np.abs(band.values)
    inside = np.flatnonzero(magnitude > floor * magnitude.max())
    return Band(band.start + int(inside[0]), band.values[inside[0] : inside[-1] + 1])
