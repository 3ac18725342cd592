"""The meaning of the channels."""

import numpy as np
import pytest

from sepconc.scattering.paths import (
    Path,
    PhasePath,
    padded_columns,
    phase_channels,
    phase_paths,
    scattering_channels,
    scattering_paths,
)


@pytest.mark.parametrize("max_order", [1, 2])
@pytest.mark.parametrize(("J", "L"), [(1, 8), (2, 8), (3, 6), (4, 1)])
def test_count(J, L, max_order):
    paths = scattering_paths(J, L, max_order)
    assert len(paths) == scattering_channels(J, L, max_order) == len(set(paths))
    assert max(path.order for path in paths) == (max_order if J > 1 else 1)


def test_order_of_scattering_channels():
    paths = scattering_paths(3, 2, 2)
    assert paths[0] == Path()
    assert paths[1:4] == (Path((0,), (0,)), Path((0,), (1,)), Path((1,), (0,)))
    assert paths[7:12] == (
        Path((0, 1), (0, 0)),
        Path((0, 1), (0, 1)),
        Path((0, 2), (0, 0)),
        Path((0, 2), (0, 1)),
        Path((0, 1), (1, 0)),
    )
    assert paths[-1] == Path((1, 2), (1, 1))


def test_order_of_phase_channels():
    paths = phase_paths(3)
    assert len(paths) == phase_channels(3) == 13
    assert paths[0] == PhasePath()
    assert paths[1:6] == tuple(PhasePath(*p) for p in [(0, "Re"), (0, "Im"), (0, "-Re"), (0, "-Im"), (1, "Re")])


def test_names_are_readable_and_unique():
    assert [Path().name, Path((0,), (3,)).name, Path((0, 2), (3, 5)).name] == ["S0", "S1 j=0 θ=3", "S2 j=0,2 θ=3,5"]
    assert [PhasePath().name, PhasePath(3, "-Re").name] == ["S0", "S1 j=0 θ=3 -Re"]
    names = [path.name for path in scattering_paths(3, 8, 2)]
    assert len(set(names)) == len(names) == 217


def test_wavelet_numbers():
    assert Path((0, 2), (3, 5)).wavelets(8) == (3, 21)
    assert Path().wavelets(8) == ()


def test_padded_columns():
    np.testing.assert_array_equal(padded_columns([(), (4,), (5, 6)], 2), [[-1, -1], [4, -1], [5, 6]])
