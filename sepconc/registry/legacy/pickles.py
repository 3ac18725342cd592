"""Pickles read as data: a machine that knows the harmless operations, a few names, and calls nothing.

Python's own unpickler calls what a file tells it to; a restricted one (:class:`pickle.Unpickler` with a ``find_class``,
or ``torch.load(weights_only=True)`` with stand-ins, which was broken twice) still runs ``__setstate__`` and ``__new__``
and asks for as much memory as the file says. Here the operations are carried out on a stack of plain values: the ones
that are enough for what ``torch.save`` writes (protocol 2 and later), and no others. What a file names must be on the
list of :mod:`sepconc.registry.legacy.values`, which says what becomes of it.

Sizes are bounded: the operations, the depth, and the number of values after every reference was followed, so that a
short file can't stand for an endless one.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sepconc.registry.legacy.values import (
    OLDER_PROGRAM,
    STORAGES,
    VALUES,
    Blank,
    Dtype,
    Inert,
    Name,
    Refused,
    Storage,
    byte_order,
    checked_key,
    known_name,
    make_array,
)
from sepconc.registry.names import shown

LONGEST = 1 << 26
MOST_OPERATIONS = 3_000_000
MOST_VALUES = 6_000_000
DEEPEST = 100
MOST_COPIED = 1 << 28  # bytes, about: what is made of values that are there already
MOST_TEXT = 1 << 27  # characters and bytes, counted at every reference
MOST_NUMBERS = 1 << 30  # bytes of arrays, counted at every reference
_ITEM = 32  # bytes of a copied item, about
_PROTOCOLS = range(2, 6)
_MARK = object()


def read_pickle(
    data: bytes, storage: Callable[[str, np.dtype, int], np.ndarray] | None = None, *, of_states: bool = False
) -> Any:
    """The value that a pickle describes, made of plain values, arrays, :class:`Name` and :class:`Inert`.

    Parameters
    ----------
    data : bytes
    storage : callable
        Gives the elements of a tensor's storage: (key, dtype, number of elements) -> array; None if there are none.
    of_states : bool
        Whether dictionaries may have attributes, as state dicts have; they are left out.

    Raises
    ------
    Refused
        For anything that isn't known and harmless, and for what is no pickle.
    """
    if len(data) > LONGEST:
        message = f"holds a pickle of {len(data):,} bytes, more than {LONGEST:,}"
        raise Refused(message)
    value = _Machine(storage, of_states).run(data)
    check_size(value, most_numbers=None if of_states else MOST_NUMBERS)
    return value


def check_size(value: Any, *, most_numbers: int | None = MOST_NUMBERS) -> None:
    """Refuse a value that is nested too deeply, holds itself, or is too large once every reference is followed.

    What describes an array that was never made is refused too. ``most_numbers`` are the bytes of all arrays; None for
    state dicts, whose arrays nobody copies.
    """
    count = text = numbers = 0
    todo = [iter((value,))]
    while todo:
        for item in todo[-1]:
            count += 1
            text += len(item) if isinstance(item, str | bytes) else 0
            numbers += item.nbytes if isinstance(item, np.ndarray) else 0
            if type(item) in (Blank, Dtype, Storage):
                message = "holds a part of an array or tensor by itself"
                raise Refused(message, unsafe=False)
            children = _children(item)
            if children is not None:
                todo.append(children)
                break
        else:
            todo.pop()
        if count > MOST_VALUES:
            message = f"stands for more than {MOST_VALUES:,} values"
            raise Refused(message)
        if text > MOST_TEXT or (most_numbers is not None and numbers > most_numbers):
            message = f"stands for {text:,} bytes of text and {numbers:,} of numbers, too many for its size"
            raise Refused(message)
        if len(todo) > DEEPEST:
            message = f"is nested more than {DEEPEST} deep"
            raise Refused(message)


def _children(value: Any) -> Iterator[Any] | None:
    if isinstance(value, list | tuple | set | frozenset):
        return iter(value)
    if isinstance(value, dict):
        return iter([part for item in value.items() for part in item])
    return iter((value.args, value.state)) if isinstance(value, Inert) else None


class _Machine:
    """The stack, the marks and the memo of a pickle."""

    def __init__(self, storage: Callable[[str, np.dtype, int], np.ndarray] | None, of_states: bool) -> None:
        self._of_states = of_states
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._storage = storage
        self._copied = 0

    def run(self, data: bytes) -> Any:
        """Carry out every operation; give what is left."""
        steps = 0
        try:
            for operation, argument, _ in pickletools.genops(data):
                steps += 1
                if steps > MOST_OPERATIONS:
                    message = f"has more than {MOST_OPERATIONS:,} operations"
                    raise Refused(message)
                self._do(operation.name, argument)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            reason = (str(error).splitlines() or [""])[0]
            message = f"isn't a whole and sound pickle ({type(error).__name__}: {shown(reason, 100)})"
            raise Refused(message, unsafe=False) from error
        if len(self._stack) != 1 or self._stack[0] is _MARK:
            message = "isn't a whole and sound pickle (it ends without one value)"
            raise Refused(message, unsafe=False)
        return self._stack[0]

    def _do(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _WORK:
            _WORK[name](self, argument)
        else:
            what = f" ({shown(argument[:90])})" if isinstance(argument, str | bytes) else ""
            message = f"uses the operation {name}{what}, which older registries have no need of"
            raise Refused(message)

    # ---- stack and memo

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            message = "a mark in the place of a value"
            raise ValueError(message)
        return value

    def _pop_many(self, count: int) -> tuple[Any, ...]:
        return tuple(reversed([self._pop() for _ in range(count)]))

    def _pop_to_mark(self) -> list[Any]:
        values: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        values.reverse()
        return values

    def _top(self, kind: type) -> Any:
        top = self._stack[-1]
        if type(top) is not kind:
            message = f"expected a {kind.__name__}, found a {type(top).__name__}"
            raise TypeError(message)
        return top

    def _protocol(self, version: int) -> None:
        if version not in _PROTOCOLS:
            message = f"protocol {version}"
            raise ValueError(message)

    def _push_integer(self, value: int) -> None:
        if value.bit_length() > 63:
            message = "an integer of more than 64 bits"
            raise ValueError(message)
        self._stack.append(value)

    def _mark(self, _: None) -> None:
        self._stack.append(_MARK)

    def _put(self, index: int) -> None:
        value = self._pop()
        self._stack.append(value)
        self._memo[index] = value
        if type(value) is Blank:
            value.places.append(index)

    def _memoize(self, _: None) -> None:
        self._put(len(self._memo))

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    # ---- containers

    def _append(self, _: None) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self, _: None) -> None:
        values = self._pop_to_mark()
        self._top(list).extend(values)

    def _set_item(self, _: None) -> None:
        key, value = self._pop_many(2)
        self._top(dict)[checked_key(key)] = value

    def _set_items(self, _: None) -> None:
        values = self._pop_to_mark()
        pairs = {checked_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}
        self._top(dict).update(pairs)

    def _add_items(self, _: None) -> None:
        values = self._pop_to_mark()
        self._top(set).update(map(checked_key, values))

    def _tuple(self, _: None) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _tuple_of(self, count: int) -> None:
        self._stack.append(self._pop_many(count))

    # ---- names and objects

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(known_name(module, name))

    def _stack_global(self, _: None) -> None:
        module, name = self._pop_many(2)
        if type(module) is not str or type(name) is not str:
            message = "names something by what isn't text"
            raise Refused(message)
        self._stack.append(known_name(module, name))

    def _reduce(self, _: None) -> None:
        what, args = self._pop_many(2)
        name = what.name if type(what) is Name else shown(what)
        if name not in VALUES or type(what) is not Name:
            message = f'calls "{name}", which isn\'t on the list of what an older registry may'
            raise Refused(message)
        self._charge(args)
        self._stack.append(VALUES[name](*args))

    def _charge(self, parts: Any) -> None:
        """Refuse to copy the same values again and again: a reference is short, and a copy isn't."""
        for part in parts if isinstance(parts, tuple) else ():
            if isinstance(part, list | tuple | set | dict):
                self._copied += _ITEM * len(part)
            elif isinstance(part, str | bytes):
                self._copied += len(part)
        if self._copied > MOST_COPIED:
            message = f"makes copies of more than {MOST_COPIED:,} bytes"
            raise Refused(message)

    def _new_object(self, _: None) -> None:
        what, args = self._pop_many(2)
        if type(what) is not Name or not OLDER_PROGRAM.fullmatch(what.name):
            name = what.name if type(what) is Name else shown(what)
            message = f'makes a "{name}", which isn\'t on the list of what an older registry may hold'
            raise Refused(message)
        if type(args) is not tuple:
            message = "arguments that aren't a tuple"
            raise TypeError(message)
        self._stack.append(Inert(what.name, args))

    def _build(self, _: None) -> None:
        state = self._pop()
        top = self._stack[-1]
        if type(top) is Inert and not top.is_built:
            top.state, top.is_built = state, True
        elif type(top) is Dtype:
            top.order = byte_order(state)
        elif type(top) is Blank:
            self._charge(state)
            self._stack[-1] = array = make_array(*state)
            self._memo.update(dict.fromkeys(top.places, array))
        elif not (self._of_states and type(top) is dict and type(state) is dict):
            message = f"sets the state of a {type(top).__name__}, which has none or has it already"
            raise Refused(message)

    def _persistent(self, _: None) -> None:
        kind, storage, key, location, count = self._pop()
        known = type(storage) is Name and storage.name in STORAGES and type(location) is str
        if kind != "storage" or not known or type(key) is not str or type(count) is not int or not self._storage:
            message = (
                f"refers to something outside of it ({shown((kind, storage, key))}) that isn't a storage of tensors"
            )
            raise Refused(message)
        self._stack.append(Storage(self._storage(key, STORAGES[storage.name], count)))


_PUSHED = frozenset({"BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"})
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_WORK: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine._protocol,
    "FRAME": lambda machine, length: None,
    "STOP": lambda machine, _: None,
    "MARK": _Machine._mark,
    "BININT": _Machine._push_integer,
    "BININT1": _Machine._push_integer,
    "BININT2": _Machine._push_integer,
    "LONG1": _Machine._push_integer,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "ADDITEMS": _Machine._add_items,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._tuple_of(1),
    "TUPLE2": lambda machine, _: machine._tuple_of(2),
    "TUPLE3": lambda machine, _: machine._tuple_of(3),
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._new_object,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._persistent,
}
