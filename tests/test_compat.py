"""Kymatio on today's SciPy: the missing function's values, its scope, and the frontends in fresh processes."""

import contextlib
import importlib
import subprocess
import sys
import textwrap

import mpmath
import numpy as np
import pytest

from sepconc.compat import FRONTENDS, import_kymatio, kymatio_importable, sph_harm
from sepconc.errors import BadParameter, MissingPackage

# Y_n^m (azimuth a, polar angle p), Condon and Shortley's phase, as printed in tables; m >= 0
CLOSED = {
    (0, 0): lambda a, p: 0.5 * np.sqrt(1 / np.pi) + 0 * a,
    (1, 0): lambda a, p: 0.5 * np.sqrt(3 / np.pi) * np.cos(p),
    (1, 1): lambda a, p: -0.5 * np.sqrt(3 / (2 * np.pi)) * np.sin(p) * np.exp(1j * a),
    (2, 0): lambda a, p: 0.25 * np.sqrt(5 / np.pi) * (3 * np.cos(p) ** 2 - 1),
    (2, 1): lambda a, p: -0.5 * np.sqrt(15 / (2 * np.pi)) * np.sin(p) * np.cos(p) * np.exp(1j * a),
    (2, 2): lambda a, p: 0.25 * np.sqrt(15 / (2 * np.pi)) * np.sin(p) ** 2 * np.exp(2j * a),
    (3, 0): lambda a, p: 0.25 * np.sqrt(7 / np.pi) * (5 * np.cos(p) ** 3 - 3 * np.cos(p)),
    (3, 1): lambda a, p: -0.125 * np.sqrt(21 / np.pi) * np.sin(p) * (5 * np.cos(p) ** 2 - 1) * np.exp(1j * a),
    (3, 2): lambda a, p: 0.25 * np.sqrt(105 / (2 * np.pi)) * np.sin(p) ** 2 * np.cos(p) * np.exp(2j * a),
    (3, 3): lambda a, p: -0.125 * np.sqrt(35 / np.pi) * np.sin(p) ** 3 * np.exp(3j * a),
}


def closed_form(n, m, azimuth, polar):
    value = CLOSED[n, abs(m)](azimuth, polar)
    return value if m >= 0 else (-1) ** m * np.conj(value)


def fresh(code):
    """Run code in a new process in which warnings are errors, and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.mark.parametrize(("n", "m"), [(n, m) for n in range(4) for m in range(-n, n + 1)])
def test_spherical_harmonics_are_the_closed_forms(n, m):
    azimuth, polar = np.meshgrid(np.linspace(-np.pi, 2 * np.pi, 23), np.linspace(0, np.pi, 17))
    np.testing.assert_allclose(sph_harm(m, n, azimuth, polar), closed_form(n, m, azimuth, polar), rtol=0, atol=2e-15)


@pytest.mark.parametrize(("n", "m"), [(3, -2), (4, 3), (5, -5), (6, 0)])
def test_spherical_harmonics_are_mpmaths(n, m):
    for azimuth, polar in [(0.3, 1.1), (-2.0, 2.7), (5.0, 0.2)]:
        expected = complex(mpmath.spherharm(n, m, polar, azimuth))
        assert abs(complex(sph_harm(m, n, azimuth, polar)) - expected) <= 1e-14


def test_the_arguments_are_broadcast():
    assert sph_harm(np.arange(3)[:, None], 2, np.zeros(4), 0.5).shape == (3, 4)


def test_scipy_is_left_as_it_was():
    import scipy.special

    before = getattr(scipy.special, "sph_harm", None)
    with kymatio_importable():
        assert callable(scipy.special.sph_harm)
    assert getattr(scipy.special, "sph_harm", None) is before
    with contextlib.suppress(ModuleNotFoundError), kymatio_importable():
        importlib.import_module("kymatio.no_such_frontend")
    assert getattr(scipy.special, "sph_harm", None) is before


def test_importing_compat_imports_and_changes_nothing():
    code = """
        import sys
        import sepconc.compat
        print([name for name in ("scipy", "kymatio", "torch", "sklearn") if name in sys.modules])
    """
    assert fresh(code) == "[]\n"


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_every_frontend_imports_in_a_fresh_process(frontend):
    code = f"""
        import scipy.special
        had = hasattr(scipy.special, "sph_harm")
        from sepconc.compat import import_kymatio
        module = import_kymatio("{frontend}")
        import kymatio.{frontend}
        assert module is kymatio.{frontend}
        assert hasattr(scipy.special, "sph_harm") == had
        print(sorted(module.__all__))
    """
    assert fresh(code) == "['HarmonicScattering3D', 'Scattering1D', 'Scattering2D']\n"


def test_import_statements_in_the_block_work():
    code = """
        from sepconc.compat import kymatio_importable
        with kymatio_importable():
            import kymatio.numpy, kymatio.sklearn, kymatio.torch
        from kymatio import Scattering2D
        print(Scattering2D(2, (16, 16), frontend="numpy").J)
    """
    assert fresh(code) == "2\n"


def test_the_frontends_compute():
    """Every transform of every frontend, and the three agree with each other."""
    code = """
        import numpy as np, torch
        from sepconc.compat import import_kymatio
        x = np.random.default_rng(0).random((2, 4096), dtype=np.float32)
        arguments = {"Scattering1D": (2, 4096), "Scattering2D": (2, (64, 64)), "HarmonicScattering3D": (1, (16,) * 3)}
        for name, (J, shape) in arguments.items():
            numpy, sklearn, pytorch = (
                getattr(import_kymatio(f), name)(J, shape) for f in ("numpy", "sklearn", "torch")
            )
            volumes = x.reshape(2, *(shape if isinstance(shape, tuple) else (shape,)))
            expected = numpy(volumes).reshape(2, -1)
            np.testing.assert_allclose(sklearn.fit(x).transform(x), expected, rtol=1e-5)
            mine = pytorch(torch.from_numpy(volumes)).reshape(2, -1).numpy()
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
            print(name)
    """
    assert fresh(code).split() == ["Scattering1D", "Scattering2D", "HarmonicScattering3D"]


def test_an_unknown_frontend_is_refused():
    with pytest.raises(BadParameter, match=r"must be one of numpy, sklearn, torch; got 'keras'"):
        import_kymatio("keras")


def test_kymatio_that_does_not_import_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "kymatio.numpy", None)
    with pytest.raises(MissingPackage, match=r"kymatio\.numpy does not import .*pip install kymatio"):
        import_kymatio("numpy")
