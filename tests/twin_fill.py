"""The deterministic numbers that the golden arrays of the wavelet twins were computed from, and how they are read."""

import math

import numpy as np
import torch


def uniform(seed, count):
    """``count`` numbers in [0, 1): a hash of the index and the seed."""
    with np.errstate(over="ignore"):
        x = np.arange(count, dtype=np.uint32) + np.uint32(seed * 0x9E3779B9 & 0xFFFFFFFF)
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x85EBCA6B)
        x ^= x >> np.uint32(13)
        x *= np.uint32(0xC2B2AE35)
        x ^= x >> np.uint32(16)
    return x / 2.0**32


def images(seed, *shape):
    """Images in [−2, 2), in single precision."""
    values = 2 * (2 * uniform(seed, math.prod(shape)) - 1)
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def filled(net):
    """The network with entry number k of its state dict filled with seed k, but for what isn't learned."""
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    with torch.no_grad():
        for seed, (name, tensor) in enumerate(net.state_dict().items()):
            luminance = name.endswith("colormix.weight") and len(tensor) == 1
            if name not in frozen and not luminance and not name.endswith(("num_batches_tracked", "filt")):
                values = _values(name, tensor, uniform(seed, tensor.numel()))
                tensor.copy_(torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape))
    return net


def _values(name, tensor, u):
    if name.endswith(("running_mean", "bias")):
        return 0.2 * (2 * u - 1)
    if name.endswith("running_var") or tensor.ndim == 1:
        return 0.5 + u
    return (2 * u - 1) * math.sqrt(6 / (tensor.numel() / len(tensor)))


def arrays(path):
    """The arrays of a file as tensors, and its texts as they are."""
    with np.load(path, allow_pickle=False) as file:
        return {key: value if value.dtype.kind == "U" else torch.as_tensor(value) for key, value in file.items()}


def relative_error(found, expected):
    """Largest difference as a fraction of the largest expected value; the shapes must be equal."""
    assert found.shape == expected.shape
    found, expected = found.detach().double(), expected.double()
    return float((found - expected).abs().max() / expected.abs().max())
