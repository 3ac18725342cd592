"""The wavelet packet transforms against arrays computed by the authors' code."""

import pytest
import torch
from twin_fill import arrays, images, relative_error

from sepconc.nets.twins import ALEXNET_GROUPS, RESNET_GROUPS, RESNET_GROUPS_WITHOUT_EDGES
from sepconc.wavelets import DtCwpt2d, Wpt2d

PLANS = [(2, 1), (2, 2), (2, 4), (3, 2), (3, 4), (3, 8)]
CROPPED = [(2, 1), (3, 2)]  # computed on a part of the image only
CLOSE = 1e-6  # of the largest value; 4e-7 is reached


@pytest.fixture(scope="module")
def stored(golden):
    return arrays(golden / "wcnn_dtcwpt.npz")


def input_of(stored, depth, stride):
    return stored["x"][..., :24, :20] if (depth, stride) in CROPPED else stored["x"]


def test_inputs_are_the_documented_ones(stored):
    assert torch.equal(images(1001, 1, 1, 48, 40), stored["x"])
    assert torch.equal(images(1002, 1, 3, 16, 16), stored["x_rgb"])


def test_filters(stored):
    transform = DtCwpt2d(1, depth=2)
    assert torch.equal(transform._hfilters, stored["hfilters"])
    assert torch.equal(transform._gfilters, stored["gfilters"])


def test_filters_of_the_first_stage(stored):
    vertical, _ = DtCwpt2d(1, depth=1).kernels()
    assert torch.equal(vertical[:, 0, :, 0], torch.cat([stored["hfilters_fs"], stored["gfilters_fs"]]))


@pytest.mark.parametrize(("depth", "stride"), PLANS)
def test_plan(stored, depth, stride):
    plan = DtCwpt2d(1, depth, stride).plan
    assert [plan.padding] * 2 == stored[f"pad_d{depth}s{stride}"].tolist()
    assert list(plan.strides) == stored[f"strides_d{depth}s{stride}"].tolist()
    assert list(plan.dilations) == stored[f"dilations_d{depth}s{stride}"].tolist()


@pytest.mark.parametrize(("depth", "stride"), PLANS)
def test_output(stored, depth, stride):
    x, expected = input_of(stored, depth, stride), stored[f"y_d{depth}s{stride}"]
    transform = DtCwpt2d(1, depth, stride)
    assert relative_error(transform(x), expected) < CLOSE
    assert relative_error(transform.double()(x.double()), expected) < CLOSE


@pytest.mark.parametrize(("depth", "stride"), [(2, 4), (3, 8)])
def test_real_trees(stored, depth, stride):
    maps = DtCwpt2d(1, depth, stride, make_analytic=False)(stored["x"])
    (a_re, a_im), (b_re, b_im) = (psi.unbind(2) for psi in maps.unflatten(1, (2, 4**depth, 2)).unbind(1))
    trees = torch.cat([a_re + b_re, a_im - b_im, a_im + b_im, b_re - a_re], 1) / 2  # aa, ab, ba, bb
    assert relative_error(trees, stored[f"trees_d{depth}s{stride}"]) < CLOSE


@pytest.mark.parametrize("depth", [2, 3])
def test_which_maps_are_conjugated(stored, depth):
    plain, analytic = (DtCwpt2d(1, depth, make_analytic=flag)(stored["x"]) for flag in (False, True))
    plain, analytic = (y.unflatten(1, (-1, 2)) for y in (plain, analytic))
    negated = set(stored[f"neg_d{depth}"].tolist())
    assert torch.equal(plain[:, :, 0], analytic[:, :, 0])
    for f in range(2 * 4**depth):
        assert torch.equal(analytic[:, f, 1], -plain[:, f, 1] if f in negated else plain[:, f, 1]), f


def test_colours_come_one_by_one(stored):
    assert relative_error(DtCwpt2d(3, depth=2, stride=4)(stored["x_rgb"]), stored["y_rgb_d2s4"]) < CLOSE


@pytest.mark.parametrize("wavelet", ["qshift_06", "qshift_b", "qshift_d"])
def test_other_wavelets(stored, wavelet):
    found = DtCwpt2d(1, depth=2, stride=4, wavelet=wavelet)(stored["x"])
    assert relative_error(found, stored[f"y_{wavelet}_d2s4"]) < CLOSE


@pytest.mark.parametrize(("depth", "stride"), [(2, 4), (2, 2), (3, 8)])
@pytest.mark.parametrize("wavelet", ["qshift_a", "haar", "db3"])
def test_separable_transform(stored, wavelet, depth, stride):
    if wavelet != "qshift_a":
        pytest.importorskip("pywt")
    found = Wpt2d(1, depth, stride, wavelet)(stored["x"])
    assert relative_error(found, stored[f"wpt_{wavelet}_d{depth}s{stride}"]) < CLOSE


@pytest.mark.parametrize(("depth", "stride", "support"), [(2, 2, 30), (3, 4, 66)])
def test_resulting_kernel(stored, depth, stride, support):
    first, end = stored[f"kernel_support_d{depth}"].tolist()
    assert end - first == support
    weight = DtCwpt2d(1, depth, stride).resulting_kernel.weight
    assert weight.shape[:2] == tuple(stored[f"kernel_shape_d{depth}"][:2])
    rows = stored["kernel_index_d3"] if depth == 3 else slice(None)
    assert relative_error(weight[rows, 0], stored[f"kernel_d{depth}"]) < CLOSE


@pytest.mark.parametrize(
    ("depth", "groups"), [(2, RESNET_GROUPS), (2, RESNET_GROUPS_WITHOUT_EDGES), (3, ALEXNET_GROUPS)]
)
def test_groups_of_maps_are_within_one_scale(stored, depth, groups):
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), stored[f"scale_bounds_d{depth}"]])
    scales = []
    for group in groups:
        n = torch.tensor(group.maps) % 4**depth
        scales.append(torch.bucketize(2 * n, bounds, right=True).unique())
    assert all(len(scale) == 1 for scale in scales)
    assert scales == sorted(scales)
    assert min(scales) == 2  # nothing of the lowest one
