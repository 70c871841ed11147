"""Prompts made of a row's columns: "Review: {sentence}\\nSentiment:"."""

from collections.abc import Sequence
from string import Formatter

from minigpt.errors import InputError, shown


def typed(text: str) -> str:
    """Return a text with its line breaks and tabs, which shells hand over as \\n and \\t."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


class Template:
    """A prompt in which `columns`, named in braces, stand for what a row holds of them.

    "\\n" may be typed for a line break (`typed`), "{{" for a brace. Raises InputError for one
    without columns, and for one that ends in a space: GPT-2's words begin with theirs, so that
    " yes" is one token after "?" but two after "? ".
    """

    def __init__(self, text: str):
        self.text = typed(text)
        try:
            pieces = list(Formatter().parse(self.text))
        except ValueError as error:
            raise self._refused(f"cannot be read ({error})") from error
        for _, column, form, conversion in pieces:
            if column == "" or form or conversion:
                raise self._refused("has braces that hold no mere name of a column")
        self.pieces = [(literal, column) for literal, column, _, _ in pieces]
        self.columns = tuple(dict.fromkeys(column for _, column in self.pieces if column))
        if not self.columns:
            raise self._refused("names no column, so that all prompts would be the same")
        if self.text.endswith(" "):
            raise self._refused(
                "ends in a space, with which GPT-2's words begin and which belongs to the labels"
            )

    def fill(self, texts: Sequence[str]) -> str:
        """Return the prompt of a row whose `columns` hold these texts, in their order."""
        values = dict(zip(self.columns, texts, strict=True))
        return "".join(literal + values.get(column, "") for literal, column in self.pieces)

    def _refused(self, reason: str) -> InputError:
        return InputError(
            f"the template {shown(repr(self.text))} {reason}; "
            'expected columns in braces and no space at the end, as in "Review: {text}\\nIt is"'
        )
