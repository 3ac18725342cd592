"""``sepconc features DATASET OUT``: write features of a whole data set to a folder, or go on with that."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sepconc.cli import command
from sepconc.cli.options import SPLITS, Parser, add_field, data_request
from sepconc.errors import BadParameter
from sepconc.params.field import param_infos
from sepconc.params.training import parse_normalize
from sepconc.params.transforms import PhaseParams, ScatteringParams, TransformerParams

_PARAMS = {"scatnet": ScatteringParams, "phase": PhaseParams}
_RUNTIME = ("batch_size", "device", "backend")

_EPILOG = """\
examples:
  %(prog)s digits features/digits --J 2
  %(prog)s cifar10 features/cifar10 --J 2 --dtype float16 --split train test --no-validation

Stopped at any moment and started again, it goes on. In Python: sepconc.open_features("features/digits", "train").
"""


def make_parser(prog: str = "sepconc features") -> Parser:
    """The parser; the transform's options are its parameters' fields."""
    parser = Parser(prog=prog, description="Write scattering features of a data set to a folder.", epilog=_EPILOG)
    parser.add_argument("dataset", metavar="DATASET", help="digits, mnist, cifar10, …, folder:PATH or npz:PATH")
    parser.add_argument("out", metavar="OUT", help="folder of the features")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    transform = parser.add_argument_group("transform")
    transform.add_argument("--transform", choices=tuple(_PARAMS), help="which transform (default: scatnet)")
    for name in param_infos(ScatteringParams):
        found = {t: param_infos(cls)[name] for t, cls in _PARAMS.items() if name in param_infos(cls)}
        add_field(transform, name, {t: default for t, (default, _) in found.items()}, found["scatnet"][1])
    transform.add_argument(
        "--normalize",
        type=parse_normalize,
        metavar="NORMALIZE",
        help='mean and deviation that images are normalised with first: "auto" (the data set\'s), "MEAN/STD" or "none" '
        "(default: none)",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--split", nargs="+", choices=SPLITS, help="parts of the data set (default: train val test)")
    data.add_argument("--no-validation", action="store_true", help="leave the validation images in train")
    data.add_argument("--data", metavar="ROOT", help="folder that holds the data sets (default: from config.yml)")
    data.add_argument("--n-imgs", type=int, help="use the first images of each part only")
    data.add_argument(
        "--n-imgs-per-class", type=int, metavar="N", help="use the first images of each class of each part"
    )
    data.add_argument("--size", type=int, help="side of the images in pixels (default: the data set's)")
    data.add_argument("--download", action="store_true", help="fetch a missing data set, where torchvision can")
    data.add_argument("-j", "--workers", type=int, help="processes that read images from files (default: 0)")
    storing = parser.add_argument_group("computing and storing")
    storing.add_argument("--dtype", choices=("float32", "float16"), help="type of the numbers (default: float32)")
    storing.add_argument(
        "--verify", action="store_true", help="compare what is there with its checksums, all of it, at the end"
    )
    storing.add_argument("--chunk-rows", type=int, metavar="N", help="images per checksum (default: about 16 MB)")
    for name in _RUNTIME:
        default, info = param_infos(TransformerParams)[name]
        add_field(storing, name, dict.fromkeys(_PARAMS, default), info)
    return parser


def main(arguments: list[str] | None = None, prog: str = "sepconc features") -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    return command.main(make_parser(prog), arguments, write)


def write(options: dict[str, Any]) -> int:
    """Write the splits in turn, and say what is there."""
    transform = _transform(options)
    splits, validation = _splits(options), not options.get("no_validation")
    for name, least in (("chunk_rows", 1), ("batch_size", 1), ("workers", 0)):
        if options.get(name, least) < least:
            message = f"--{name.replace('_', '-')} must be at least {least}; got {options[name]}."
            raise BadParameter(message)
    if not options["out"]:
        message = "OUT must be a folder's name; got an empty one."
        raise BadParameter(message)
    request = data_request(options, None)

    from sepconc.data.readers import load_dataset
    from sepconc.estimators.devices import find_device
    from sepconc.estimators.stored_features import describe_transform, write_features

    for split in splits:
        images = load_dataset(options["dataset"], split, validation=validation, **request)
        with _Progress(f"{images.name} {split}", len(images)) as progress:
            written = write_features(
                images,
                Path(options["out"]).expanduser(),
                describe_transform(**transform),
                normalisation=_normalisation(options, images),
                dtype=options.get("dtype", "float32"),
                device=find_device(options.get("device", "auto")),
                engine=options.get("backend", "auto"),
                batch_size=options.get("batch_size", 128),
                workers=options.get("workers", 0),
                chunk_rows=options.get("chunk_rows"),
                progress=progress,
            )
        print(_told(options["out"], split, written, verify=bool(options.get("verify"))))
    return 0


def _transform(options: dict[str, Any]) -> dict[str, Any]:
    """Name and parameters of the transform; those of another one are refused."""
    name = options.get("transform", "scatnet")
    own = param_infos(_PARAMS[name])
    foreign = [flag for flag in param_infos(ScatteringParams) if flag in options and flag not in own]
    if foreign:
        message = f"--{foreign[0].replace('_', '-')} has no meaning for --transform {name}. Leave it out."
        raise BadParameter(message)
    return {"name": name, **{key: options.get(key, default) for key, (default, _) in own.items()}}


def _splits(options: dict[str, Any]) -> list[str]:
    usual = [split for split in SPLITS if split != "val" or not options.get("no_validation")]
    return list(dict.fromkeys(options.get("split", usual)))


def _normalisation(options: dict[str, Any], images: Any) -> Any:
    """The mean and the deviation that were asked for."""
    from sepconc.training.feeds import Normalisation

    asked, info = options.get("normalize"), images.info
    if asked in (None, "none"):
        return Normalisation()
    if asked == "auto":
        known = info is not None and info.mean is not None
        return Normalisation(tuple(info.mean), tuple(info.std)) if known else Normalisation()
    channels = images.image_shape[0]
    if isinstance(asked, str) or any(len(part) not in (1, channels) or not all(part) for part in asked):
        message = (
            f'--normalize must be "auto", "none" or MEAN/STD, one number or one for each of the {channels} channels; '
            f"got {asked!r}."
        )
        raise BadParameter(message)
    return Normalisation(*asked)


def _told(folder: str, split: str, written: bool, *, verify: bool) -> str:
    from sepconc.data.feature_store import open_features

    store = open_features(Path(folder).expanduser(), split)
    if verify:
        store.verify()
    shape = " × ".join(map(str, store.X.shape))
    size = store.path.stat().st_size / 1e6
    head = ("written" if written else "complete already") + (" and intact" if verify else "")
    return f"{store.path}: {head}, {shape} {store.settings['dtype']}, {size:,.1f} MB, key {store.key[:12]}"


class _Progress:
    """A bar on stderr where that is a terminal."""

    def __init__(self, text: str, total: int) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=total, desc=text, unit=" images", disable=None)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, done: int, total: int) -> None:
        self.bar.update(done - self.bar.n)
