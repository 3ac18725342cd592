"""Classifiers made of checkpoints of the separation-concentration program: they predict, and go on training."""

import ast
import collections
import json
import logging

import numpy as np
import pytest
import torch
from registry.older import Program, write_row

from sepconc import ImageClassifier
from sepconc.errors import BadParameter, ClassifierExists, CorruptFile
from sepconc.estimators.imported import Request, import_checkpoint
from sepconc.registry.legacy.importing import import_wcnn
from sepconc.registry.store import configured_registry

DATASETS = {
    "analysis_mnist": "mnist",
    "scatnet_mnist": "mnist",
    "block_cifar": "cifar10",
    "blockanalysis_soft": "cifar10",
}
OPTIONS = {
    "n_blocks": "n_blocks",
    "J": "scattering_J",
    "proj": "P_proj_size",
    "frame": "frame_width",
    "fk": "frame_kernel_size",
    "fs": "frame_stride",
    "nonlin": "non_linearity",
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Reference:
    """A golden file as a checkpoint of the program: keys with ``module.``, the optimiser's two groups, args.json."""

    def __init__(self, golden, case, folder):
        with np.load(golden / f"sepconc_{case}.npz", allow_pickle=False) as arrays:
            self.arrays = dict(arrays)
        self.kw = ast.literal_eval(str(self.arrays["kw"]))
        self.case, self.folder = case, folder
        theirs = {
            key.removeprefix("init/"): torch.tensor(value) for key, value in self.arrays.items() if "init/" in key
        }
        self.state = collections.OrderedDict((key.replace(".", ".module.", 1), value) for key, value in theirs.items())
        self.state["0.module.scattering.0.tensor0"] = torch.zeros(5)
        self.params = {OPTIONS[key]: value for key, value in self.kw.items() if key in OPTIONS}

    def optimizer(self):
        """Momentum that tells which parameter it belongs to."""
        fixed = ("running_mean", "running_var", "tracked", "lambda_", "factor", "tensor0")
        names = [key for key in self.state if not key.endswith(fixed)]
        operators = [key for key in names if key.endswith((".frame_weight", ".proj.weight"))]
        order = [key for key in names if key not in operators] + operators
        state = {i: {"momentum_buffer": self.state[key] * 2} for i, key in enumerate(order)}
        cut = len(order) - len(operators)
        common = {"lr": 0.001, "momentum": 0.8, "dampening": 0, "nesterov": False}
        groups = [
            {**common, "weight_decay": 0.0002, "params": list(range(cut))},
            {**common, "weight_decay": 0.0, "params": list(range(cut, len(order)))},
        ]
        return {"state": state, "param_groups": groups}

    def store(self, *, name="run.pth.tar", args=True, **changes):
        """Write the checkpoint, and args.json."""
        content = {
            "epoch": 75,
            "arch": self.kw["arch"],
            "state_dict": self.state,
            "best_acc1": torch.tensor([91.5]),
            "optimizer": self.optimizer(),
            **changes,
        }
        torch.save(content, self.folder / name)
        if args:
            (self.folder / "args.json").write_text(json.dumps(self.args()))
        return self.folder / name

    def args(self):
        """The program's options: lists with a value per block."""
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in self.params.items()}
        n = self.kw.get("n_blocks", 1)
        lists = {name: [value] * n if name.endswith(("size", "stride")) and isinstance(value, int) else value
                 for name, value in lists.items()}  # fmt: skip
        return {
            **lists, "dataset": DATASETS[self.case], "arch": self.kw["arch"], "learning_rate_adjust_frequency": 70,
            "lr": 0.01, "epochs": 300, "batch_size": 128, "seed": 5, "backend": "skcuda", "dir": "x", "evaluate": False,
            "n_blocks": n, "data": None, "weight_decay": 0.0001, "start_epoch": 0,
        }  # fmt: skip


@pytest.fixture(params=DATASETS)
def reference(request, golden, tmp_path):
    return Reference(golden, request.param, tmp_path)


@pytest.fixture
def scatnet(golden, tmp_path):
    return Reference(golden, "scatnet_mnist", tmp_path)


def test_logits_are_the_references(reference):
    import_checkpoint(reference.store(), "old", "checkpoint", Request())
    clf = ImageClassifier.load("old")
    x, expected = (torch.tensor(reference.arrays[key]) for key in ("x", "logits_eval"))
    with torch.no_grad():
        error = (clf.net_(x) - expected).abs().max() / expected.abs().max()
    assert error < 1e-5
    mean, std = (torch.tensor(part).reshape(-1, 1, 1) for part in (clf.normalization_.mean, clf.normalization_.std))
    assert np.array_equal(clf.predict((x * std + mean).numpy()), expected.argmax(1).numpy())


def test_parameters_of_the_program(reference):
    import_checkpoint(reference.store(), "old", "checkpoint", Request())
    clf = ImageClassifier.load("old", load_net=False)
    assert clf.arch == reference.kw["arch"]
    for name, value in reference.params.items():
        assert getattr(clf, name) == (value[0] if isinstance(value, tuple) and len(value) == 1 else value)
    assert (clf.lr_scheduler, clf.lr, clf.epochs, clf.batch_size) == ("StepLR70", 0.01, 300, 128)
    assert (clf.momentum, clf.weight_decay, clf.random_state, clf.backend) == (0.8, 0.0001, 5, "auto")
    assert (clf.current_epoch_, clf.seed_) == (75, 5)
    assert clf.best_val_err_ == pytest.approx(0.085)
    assert clf.n_params_ == int(reference.arrays["n_params"])
    assert clf.dataset_["name"] == DATASETS[reference.case]


def test_parameters_without_args_are_given(reference):
    request = Request(dataset=DATASETS[reference.case], params=reference.params)
    row = import_checkpoint(reference.store(args=False), "old", "checkpoint", request)
    assert row.arch == reference.kw["arch"]
    assert ImageClassifier.load("old", load_net=False).weight_decay == 0.0002


def test_training_state_is_the_programs(reference):
    import_checkpoint(reference.store(), "old", "checkpoint", Request())
    clf = ImageClassifier.load("old", train=True)
    optimizer = torch.optim.SGD(clf.parameter_groups(clf.net_), lr=clf.lr, momentum=clf.momentum)
    optimizer.load_state_dict(clf.training_state_["optimizer"])
    for parameter in clf.net_.parameters():
        assert torch.allclose(optimizer.state[parameter]["momentum_buffer"], parameter * 2, rtol=1e-5)
    assert clf.training_state_["progress"] == {"epoch": 75, "step": 0}
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0001, 0.0]


def test_training_goes_on(scatnet):
    import_checkpoint(scatnet.store(), "old", "checkpoint", Request())
    clf = ImageClassifier.load("old", train=True).set_params(device="cpu")
    rng = np.random.default_rng(0)
    clf.partial_fit(rng.integers(0, 256, (20, 1, 28, 28), dtype=np.uint8), np.arange(20) % 10)
    assert clf.current_epoch_ == 76
    assert list(clf.lr_history_) == [76]
    assert clf.lr_history_[76] == pytest.approx(0.001)


def test_best_has_its_accuracy(scatnet):
    row = import_checkpoint(scatnet.store(name="run_best.pth.tar"), "old", "best", Request())
    assert row.accuracy == "0.915000"
    clf = ImageClassifier.load("old", "best", load_net=False)
    assert clf.eval_scores_["mnist"]["test"]["onecrop"]["top1"]() == 0.915
    assert clf.val_errs_ == {75: {1: pytest.approx(0.085)}}


def test_where_it_comes_from(scatnet):
    path = scatnet.store()
    row = import_checkpoint(path, "old", "checkpoint", Request())
    assert row.accuracy == ""
    record = configured_registry().load("old").record
    (file,) = record["provenance"]["imported"]["files"].values()
    assert (file["name"], file["size"]) == (path.name, path.stat().st_size)
    assert record["legacy"]["args"]["dir"] == "x"
    assert record["legacy"]["best_accuracy"] == 0.915
    assert record["provenance"]["commit"] == ""


def test_keys_without_module(scatnet):
    state = collections.OrderedDict((key.replace(".module.", "."), value) for key, value in scatnet.state.items())
    assert import_checkpoint(scatnet.store(state_dict=state), "old", "checkpoint", Request()).epoch == 75


def test_a_perceptron(scatnet):
    head = {key: value for key, value in scatnet.state.items() if "classifier.classifier" in key}
    rest = {key: value for key, value in scatnet.state.items() if key not in head}
    features = next(value.shape[1] for value in head.values() if value.ndim == 2)
    sizes = {0: (features, 6), 3: (6, 6), 6: (6, 10)}
    weights = {f"0.module.classifier.classifier.{i}.weight": torch.rand(n, m) for i, (m, n) in sizes.items()}
    biases = {f"0.module.classifier.classifier.{i}.bias": torch.rand(n) for i, (_, n) in sizes.items()}
    given = {"classifier_type": "mlp", "nb_hidden_units": 6}
    path = scatnet.store(state_dict={**rest, **weights, **biases}, optimizer=None)
    import_checkpoint(path, "old", "checkpoint", Request(params=given))
    net = ImageClassifier.load("old").net_
    assert torch.equal(net.head.hidden[3].weight, weights["0.module.classifier.classifier.3.weight"])
    assert torch.equal(net.head.linear.weight, weights["0.module.classifier.classifier.6.weight"])


def test_a_learning_rate_that_does_not_fit_is_told(scatnet, caplog):
    request = Request(params={"lr_scheduler": "StepLR20"})
    with caplog.at_level(logging.WARNING):
        import_checkpoint(scatnet.store(), "old", "checkpoint", request)
    assert "learning rate 0.001 in epoch 75" in caplog.text


@pytest.mark.parametrize(
    ("case", "given", "what"),
    [
        ("scatnet_mnist", {"P_proj_size": 16}, r"has shape \(24, "),
        ("scatnet_mnist", {"scattering_J": 2}, "has shape"),
        ("scatnet_mnist", {"classifier_type": "mlp"}, "is missing"),
        ("block_cifar", {"n_blocks": 2, "P_proj_size": (8, 12)}, r"blocks\.2\.projection\..* is unknown"),
        ("analysis_mnist", {"frame_stride": 14}, "frame_stride"),
        ("analysis_mnist", {"non_linearity": "softshrink"}, "threshold 0.102062, .*would be 0.153093"),
        ("analysis_mnist", {"zero_bias": True}, "zero_bias"),
        ("blockanalysis_soft", {"non_linearity": "relu"}, "block 1 has the threshold"),
    ],
)
def test_other_parameters_are_refused(case, given, what, golden, tmp_path):
    path = Reference(golden, case, tmp_path).store()
    with pytest.raises(CorruptFile, match=what):
        import_checkpoint(path, "old", "checkpoint", Request(params=given))
    assert configured_registry().names() == []


def test_unknown_keys_are_named(scatnet):
    scatnet.state["0.module.attention.weight"] = torch.ones(1)
    with pytest.raises(CorruptFile, match=r"0\.module\.attention\.weight unknown"):
        import_checkpoint(scatnet.store(), "old", "checkpoint", Request())


def test_weights_that_are_not_finite(scatnet):
    scatnet.state["0.module.classifier.classifier.bias"][3] = torch.nan
    with pytest.raises(CorruptFile, match="isn't finite"):
        import_checkpoint(scatnet.store(), "old", "checkpoint", Request())


def test_another_architecture(scatnet):
    with pytest.raises(BadParameter, match=r"is of the architecture scatnet, not analysis\."):
        import_checkpoint(scatnet.store(), "old", "checkpoint", Request(arch="analysis"))
    with pytest.raises(BadParameter, match="No architecture"):
        import_checkpoint(scatnet.store(arch="resnet"), "old", "checkpoint", Request())


def test_no_data_set(scatnet):
    with pytest.raises(BadParameter, match="doesn't say which data set"):
        import_checkpoint(scatnet.store(args=False), "old", "checkpoint", Request())


def test_no_head(scatnet):
    del scatnet.state["0.module.classifier.classifier.bias"]
    with pytest.raises(CorruptFile, match="no last linear layer"):
        import_checkpoint(scatnet.store(optimizer=None), "old", "checkpoint", Request())


def test_nothing_is_overwritten(scatnet):
    path = scatnet.store()
    import_checkpoint(path, "old", "checkpoint", Request())
    with pytest.raises(ClassifierExists):
        import_checkpoint(path, "old", "checkpoint", Request())
    import_checkpoint(path, "old", "checkpoint", Request(), overwrite=True)


# ---------------------------------------------------------------------- records of the older registries


def test_rows_of_the_older_registry_load(monkeypatch, tmp_path):
    program = Program(monkeypatch)
    write_row(tmp_path / "older", "small", program.estimator())
    assert next(import_wcnn(tmp_path / "older", configured_registry())).is_good
    clf = ImageClassifier.load("small", "e2", load_net=False)
    assert (clf.config, clf.has_l1loss, clf.lambda_params) == ("Ft40YEx", True, (0.0, 0.005))
    assert (clf.batch_size, clf.lr_scheduler, clf.lr) == (256, "StepLR100", 0.1)
    assert clf.losses_.tolist() == pytest.approx([2.5, 1.25, 0.1])
    assert clf.val_errs_ == {1: {1: 0.7}, 2: {1: 0.5}}
    assert clf.lr_history_ == {1: 0.1, 2: 0.1}
    assert clf.eval_scores_["cifar10"]["test"]["onecrop"]["top1"]() == 0.75
    assert clf.classes_.tolist() == list(range(10))
    assert (clf.image_shape_, clf.current_epoch_, clf.n_params_) == ((3, 32, 32), 2, 11_178_141)
    assert clf.normalization_.mean == (0.485, 0.456, 0.406)
    with pytest.raises(CorruptFile, match="stored without weights"):
        ImageClassifier.load("small", "e2")
