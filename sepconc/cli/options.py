"""From parameters to flags: every field of :mod:`sepconc.params` becomes an option, with no second default.

Options that weren't given are absent from the parsed namespace, so that the defaults stay those of the fields.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from sepconc.errors import BadParameter
from sepconc.params.archs import ARCHS, find_arch, resolve
from sepconc.params.field import ParamInfo, param_infos

SPLITS = ("train", "val", "test")


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviations whose errors are one line, with exit code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [word for word in unknown if word.startswith("-")] or unknown
            known = [flag for flag in self._option_string_actions if flag.startswith("--")]
            close = [match for flag in flags for match in difflib.get_close_matches(flag, known, n=1, cutoff=0.7)]
            hint = f"; close: {', '.join(close)}" if close else ""
            self.error(f"unknown: {' '.join(unknown)}{hint}")
        return parsed

    def error(self, message: str) -> None:
        self.exit(2, f'{self.prog}: error: {message}. See "{self.prog} --help".\n')

    def _print_message(self, message: str, file: TextIO | None = None) -> None:
        with contextlib.suppress(BrokenPipeError):  # newer versions of Python 3.11 do so themselves
            super()._print_message(message, file)


def flag_name(field: str) -> str:
    """The long flag of a field: ``frame_width`` -> ``--frame-width``."""
    return "--" + field.replace("_", "-")


def all_fields() -> dict[str, tuple[dict[str, Any], ParamInfo]]:
    """Every field of every architecture: name -> (default by architecture, or group of them, that has it; info)."""
    fields: dict[str, tuple[dict[str, Any], ParamInfo]] = {}
    for arch in ARCHS.values():
        for name, (default, info) in param_infos(resolve(arch.params)).items():
            fields.setdefault(name, ({}, info))[0][arch.group or arch.name] = default
    return fields


def add_fields(parser: argparse.ArgumentParser, only: Iterable[str] | None = None) -> None:
    """Add the flags of all fields, those common to all architectures first."""
    fields = all_fields()
    chosen = [name for name, (_, info) in fields.items() if info.has_flag and (only is None or name in only)]
    common = parser.add_argument_group("training and images")
    special = parser.add_argument_group("architecture")
    for name in chosen:
        defaults, info = fields[name]
        of_training = name in param_infos(resolve("sepconc.params.training:TrainingParams"))
        group = common if of_training else special
        add_field(group, name, defaults, info)


def _defaults_text(defaults: dict[str, Any]) -> str:
    everywhere = len(defaults) == len({arch.group or arch.name for arch in ARCHS.values()})
    where = "" if everywhere else f" [{', '.join(defaults)}]"
    values = list(defaults.values())
    if all(value == values[0] for value in values):
        return f"{where} (default: {values[0]})"
    having = {str(value): [arch for arch in defaults if defaults[arch] == value] for value in values}
    told = [f"{value} for {', '.join(archs)}" for value, archs in having.items()]
    return f"{where} (default: {'; '.join(told)})"


def add_field(group: Any, name: str, defaults: dict[str, Any], info: ParamInfo) -> None:
    """Add the flag of one field."""
    text = f"{info.help}{_defaults_text(defaults)}".replace("%", "%%")
    flags = [*info.flags, flag_name(name)]
    if info.type is bool:
        group.add_argument(*flags, dest=name, action=argparse.BooleanOptionalAction, help=text)
        return
    options: dict[str, Any] = {"dest": name, "help": text, "type": _converter(info)}
    if info.choices:
        options["choices"] = info.choices
        options["metavar"] = "{" + ",".join(map(str, info.choices)) + "}"
    else:
        options["metavar"] = name.upper()
    if info.several:
        options |= {"nargs": "+", "action": TupleAction}
    elif info.per_block:
        options |= {"nargs": "+", "action": PerBlockAction}
    group.add_argument(*flags, **options)


def _converter(info: ParamInfo) -> Callable[[str], Any]:
    """Text -> value, with an error that says what the option is."""

    def convert(text: str) -> Any:
        try:
            return (info.parse or info.type)(text)
        except ValueError:
            message = f"{text!r} can't be read. {info.help.removesuffix('.')}"
            raise argparse.ArgumentTypeError(message) from None

    return convert


class PerBlockAction(argparse.Action):
    """One value stays a number, several become a tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, values[0] if len(values) == 1 else tuple(values))


class TupleAction(argparse.Action):
    """The values as a tuple, also of one."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, tuple(values))


def add_data_options(parser: argparse.ArgumentParser, *, evaluating: bool) -> None:
    """Which images: data set, where it is, which part of it."""
    group = parser.add_argument_group("data")
    default = "the one it was trained on" if evaluating else "imagenet"
    group.add_argument(
        "-ds",
        "--dataset",
        help="data set, any case: digits, mnist, fashion-mnist, cifar10, cifar100, stl10, imagenet, folder:PATH or "
        f"npz:PATH{', imagenet-c, imagenet-p, cifar10-c or cifar10-p' if evaluating else ''} (default: {default})",
    )
    group.add_argument("--data", metavar="ROOT", help="folder that holds the data sets (default: from config.yml)")
    group.add_argument("--nb-classes", type=int, help="number of classes kept, drawn with the seed (default: all)")
    group.add_argument(
        "--class-indices",
        metavar="CLASSES",
        help="classes kept: numbers and ranges with commas (1,3,10-19), a .npy or text file of numbers, or imagenet10, "
        "imagenet20, imagenet100",
    )
    if evaluating:
        group.add_argument(
            "--split",
            metavar="SPLIT",
            help="train, val or test (default: test); of imagenet-c, cifar10-c CORRUPTION/SEVERITY, of imagenet-p, "
            "cifar10-p PERTURBATION, with * and ? for several (default: all that are found)",
        )
    else:
        group.add_argument("--split", choices=SPLITS, help="part of the data set (default: train)")
    group.add_argument("--n-imgs", type=int, help="use the first images only")
    part = "" if evaluating else "; validation stays whole"
    group.add_argument(
        "--n-imgs-per-class", type=int, metavar="N", help=f"use the first images of each class only{part}"
    )
    group.add_argument("--size", type=int, help="side of the images in pixels (default: the data set's)")
    group.add_argument("--download", action="store_true", help="fetch a missing data set, where torchvision can")
    group.add_argument("--dummy", action="store_true", help="use random images of the data set's shape instead")
    if not evaluating:
        group.add_argument("--no-validation", action="store_true", help="train on the validation images too")


def step_lr(text: str) -> str:
    """Epochs between two divisions of the learning rate -> the schedule's name."""
    if not text.isdecimal() or int(text) < 1:
        message = f"{text!r} isn't a number of epochs. Give an integer of at least 1"
        raise argparse.ArgumentTypeError(message)
    return f"StepLR{int(text)}"


def classifier_params(arch: str, given: dict[str, Any], warn: Callable[[str], None]) -> dict[str, Any]:
    """The given parameters of ``arch``; those of other architectures are left out, aloud."""
    fields, own = all_fields(), param_infos(resolve(find_arch(arch).params))
    chosen: dict[str, Any] = {}
    for name, value in given.items():
        if name in own:
            chosen[name] = value
        elif name in fields:
            warn(f"{flag_name(name)} has no meaning for {arch} and is ignored.")
    return chosen


def data_request(options: dict[str, Any], seed: int | None) -> dict[str, Any]:
    """What :func:`sepconc.load_dataset` needs of the options."""
    numbers = ("nb_classes", "n_imgs", "n_imgs_per_class", "size")
    request = {key: options[key] for key in (*numbers, "download") if key in options}
    if options.get("dummy") and "n_imgs_per_class" in options:
        message = "--n-imgs-per-class has no meaning with --dummy; use --n-imgs."
        raise BadParameter(message)
    if "data" in options:
        request["root"] = Path(options["data"]).expanduser()
    if "class_indices" in options:
        request["class_indices"] = options["class_indices"]
    if seed is not None:
        request["seed"] = seed
    for name in numbers:
        if request.get(name) is not None and request[name] < 1:
            message = f"{flag_name(name)} must be at least 1; got {request[name]}."
            raise BadParameter(message)
    return request
