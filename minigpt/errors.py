"""The exception that means "the input is at fault, not the program", and how it speaks."""

from collections.abc import Iterable

LONGEST = 1000  # characters of one message


class InputError(ValueError):
    """Bad input from outside: an option, a file, a folder.

    The message is one sentence: what was wrong, what was got and what is expected. Whatever of a
    file it quotes, it stays one line of at most LONGEST characters (`shown`).
    Command lines print it and exit with code 2; notebooks see it as a ValueError.
    """

    def __init__(self, message: str):
        super().__init__(shown(message, LONGEST))


class NotFinite(InputError):
    """Numbers of a model in training are infinite or no numbers: it has diverged."""


def shown(text: object, most: int = 200) -> str:
    """Return a text that may hold anything as one that is safe to print.

    It has at most `most` characters; of a longer text the middle is left out. What does not print,
    such as control characters, escapes and line breaks, is written as in a string: "\\x1b".
    """
    text = str(text)
    if len(text) > most:
        text = f"{text[: most // 2]} ... {text[-(most // 2 - 5) :]}"
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return clean if len(clean) <= most else shown(clean, most)


def listed(items: Iterable[object], most: int = 5) -> str:
    """Return the first few items of a list of any length, and how many more there are."""
    items = list(items)
    more = [f"and {len(items) - most:,} more"] if len(items) > most else []
    return ", ".join([*(shown(item, 120) for item in items[:most]), *more])
