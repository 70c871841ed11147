"""Sonnets as text and as lines."""

from collections.abc import Iterable


def text_of(lines: Iterable[str]) -> str:
    """Return lines as a text, each with the newline that ends it."""
    return "".join(f"{line}\n" for line in lines)


def verses(text: str) -> list[str]:
    """Return the lines of a text that are not blank."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def show_sonnet(prompt: str, continuation: str) -> str:
    """Return a sonnet to look at, the given lines marked."""
    given = [f"> {line}" for line in verses(prompt)]
    return "\n".join(given + [f"  {line}" for line in verses(continuation)])
