"""A row of data as a choice among labels."""

from typing import NamedTuple


class Choice(NamedTuple):
    """The texts that a template asks for, and the number of the right label."""

    texts: tuple[str, ...]
    label: int
