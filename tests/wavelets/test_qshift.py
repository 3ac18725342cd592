"""The tabulated filters have the properties that make the transform a tight frame."""

import numpy as np
import pytest

from sepconc.errors import BadParameter
from sepconc.wavelets.qshift import NAMES, qshift

LENGTHS = {"qshift_06": 10, "qshift_a": 10, "qshift_b": 14, "qshift_c": 16, "qshift_d": 18, "qshift_32": 32}


def test_names_and_lengths():
    assert {name: len(qshift(name).low_a) for name in NAMES} == LENGTHS


@pytest.mark.parametrize("name", NAMES)
def test_each_tree_is_an_orthonormal_pair(name):
    table = qshift(name)
    for low, high in ((table.low_a, table.high_a), (table.low_b, table.high_b)):
        assert low.sum() == pytest.approx(np.sqrt(2), abs=1e-9)
        assert high.sum() == pytest.approx(0, abs=1e-4)
        for delay in range(0, len(low), 2):
            unit = float(delay == 0)
            assert low[delay:] @ low[: len(low) - delay] == pytest.approx(unit, abs=2e-9)
            assert high[delay:] @ high[: len(low) - delay] == pytest.approx(unit, abs=2e-9)
            assert low[delay:] @ high[: len(low) - delay] == pytest.approx(0, abs=1e-12)
            assert high[delay:] @ low[: len(low) - delay] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_trees_differ_by_half_a_sample(name):
    """In the middle of the lower band; at low frequencies short filters have other delays."""
    table, frequency = qshift(name), 1.0
    taps = np.arange(len(table.low_a))
    a, b = ((low * np.exp(-1j * frequency * taps)).sum() for low in (table.low_a, table.low_b))
    assert -np.angle(b / a) / frequency == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("name", ["db3", "qshift_b_bp", "near_sym_a", None])
def test_wavelet_without_a_dual_tree(name):
    with pytest.raises(BadParameter, match=r"dual tree, one of qshift_06, qshift_a, .*; got"):
        qshift(name)
