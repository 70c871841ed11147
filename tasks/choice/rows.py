"""A row of data as a choice among labels."""

from typing import NamedTuple


class Unlabelled(NamedTuple):
    """A row whose label is asked for: its id, and its texts; None where it cannot be read."""

    id: str
    texts: tuple[str, ...] | None


class Choice(NamedTuple):
    """The texts that a template asks for, and the number of the right label."""

    texts: tuple[str, ...]
    label: int
