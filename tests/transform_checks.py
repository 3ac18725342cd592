"""What the tests of the transforms share: noise, the error of coefficients, and what every transform does."""

import numpy as np
import torch


def noise(*shape, dtype=torch.float32, seed=0):
    """Normal noise, the same at every call."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def error(value, reference):
    """Largest difference relative to the largest coefficient."""
    assert value.shape == reference.shape
    return ((value - reference).abs().max() / reference.abs().max()).item()


def assert_leading_dimensions(transform, input_shape, output_shapes, batch):
    """Of a list of coefficients: leading dimensions stay, also empty ones, and the last signal's are its own."""
    x = noise(*batch, *input_shape).requires_grad_()
    parts = transform(x)
    assert [part.shape for part in parts] == [(*batch, *shape) for shape in output_shapes]
    sum(part.sum() for part in parts).backward()
    assert x.grad.shape == x.shape
    if 0 in batch:
        return
    alone = transform(x.detach().reshape(-1, *input_shape)[-1])
    for part, one in zip(parts, alone, strict=True):
        torch.testing.assert_close(part.reshape(-1, *one.shape)[-1], one)


def assert_numpy_in_numpy_out(transform, dtype):
    """Arrays of any byte order and stride, also read-only ones, give what the tensor gives, in its precision."""
    x = noise(3, *transform.input_shape, dtype=torch.float64).numpy().astype(dtype)
    x.flags.writeable = False
    y = transform(x)
    assert isinstance(y, np.ndarray)
    assert y.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(y, transform(torch.tensor(x.astype(y.dtype))).numpy())
    turned = np.flip(x, tuple(range(1, x.ndim)))
    np.testing.assert_array_equal(transform(turned), transform(turned.copy()))


def assert_dtype_is_preserved(transform, dtype):
    """The signals decide the precision, whatever that of the filters."""
    x = noise(*transform.input_shape, dtype=dtype)
    for module in (transform, transform.double(), transform.float()):
        assert module(x).dtype == dtype


MEMORY_LAYOUTS = [
    lambda x: x.to(memory_format=torch.channels_last),
    lambda x: x.mT.contiguous().mT,
    lambda x: torch.cat([x, x], dim=1)[:, ::2],
    lambda x: x[:1].expand(4, -1, -1, -1),
]
"""Changes of images (4, C, H, W) into ones that aren't contiguous."""


def value_and_gradient(function, x):
    """What a transform gives, and the gradient of a weighted sum of its squares."""
    z = x.clone().requires_grad_()
    y = function(z)
    weights = noise(*y.shape, seed=1).to(y)
    (gradient,) = torch.autograd.grad((weights * y.square()).sum(), z)
    return y.detach(), gradient


def run_engine(engine, transform, x):
    """The transform's function as an engine's module has it, on its images in one batch."""
    images = x.reshape(-1, *x.shape[-2:])
    return getattr(engine, transform.function)(images, transform.filters(x.dtype), transform.geometry)
