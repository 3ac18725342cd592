"""Registries as the WCNN program writes them, for the tests: the same classes by name, stored by ``torch.save``."""

import csv
import datetime
import sys
import types
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

COLUMNS = ["name", "status", "filename", "commit", "script", "args_script"]
CLASSES = {
    "wcnn.classifier.classifier_cnn": ["WaveCnnClassifier"],
    "wcnn.classifier.classifier_toolbox": ["Score"],
    "wcnn.toolbox": ["InfoPrinter"],
}
WHEN = datetime.datetime(2022, 11, 9, 0, 2, 52, 279331)


class Program:
    """Stand-ins for the program's modules, importable while the tests write."""

    def __init__(self, monkeypatch: Any) -> None:
        self.classes: dict[str, type] = {}
        for module in ("wcnn", "wcnn.classifier", "wcnn.metrics", *CLASSES):
            monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        for module, names in CLASSES.items():
            for name in names:
                self.classes[name] = type(name, (), {"__module__": module})
                setattr(sys.modules[module], name, self.classes[name])

    def make(self, kind: str, /, **attributes: Any) -> Any:
        """An object of one of the classes."""
        made = self.classes[kind]()
        vars(made).update(attributes)
        return made

    def score(self, value: Any, **others: Any) -> Any:
        """A score."""
        return self.make("Score", val=value, commit="abc", date=WHEN, **others)

    def estimator(self, **changes: Any) -> Any:
        """A small classifier of two epochs with every kind of attribute."""
        attributes = {
            "name": "small",
            "size": 32,
            "normalize": True,
            "data_augmentation": True,
            "metrics": "top1_accuracy_score",
            "config": "Ft40YEx",
            "lambda_params": [0.0, 0.005],
            "has_l1loss": True,
            "ds_name": "CIFAR10",
            "split": "train",
            "lr": 0.1,
            "lr_scheduler": "StepLR100",
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "batch_size_train": 256,
            "batch_accum": 1,
            "verbose_print_batch": 50,
            "snapshots": 30,
            "infoprinter_": self.make("InfoPrinter", gpu=None, verbose=False),
            "elapsed_time_": 21.5,
            "elapsed_time_per_epoch_": {1: 11.5, 2: 10.0},
            "n_classes_": 10,
            "n_params_": 11_178_141,
            "losses_": torch.tensor([2.5, 1.25, 0.1]).tolist(),
            "grads_": None,
            "current_epoch_": 2,
            "lr_history_": {1: 0.1, 2: 0.1},
            "device_train_": torch.device("cuda", 0),
            "training_date_and_time_": WHEN,
            "args_metrics_": {"N": 1},
            "val_errs_": {1: 0.7, 2: 0.5},
            "best_val_err_": 0.5,
            "eval_scores_": {"CIFAR10": {"test": {"onecrop": {"top1_accuracy_score": self.score(0.75)}}}},
            "arch": "dtcwpt_resnet18",
            "workers": None,
            "epochs": 2,
            "trainable_qmf": False,
            **changes,
        }
        return self.make("WaveCnnClassifier", **attributes)


def write_row(folder: Path, name: str, content: Any, *, status: str = "e2", filename: str | None = None) -> Path:
    """Store a classifier as the program does, with its line in the table; None writes the line only."""
    folder.mkdir(exist_ok=True)
    table = folder / "classif_db.csv"
    filename = filename or f"{len(list(folder.iterdir())):032x}"
    is_new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow([name, status, filename, "c0ffee", "train.py", f"{name} -a x"])
    path = folder / f"{filename}.classif"
    if content is not None:
        torch.save(content, path)
    return path


def write_archive(path: Path, pickled: bytes, members: Mapping[str, bytes] | None = None, **options: Any) -> Path:
    """A zip file like those of ``torch.save``, with any pickle and members besides."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in {"archive/version": b"3\n", **(members or {})}.items():
            archive.writestr(name, content)
    return path
