"""PEFT's rank_pattern and alpha_pattern: values for some layers, by regular expression.

PEFT matches a pattern against a layer's full name, or against the end of it from a dot on, and
takes the first that fits. A file may hold any expression, and some never return: "(a+)+" takes
2^n steps. Here an expression is refused unless its steps can be counted beforehand and are few.
Plain, escaped and "^"-anchored names, ".*", classes and groups like "c_(fc|proj)" are well within.
"""

import re
from collections.abc import Iterable, Mapping

from minigpt.errors import InputError, shown

MOST_STEPS = 100_000_000  # of all patterns on all names, at worst
MOST_CHARACTERS = 500  # of one pattern
_ONE = re.compile(r"\\[^0-9]|\[\^?\]?[^\]]*\]")  # what stands for one character, but for itself
_UNCOUNTED = re.compile(r"\)[*+{]|\(\?(?!:)|\\|[*+?}][*+?{]")  # what can nest, or look elsewhere


class Patterns:
    """What one of the two settings says; raises InputError for anything but safe expressions."""

    def __init__(self, what: str, values: object, names: Iterable[str]):
        names = list(names)
        if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
            raise InputError(
                f"{what} {shown(repr(values))}; expected a value for each regular expression"
            )
        steps = sum(_steps(what, pattern, len(name)) for pattern in values for name in names)
        if steps > MOST_STEPS:
            raise InputError(
                f"{what} {shown(repr(values))}, which could take {steps:.0e} steps to match; "
                "expected simpler regular expressions"
            )
        try:
            self._values = [(re.compile(rf"(.*\.)?({p})$"), value) for p, value in values.items()]
        except (re.error, OverflowError, RecursionError) as error:
            raise InputError(
                f"{what} {shown(repr(values))} ({error}); expected regular expressions"
            ) from None

    def get(self, name: str, default: object) -> object:
        """Return the value of the first pattern that fits the name, as PEFT does."""
        return next((value for fits, value in self._values if fits.match(name)), default)


def _steps(what: str, pattern: str, length: int) -> int:
    """At most how many steps a backtracking match takes against a name of this length.

    Each repeat can end at any character, each option doubles the ways, each group has as many as
    alternatives; the repeat in front is PEFT's own. InputError for what cannot be counted so.
    """
    if len(pattern) > MOST_CHARACTERS:
        raise InputError(
            f"{what} with an expression of {len(pattern):,} characters; expected at most "
            f"{MOST_CHARACTERS}"
        )
    bare = _ONE.sub("x", pattern)
    if found := _UNCOUNTED.search(bare):
        raise InputError(
            f"{what} {shown(repr(pattern))} with {found[0]!r}, a regular expression whose time "
            "cannot be told; expected names, .* and groups such as c_(fc|proj)"
        )
    repeats = sum(map(bare.count, "*+{"))
    ways, groups = 2 ** bare.count("?"), [1]
    for character in bare:
        if character == "(":
            groups.append(1)
        elif character == "|":
            groups[-1] += 1
        elif len(groups) > 1 and character == ")":  # one too many is for `re` to refuse
            ways *= groups.pop()
    return (length + 2) ** (repeats + 1) * ways * groups[0]
