"""What packages beside ours need to run on today's NumPy, SciPy and scikit-learn.

Kymatio 0.3.0 takes ``sph_harm`` from ``scipy.special``, which SciPy 1.17 no longer has: ``import kymatio.torch``,
``.numpy`` and ``.sklearn`` fail there. With

>>> from sepconc.compat import import_kymatio
>>> kymatio = import_kymatio("torch")
>>> kymatio.Scattering2D(J=2, shape=(32, 32)).J
2

or, around plain import statements, ``with kymatio_importable():``, the missing name is there while Kymatio is being
imported, and gone afterwards: SciPy is left as it was found. Importing this module changes nothing.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from sepconc.errors import BadParameter, MissingPackage

FRONTENDS = ("numpy", "sklearn", "torch")
"""Kymatio's frontends for packages that sepconc uses too."""

_LOCK = threading.RLock()


def sph_harm(m: Any, n: Any, theta: Any, phi: Any) -> npt.NDArray[np.complex128]:
    """Spherical harmonics with the arguments of SciPy's removed function of that name.

    ``scipy.special.sph_harm_y`` has the same values (Condon and Shortley's phase included), but takes the degree before
    the order, and the polar angle before the azimuth.

    Parameters
    ----------
    m, n : array_like of int
        Order and degree, |m| ≤ n.
    theta, phi : array_like of float
        Azimuth and polar angle, in radians; all four are broadcast.

    Returns
    -------
    ndarray of complex
        Y_n^m, orthonormal on the sphere.
    """
    from scipy.special import sph_harm_y

    return sph_harm_y(n, m, phi, theta)


@contextmanager
def kymatio_importable() -> Iterator[None]:
    """Let ``import kymatio.torch``, ``.numpy`` and ``.sklearn`` succeed in the block, whatever the SciPy.

    Warnings that Kymatio gives while it is imported are dropped. Other threads see the missing name too while the
    block runs; two threads in such a block wait for each other.
    """
    import scipy.special

    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        missing = not hasattr(scipy.special, "sph_harm")
        if missing:
            scipy.special.sph_harm = sph_harm
        try:
            yield
        finally:
            if missing:
                del scipy.special.sph_harm


def import_kymatio(frontend: str = "torch") -> ModuleType:
    """The module ``kymatio.<frontend>``, imported.

    Parameters
    ----------
    frontend : str
        ``"torch"``, ``"numpy"`` or ``"sklearn"``.

    Raises
    ------
    BadParameter
        Another frontend.
    MissingPackage
        Kymatio isn't installed, or doesn't import for another reason.
    """
    if frontend not in FRONTENDS:
        message = f"frontend of import_kymatio must be one of {', '.join(FRONTENDS)}; got {frontend!r}."
        raise BadParameter(message)
    try:
        with kymatio_importable():
            return importlib.import_module(f"kymatio.{frontend}")
    except ImportError as error:
        message = f'kymatio.{frontend} does not import ({error}); install it with "pip install kymatio".'
        raise MissingPackage(message) from error
