"""What ``sepconc doctor`` looks at: each probe says what it found, or raises."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from sepconc import provenance
from sepconc._version import __version__
from sepconc.config import Config
from sepconc.data.datasets import DATASETS
from sepconc.registry.table import Row, Table
from sepconc.report import file_size

FINE, NOTE, PROBLEM = "fine", "note", "problem"
LITTLE_SPACE = 1_000_000_000  # bytes


class Finding(NamedTuple):
    """What was found of one thing: fine, worth a note, or a problem that makes something that was asked for fail."""

    name: str
    text: str
    level: str = FINE


_NEEDED = {
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "pandas": "pandas",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "filelock": "filelock",
    "platformdirs": "platformdirs",
    "tqdm": "tqdm",
}
_FOR_A_PART = {
    "torchvision": ("torchvision", "--download, stl10 and pickled CIFAR go without"),
    "kymatio": ("kymatio", "the engine kymatio goes without"),
    "tensorboard": ("torch.utils.tensorboard", "trainings go without TensorBoard's logs"),
}
_EXTRAS = {
    "cuda": {"cupy": "cupy", "scikit-cuda": "skcuda"},
    "remote": {"paramiko": "paramiko"},
    "completion": {"shtab": "shtab"},
    "video": {"av": "av"},
}
_TITLES = {"cuda": "CUDA", "cudnn": "cuDNN"}
_FILES = {
    "mnist": ("MNIST/raw/t10k-images-idx3-ubyte", "raw/t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte"),
    "fashion-mnist": (
        "FashionMNIST/raw/t10k-images-idx3-ubyte",
        "raw/t10k-images-idx3-ubyte",
        "t10k-images-idx3-ubyte",
    ),
    "cifar10": ("cifar-10-batches-bin/test_batch.bin", "test_batch.bin", "cifar-10-batches-py"),
    "cifar100": ("cifar-100-binary/test.bin", "test.bin", "cifar-100-python"),
    "stl10": ("stl10_binary",),
    "imagenet": ("val", "imagenet/val", "ImageNet/val", "ILSVRC2012/val"),
    "imagenet-c": ("ImageNet-C", "imagenet-c", "ImageNetC", "gaussian_noise/1"),
    "imagenet-p": ("ImageNet-P", "imagenet-p", "ImageNetP", "tilt"),
    "cifar10-c": ("CIFAR-10-C", "cifar10-c", "CIFAR10C", "fog.npy"),
    "cifar10-p": ("CIFAR-10-P", "cifar10-p", "CIFAR10P", "tilt.npy"),
}  # what the readers of sepconc.data.sources look for, in their order


# ---------------------------------------------------------------------- programs and packages


def python() -> Iterator[Finding]:
    """The interpreter and the package."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable}), {platform.platform()}")
    commit, is_dirty = provenance.code_commit()
    code = f", commit {commit[:10]}{' with changes' if is_dirty else ''}" if commit else ""
    yield Finding("sepconc", f"{__version__} in {Path(__file__).parents[1]}{code}")


def torch() -> Iterator[Finding]:
    """torch, and what it was built for."""
    module = importlib.import_module("torch")
    built = f"CUDA {module.version.cuda}" if module.version.cuda else "the CPU only"
    yield Finding("torch", f"{module.__version__}, built for {built}")


def packages() -> Iterator[Finding]:
    """The packages that are always needed, in a line; those that don't import follow, a line each."""
    versions = {name: _version(name, module) for name, module in _NEEDED.items()}
    versions |= {name: _version(name, module) for name, (module, _) in _FOR_A_PART.items()}
    good = [f"{name} {version}" for name, version in versions.items() if isinstance(version, str)]
    yield Finding("packages", ", ".join(good))
    for name, error in versions.items():
        if isinstance(error, Exception):
            without = _FOR_A_PART.get(name, ("", ""))[1]
            text = f"doesn't import: {told(error)}" + (f"; {without}" if without else "")
            yield Finding(name, text, NOTE if without else PROBLEM)


def extras() -> Iterator[Finding]:
    """The packages of each extra: their versions, or how to get them."""
    for extra, modules in _EXTRAS.items():
        versions = {name: _version(name, module) for name, module in modules.items()}
        texts = [f"{name} {_or_error(version)}" for name, version in versions.items()]
        if any(isinstance(version, Exception) for version in versions.values()):
            texts.append(f'pip install "sepconc[{extra}]"')
        yield Finding(f"extra {extra}", ", ".join(texts))


def _version(name: str, module: str) -> str | Exception:
    """The version of a package that imports, or what was raised instead."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            imported = importlib.import_module(module)
    except Exception as error:  # a package that is broken may raise anything; it is told, and the others are tried
        return error
    return getattr(imported, "__version__", None) or _recorded_version(name)


def _recorded_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(version unknown)"


def _or_error(version: str | Exception) -> str:
    if isinstance(version, ModuleNotFoundError):
        return "isn't installed"
    return version if isinstance(version, str) else f"doesn't import ({told(version)})"


def told(error: BaseException) -> str:
    """An exception on one line."""
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


# ---------------------------------------------------------------------- the machine


def processor() -> Iterator[Finding]:
    """The processor, and what torch makes of it."""
    module = importlib.import_module("torch")
    name = provenance.device_name("cpu") or platform.machine()
    usable = len(os.sched_getaffinity(0))
    threads, instructions = module.get_num_threads(), module.backends.cpu.get_cpu_capability()
    memory = file_size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    text = f"{name}, {os.cpu_count()} cores ({usable} usable, {threads} used by torch), {instructions}, {memory} memory"
    yield Finding("processor", text)


def graphics() -> Iterator[Finding]:
    """The GPUs, tried with a sum."""
    module = importlib.import_module("torch")
    versions = provenance.cuda_versions()
    driver = versions.get("driver")
    if not module.cuda.is_available():
        text = f", though NVIDIA's driver {driver} is loaded" if driver else ""
        yield Finding("GPU", f"none that torch can use{text}", NOTE if driver else FINE)
        return
    told_versions = ", ".join(f"{_TITLES.get(name, name)} {version}" for name, version in versions.items())
    for index in range(module.cuda.device_count()):
        properties = module.cuda.get_device_properties(index)
        total = module.ones(2, device=f"cuda:{index}").sum().item()
        capability, memory = f"{properties.major}.{properties.minor}", file_size(properties.total_memory)
        text = f"{properties.name}, {memory}, compute capability {capability}, {told_versions}"
        yield Finding(f"GPU {index}", text if total == 2 else f"{text}: it adds 1 and 1 to {total}", _level(total == 2))


def engines() -> Iterator[Finding]:
    """The engines of the transforms: which there are, and which are chosen for float32."""
    from sepconc.errors import EngineUnavailable
    from sepconc.scattering import engines as table

    module = importlib.import_module("torch")
    missing = {}
    for name, functions in table.FUNCTIONS.items():
        try:
            table.load(name, functions[0])
        except EngineUnavailable as error:
            missing[name] = str(error.__cause__ or error).partition(";")[0]
    yield Finding("engines", ", ".join(name for name in table.FUNCTIONS if name not in missing))
    functions = dict.fromkeys(each for names in table.FUNCTIONS.values() for each in names)
    for device in ("cpu", "cuda") if module.cuda.is_available() else ("cpu",):
        x = module.zeros(1, 4, 4, device=device)
        chosen = ", ".join(f"{_engine_name(table.pick(x, None, each))} for {each}" for each in functions)
        yield Finding(f"chosen on {device}", chosen)
    for name, reason in missing.items():  # the others are for a GPU, or for comparison
        yield Finding(f"engine {name}", f"not here: {reason}", NOTE if name == "fused" else FINE)


def _engine_name(engine: ModuleType) -> str:
    return engine.__name__.rpartition(".")[2]


# ---------------------------------------------------------------------- places


def configuration(config: Config) -> Iterator[Finding]:
    """The file that counts, and whether the device that it asks for is here."""
    yield Finding("configuration", str(config.path or "none found; the built-in places are used"))
    device = config.defaults.get("device")
    if device is not None:
        from sepconc.estimators.devices import check_device

        check_device(device)


def datasets(config: Config) -> Iterator[Finding]:
    """Which data sets are found, and where."""
    found = {name: _find(name, config) for name in DATASETS if name != "digits"}
    places = [f"{name} in {path}" for name, path in found.items() if path]
    yield Finding("data sets", ", ".join(["digits (with scikit-learn)", *places]))
    missing = [name for name, path in found.items() if path is None]
    if missing:
        roots = dict.fromkeys(str(config.data_root(name)) for name in missing)
        yield Finding("not found", f"{', '.join(missing)} (looked in {', '.join(roots)})", NOTE)
    for name in missing:
        own = config.values.get(f"data.{name}")
        if own is not None and not own.is_dir():
            yield Finding(f"data.{name}", f"{own} isn't a folder, though {config.path} names it", PROBLEM)


def _find(name: str, config: Config) -> Path | None:
    """Where a data set's reader would find it; the images themselves aren't read."""
    root = config.data_root(name)
    for relative in _FILES[name]:
        for path in (root / relative, root / f"{relative}.gz"):
            if _is_there(path):
                return path.parent
    return None


def _is_there(path: Path) -> bool:
    if path.name != "val":
        return path.exists()
    return path.is_dir() and any(entry.is_dir() for entry in path.iterdir())


def registry(config: Config) -> Iterator[Finding]:
    """The table: rows, damage that shows without reading every file, and whether it can be written to."""
    table = Table.read(config.registry_csv)
    rows, folder = table.rows(), config.registry_folder
    writable = all(os.access(_nearest(path), os.W_OK) for path in (config.registry_csv.parent, folder))
    texts = [
        str(config.registry_csv),
        f"{len(rows)} rows" if config.registry_csv.exists() else "not made yet",
        "writable" if writable else "read-only for you: nothing can be stored",
    ]
    yield Finding("registry", ", ".join(texts), FINE if writable else NOTE)
    missing = _without_record(rows, folder)
    problems = [f"{len(table.problems)} bad lines in the table"] if table.problems else []
    problems += [f"{len(missing)} rows without their record (first: {missing[0]})"] if missing else []
    if problems:
        yield Finding("in it", f"{', '.join(problems)}; see sepconc verify", PROBLEM)


def _without_record(rows: Iterable[Row], folder: Path) -> list[str]:
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    return [f"{row.name}:{row.status}" for row in rows if f"{row.filename}.classif" not in there]


def remotes(config: Config) -> Iterator[Finding]:
    """The remote registries that the configuration names; pulling from them needs paramiko."""
    names = list(config.remotes)
    if not names:
        return
    version = _version("paramiko", "paramiko")
    needs = "" if isinstance(version, str) else '; pulling needs paramiko: pip install "sepconc[remote]"'
    yield Finding("remotes", f"{', '.join(names)}{needs}", _level(not needs))


def space(config: Config) -> Iterator[Finding]:
    """Free space where the registry and the cache of features are."""
    folders = {"registry": config.registry_folder, "cache": config.cache_folder}
    free = {name: shutil.disk_usage(_nearest(folder)).free for name, folder in folders.items()}
    text = ", ".join(f"{file_size(size)} ({name})" for name, size in free.items())
    yield Finding("free space", text, NOTE if min(free.values()) < LITTLE_SPACE else FINE)


def _nearest(path: Path) -> Path:
    """The path, or the nearest of its parents that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _level(fine: bool) -> str:
    return FINE if fine else PROBLEM


OF_THE_MACHINE: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": python,
    "torch": torch,
    "packages": packages,
    "extras": extras,
    "processor": processor,
    "GPU": graphics,
    "engines": engines,
}
OF_THE_CONFIGURATION: dict[str, Callable[[Config], Iterator[Finding]]] = {
    "configuration": configuration,
    "data sets": datasets,
    "registry": registry,
    "remotes": remotes,
    "free space": space,
}
