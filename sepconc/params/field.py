"""A parameter's one definition: ``param()`` for a field, ``@params`` for the dataclass that holds it.

Name, type, default, range and help stand on one line. The estimators inherit the dataclasses, so scikit-learn's
``get_params`` reads the same definition, and :mod:`sepconc.cli.options` turns it into a flag.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import numbers
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, dataclass_transform

from sepconc.errors import BadParameter

T = TypeVar("T")
PerBlock = int | Sequence[int]
"""One number for every block, or one per block."""


@dataclass(frozen=True)
class ParamInfo:
    """What is known of a parameter besides its name, type and default."""

    help: str
    type: type
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    choices: tuple[Any, ...] | None = None
    per_block: bool = False
    several: bool = False
    optional: bool = False
    flags: tuple[str, ...] = ()
    runtime: bool = False
    has_flag: bool = True
    check: Callable[[Any], str | None] | None = None
    parse: Callable[[str], Any] | None = None


def param(
    default: Any,
    help: str,
    *,
    type: type | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    choices: Iterable[Any] | None = None,
    per_block: bool = False,
    several: bool = False,
    flags: Iterable[str] = (),
    runtime: bool = False,
    has_flag: bool = True,
    check: Callable[[Any], str | None] | None = None,
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """Define a parameter.

    Parameters
    ----------
    default : the default value; ``None`` makes the parameter optional.
    help : one sentence.
    type : ``int``, ``float``, ``bool``, ``str`` or ``object`` (then only ``check`` looks at it); by default the type of
        ``default``.
    at_least, above, at_most : range of a number, or of every number of a list.
    choices : the values allowed.
    per_block : one value for every block, or a sequence with one value per block.
    several : a sequence of values.
    flags : further spellings on the command line.
    runtime : True where changing it leaves the trained classifier the same kind of thing, so that a resumed
        training may have another value.
    has_flag : False where the command line has an option of its own for it.
    check : returns what is expected when the value is wrong, else None.
    parse : text of the command line -> value; by default ``type``.
    """
    kind = type if type is not None else builtin_type(default)
    info = ParamInfo(
        help=help,
        type=kind,
        at_least=at_least,
        above=above,
        at_most=at_most,
        choices=None if choices is None else tuple(choices),
        per_block=per_block,
        several=several,
        optional=default is None,
        flags=tuple(flags),
        runtime=runtime,
        has_flag=has_flag,
        check=check,
        parse=parse,
    )
    return field(default=default, metadata={"param": info})


def builtin_type(value: Any) -> type:
    """The type of a default value."""
    return value.__class__


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(param,))
def params(cls: type[T]) -> type[T]:
    """Make a dataclass of parameters: keyword-only, compared by identity, with no ``__repr__`` of its own."""
    return dataclass(kw_only=True, eq=False, repr=False)(cls)


def param_infos(cls: type) -> dict[str, tuple[Any, ParamInfo]]:
    """Name -> (default, :class:`ParamInfo`) of every parameter of a dataclass, in order of definition."""
    return {f.name: (f.default, f.metadata["param"]) for f in dataclasses.fields(cls) if "param" in f.metadata}


def check_params(owner: Any) -> None:
    """Check every parameter of ``owner`` by itself.

    Raises
    ------
    BadParameter
        Naming the parameter, the class, the rule and the value.
    """
    for name, (_, info) in param_infos(type(owner)).items():
        _check_one(f"`{name}` of {type(owner).__name__}", getattr(owner, name), info)


def check_names(cls: type, given: Mapping[str, Any]) -> None:
    """Refuse names that are no parameters of ``cls``, with the close ones."""
    known = list(param_infos(cls))
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"close names: {', '.join(close)}" if close else f"its parameters: {', '.join(known)}"
            message = f"{cls.__name__} has no parameter `{name}`; {hint}."
            raise BadParameter(message)


def document(cls: type[T]) -> type[T]:
    """Append the section "Parameters" to the docstring of a class, from its fields."""
    lines = ["", "", "Parameters", "----------"]
    for name, (default, info) in param_infos(cls).items():
        lines.append(f"{name} : {_type_name(info)}, default={default!r}")
        lines += textwrap.wrap(info.help, 100, initial_indent="    ", subsequent_indent="    ")
    cls.__doc__ = inspect.cleandoc(cls.__doc__ or "").rstrip() + "\n".join(lines) + "\n"
    return cls


def _type_name(info: ParamInfo) -> str:
    name = "{" + ", ".join(map(repr, info.choices)) + "}" if info.choices else info.type.__name__
    if info.per_block:
        name += " or one per block"
    elif info.several:
        name = f"sequence of {name}"
    elif info.optional:
        name += " or None"
    return name.replace("object", "see below")


def _check_one(what: str, value: Any, info: ParamInfo) -> None:
    if value is None and info.optional:
        return
    if info.check is not None and (expected := info.check(value)) is not None:
        _refuse(what, expected, value)
    if (info.per_block or info.several) and _is_sequence(value):
        if not len(value) and info.check is None:
            _refuse(what, "not be empty", value)
        for place, item in enumerate(value, start=1):
            where = f" in every block; got {_plain(value)} at block {place}" if info.per_block else None
            _check_scalar(what, item, info, where)
        return
    if info.several:
        _refuse(what, "be a sequence", value)
    _check_scalar(what, value, info, None)


def _check_scalar(what: str, value: Any, info: ParamInfo, where: str | None) -> None:
    expected = _wrong_type(value, info.type) or _wrong_choice(value, info) or _wrong_range(value, info)
    if expected is not None:
        message = f"{what} must {expected}{where or f'; got {value!r}'}."
        raise BadParameter(message)


def _wrong_type(value: Any, kind: type) -> str | None:
    is_bool = value.__class__.__name__ in ("bool", "bool_")  # Python's, and NumPy's 2 and 1
    if kind is int and (is_bool or not isinstance(value, numbers.Integral)):
        return "be an integer"
    if kind is float and (is_bool or not isinstance(value, numbers.Real)):
        return "be a number"
    if kind is bool and not is_bool:
        return "be True or False"
    if kind is str and not isinstance(value, str):
        return "be a string"
    return None


def _wrong_choice(value: Any, info: ParamInfo) -> str | None:
    if info.choices is None or value in info.choices:
        return None
    return f"be one of {', '.join(map(repr, info.choices))}"


def _wrong_range(value: Any, info: ParamInfo) -> str | None:
    if info.type not in (int, float):
        return None
    if info.type is float and not math.isfinite(value):
        return "be a finite number"
    if info.at_least is not None and value < info.at_least:
        return f"be at least {info.at_least}"
    if info.above is not None and value <= info.above:
        return f"be above {info.above}"
    if info.at_most is not None and value > info.at_most:
        return f"be at most {info.at_most}"
    return None


def _refuse(what: str, expected: str, value: Any) -> None:
    message = f"{what} must {expected}; got {value!r}."
    raise BadParameter(message)


def _plain(value: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(item.item() if hasattr(item, "item") and item.size == 1 else item for item in value)


def _is_sequence(value: Any) -> bool:
    if isinstance(value, (str, bytes, Mapping)) or getattr(value, "ndim", 1) == 0:
        return False
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def spread(name: str, value: PerBlock | None, n_blocks: int) -> tuple[Any, ...]:
    """One value per block: a single value is repeated, a list must have one for each.

    Raises
    ------
    BadParameter
        When the list is shorter or longer than the number of blocks.
    """
    if value is None or not _is_sequence(value):
        return (value,) * n_blocks
    if len(value) != n_blocks:
        message = (
            f"`{name}` has {len(value)} values for {n_blocks} block{'s' if n_blocks > 1 else ''}: "
            f"{_plain(value)}; give one value, or one per block."
        )
        raise BadParameter(message)
    return _plain(value)
