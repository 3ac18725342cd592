"""``eval.py NAME -s STATUS -em MODE [options]``: measure a stored classifier and keep the scores."""

from __future__ import annotations

import sys
import time
from fnmatch import fnmatchcase
from typing import Any

from sepconc._version import __version__
from sepconc.cli import command
from sepconc.cli.options import Parser, add_data_options, add_fields, data_request
from sepconc.cli.pull import Bar
from sepconc.errors import BadParameter, ScoreExists
from sepconc.report import score_text, scores_table

_RUNTIME = ("device", "workers", "backend")
_MEASURE = ("max_shift", "pixel_divide", "shift_direction", "max_step_size", "frame_pairs", "normalize", "mirror")

_EPILOG = """\
examples:
  %(prog)s mnist-scatnet -em onecrop
  %(prog)s mnist-scatnet -em tencrops -b 256
  %(prog)s mnist-scatnet --download --hostname cluster --download-statedicts
  %(prog)s mnist-scatnet -em shifts --max-shift 8 --shift-direction horizontal -m mfr kldiv
  %(prog)s AwyI -s e90 -ds imagenet-c --split "fog/*"      (without --split: all corruptions that are found)
  %(prog)s AwyI -s e90 -ds imagenet-p --split tilt -em perturbations
  %(prog)s AwyI -s e90 -em onecrop --devices cuda:0 cuda:1
"""


def make_parser(prog: str = "eval.py") -> Parser:
    """The parser."""
    parser = Parser(prog=prog, description="Measure a stored classifier and keep the scores with it.", epilog=_EPILOG)
    parser.add_argument("name", metavar="NAME", help="name of the classifier in the registry")
    parser.add_argument("-s", "--status", help="checkpoint, best or e<epochs> (default: checkpoint)")
    parser.add_argument(
        "-em",
        "--eval-mode",
        metavar="MODE",
        help="onecrop, tencrops, shifts, or perturbations for sets of clips (default: onecrop)",
    )
    parser.add_argument(
        "-m",
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help="some of top1, top5, top1_5, average_precision, kldiv, mfr (default: top1 and top1_5 for crops, mfr for "
        "shifts and perturbations)",
    )
    parser.add_argument("-b", "--batch-size", type=int, help="images whose views are made at a time (default: 256)")
    parser.add_argument("-f", "--overwrite", action="store_true", help="replace the same measurement")
    parser.add_argument("--max-shift", type=int, metavar="PIXELS", help="largest shift (default: 8, or a quarter side)")
    parser.add_argument("--pixel-divide", type=int, metavar="N", help="shifts per pixel (default: 1)")
    parser.add_argument(
        "--shift-direction", metavar="DIRECTION", help="horizontal, vertical, diagonal or all (default: horizontal)"
    )
    parser.add_argument("--max-step-size", type=int, metavar="N", help="largest step of the flip rate (default: 5)")
    parser.add_argument(
        "--frame-pairs",
        metavar="WHICH",
        help="frames of a clip that the flip rate compares: all at a step, or each with the first (default: all)",
    )
    parser.add_argument("--no-normalize", dest="normalize", action="store_false", help="measure on images in [0, 1]")
    parser.add_argument("--mirror", action="store_true", help="ten crops also where a mirrored image is no such image")
    parser.add_argument("--verbose-print-batch", type=int, metavar="N", help="report every N batches")
    parser.add_argument("--no-store", action="store_true", help="print the scores only")
    parser.add_argument(
        "--hostname",
        metavar="HOST",
        help="with --download: fetch the classifier from there if it isn't here; a remote of config.yml or HOST:PATH",
    )
    parser.add_argument("--download-statedicts", action="store_true", help="with --hostname: fetch its weights too")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    parser.add_argument("--version", action="version", version=f"sepconc {__version__}", help="print the version")
    parser.add_argument(
        "--devices",
        nargs="+",
        metavar="DEVICE",
        help="devices that share the images, each with a copy of the network, instead of --device",
    )
    add_data_options(parser, evaluating=True)
    add_fields(parser, only=_RUNTIME)
    return parser


def main(arguments: list[str] | None = None, prog: str = "eval.py") -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    return command.main(make_parser(prog), arguments, evaluate)


def evaluate(options: dict[str, Any]) -> int:
    """Load, measure, store, print."""
    from sepconc import evaluation
    from sepconc.config import load_config
    from sepconc.estimators import persistence

    mode = options.get("eval_mode", "onecrop")
    evaluation.check_choices(mode, options.get("metrics"), options.get("shift_direction"))
    evaluation.check_options(mode, [name for name in _MEASURE if name in options])
    _check_devices(options)
    runtime = {**load_config().defaults, **options}
    with Bar(sys.stderr) as bar:
        clf = persistence.load(
            options["name"],
            options.get("status", "checkpoint"),
            load_net=True,
            train=False,
            runtime={key: runtime[key] for key in _RUNTIME if key in runtime},
            source=_source(options, bar),
        )
    splits = _splits(clf, options)
    kept = [split for split in splits if not _measure(clf, mode, split, options, alone=len(splits) == 1)]
    if len(kept) == len(splits):
        message = (
            f"All {len(kept)} splits were measured before, with the same images and settings. Replace them with -f."
        )
        raise ScoreExists(message)
    if not _is_stored(options):
        return 0
    print(scores_table(clf.eval_scores_))
    return 0


def _is_stored(options: dict[str, Any]) -> bool:
    return not (options.get("no_store") or options.get("dummy"))


def _check_devices(options: dict[str, Any]) -> None:
    """Refuse devices that aren't here before anything is loaded; the network is loaded on the first one."""
    from sepconc.estimators.devices import check_devices

    if "devices" not in options:
        return
    if "device" in options:
        message = f"--devices says which devices share the work; got --device {options['device']} besides. Give one."
        raise BadParameter(message)
    check_devices(options["devices"])
    options["device"] = options["devices"][0]


def _measure(clf: Any, mode: str, split: str, options: dict[str, Any], *, alone: bool) -> bool:
    """Measure on one split; of several, false where that was done before."""
    images = _images(clf, mode, split, options)
    try:
        values = clf.evaluate(
            images,
            mode,
            options.get("metrics"),
            overwrite=options.get("overwrite", False),
            store=_is_stored(options),
            batch_size=options.get("batch_size", 256),
            progress=_Progress(options.get("verbose_print_batch")),
            devices=options.get("devices"),
            **{key: options[key] for key in _MEASURE if key in options},
        )
    except ScoreExists:
        if alone:
            raise
        print(f"{split}: measured before, kept", file=sys.stderr)
        return False
    if not alone:
        print(f"{split}: measured", file=sys.stderr)
    if not _is_stored(options):
        for metric, value in values.items():
            print(f"{'' if alone else split + '  '}{metric}: {score_text(metric, value)}")
    return True


def _source(options: dict[str, Any], bar: Bar) -> Any:
    """Where the classifier is pulled from if it isn't here; None without --hostname."""
    from sepconc.estimators.persistence import Source

    if "hostname" in options and options.get("download"):
        return Source(options["hostname"], options.get("download_statedicts", False), bar)
    if "hostname" in options or options.get("download_statedicts"):
        message = (
            "A classifier is fetched with --download --hostname HOST, and --download-statedicts; got a part of it."
        )
        raise BadParameter(message)
    return None


def _dataset_name(clf: Any, options: dict[str, Any]) -> str:
    """The data set to measure on: by default the one that the classifier was trained on."""
    from sepconc.data.datasets import DATASETS

    trained_on = clf.dataset_["name"].removeprefix("dummy:")
    if "dataset" in options:
        return options["dataset"]
    if trained_on not in DATASETS and not trained_on.startswith(("folder:", "npz:")):
        message = f'"{options["name"]}" was trained on arrays: say which data set to measure on with -ds.'
        raise BadParameter(message)
    return trained_on


def _splits(clf: Any, options: dict[str, Any]) -> list[str]:
    """The splits that are asked for: one, or those of a corrupted or perturbed set that fit a pattern."""
    from sepconc.data.datasets import dataset_info
    from sepconc.data.readers import dataset_splits

    name, asked = _dataset_name(clf, options), options.get("split")
    if options.get("dummy") or not dataset_info(name).variant:
        return [asked or "test"]
    if asked and not set(asked) & set("*?["):
        return [asked]
    splits = dataset_splits(name, data_request(options, None).get("root"))
    found = [split for split in splits if fnmatchcase(split, asked or "*")]
    if not found:
        message = f"--split must fit a split of {name}; got {asked!r}. There are: {', '.join(splits)}."
        raise BadParameter(message)
    return found


def _images(clf: Any, mode: str, split: str, options: dict[str, Any]) -> Any:
    """The images of a split, or random ones."""
    from sepconc.data.readers import dummy_like
    from sepconc.estimators.measuring import load_for

    name, trained_on = _dataset_name(clf, options), clf.dataset_["name"].removeprefix("dummy:")
    request = data_request(options, options.get("seed"))
    if not options.get("dummy"):
        return load_for(clf, name, split, **request)
    clips = True if mode == "perturbations" else None
    count, classes = request.get("n_imgs", 64), len(clf.classes_)
    images = dummy_like(name, n=count, nb_classes=classes, size=clf.image_shape_[-1], clips=clips)
    images.classes = images.classes if name != trained_on else clf.class_names_
    return images


class _Progress:
    """A line on stderr every so many batches, with the time left."""

    def __init__(self, every: int | None) -> None:
        self.every = every
        self.batches = 0
        self.start = time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        self.batches += 1
        if self.every and self.batches % self.every == 0 and done < total:
            elapsed = time.perf_counter() - self.start
            left = elapsed / done * (total - done)
            print(f"{done}/{total} images  {done / elapsed:.0f} images/s  {left:.0f} s left", file=sys.stderr)
