"""Checkpoints of the separation-concentration program: what is read, under which names."""

import collections
import json

import pytest
import torch

from sepconc.errors import CorruptFile, UnsafeFile
from sepconc.registry.legacy.separation import our_name, read_args, read_checkpoint

from ..older import write_archive

MLP = {f"0.module.classifier.classifier.{i}.{kind}": None for i in (0, 3, 6) for kind in ("weight", "bias")}
NAMES = {
    "0.module.linear_proj.standardization.running_mean": "blocks.0.projection.standardization.running_mean",
    "12.module.linear_proj.proj.weight": "blocks.12.projection.weight",
    "3.analysis.frame_weight": "blocks.3.frame.weight",
    "3.module.classifier.bn.num_batches_tracked": "head.norm.num_batches_tracked",
    "3.module.classifier.classifier.weight": "head.linear.weight",
    "0.module.scattering.0.tensor3": "",
    "0.module.analysis.lambda_": "",
    "0.module.analysis.factor": "",
    "0.module.analysis.other": None,
    "module.0.analysis.frame_weight": None,
    "x": None,
    "0.module.classifier.fc.weight": None,
}


def checkpoint(**changes):
    state = collections.OrderedDict(
        {
            "0.module.analysis.frame_weight": torch.rand(4, 1, 2, 2),
            "0.module.analysis.lambda_": torch.tensor([0.5]),
            "0.module.classifier.bn.weight": torch.rand(1),
            "0.module.classifier.bn.running_mean": torch.rand(1),
            "0.module.classifier.classifier.weight": torch.rand(10, 9),
            "0.module.classifier.classifier.bias": torch.rand(10),
        }
    )
    made = {"epoch": 7, "arch": "analysis", "state_dict": state, "best_acc1": torch.tensor([91.5]), "optimizer": None}
    return {**made, **changes}


@pytest.fixture
def stored(tmp_path):
    def do(**changes):
        torch.save(checkpoint(**changes), tmp_path / "a.pth.tar")
        return tmp_path / "a.pth.tar"

    return do


@pytest.mark.parametrize(("theirs", "ours"), NAMES.items())
def test_names(theirs, ours):
    assert our_name(theirs, {theirs: None}) == ours


def test_names_of_a_perceptron():
    found = [our_name(key, MLP) for key in MLP]
    assert found[::2] == ["head.hidden.0.weight", "head.hidden.3.weight", "head.linear.weight"]
    assert found[1::2] == ["head.hidden.0.bias", "head.hidden.3.bias", "head.linear.bias"]


def test_content(stored):
    found = read_checkpoint(stored())
    assert (found.arch, found.epoch, found.best_accuracy) == ("analysis", 7, 0.915)
    assert next(iter(found.net)) == "blocks.0.frame.weight"
    assert list(found.constants) == ["0.analysis.lambda_"]
    assert found.unknown == []
    assert found.momenta() == {}


@pytest.mark.parametrize(
    ("stored_value", "fraction"), [(91.5, 0.915), (0, 0.0), (torch.tensor(50.0), 0.5), (None, None)]
)
def test_best_accuracy(stored, stored_value, fraction):
    assert read_checkpoint(stored(best_acc1=stored_value)).best_accuracy == fraction


@pytest.mark.parametrize("value", ["x", -1.0, 101.0, float("nan"), torch.ones(3)])
def test_best_accuracies_that_are_none(stored, value):
    assert read_checkpoint(stored(best_acc1=value)).best_accuracy is None


def test_momenta_follow_the_two_groups(stored):
    state = checkpoint()["state_dict"]
    momenta = {i: {"momentum_buffer": torch.full(tensor.shape, float(i))} for i, tensor in enumerate(
        [state["0.module.classifier.bn.weight"], state["0.module.classifier.classifier.weight"],
         state["0.module.classifier.classifier.bias"], state["0.module.analysis.frame_weight"]])}  # fmt: skip
    groups = [{"params": [0, 1, 2], "lr": 0.1}, {"params": [3], "lr": 0.1}]
    found = read_checkpoint(stored(optimizer={"state": momenta, "param_groups": groups})).momenta()
    assert {name: float(momentum.flatten()[0]) for name, momentum in found.items()} == {
        "head.norm.weight": 0,
        "head.linear.weight": 1,
        "head.linear.bias": 2,
        "blocks.0.frame.weight": 3,
    }


@pytest.mark.parametrize(
    "optimizer",
    [
        {"state": {}},
        {"state": {}, "param_groups": [{"params": [0, 1]}]},
        {"state": {}, "param_groups": [{"params": None}]},
        {"state": [], "param_groups": [{"params": [0, 1, 2, 3]}]},
        {"state": {0: {"momentum_buffer": torch.ones(7)}}, "param_groups": [{"params": [0, 1, 2, 3]}]},
    ],
)
def test_optimisers_of_another_network(stored, optimizer):
    with pytest.raises(CorruptFile, match="aren't those of its network"):
        read_checkpoint(stored(optimizer=optimizer)).momenta()


@pytest.mark.parametrize(
    "changes",
    [{"epoch": "x"}, {"epoch": -1}, {"epoch": True}, {"arch": 3}, {"state_dict": [1]}, {"state_dict": {"a": 1}},
     {"state_dict": {1: torch.ones(1)}}, {"optimizer": [1]}],
)  # fmt: skip
def test_other_content(stored, changes):
    with pytest.raises(CorruptFile, match="isn't a checkpoint of the separation-concentration program"):
        read_checkpoint(stored(**changes))


@pytest.mark.parametrize("content", [[1], {"net": {}}, None, torch.ones(2)])
def test_other_files(tmp_path, content):
    torch.save(content, tmp_path / "a")
    with pytest.raises(CorruptFile, match="no epoch, arch and state_dict"):
        read_checkpoint(tmp_path / "a")


def test_hostile_checkpoint(tmp_path, hostile):
    pickled, sentinel = hostile
    with pytest.raises(UnsafeFile, match="system"):
        read_checkpoint(write_archive(tmp_path / "a", pickled))
    assert not sentinel.exists()


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "\xff"])
def test_bad_options(tmp_path, text):
    (tmp_path / "args.json").write_bytes(text.encode("latin1"))
    with pytest.raises(CorruptFile, match="options"):
        read_args(tmp_path / "args.json")


def test_options(tmp_path):
    (tmp_path / "args.json").write_text(json.dumps({"arch": "scatnet"}))
    assert read_args(tmp_path / "args.json") == {"arch": "scatnet"}
    with pytest.raises(CorruptFile, match="can't be read"):
        read_args(tmp_path / "nowhere.json")
