"""``sepconc plot-kernels NAME FILE``: a picture of the kernels of a classifier's first layer and of their spectra."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sepconc.cli.options import Parser
from sepconc.cli.show import which
from sepconc.errors import BadParameter
from sepconc.kernel_plots import DPI, FORMATS
from sepconc.registry.files import write_atomically
from sepconc.registry.store import configured_registry
from sepconc.report import file_size

_DPI_RANGE = (20, 1200)

_EPILOG = """\
examples:
  %(prog)s R18wyC_mod kernels.png
  %(prog)s R18wyC_mod:best kernels.pdf --max-kernels 12
  %(prog)s R18 kernels.svg --no-spectra -f

Spectra are those of the kernels as images: zero frequency at the centre, horizontal frequency to the right and
vertical frequency downwards, from -pi to pi. Complex kernels are shown by real part, imaginary part and modulus.
"""


def make_parser(name: str, prog: str) -> Parser:
    """The parser of the command."""
    text = "Draw the kernels of a stored classifier's first layer, and their spectra."
    parser = Parser(prog=prog, description=text, epilog=_EPILOG)
    parser.add_argument("name", metavar="NAME[:STATUS]", help="the classifier (default status: checkpoint)")
    parser.add_argument("out", metavar="FILE", help=f"the picture; its suffix says which kind: {', '.join(FORMATS)}")
    parser.add_argument("-s", "--status", metavar="STATUS", help="checkpoint, best or e<epochs>")
    parser.add_argument("--dpi", type=int, metavar="N", help=f"pixels per inch of nine inches' width (default: {DPI})")
    parser.add_argument("--no-spectra", action="store_true", help="draw the kernels only")
    parser.add_argument("--max-kernels", type=int, metavar="N", help="at most N of each kind, evenly chosen")
    parser.add_argument("-f", "--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    parser.set_defaults(work=plot_kernels)
    return parser


def plot_kernels(options: dict[str, Any]) -> None:
    """Draw, write the file whole or not at all, say where it is."""
    out = Path(options["out"])
    check_options(out, options)
    name, status = which(configured_registry(), options)
    picture = _picture(name, status, out.suffix[1:].lower(), options)
    stamp = write_atomically(out, lambda sink: sink.write(picture))
    print(f"{out}: first layer of {name} ({status}), {file_size(stamp.size or 0)}")


def check_options(out: Path, options: dict[str, Any]) -> None:
    """BadParameter for what can't be drawn or mustn't be written, before anything is loaded."""
    if out.suffix[1:].lower() not in FORMATS:
        message = f"The picture's suffix must be one of .{', .'.join(FORMATS)}; got {str(out)!r}."
        raise BadParameter(message)
    if not out.parent.is_dir():
        message = f"The folder {out.parent} of the picture isn't there. Make it first."
        raise BadParameter(message)
    if os.path.lexists(out) and not options.get("overwrite"):
        message = f"{out} is there already. Choose another file, or replace it with -f."
        raise BadParameter(message)
    if not _DPI_RANGE[0] <= options.get("dpi", DPI) <= _DPI_RANGE[1]:
        message = f"--dpi must be {_DPI_RANGE[0]} to {_DPI_RANGE[1]} pixels per inch; got {options['dpi']}."
        raise BadParameter(message)
    if options.get("max_kernels", 1) < 1:
        message = f"--max-kernels must be at least 1; got {options['max_kernels']}."
        raise BadParameter(message)


def _picture(name: str, status: str, form: str, options: dict[str, Any]) -> bytes:
    """The content of the file."""
    from sepconc.estimators import persistence
    from sepconc.kernel_plots import draw
    from sepconc.nets.first_kernels import has_kernels, kernel_groups

    clf = persistence.load(name, status, load_net=True, train=False, runtime={"device": "cpu"})
    first = getattr(clf.net_, "first_conv", None)
    if not has_kernels(first):
        message = (
            f'"{name}" is a {clf.arch}, whose first layer is no convolution with kernels to draw. '
            "AlexNets, ResNets and their twins have one."
        )
        raise BadParameter(message)
    chosen = {"max_kernels": options.get("max_kernels"), "dpi": options.get("dpi", DPI)}
    with_spectra = not options.get("no_spectra")
    return draw(kernel_groups(first), form, title=name, subtitle=subtitle(clf), with_spectra=with_spectra, **chosen)


def subtitle(clf: Any) -> str:
    """What a classifier is: architecture and configuration, data set, epochs."""
    network = f"{clf.arch} {getattr(clf, 'config', None) or ''}".strip()
    epochs = clf.current_epoch_
    return f"{network}, {clf.dataset_['name']}, {epochs} epoch{'' if epochs == 1 else 's'}"
