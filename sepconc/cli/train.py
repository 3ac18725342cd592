"""``train.py NAME -a ARCH [options]``: train a classifier under a name, or go on with one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from sepconc._version import __version__
from sepconc.cli import command
from sepconc.cli.options import Parser, add_data_options, add_fields, classifier_params, data_request, step_lr
from sepconc.config import load_config
from sepconc.data.datasets import dataset_info
from sepconc.errors import BadParameter, TrainingInterrupted, UnknownArchitecture
from sepconc.params.archs import find_arch, list_archs, list_configs, resolve
from sepconc.params.field import param_infos
from sepconc.recipes import recipes
from sepconc.registry.names import check_name, close_names
from sepconc.registry.store import configured_registry
from sepconc.report import operator_text, training_summary

_DUMMY_IMAGES = 64
_CONTROLS = ("name", "resume_epoch", "resume", "evaluate", "overwrite", "max_steps", "debug")

_COUNTS = ("n_imgs", "n_imgs_per_class")
_EVALUATING = ("name", "data", "n_imgs", "n_imgs_per_class", "nb_classes", "class_indices", "size", "download", "dummy",
               "batch_size", "device", "workers", "backend")  # fmt: skip

_EPILOG = """\
examples:
  %(prog)s my-digits -a scatnet -ds digits --scattering-J 3 --epochs 60
  %(prog)s my-mnist -a scatnet -ds mnist --scattering-J 3 --P-proj-size 128 --epochs 300 -b 128 \\
      --learning-rate-adjust-frequency 70 --no-validation
  %(prog)s my-twin -a dtcwpt_resnet18 --config Ft40YEx_mod -ds cifar10 --epochs 300 --lr-scheduler StepLR100
  %(prog)s my-mnist                          (goes on where it stopped)
  %(prog)s MNIST-scatnet                     (a published experiment; "sepconc recipes" lists them)

exit codes: 0 done, 1 failed, 2 wrong use, 130/143 stopped by a signal after a checkpoint
"""


def make_parser(prog: str = "train.py") -> Parser:
    """The parser, made of the parameters' fields."""
    parser = Parser(
        prog=prog,
        description="Train a classifier under a name. Run it again to go on where it stopped.",
        epilog=_EPILOG,
    )
    parser.add_argument("name", metavar="NAME", help="name of the classifier in the registry")
    parser.add_argument("-a", "--arch", metavar="ARCH", help=f"architecture: {', '.join(list_archs())}")
    parser.add_argument(
        "-c",
        "--config",
        metavar="CONFIG",
        help='configuration of an architecture that has some ("sepconc configs ARCH")',
    )
    parser.add_argument("-r", dest="resume_epoch", type=int, metavar="EPOCH", help="go on from the snapshot e<EPOCH>")
    parser.add_argument("--resume", metavar="PATH", help="go on from a file: the .tar of a registry")
    parser.add_argument("-e", "--evaluate", action="store_true", help="measure on the validation images; don't train")
    parser.add_argument("-f", "--overwrite", action="store_true", help="start again, replacing what has this name")
    parser.add_argument("--max-steps", type=int, metavar="N", help="stop after N more updates and store nothing")
    parser.add_argument("--threads", type=int, metavar="N", help="threads on the CPU (default: as torch finds it)")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    parser.add_argument("--version", action="version", version=f"sepconc {__version__}", help="print the version")
    add_data_options(parser, evaluating=False)
    add_fields(parser)
    parser.add_argument(
        "--learning-rate-adjust-frequency",
        dest="lr_scheduler",
        type=step_lr,
        metavar="N",
        help="the same as --lr-scheduler StepLR<N>",
    )
    return parser


def main(arguments: list[str] | None = None, prog: str = "train.py") -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = make_parser(prog)

    def work(options: dict[str, Any]) -> int:
        with _stoppable(options["name"]):
            return Training(prog, parser, options, arguments).run()

    return command.main(parser, arguments, work)


class _Terminated(BaseException):
    """SIGTERM at a moment when no epoch is running; nothing that catches Exception may hold it up."""


@contextlib.contextmanager
def _stoppable(name: str) -> Iterator[None]:
    """Say in a line what SIGTERM stopped, also before the first update and after the last one."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, stop) or signal.SIG_DFL
    try:
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, before)
        epochs = max((row.epoch or 0 for row in configured_registry().rows() if row.name == name), default=None)
        stored = "nothing is stored under that name" if epochs is None else f"it is stored with {epochs} epochs"
        message = f'"{name}" was stopped by SIGTERM; {stored}. Run the same command again.'
        error = TrainingInterrupted(message)
        error.signal = signal.SIGTERM
        raise error from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _use_threads(count: int) -> None:
    """Compute with so many threads, as if ``OMP_NUM_THREADS`` said so, and also where there are fewer processors."""
    if count < 1:
        message = f"--threads must be at least 1; got {count}."
        raise BadParameter(message)
    if "torch" not in sys.modules:
        os.environ["OMP_NUM_THREADS"] = str(count)
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


class Training:
    """The work of the command: options -> classifier and images -> training -> summary."""

    def __init__(self, prog: str, parser: Parser, options: dict[str, Any], arguments: list[str]) -> None:
        self.prog = prog
        self.name = check_name(options["name"])
        self.config = load_config()
        self.arguments = arguments
        self.typed = options
        self.options = self._with_stored(options, parser)
        self.arch = self.options.get("arch")
        if self.arch is None:
            message = f'"{self.name}" {self._unknown()}: say which architecture with -a ("sepconc archs").'
            raise BadParameter(message)
        self.given = self._params()

    def run(self) -> int:
        """Do what was asked."""
        if "threads" in self.options:
            _use_threads(self.options["threads"])
        classifier = self._classifier()
        if self.options.get("evaluate"):
            return self._evaluate()
        train, val = self._images()
        with self._observing() as observer:
            classifier.train(
                train,
                X_val=val,
                name=self.name,
                observer=observer,
                max_steps=self.options.get("max_steps"),
                resume=self._resume(),
                command=self._command(),
            )
        self._summary(classifier)
        return 0

    def _with_stored(self, options: dict[str, Any], parser: Parser) -> dict[str, Any]:
        """Where no architecture is given, the options of the stored name, or of the recipe, come first."""
        if "arch" in options:
            find_arch(options["arch"])
            return options
        if not configured_registry().statuses(self.name) and self.name in recipes():
            return {**self._recipe_options(parser), **options}
        stored = self._stored_options()
        return {**{name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}, **options}

    def _recipe_options(self, parser: Parser) -> dict[str, Any]:
        recipe = recipes()[self.name]
        if not recipe.is_runnable:
            message = (
                f'The recipe "{recipe.name}" is for the architecture {recipe.arch}, which isn\'t available in this '
                'version. "sepconc recipes" tells which can be run.'
            )
            raise UnknownArchitecture(message)
        if not self.typed.get("evaluate"):
            command.tell(self.prog, f"using the recipe: {self.prog} {recipe.command}")
        return vars(parser.parse_args(recipe.arguments))

    def _stored_options(self) -> dict[str, Any]:
        registry = configured_registry()
        if not registry.statuses(self.name):
            return {}
        record = registry.load(self.name, registry.latest(self.name).status, histories=False).record
        return record["provenance"].get("options") or {}

    def _unknown(self) -> str:
        registry = configured_registry()
        if registry.statuses(self.name):
            record = registry.load(self.name, registry.latest(self.name).status, histories=False).record
            imported = record["provenance"].get("imported")
            if not imported:
                return "was trained from Python"
            epoch = record["learned"]["current_epoch"]
            return f"was imported (architecture {record['arch']}; -r {epoch} goes on from its weights, -f starts again)"
        close = close_names(self.name, [*(row.name for row in registry.rows()), *recipes()])
        return "isn't stored yet" + (f" (close names: {', '.join(close)})" if close else "")

    def _command(self) -> Any:
        """What is recorded: the command as typed, and the options that a later run starts from."""
        from sepconc.estimators.persistence import Command

        script, arguments = command.command_line(self.prog, self.arguments)
        kept = {name: value for name, value in self.options.items() if name not in _CONTROLS}
        for name in ("data", "class_indices"):
            if name in kept and Path(kept[name]).expanduser().exists():
                kept[name] = str(Path(kept[name]).expanduser().absolute())
        kept["dataset"] = dataset_info(self._dataset()).name
        return Command(script, arguments, kept)

    def _params(self) -> dict[str, Any]:
        """The classifier's parameters that were given, or that config.yml has defaults for."""
        if "config" in self.options and not list_configs(self.arch):
            message = f'{self.arch} has no configuration "{self.options["config"]}": it has none; use its parameters.'
            raise BadParameter(message)
        known = param_infos(resolve(find_arch(self.arch).params))
        defaults = {name: value for name, value in self.config.defaults.items() if name in known}
        data_keys = ("dataset", "data", "nb_classes", "class_indices", "split", *_COUNTS, "size", "download", "dummy")
        ignored = {*_CONTROLS, *data_keys, "no_validation", "arch", "threads"}
        given = {name: value for name, value in self.options.items() if name not in ignored}
        return classifier_params(self.arch, {**defaults, **given}, lambda text: command.tell(self.prog, text))

    def _classifier(self) -> Any:
        from sepconc.estimators.factory import make_classifier
        from sepconc.params.field import check_params

        params = {name: value for name, value in self.given.items() if name != "log_dir"}
        classifier = make_classifier(self.arch, **params)
        check_params(classifier)
        classifier.check_together()
        if self.options.get("max_steps", 1) < 1:
            message = f"--max-steps must be at least 1; got {self.options['max_steps']}."
            raise BadParameter(message)
        return classifier

    def _dataset(self) -> str:
        stored = {} if self.options.get("overwrite") else self._stored_options()
        return self.options.get("dataset") or stored.get("dataset") or self.config.defaults.get("dataset") or "imagenet"

    def _images(self) -> tuple[Any, Any]:
        """Training and validation images."""
        from sepconc.data.readers import dummy_like, load_dataset
        from sepconc.data.splits import read_class_indices

        if dataset_info(self._dataset()).variant:
            message = (
                f"{self._dataset()} is for evaluation only (eval.py NAME -ds {self._dataset()}); train on another."
            )
            raise BadParameter(message)
        request = data_request(self.options, self.given.get("random_state"))
        if self.options.get("dummy"):
            dummy = {key: request[key] for key in ("nb_classes", "size") if key in request}
            if "class_indices" in request:
                dummy["nb_classes"] = len(read_class_indices(request["class_indices"]))
            return dummy_like(self._dataset(), n=request.get("n_imgs", _DUMMY_IMAGES), **dummy), None
        validation = not self.options.get("no_validation")
        split = self.options.get("split", "train")
        train = load_dataset(self._dataset(), split, validation=validation, **request)
        if split == "test":
            command.tell(self.prog, "training on the test images, as --split test says.")
        if not validation or split != "train":
            return train, None
        request = {key: value for key, value in request.items() if key not in _COUNTS}
        return train, load_dataset(self._dataset(), "val", **request)

    def _resume(self) -> Any:
        from sepconc.estimators.resuming import Resume

        path = self.options.get("resume")
        return Resume(
            epoch=self.options.get("resume_epoch"),
            path=None if path is None else Path(path).expanduser(),
            restart=self.options.get("overwrite", False),
        )

    @contextlib.contextmanager
    def _observing(self) -> Iterator[Any]:
        """The observer; a training that is refused leaves no folder of logs."""
        from sepconc.cli.progress import console_observer
        from sepconc.training.observers import Observers, TensorBoard

        if self.options.get("max_steps"):
            yield console_observer()
            return
        folder = Path(self.given.get("log_dir") or self.config.logs / self.name).expanduser().absolute()
        new = [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f'Logs can\'t be written to "{folder}": {error.strerror}. Choose another folder with --dir.'
            raise BadParameter(message) from error
        try:
            yield Observers([console_observer(), TensorBoard(str(folder))])
        finally:
            with contextlib.suppress(OSError):  # not empty: there are logs
                for place in new:
                    place.rmdir()

    def _summary(self, classifier: Any) -> None:
        if self.options.get("max_steps"):
            print(f"{self.name}: {len(classifier.losses_)} updates, nothing stored (--max-steps)")
            return
        evaluating = "sepconc eval" if self.prog.startswith("sepconc") else "python eval.py"
        errors = classifier.val_errs_
        best = min(errors, key=lambda epoch: errors[epoch][1], default=None)
        dataset = classifier.dataset_["name"]
        summary = training_summary(
            name=self.name,
            arch=f"{self.arch} {self.given['config']}" if self.given.get("config") else self.arch,
            dataset=dataset,
            epochs=classifier.current_epoch_,
            total_epochs=classifier.epochs,
            updates=len(classifier.losses_),
            seconds=classifier.elapsed_time_,
            val_error=errors[max(errors)][1] if errors else None,
            best_error=errors[best][1] if errors else None,
            best_epoch=best,
            stored=str(self.config.registry_csv),
            evaluate_command=f"{evaluating} {self.name} -em onecrop",
        )
        print(summary)
        for operator, values in getattr(classifier, "frame_diagnostics_", {}).items():
            print(f"{operator + ':':<28}{operator_text(values)}")

    def _evaluate(self) -> int:
        from sepconc.cli.eval import evaluate

        if "resume" in self.options:
            message = "-e measures what is stored under the name; it takes no --resume. Name the snapshot with -r."
            raise BadParameter(message)
        epoch = self.options.get("resume_epoch")
        status = "checkpoint" if epoch is None else f"e{epoch}"
        passed = {name: self.options[name] for name in _EVALUATING if name in self.options}
        for count in set(_COUNTS) - set(self.typed):
            passed.pop(count, None)  # a stored one is the number of training images
        seed = {"seed": self.given["random_state"]} if "random_state" in self.given else {}
        split = "val" if self.options.get("split", "train") == "train" else self.options["split"]
        if split == "val" and self._stored_options().get("no_validation"):
            command.tell(self.prog, f'"{self.name}" has seen the validation images: it was trained on all.')
        return evaluate(
            {"dataset": self._dataset(), **passed, **seed, "split": split, "status": status, "no_store": True}
        )
