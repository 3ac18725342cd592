"""``sepconc import-legacy PATH``: take classifiers from the registries and checkpoints of older programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sepconc.cli.options import Parser, add_fields, step_lr
from sepconc.errors import BadParameter
from sepconc.params.archs import ARCHS, resolve
from sepconc.params.field import param_infos
from sepconc.registry.legacy.importing import Outcome, import_wcnn
from sepconc.registry.names import check_name, check_status
from sepconc.registry.store import configured_registry
from sepconc.report import table

_OF_A_FOLDER = ("prefix", "dry_run")
_OF_A_FILE = ("name", "status", "arch", "dataset", "size", "args")
_CONTROLS = ("path", "overwrite", "debug", "work")

_CHECKPOINTS = [name for name, arch in ARCHS.items() if arch.params.startswith("sepconc.params.separation:")]
"""The architectures that checkpoints are of."""

_EPILOG = """\
PATH is a folder with the classif_db.csv of the WCNN program, its files beside it or in classif or classifs; or a
checkpoint (.pth.tar) of the separation-concentration program. Nothing in them is executed; a file that holds more than
data is refused.

examples:
  %(prog)s old/registry --prefix old-
  %(prog)s checkpoints/run1/scatnet_batchsize_128_lrfreq_70.pth.tar --name my-scatnet

exit codes: 0 done, 1 something was left out or refused, 2 wrong use
"""


def make_parser(command: str = "import-legacy", prog: str = "sepconc import-legacy") -> Parser:
    """The parser."""
    parser = Parser(
        prog=prog, description="Take classifiers from the registries and checkpoints of older programs.", epilog=_EPILOG
    )
    parser.add_argument("path", metavar="PATH", help="folder of a registry, or file of a checkpoint")
    parser.add_argument("-f", "--overwrite", action="store_true", help="replace classifiers that have these names")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    folder = parser.add_argument_group("of a folder")
    folder.add_argument("--prefix", metavar="TEXT", help="put before every name")
    folder.add_argument("--dry-run", action="store_true", help="read everything and store nothing")
    file = parser.add_argument_group("of a checkpoint")
    file.add_argument("--name", metavar="NAME", help="its name here (default: the file's, without .pth.tar)")
    file.add_argument(
        "-s", "--status", help="checkpoint, best or e<epochs> (default: best if the file's name ends with _best)"
    )
    file.add_argument("-a", "--arch", metavar="ARCH", help=f"its architecture, to be sure: {', '.join(_CHECKPOINTS)}")
    file.add_argument("-ds", "--dataset", help="the data set it was trained on (default: from args.json)")
    file.add_argument("--size", type=int, help="side of the images in pixels (default: the data set's)")
    file.add_argument("--args", metavar="FILE", help="the program's options (default: args.json beside it, if there)")
    add_fields(parser, only={name for arch in _CHECKPOINTS for name in param_infos(resolve(ARCHS[arch].params))})
    parser.add_argument(
        "--learning-rate-adjust-frequency",
        dest="lr_scheduler",
        type=step_lr,
        metavar="N",
        help="the same as --lr-scheduler StepLR<N>",
    )
    parser.set_defaults(work=import_legacy)
    return parser


def import_legacy(options: dict[str, Any]) -> int:
    """Import, and tell what became of every row."""
    path = Path(options["path"]).expanduser()
    of_a_folder = path.is_dir()
    _refuse_options(options, of_a_folder)
    outcomes = list(_folder(path, options)) if of_a_folder else [_file(path, options)]
    print(summary(outcomes))
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def summary(outcomes: Sequence[Outcome]) -> str:
    """A table of what became of the rows, and a line of totals."""
    if not outcomes:
        return "The registry has no classifiers."
    columns = {
        "name": [outcome.name for outcome in outcomes],
        "status": [outcome.status for outcome in outcomes],
        "result": [outcome.result for outcome in outcomes],
        "weights": ["yes" if outcome.has_weights else "no" if outcome.is_good else "" for outcome in outcomes],
        "reason": [outcome.reason for outcome in outcomes],
    }
    if not any(columns["reason"]):
        del columns["reason"]
    results = [outcome.result for outcome in outcomes]
    counts = ", ".join(f"{results.count(result)} {result}" for result in dict.fromkeys(results))
    return f"{table(columns)}\n\n{counts}"


def _folder(path: Path, options: dict[str, Any]) -> list[Outcome]:
    chosen = {name: options[name] for name in ("prefix", "overwrite", "dry_run") if name in options}
    return list(import_wcnn(path, configured_registry(), **chosen))


def _file(path: Path, options: dict[str, Any]) -> Outcome:
    from sepconc.estimators.imported import Request, import_checkpoint

    if not path.is_file():
        message = f"{path} is neither a folder nor a file. Give the folder of an older registry, or a checkpoint."
        raise BadParameter(message)
    stem = path.name.removesuffix(".tar").removesuffix(".pth")
    status = check_status(options.get("status", "best" if stem.endswith("_best") else "checkpoint"))
    name = check_name(options.get("name", stem.removesuffix("_best")))
    params = {key: value for key, value in options.items() if key not in (*_OF_A_FILE, *_CONTROLS)}
    chosen = {key: options[key] for key in ("arch", "dataset", "size") if key in options}
    request = Request(**chosen, args=_path(options.get("args")), params=params)
    import_checkpoint(path, name, status, request, overwrite=options.get("overwrite", False))
    return Outcome(name, status, "imported", has_weights=True)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text).expanduser()


def _refuse_options(options: dict[str, Any], of_a_folder: bool) -> None:
    """Refuse options that have no meaning for what was given."""
    if of_a_folder:
        given = [name for name in options if name not in (*_OF_A_FOLDER, *_CONTROLS)]
    else:
        given = [name for name in options if name in _OF_A_FOLDER]
    if given:
        what, other = ("a folder", "a checkpoint") if of_a_folder else ("a checkpoint", "a folder")
        message = f"--{given[0].replace('_', '-')} is an option for {other}; {options['path']} is {what}."
        raise BadParameter(message)
