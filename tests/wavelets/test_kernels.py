"""A resulting kernel is applied as an ordinary strided convolution."""

import pytest
import torch
import torch.nn.functional as F

from sepconc.wavelets.kernels import ResultingKernel


@pytest.mark.parametrize("padding", [0, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(12, 12), (9, 14)])
def test_a_convolution_with_padding(padding, stride, shape):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 3, *shape, generator=generator), torch.randn(4, 3, 5, 5, generator=generator)
    expected = F.conv2d(x, weight, stride=stride, padding=padding)
    kernel = ResultingKernel(weight, stride, -padding)
    torch.testing.assert_close(kernel.apply(x, *expected.shape[-2:]), expected)


def test_a_kernel_that_starts_inside():
    x, weight = torch.arange(36.0).reshape(1, 1, 6, 6), torch.ones(1, 1, 1, 1)
    found = ResultingKernel(weight, stride=2, offset=1).apply(x, 3, 2)
    assert torch.equal(found, x[..., 1::2, 1:5:2])
