"""Where things are: the registry, the data sets, the logs and the cache, read from a ``config.yml``.

The file is looked for in this order, and only the first one found counts:

1. the path given to `load_config`, then the environment variable ``SEPCONC_CONFIG``;
2. ``config.yml`` in the working directory, then in each of its parents (there, a file without any of our keys is
   somebody else's and is passed over);
3. ``config.yml`` in the user's configuration folder;
4. none: every value is built in.

A file may hold any of these keys; the others keep their built-in values::

    registry:
      csv: classif_db.csv         # the table; relative paths start at this file's folder
      folder: classif             # the classifiers' files; beside the table unless said otherwise
      lock_timeout: 30            # seconds to wait for another process
    data:
      root: ~/data                # where data sets are looked for
      imagenet: $SCRATCH/ilsvrc   # a data set that lives elsewhere
    logs: runs                    # TensorBoard's files
    cache:
      folder: cache               # features computed once
      memory_limit: 2GB           # more than this goes to the folder
    defaults:                     # of the commands' options
      device: cpu
      workers: 2
      print_freq: 10
      dataset: digits
    remotes:                      # registries on other machines, for "sepconc pull NAME --from cluster"
      cluster:
        host: login.example.org   # or an alias of ~/.ssh/config; the remote's own name unless it is said
        path: work/registry       # there: the folder that holds classif_db.csv, or such a file
        folder: work/classif      # there: the classifiers' files; "classif" beside the table unless it is said
        user: me                  # the last three go before ~/.ssh/config
        port: 2222
        identity_file: ~/.ssh/id_cluster

Older files with ``path_to_csv``, ``path_to_classif`` and ``root`` at the top level are understood.
"""

import difflib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepconc.errors import ConfigError

CONFIG_VARIABLE = "SEPCONC_CONFIG"
CONFIG_NAME = "config.yml"
DATA_NAMES = (
    *("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "stl10", "imagenet"),
    *("imagenet-c", "imagenet-p", "cifar10-c", "cifar10-p"),
)
LOCK_TIMEOUT = 30.0  # seconds
MEMORY_LIMIT = 2_000_000_000  # bytes

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_REMOTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OLDER_KEYS = {"path_to_csv": "registry.csv", "path_to_classif": "registry.folder", "root": "data.root"}


@dataclass(frozen=True)
class Config:
    """What a configuration file says, and the built-in value of everything that it doesn't.

    Attributes
    ----------
    path : Path or None
        The file that was read; None if there was none.
    values : mapping
        The checked values by dotted key ("registry.csv"), paths absolute. Only what the file says.
    """

    path: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def registry_csv(self) -> Path:
        """The registry's table; beside its folder if only the folder is given."""
        if "registry.csv" not in self.values and "registry.folder" in self.values:
            return self.values["registry.folder"].parent / "classif_db.csv"
        return self._place("registry.csv", "user_data_dir", "classif_db.csv")

    @property
    def registry_folder(self) -> Path:
        """The folder of the classifiers' files; ``classif`` beside the table if it isn't given."""
        return self.values.get("registry.folder") or self.registry_csv.parent / "classif"

    @property
    def lock_timeout(self) -> float:
        """Seconds to wait for another process that writes to the registry."""
        return self.values.get("registry.lock_timeout", LOCK_TIMEOUT)

    @property
    def logs(self) -> Path:
        """The folder of the training logs."""
        return self._place("logs", "user_state_dir", "runs")

    @property
    def cache_folder(self) -> Path:
        """The folder of features that are computed once."""
        return self._place("cache.folder", "user_cache_dir")

    @property
    def cache_memory_limit(self) -> int:
        """Bytes of features that may stay in memory."""
        return self.values.get("cache.memory_limit", MEMORY_LIMIT)

    @property
    def defaults(self) -> dict[str, Any]:
        """The file's defaults of the commands' options: some of device, workers, print_freq, dataset."""
        prefix = "defaults."
        return {key.removeprefix(prefix): value for key, value in self.values.items() if key.startswith(prefix)}

    @property
    def remotes(self) -> dict[str, dict[str, Any]]:
        """The registries on other machines, by name: ``host`` and ``path``, and what else the file says of each."""
        remotes: dict[str, dict[str, Any]] = {}
        for key, value in self.values.items():
            section, _, rest = key.partition(".")
            if section == "remotes":
                name, _, what = rest.rpartition(".")
                remotes.setdefault(name, {"host": name})[what] = value
        return remotes

    def data_root(self, name: str) -> Path:
        """Give the folder where the data set ``name`` (any case) is looked for: its own, or the common root."""
        own = self.values.get(f"data.{_data_name(name)}")
        return own or self.values.get("data.root") or _needed("data.root", _home()) / "data"

    def _place(self, key: str, platform_folder: str, *parts: str) -> Path:
        if key in self.values:
            return self.values[key]
        return _needed(key, _users_folder(platform_folder)).joinpath(*parts)


def load_config(path: str | os.PathLike[str] | None = None) -> Config:
    """Find, read and check the configuration.

    Parameters
    ----------
    path : path, optional
        A file that is read instead of searching.

    Raises
    ------
    ConfigError
        A file named by ``path`` or ``SEPCONC_CONFIG`` is missing, or the file that counts isn't valid: the message
        names the file and the key.
    """
    named = path or os.environ.get(CONFIG_VARIABLE)
    if named:
        return _read(Path(os.path.abspath(os.path.expanduser(named))))
    found = next(_candidates(), None)
    return _read(found) if found else Config()


def _candidates() -> Iterator[Path]:
    """Give the files that count, nearest first."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the working directory was deleted
        here = None
    if here:
        if _is_file(here / CONFIG_NAME):
            yield here / CONFIG_NAME
        yield from (folder / CONFIG_NAME for folder in here.parents if _is_ours(folder / CONFIG_NAME))
    users = _users_folder("user_config_dir")
    if users and _is_file(users / CONFIG_NAME):
        yield users / CONFIG_NAME


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _is_ours(path: Path) -> bool:
    """Tell whether a file in a parent folder has one of our keys, be it valid YAML or not."""
    try:
        text = path.read_text("utf-8", errors="replace") if _is_file(path) else ""
    except OSError:
        return False
    keys = re.findall(r"""^\ufeff?["']?([A-Za-z_]+)["']?\s*:""", text, flags=re.MULTILINE)
    return any(key in _TOP_KEYS for key in keys)


def _read(path: Path) -> Config:
    import yaml

    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        message = (
            f"Can't read the configuration {path} ({error.strerror}). Correct the path or unset {CONFIG_VARIABLE}."
        )
        raise ConfigError(message) from error
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        message = f"{path} is not valid YAML: {problem}. Correct it, or name another file in {CONFIG_VARIABLE}."
        raise ConfigError(message) from error
    return Config(path, _check(path, document))


def _check(path: Path, document: object) -> dict[str, Any]:
    """Turn the document into checked values by dotted key."""
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    for name, value in _flatten(path, document):
        key = _known_key(path, name)
        if key in values:
            message = f'{path} gives "{key}" twice, as "{written[key]}" and as "{name}". Remove one of them.'
            raise ConfigError(message)
        try:
            values[key] = _check_of(key)(value, path.parent)
        except ValueError as error:
            message = f'"{name}" in {path} must be {error}; got {_shown(value)}. Correct the value or remove the key.'
            raise ConfigError(message) from None
        written[key] = name
    _check_remotes(path, values)
    return values


def _check_remotes(path: Path, values: Mapping[str, Any]) -> None:
    """Raise unless every remote has a name that can be one, and a path."""
    for name in {key.partition(".")[2].rpartition(".")[0] for key in values if key.startswith("remotes.")}:
        if not _REMOTE_NAME.fullmatch(name):
            message = f'A remote in {path} must be called by letters, digits, ".", "_" and "-"; got {_shown(name)}.'
            raise ConfigError(message)
        if f"remotes.{name}.path" not in values:
            message = (
                f'The remote "{name}" in {path} has no path. Add "path:", where the registry lies on that machine.'
            )
            raise ConfigError(message)


def _flatten(path: Path, document: object) -> Iterator[tuple[str, object]]:
    if document is None:
        return
    if not isinstance(document, dict):
        message = f'{path} must hold "key: value" lines; got {_shown(document)}. The keys are {", ".join(_TOP_KEYS)}.'
        raise ConfigError(message)
    for section, content in document.items():
        if section not in _SECTIONS:
            yield str(section), content
        elif isinstance(content, dict) and section == "remotes":
            yield from _flatten_remotes(path, content)
        elif isinstance(content, dict):
            yield from ((f"{section}.{key}", value) for key, value in content.items())
        elif content is not None:  # a section whose lines are all commented out is empty, not wrong
            message = (
                f'"{section}" in {path} must hold keys of its own ({", ".join(_section_keys(section))}); '
                f"got {_shown(content)}. Write them indented on the lines below it."
            )
            raise ConfigError(message)


def _flatten_remotes(path: Path, remotes: Mapping[Any, object]) -> Iterator[tuple[str, object]]:
    for name, content in remotes.items():
        if not isinstance(content, dict):
            message = (
                f'The remote "{name}" in {path} must hold keys of its own ({", ".join(_section_keys("remotes"))}); '
                f"got {_shown(content)}. Write them indented on the lines below it."
            )
            raise ConfigError(message)
        if not content:
            yield f"remotes.{name}.path", None
        yield from ((f"remotes.{name}.{key}", value) for key, value in content.items())


def _check_of(key: str) -> Callable[[object, Path], Any]:
    """The check of a key; those of the remotes are the same for each of them."""
    section, _, rest = key.partition(".")
    return _CHECKS[f"remotes.{rest.rpartition('.')[2]}" if section == "remotes" else key]


def _known_key(path: Path, name: str) -> str:
    """Give the current name of a key, or raise with the close ones."""
    section, dot, rest = name.partition(".")
    key = _OLDER_KEYS.get(name, name)
    if dot and section == "data" and rest != "root":
        key = f"data.{_data_name(rest)}"
    if dot and section == "remotes":
        section, _, rest = name.rpartition(".")
        if rest in _section_keys("remotes"):
            return key
    elif key in _CHECKS:
        return key
    known = _section_keys(section) if dot and section.partition(".")[0] in _SECTIONS else _TOP_KEYS
    wanted, prefix = (rest, f"{section}.") if known is not _TOP_KEYS else (name, "")
    close = [f'"{prefix}{match}"' for match in difflib.get_close_matches(wanted, known, n=3)]
    hint = f" Close names: {', '.join(close)}." if close else ""
    message = f'Unknown key "{name}" in {path}.{hint} Known here: {", ".join(prefix + each for each in known)}.'
    raise ConfigError(message)


def _data_name(name: str) -> str:
    """Give a data set's name as the table of keys spells it: any case, with or without hyphens."""
    plain = re.sub(r"[-_ ]", "", str(name).lower())
    return next((known for known in DATA_NAMES if known.replace("-", "") == plain), str(name))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _users_folder(kind: str) -> Path | None:
    """Give one of the user's standard folders, or None where there is no home directory."""
    import platformdirs

    try:
        folder = Path(getattr(platformdirs, kind)("sepconc"))
    except RuntimeError:  # newer versions raise, older ones leave the ~
        return None
    return folder if folder.is_absolute() else None


def _home() -> Path | None:
    home = Path(os.path.expanduser("~"))
    return home if home.is_absolute() else None


def _needed(key: str, folder: Path | None) -> Path:
    """Give a built-in place, or say which key replaces it where there is no home directory."""
    if folder is None:
        message = f'No home directory for the built-in "{key}". Set HOME, or that key in a {CONFIG_NAME}.'
        raise ConfigError(message)
    return folder


# The checks: value, folder of the file -> value to keep. The ValueError's text completes 'key must be ...'.
def _path(value: object, folder: Path) -> Path:
    expected = "a path"
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(expected)
    text = os.path.expanduser(os.path.expandvars(value))
    unset = re.search(r"\$\{?\w+\}?", text)
    if unset:
        expected = f"a path whose variables are set ({unset.group()} is not)"
        raise ValueError(expected)
    if text.startswith("~"):
        expected = "a path without ~ (no such home directory here)"
        raise ValueError(expected)
    return Path(os.path.normpath(folder / text))


def _text(value: object, folder: Path) -> str:
    if isinstance(value, str) and value.strip():
        return value
    expected = "a text"
    raise ValueError(expected)


def _remote_path(value: object, folder: Path) -> str:
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return value
    expected = "a path on that machine"
    raise ValueError(expected)


def _port(value: object, folder: Path) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    expected = "a port, from 1 to 65535"
    raise ValueError(expected)


def _seconds(value: object, folder: Path) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    expected = "a number of seconds, 0 or more"
    raise ValueError(expected)


def _integer(least: int) -> Callable[[object, Path], int]:
    def check(value: object, folder: Path) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        expected = f"an integer, {least} or more"
        raise ValueError(expected)

    return check


def _bytes(value: object, folder: Path) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kmgt]i?|)b?", str(value).strip().lower())
    if match and not isinstance(value, bool):
        return int(float(match[1]) * _UNITS[match[2]])
    expected = 'a number of bytes or a text like "2GB" or "512MiB"'
    raise ValueError(expected)


_CHECKS: dict[str, Callable[[object, Path], Any]] = {
    "registry.csv": _path,
    "registry.folder": _path,
    "registry.lock_timeout": _seconds,
    "data.root": _path,
    **{f"data.{name}": _path for name in DATA_NAMES},
    "logs": _path,
    "cache.folder": _path,
    "cache.memory_limit": _bytes,
    "defaults.device": _text,
    "defaults.workers": _integer(0),
    "defaults.print_freq": _integer(1),
    "defaults.dataset": _text,
    "remotes.host": _text,
    "remotes.path": _remote_path,
    "remotes.folder": _remote_path,
    "remotes.user": _text,
    "remotes.port": _port,
    "remotes.identity_file": _path,
}
_SECTIONS = tuple(dict.fromkeys(key.partition(".")[0] for key in _CHECKS if "." in key))
_TOP_KEYS = (*dict.fromkeys(key.partition(".")[0] for key in _CHECKS), *_OLDER_KEYS)


def _section_keys(section: str) -> list[str]:
    prefix = f"{section.partition('.')[0]}."
    return [key.removeprefix(prefix) for key in _CHECKS if key.startswith(prefix)]
