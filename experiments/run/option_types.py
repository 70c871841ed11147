"""Of which type the options are: a file or a notebook may give any value where flags cannot."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from experiments.run.bounds import check_bounds, flag
from minigpt.errors import InputError

NAMED = {float: "a number", int: "a whole number", bool: "true or false", str: "text", Path: "text"}
TAKEN_FOR = {float: (float, int), Path: (str, Path), str: (str, Path)}

Options = TypeVar("Options")  # a dataclass


def checked(config: Options, *, group: str = "") -> Options:
    """Return what `typed` does; InputError for a number out of bounds, too.

    `group` is what the flags' names begin with, "sonnet." say.
    """
    config = typed(config, group=group)
    check_bounds(vars(config), group=group)
    return config


def typed(config: Options, *, group: str = "") -> Options:
    """Return a dataclass of options, and of such, with paths for their texts, tuples for lists.

    Raises InputError for a value that is not of the type of its field.
    """
    hints, new = get_type_hints(type(config)), {}
    for name in (field.name for field in fields(config)):
        value = getattr(config, name)
        if not fits(value, hints[name]):
            expected = named(hints[name])
            raise InputError(f"{flag(group + name)} is {value!r}; expected {expected}")
        if isinstance(value, str) and Path in (hints[name], *get_args(hints[name])):
            new[name] = Path(value)
        if isinstance(value, list):
            new[name] = tuple(value)
        if is_dataclass(value):
            new[name] = typed(value, group=group)
    return replace(config, **new)


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type; lists are as good as tuples, and texts as paths."""
    kinds = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(fits(value, kind) for kind in kinds)
    if get_origin(hint) is Literal:
        return value in kinds
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            return False
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        return len(kinds) == len(value) and all(map(fits, value, kinds))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, TAKEN_FOR.get(hint, get_origin(hint) or hint))


def named(hint: Any) -> str:
    """Return what people call a type."""
    kinds = [kind for kind in get_args(hint) if kind not in (NoneType, ...)]
    if get_origin(hint) is tuple:
        return f"a list of {' and '.join(map(named, kinds))}"
    if get_origin(hint) is dict:
        return "a dict"
    if get_origin(hint) is Literal:
        return " or ".join(kinds)
    return " or ".join(map(named, kinds)) if kinds else NAMED.get(hint, hint.__name__)
