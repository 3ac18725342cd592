"""Layers computed slice by slice against the same layers in one piece: values, all kinds of gradients, formats."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from sepconc.nets import slices
from sepconc.nets.slices import in_slices

# torch's forward mode warns of a part of torch
forward_mode = pytest.mark.filterwarnings("ignore:`torch.jit.script:FutureWarning")


@pytest.fixture(autouse=True)
def two_images(monkeypatch):
    """Slices of two of up to six images."""
    monkeypatch.setattr(slices, "VALUES", 1)
    monkeypatch.setattr(slices, "SLICES", 3)


def layer(x, weight, bias):
    """Neither linear nor of one branch; every image by itself."""
    return torch.cat([F.conv2d(x, weight, bias).square(), F.conv2d(x.sin(), weight)], 1)


def sliced(x, weight, bias):
    return in_slices(layer, x, (weight, bias))


def operands(n=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = ((n, 2, 5, 4), (3, 2, 3, 2), (3,))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def leaves(tensors, needed=(True, True, True)):
    return [tensor.clone().requires_grad_(each) for tensor, each in zip(tensors, needed, strict=True)]


def gradients(function, tensors):
    y = function(*tensors)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return y, *torch.autograd.grad((y * weights).sum(), [tensor for tensor in tensors if tensor.requires_grad])


# ---- slices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "lengths"), [(0, [0]), (1, [1]), (2, [1, 1]), (3, [1, 1, 1]), (4, [2, 2]), (5, [2, 2, 1]), (7, [3, 3, 1])]
)
def test_lengths(n, lengths):
    seen = []

    def counting(x):
        seen.append(len(x))
        return x.square()

    x = torch.arange(12.0 * n).reshape(n, 1, 3, 4).requires_grad_()
    y = in_slices(counting, x, ())
    assert seen == lengths
    assert torch.equal(y, x.square())
    y.sum().backward()
    assert torch.equal(x.grad, 2 * x)


@pytest.mark.parametrize(("side", "lengths"), [(2, [5]), (8, [5]), (9, [3, 2]), (11, [2, 2, 1])])
def test_small_images_are_not_sliced(monkeypatch, side, lengths):
    monkeypatch.setattr(slices, "VALUES", 5 * 8 * 8)
    seen = []
    in_slices(lambda x: (seen.append(len(x)), x)[1], torch.zeros(5, 1, side, side), ())
    assert seen == lengths


def test_nothing_but_slices_is_computed_under_no_grad():
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(sliced(*operands()), layer(*operands()))


# ---- gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "needed", [(True, True, True), (True, False, False), (False, True, False), (False, True, True)]
)
def test_gradients_are_those_of_the_layer(needed):
    found, expected = (gradients(function, leaves(operands(), needed)) for function in (sliced, layer))
    assert len(found) == 1 + sum(needed)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)


def test_an_operand_may_be_missing():
    x, weight, _ = leaves(operands())

    def of_two(function):
        return gradients(lambda x, weight: function(x, weight, None), (x, weight))

    for one, two in zip(of_two(sliced), of_two(layer), strict=True):
        torch.testing.assert_close(one, two)


@forward_mode
def test_gradients_of_first_and_second_order_and_forward_mode_are_those_of_differences():
    assert torch.autograd.gradcheck(
        sliced, leaves(operands(4)), check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert torch.autograd.gradcheck(sliced, leaves(operands(4), (False, True, False)))
    assert torch.autograd.gradgradcheck(sliced, leaves(operands(3)), fast_mode=True)


def output_of(function):
    x, _, bias = operands()
    return lambda weight: function(x, weight, bias)


def loss_of(function):
    output = output_of(function)
    return lambda weight: output(weight).pow(3).sum()


TRANSFORMS = {
    "hessian": lambda f, w: torch.autograd.functional.hessian(loss_of(f), w),
    "jacobian, vectorised": lambda f, w: torch.autograd.functional.jacobian(loss_of(f), w, vectorize=True),
    "grad": lambda f, w: torch.func.grad(loss_of(f))(w),
    "jacrev": lambda f, w: torch.func.jacrev(output_of(f))(w),
    "jacfwd": lambda f, w: torch.func.jacfwd(output_of(f))(w),
    "forward over reverse": lambda f, w: torch.func.hessian(loss_of(f))(w),
    "reverse over reverse": lambda f, w: torch.func.jacrev(torch.func.jacrev(loss_of(f)))(w),
    "jvp": lambda f, w: torch.func.jvp(loss_of(f), (w,), (w.sin(),)),
    "vmap of weights": lambda f, w: torch.func.vmap(loss_of(f))(torch.stack([w, 2 * w])),
    "vmap of images": lambda f, w: torch.func.vmap(lambda x: f(x, w, None))(torch.stack([operands()[0]] * 2)),
    "vmap of grad": lambda f, w: torch.func.vmap(torch.func.grad(loss_of(f)))(torch.stack([w, 2 * w])),
}


@forward_mode
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_of_functions(transform):
    weight = operands()[1]
    torch.testing.assert_close(transform(sliced, weight), transform(layer, weight))


def backward_beside_hooks(function, x, weight, bias):
    with torch.autograd.graph.save_on_cpu():
        function(x, weight, bias).pow(3).sum().backward()


def backward_through_a_checkpoint(function, x, weight, bias):
    checkpoint(function, x, weight, bias, use_reentrant=False).pow(3).sum().backward()


@pytest.mark.parametrize("backward", [backward_beside_hooks, backward_through_a_checkpoint])
def test_saved_tensors_are_hooked(backward):
    found, expected = leaves(operands()), leaves(operands())
    backward(sliced, *found)
    layer(*expected).pow(3).sum().backward()
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def test_hooks_of_a_weight_see_the_whole_gradient():
    x, weight, bias = leaves(operands())
    seen = []
    weight.register_hook(lambda grad: seen.append(grad.clone()))
    sliced(x, weight, bias).sum().backward()
    assert len(seen) == 1
    assert torch.equal(seen[0], weight.grad)


def test_weights_that_change_before_the_gradient_are_noticed():
    x, weight, bias = leaves(operands())
    y = sliced(x, weight, bias)
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


# ---- precisions and memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [torch.float32, torch.float64])
def test_autocast(given):
    found, expected = leaves(operands(dtype=given)), leaves(operands(dtype=given))
    with torch.autocast("cpu", torch.bfloat16):
        y, whole = in_slices(F.conv2d, found[0], found[1:]), F.conv2d(*expected)
    assert y.dtype == whole.dtype == (torch.bfloat16 if given == torch.float32 else given)
    assert torch.equal(y, whole)
    for each in (y, whole):
        each.double().square().sum().backward()
    assert torch.equal(found[0].grad, expected[0].grad)
    for one, two in zip(found, expected, strict=True):
        assert one.grad.dtype == given
        assert (one.grad - two.grad).norm() < 2 * torch.finfo(whole.dtype).eps * two.grad.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    tensors = leaves(operands(dtype=dtype))
    y, *found = gradients(sliced, tensors)
    assert torch.equal(y, layer(*tensors))
    exact = gradients(layer, [tensor.detach().double().requires_grad_() for tensor in tensors])[1:]
    for one, two in zip(found, exact, strict=True):
        assert one.dtype == dtype
        assert (one.double() - two).norm() < 3 * torch.finfo(dtype).eps * two.norm()


def test_memory_formats():
    x, weight, bias = operands()
    expected = layer(x, weight, bias)
    for last in (x.contiguous(memory_format=torch.channels_last), x.repeat(1, 1, 2, 2)[..., :5, :4], x.mT.clone().mT):
        y = sliced(last, weight, bias)
        assert y.stride() == layer(last, weight, bias).stride()
        torch.testing.assert_close(y, expected)


def test_gradient_of_no_memory_of_its_own():
    x, weight, bias = leaves(operands())
    y = sliced(x, weight, bias)
    expected = torch.autograd.grad(layer(x, weight, bias).sum(), weight)
    for grad in (torch.ones(()).double().expand_as(y), torch.ones_like(y).mT.contiguous().mT):
        torch.testing.assert_close(torch.autograd.grad(y, weight, grad, retain_graph=True), expected)


def test_no_values_on_the_meta_device():
    assert sliced(*(tensor.to("meta") for tensor in operands())).shape == (5, 6, 3, 3)


def test_compiled_programs_have_the_whole_batch():
    seen = []

    def counting(x, weight, bias):
        seen.append(len(x))
        return layer(x, weight, bias)

    torch.compiler.reset()
    function = torch.compile(
        lambda *tensors: in_slices(counting, tensors[0], tensors[1:]), backend="eager", fullgraph=True
    )
    found, expected = gradients(function, leaves(operands())), gradients(layer, leaves(operands()))
    assert seen == [5]
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)
