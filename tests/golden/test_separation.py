"""The four networks against arrays computed by their authors' code."""

import ast

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from sepconc import build_network, make_classifier

CASES = ["analysis_mnist", "block_cifar", "blockanalysis_soft", "scatnet_mnist"]
OPTIONS = {
    "n_blocks": "n_blocks",
    "L": "scat_angles",
    "J": "scattering_J",
    "proj": "P_proj_size",
    "pk": "P_kernel_size",
    "frame": "frame_width",
    "fk": "frame_kernel_size",
    "fs": "frame_stride",
    "nonlin": "non_linearity",
    "zero_bias": "zero_bias",
    "head": "classifier_type",
    "avg": "avg_ker_size",
    "hidden": "nb_hidden_units",
    "layers": "nb_l_mlp",
    "drop": "dropout_p_mlp",
}
LR, MOMENTUM, STEPS = 0.01, 0.9, 3


class Case:
    """A file of golden arrays, and the network it speaks of."""

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as arrays:
            self.arrays = dict(arrays)
        kw = ast.literal_eval(str(self.arrays["kw"]))
        self.arch, self.num_classes, self.image_shape = kw["arch"], kw["n_classes"], (kw["C"], kw["n"], kw["n"])
        self.params = {OPTIONS[key]: value for key, value in kw.items() if key in OPTIONS}
        self.x, self.y = torch.as_tensor(self.arrays["x"]), torch.as_tensor(self.arrays["y"])

    def network(self):
        """The network with the reference's initial weights; every key of its state dict must be given."""
        net = build_network(self.arch, num_classes=self.num_classes, image_shape=self.image_shape, **self.params)
        net.load_state_dict(self.state("init"), strict=True)
        return net

    def state(self, prefix):
        """The reference's arrays under ``prefix``, by our names."""
        arrays = {key.removeprefix(f"{prefix}/"): value for key, value in self.arrays.items() if key.startswith(prefix)}
        return {ours(key): torch.as_tensor(value) for key, value in arrays.items() if ours(key) is not None}

    def train(self, *, weight_decay_on_operators=0.0, pars_beta=5e-4):
        """Three steps from the reference's weights: the losses, and the network."""
        clf = make_classifier(self.arch, **self.params, lr=LR, momentum=MOMENTUM, pars_beta=pars_beta)
        net = self.network().train()
        groups = clf.parameter_groups(net)
        groups[1]["weight_decay"] += weight_decay_on_operators
        optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM)
        losses = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = cross_entropy(net(self.x), self.y)
            loss.backward()
            optimizer.step()
            clf.after_step(net)
            losses.append(loss.item())
        return losses, net


def ours(key):
    """Our name of an entry of the reference's state dict; None for what we don't store."""
    block, name = key.split(".", 1)
    if name in ("analysis.lambda_", "analysis.factor"):
        return None
    if name.startswith("classifier."):
        return name.replace("classifier.bn.", "head.norm.").replace("classifier.classifier.", "head.linear.")
    names = {"linear_proj.proj.": "projection.", "linear_proj.": "projection.", "analysis.frame_": "frame."}
    start = next(start for start in names if name.startswith(start))
    return f"blocks.{block}.{names[start]}{name.removeprefix(start)}"


def relative_error(found, expected):
    """Largest difference as a fraction of the largest expected value."""
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    return float((found - expected).abs().max() / expected.abs().max())


def scale_error(found, expected):
    """How much longer ``found`` is along ``expected``: rounding averages out, a decay of the weights doesn't."""
    found, expected = found.detach().double(), expected.double()
    return float(((found - expected) * expected).sum() / expected.square().sum())


@pytest.fixture(params=CASES)
def case(request, golden):
    return Case(golden / f"sepconc_{request.param}.npz")


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] if "block" in name else []) for name in CASES],
)
def spoiled_case(request, golden):
    """A case that is trained wrongly; the larger ones are slow."""
    return Case(golden / f"sepconc_{request.param}.npz")


def test_every_file_is_tested(golden):
    assert sorted(path.stem.removeprefix("sepconc_") for path in golden.glob("sepconc_*.npz")) == CASES


def test_number_of_parameters(case):
    assert sum(parameter.numel() for parameter in case.network().parameters()) == int(case.arrays["n_params"])


def test_logits_in_evaluation(case):
    net = case.network().eval()
    with torch.no_grad():
        error = relative_error(net(case.x), case.arrays["logits_eval"])
    assert error < 1e-5  # 1e-4 is asked; 7e-7 is reached


def test_logits_in_double_precision(case):
    net = case.network().eval().double()
    with torch.no_grad():
        error = relative_error(net(case.x.double()), case.arrays["logits_eval"].astype(float))
    assert error < 1e-5  # the reference's own rounding, up to 5e-7


def test_threshold_and_covering_are_the_references(case):
    frames = [block.frame for block in case.network().blocks]
    for i, frame in enumerate(frames):
        if frame is None:
            assert f"init/{i}.analysis.lambda_" not in case.arrays
            continue
        assert frame.threshold == pytest.approx(float(case.arrays[f"init/{i}.analysis.lambda_"][0]), rel=1e-6)
    factor = case.arrays.get("init/0.analysis.factor")
    if factor is not None:
        covering = frames[0]._covering(case.x)
        assert relative_error(1 / covering, factor) < 1e-6


def test_three_training_steps(case):
    losses, net = case.train()
    assert relative_error(losses, case.arrays["train_losses"]) < 3e-6  # 1e-6 is reached
    state, expected = net.state_dict(), case.state("after3")
    assert set(expected) == {name for name, _ in net.named_parameters()}
    for name, value in expected.items():
        assert relative_error(state[name], value) < 6e-6, name  # 2.6e-6 is reached; no Parseval: 1.1e-5
    for name, parameter in net.operators():
        error = scale_error(parameter, expected[f"blocks.{name}.weight"])
        assert abs(error) < 5e-7, name  # with weight decay on P or F: 2.7e-6 at least


def test_weight_decay_on_operators_would_be_noticed(spoiled_case):
    expected = spoiled_case.state("after3")
    _, net = spoiled_case.train(weight_decay_on_operators=1e-4)
    for name, parameter in net.operators():
        assert scale_error(parameter, expected[f"blocks.{name}.weight"]) < -2e-6, name


def test_a_missing_parseval_step_would_be_noticed(spoiled_case):
    expected = spoiled_case.state("after3")
    _, net = spoiled_case.train(pars_beta=0)
    for name, parameter in net.operators():
        assert relative_error(parameter.detach(), expected[f"blocks.{name}.weight"]) > 1e-5, name


def test_parameter_groups_hold_every_parameter_once(case):
    clf = make_classifier(case.arch, **case.params, weight_decay=0.25)
    net = case.network()
    decayed, operators = clf.parameter_groups(net)
    assert decayed["weight_decay"] == 0.25
    assert operators["weight_decay"] == 0
    grouped = [id(parameter) for group in (decayed, operators) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in net.parameters())
    by_id = {id(parameter): name for name, parameter in net.named_parameters()}
    assert all(by_id[id(p)].endswith(("projection.weight", "frame.weight")) for p in operators["params"])
    assert all(by_id[id(p)].startswith("head.") for p in decayed["params"])
