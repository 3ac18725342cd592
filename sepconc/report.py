"""Tables and summaries for people. Only here are fractions written as percent."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sepconc.scores import EvalScores

_REGISTRY_COLUMNS = ("name", "status", "arch", "config", "dataset", "epoch", "accuracy", "date", "size")
_ALWAYS = ("name", "status")
_KEY = ("dataset", "split", "mode", "metric")
_RIGHT = ("epoch", "accuracy", "size", "images")
DATA_FORMATS = ("csv", "json")


def registry_table(rows: Iterable[Any], columns: Sequence[str] = _REGISTRY_COLUMNS) -> str:
    """Write the classifiers of a registry as a table.

    Parameters
    ----------
    rows : iterable of mappings, or of objects with the columns as attributes or in ``extra``
        A column that a row lacks is blank there; one that every row lacks is left out. ``accuracy`` is a fraction,
        ``size`` a number of bytes.
    columns : sequence of str
        Which columns, in which order.
    """
    rows = list(rows)
    if not rows:
        return "No classifiers in the registry."
    cells = {column: [_cell(column, _get(row, column)) for row in rows] for column in columns}
    return table({name: texts for name, texts in cells.items() if name in _ALWAYS or any(texts)})


def data_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: str) -> str:
    """Write rows for another program, values as they are: CSV under a header, or a JSON list of objects.

    Parameters
    ----------
    rows : sequence of mappings
        A missing value (None) is an empty field of CSV and null in JSON; a list is written with blanks in CSV.
    columns : sequence of str
        All of them, in their order; they are there without any row, too.
    form : str
        One of :data:`DATA_FORMATS`.
    """
    if form == "json":
        return json.dumps([{column: row.get(column) for column in columns} for row in rows], indent=1)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(row.get(column)) for column in columns] for row in rows)
    return out.getvalue().removesuffix("\n")


def _field(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return json.dumps(value)


def scores_table(scores: EvalScores) -> str:
    """Write every record of a tree of scores as a table: accuracies and flip rates in percent, divergences in nats.

    Records of one metric that differ in their settings have a last column that says in which. A number of images that
    isn't known (0) is blank.
    """
    rows = scores.flat()
    if not rows:
        return "No scores."
    columns = {
        **{name: [_printable(row[name]) for row in rows] for name in _KEY},
        "value": [score_text(row["metric"], row["value"]) for row in rows],
        "images": [str(row["n_images"] or "") for row in rows],
        "date": [_date(row["date"]) for row in rows],
    }
    differences = [_differences(row, rows) for row in rows]
    return table({**columns, "settings": differences} if any(differences) else columns)


def score_text(metric: str, value: Any) -> str:
    """Write the value of a score on one line.

    ``97.8 %`` (top1, top5, average_precision), ``top-1 97.8 %, top-5 99.9 %`` (top1_5), ``1: 2.0 %, 2: 3.1 %`` (mfr, by
    step), or the largest and the last divergence (kldiv).
    """
    if metric == "kldiv" and isinstance(value, list):
        return f"max {max(value):.4g}, last {value[-1]:.4g}" if value else ""
    if isinstance(value, Mapping):
        before = "top-{} " if metric.startswith("top") else "{}: "
        return ", ".join(before.format(key) + percent(each) for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(percent(each) for each in value)
    return percent(value)


def training_summary(
    *,
    name: str | None,
    arch: str,
    dataset: str | None = None,
    epochs: int,
    total_epochs: int | None = None,
    updates: int | None = None,
    seconds: float | None = None,
    val_error: float | None = None,
    best_error: float | None = None,
    best_epoch: int | None = None,
    stored: str | None = None,
    resume_command: str | None = None,
    evaluate_command: str | None = None,
) -> str:
    """Write the lines that close a training.

    Parameters
    ----------
    name : str or None
        The classifier's identifier; None for one that isn't kept.
    arch, dataset : str
    epochs, total_epochs : int
        Epochs done and asked for.
    updates : int, optional
        Steps of the optimiser.
    seconds : float, optional
        Time of training.
    val_error, best_error : float, optional
        Fractions; the last one and the smallest, reached at ``best_epoch``.
    stored : str, optional
        Where the classifier is.
    resume_command, evaluate_command : str, optional
        How to go on (shown if epochs are left), and how to evaluate.
    """
    unfinished = total_epochs is not None and epochs < total_epochs
    what = arch if dataset is None else f"{arch} on {dataset}"
    lines = [
        ("Classifier", f"{name} ({what})" if name else what),
        ("Epochs", f"{epochs} of {total_epochs}" if unfinished else str(epochs)),
        ("Updates", "" if updates is None else str(updates)),
        ("Time", "" if seconds is None else duration(seconds)),
        ("Validation", _error_text(val_error, best_error, best_epoch)),
        ("Stored", stored or ("" if name else "no (train by identifier to keep it)")),
        ("Go on", (resume_command or "") if unfinished else ""),
        ("Evaluate", evaluate_command or ""),
    ]
    return "\n".join(f"{label + ':':<12}{_printable(text)}" for label, text in lines if text)


def operator_text(diagnostics: Mapping[str, float]) -> str:
    """Write the diagnostics of a projection or frame on one line."""
    return (
        f"Gram eigenvalues {diagnostics['gram_min']:.4f} to {diagnostics['gram_max']:.4f}, "
        f"norm ratio {diagnostics['norm_ratio']:.4f} ({diagnostics['atoms_off_norm']:.0f} atoms off), "
        f"coherence {diagnostics['coherence_median']:.3f} median, {diagnostics['coherence_max']:.3f} largest"
    )


def percent(value: Any) -> str:
    """Write a fraction as percent with one decimal; a missing or undefined one as "-"."""
    if value is None or math.isnan(value):
        return "-"
    return f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """Write a time as 12.3 s, 5 min 03 s or 2 h 05 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def file_size(size: float) -> str:
    """Write a number of bytes as 532 B, 12.3 kB or 1.5 MB (powers of 1000)."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def _error_text(val_error: float | None, best_error: float | None, best_epoch: int | None) -> str:
    if val_error is None:
        return ""
    text = f"error {percent(val_error)}"
    if best_error is None:
        return text
    when = "" if best_epoch is None else f" at epoch {best_epoch}"
    return f"{text}, best {percent(best_error)}{when}"


def _differences(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the settings of a score in which another score of the same key differs."""
    others = [other["settings"] for other in rows if all(other[name] == row[name] for name in _KEY)]
    differing = [
        name
        for name in sorted({name for settings in others for name in settings})
        if any(settings.get(name) != row["settings"].get(name) for settings in others)
    ]
    return _printable(", ".join(f"{name}={str(row['settings'].get(name))[:20]}" for name in differing))


def _get(row: Any, column: str) -> Any:
    if isinstance(row, Mapping):
        return row.get(column)
    return getattr(row, column) if hasattr(row, column) else dict(getattr(row, "extra", ())).get(column)


def _cell(column: str, value: Any) -> str:
    if value is None or value == "" or value != value:
        return ""
    write: dict[str, Callable[[Any], str]] = {
        "accuracy": lambda fraction: percent(float(fraction)),
        "size": lambda size: file_size(float(size)),
        "epoch": lambda epoch: str(int(epoch)),
        "date": _date,
    }
    try:
        return write.get(column, _printable)(value)
    except ValueError:  # a column of another program may hold anything; a table still shows it
        return _printable(value)


def _date(text: str) -> str:
    """Shorten an ISO date and time to the minute."""
    return _printable(text)[:16].replace("T", " ")


def _printable(value: Any) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(value))


def table(columns: Mapping[str, Sequence[str]]) -> str:
    """Align columns, name → cells, under an underlined header; cells are never cut or wrapped."""
    widths = {name: max(len(name), *map(len, cells)) for name, cells in columns.items()}

    def line(cells: Iterable[tuple[str, str]]) -> str:
        aligned = (text.rjust(widths[name]) if name in _RIGHT else text.ljust(widths[name]) for name, text in cells)
        return "  ".join(aligned).rstrip()

    header = line((name, name) for name in columns)
    rule = "  ".join("-" * width for width in widths.values())
    body = [line(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return "\n".join([header, rule, *body])
