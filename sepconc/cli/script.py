"""``sepconc show --script NAME[:STATUS]``: the command, or the lines of Python, that would train a classifier again.

The text is a program: a line of shell, or Python, under comments that say what it can't repeat. It is made of the
record: the parameters that differ from their defaults, the images, the seed that was used, the epochs that were
reached, the device and the engine that computed them, and the number of threads, which decides the last bits on the
CPU. What doesn't change the result is left out: folders of logs (``--dir``), downloads.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sepconc.cli.options import flag_name
from sepconc.data.splits import CLASS_LISTS, read_class_indices
from sepconc.params.archs import ARCHS, Arch, resolve
from sepconc.params.field import param_infos

_OWN_FLAGS = ("random_state", "epochs", "device", "backend", "log_dir")  # written from what was used, or not at all
_MACHINERY = ("threads", "device", "device_name", "engine", "host", "commit")


def script(record: Mapping[str, Any]) -> str:
    """The program that would train the classifier of a record again, from nothing.

    A record may come from anywhere: nothing in it can end a comment or a quoted word. Of one that says too little, or
    names an architecture that this version lacks, there are comments only.
    """
    try:
        arch = ARCHS.get(record.get("arch", ""))
        if arch is None:
            return _unrepeatable(record, f'this version has no architecture "{record.get("arch")}"')
        return _program_of(record, arch)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return _unrepeatable(record, f"its record doesn't hold what this version writes ({type(error).__name__})")


def _program_of(record: Mapping[str, Any], arch: Arch) -> str:
    trainings = _trainings(record)
    last, notes = trainings[-1], list(_notes(record, trainings))
    if any(training.get("imported") for training in trainings):
        return _unrepeatable(record, "it comes from another program")
    if any(training.get("options") is None for training in trainings):
        told = f'"{record["name"]}" was trained from Python: no command repeats it. Give the same images:'
        return _comments([told, *notes]) + _python(record, arch, trainings)
    words = [*_command(last), str(record["name"]), *_arguments(record, arch, last)]
    if not all(word.isprintable() for word in words):
        return _unrepeatable(record, "its options have characters that can't be shown")
    return _comments(notes) + shlex.join(words)


def _trainings(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What took part; a record of an older version tells of the last training only."""
    where = record.get("provenance", {})
    return where.get("trainings") or [where]


def _comments(lines: Sequence[str]) -> str:
    """Each text as one line of comment, whatever is in it."""
    one_line = ("".join(letter if letter.isprintable() else "?" for letter in line) for line in lines)
    return "".join(f"# {line}\n" for line in one_line)


# ---------------------------------------------------------------------- what can't be repeated


def _unrepeatable(record: Mapping[str, Any], reason: str) -> str:
    where = record.get("provenance")
    command = where.get("command") if isinstance(where, Mapping) else None
    told = f"Its command was: {command}" if command else "No command of it is recorded."
    return _comments([f'"{record.get("name")}" can\'t be trained again here: {reason}.', told]).rstrip("\n")


def _notes(record: Mapping[str, Any], trainings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What may keep the result from being the same, bit for bit."""
    last = trainings[-1]
    if any(training.get("by") == "partial_fit" for training in trainings):
        yield f"It was trained with partial_fit: pieces are the {last['epochs'][1]} that it had, in their order."
    elif last.get("options") is None and len(trainings) > 1:
        yield f"It was trained by {len(trainings)} calls of fit; if their images differed, one call doesn't repeat it."
    differing = [key for key in _MACHINERY if len(set(_run_of(trainings, key))) > 1]
    if differing:
        told = ", ".join(f"{key} {' then '.join(_run_of(trainings, key))}" for key in differing)
        yield f"It was trained in {len(trainings)} parts on different machinery ({told}):"
        yield "the last bits of the result may differ."
    if str(last.get("device", "")).startswith("cuda"):
        yield f"It was trained on {last.get('device_name') or last['device']}: the last bits may differ on a GPU."
    if last.get("dirty"):
        yield f"Its code had changes that aren't in commit {last.get('commit') or '(unknown)'}."
    if last.get("step"):
        yield f"It also had {last['step']} updates of epoch {last['epochs'][1] + 1}, which no command repeats."
    for training in trainings:
        if training.get("changed"):
            told = ", ".join(f"{name} {value}" for name, value in training["changed"].items())
            yield f"From epoch {training['epochs'][0] + 1} it went on with {told}: one call doesn't repeat it."
        if training.get("from_file"):
            yield f"It went on from {training['from_file']}, whose origin isn't recorded."


def _run_of(trainings: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """The values that are known, in turn, without repetitions in a row."""
    values = [str(training[key]) for training in trainings if training.get(key)]
    return [value for place, value in enumerate(values) if not place or value != values[place - 1]]


# ---------------------------------------------------------------------- a command


def _command(last: Mapping[str, Any]) -> list[str]:
    installed = str(last.get("command", "")).startswith("sepconc ")
    return ["sepconc", "train"] if installed else ["python", "train.py"]


def _arguments(record: Mapping[str, Any], arch: Arch, last: Mapping[str, Any]) -> Iterator[str]:
    learned, options = record["learned"], last["options"]
    yield from ("-a", arch.name)
    if "config" in options and "config" not in record["params"]:
        yield from ("--config", str(options["config"]))
    yield from _images(learned, options)
    for name, value in _changed(record, arch):
        yield from _words(name, value)
    yield from ("--epochs", str(learned["current_epoch"]), "--seed", str(learned["seed"]))
    for name, value in _computed_by(record, last).items():
        yield from (flag_name(name), value)
    if last.get("threads"):
        yield from ("--threads", str(int(last["threads"])))


def _computed_by(record: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, str]:
    """The device and the engine that were used; for an older record, the engine that was asked for."""
    engine = last.get("engine") or record["params"].get("backend", "auto")
    return {"device": str(last["device"]), **({} if engine == "auto" else {"backend": str(engine)})}


def _images(learned: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """The options that say which images."""
    yield from ("-ds", learned["dataset"]["name"].removeprefix("dummy:"))
    for name in ("data", "split", "n_imgs", "n_imgs_per_class", "size"):
        if name in options and options[name] != "train":
            yield from (flag_name(name), str(options[name]))
    for name in ("dummy", "no_validation"):
        if options.get(name):
            yield flag_name(name)
    yield from _classes(learned, options)


def _classes(learned: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    """The choice of classes: as it was asked for where that says enough, otherwise the classes themselves."""
    chosen = learned["dataset"]["classes"]
    if options.get("dummy"):
        if "nb_classes" in options or "class_indices" in options:
            yield from ("--nb-classes", str(len(learned["classes"]["values"])))
    elif options.get("class_indices") in CLASS_LISTS and sorted(read_class_indices(options["class_indices"])) == chosen:
        yield from ("--class-indices", options["class_indices"])
    elif "nb_classes" in options and "class_indices" not in options and options.get("random_state") is not None:
        yield from ("--nb-classes", str(options["nb_classes"]))
    elif chosen is not None:
        yield from ("--class-indices", ",".join(map(str, chosen)))


def _changed(record: Mapping[str, Any], arch: Arch) -> Iterator[tuple[str, Any]]:
    """The parameters that differ from the architecture's defaults."""
    params = record["params"]
    for name, (default, _) in param_infos(resolve(arch.params)).items():
        default = arch.preset.get(name, default)
        if name in params and name not in _OWN_FLAGS and _plain(params[name]) != _plain(default):
            yield name, params[name]


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _words(name: str, value: Any) -> list[str]:
    """The flag of a parameter with its value, as the parser of ``train.py`` reads it."""
    flag = flag_name(name)
    if isinstance(value, bool):
        return [flag if value else flag_name(f"no_{name}")]
    if name == "normalize" and isinstance(value, list | tuple):
        return [f"{flag}={'/'.join(_numbers(part) for part in value)}"]
    if name == "image_shape":
        return [flag, "x".join(map(str, value))]
    values = value if isinstance(value, list | tuple) else [value]
    texts = ["none" if each is None else str(each) for each in values]
    return [f"{flag}={texts[0]}"] if texts[0].startswith("-") else [flag, *texts]


def _numbers(part: Any) -> str:
    return ",".join(repr(float(number)) for number in (part if isinstance(part, list | tuple) else [part]))


# ---------------------------------------------------------------------- lines of Python


def _python(record: Mapping[str, Any], arch: Arch, trainings: Sequence[Mapping[str, Any]]) -> str:
    learned, last = record["learned"], trainings[-1]
    params = (
        dict(arch.preset)
        | dict(_changed(record, arch))
        | {"epochs": learned["current_epoch"], "random_state": learned["seed"]}
    )
    params |= _computed_by(record, last)
    given = ", ".join(f"{name}={_literal(value)}" for name, value in params.items())
    validation = learned["dataset"].get("validation")
    images = "X, y, X_val, y_val" if validation or learned.get("val_errs") else "X, y"
    lines = ["import sepconc", ""]
    if last.get("threads"):
        lines = ["import sepconc", "import torch", "", f"torch.set_num_threads({int(last['threads'])})"]
    lines.append(f"classifier = sepconc.{arch.estimator.rpartition(':')[2]}({given})")
    if any(training.get("by") == "partial_fit" for training in trainings):
        lines += ["for X, y in pieces:", "    classifier.partial_fit(X, y)"]
    else:
        lines.append(f"classifier.fit({images}, name={_literal(str(record['name']))})")
    return _described("X, y", learned["dataset"]) + _described("X_val, y_val", validation) + "\n".join(lines)


def _described(what: str, dataset: Mapping[str, Any] | None) -> str:
    if not dataset:
        return ""
    split = f" ({dataset['split']})" if dataset.get("split") else ""
    checksum = f", SHA-256 {dataset.get('checksum')} of {dataset.get('hashed', 'images and labels')}"
    told = f"{what}: {dataset['images']} images of {dataset['name']}{split}"
    return _comments([told + (checksum if dataset.get("checksum") else "")])


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    return repr(value)
