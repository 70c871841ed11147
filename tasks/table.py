"""Rows of fields as spreadsheets write them, where a quote may also be a mere character.

A field that begins with a double quote ends at the next one; within it, two of them stand for one.
Python's csv module and pandas read so too, and on sound files `read_table` agrees with them. But
where people type quotes into a plain table, one that nobody closes makes those readers swallow all
rows up to the next quote, or to the end of the file. Between tabs a field may span lines, but not
tabs and lines at once: a quote that would take both is known as a character. Between commas a field
may well hold both, so there the number of fields tells: a quote that takes lines and leaves a row
of another width than the header's is a character.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from minigpt.errors import listed

TAB = "\t"
_LINE = re.compile(r"[^\r\n]*")
_END = re.compile(r"\r\n|\r|\n")


class Row(NamedTuple):
    """One row of a table."""

    line: int  # where it begins, counted from 1
    fields: list[str]
    stray_quotes: list[int]  # lines with a quote that opens a field and closes nowhere


def stray_note(lines: Iterable[int]) -> str:
    """Return what is to be said of stray quotes, given their lines."""
    return (
        "a double quote that opens a field and closes nowhere is read as a character: "
        f"line {listed(lines)}"
    )


def read_table(text: str, separator: str = TAB) -> Iterator[Row]:
    """Yield the rows of a text, blank lines as a row of one empty field.

    A field may span lines where it is quoted as a whole. A quote that opens a field and would close
    only too late, or never, is a character.
    """
    at, line, width = 0, 1, None
    while at < len(text):
        end = _LINE.match(text, at).end()
        first = text[at:end]
        if first.startswith('"') or separator + '"' in first:  # elsewhere a quote is a character
            row, end, last = _quoted_row(text, at, line, separator, breaks=True)
            if separator != TAB and last > line and len(row.fields) != (width or len(row.fields)):
                row, end, last = _quoted_row(text, at, line, separator, breaks=False)
            line = last
        else:
            row = Row(line, first.split(separator), [])
        yield row
        width = width or len(row.fields)
        line += 1
        after = _END.match(text, end)
        at = after.end() if after else end


@cache
def _field(separator: str, breaks: bool) -> re.Pattern:
    """Return what matches one field; `breaks` says whether a quoted one may span lines.

    Inside quotes no single quote stands, and the closing one is no half of two.
    """
    plain = rf"[^{separator}\r\n]*"
    closed = rf'"(?=[{separator}\r\n]|\Z)'
    kinds = [
        rf'"(?P<within>{_inside(separator, breaks=False)})"(?!")(?P<rest>{plain})',
        rf'"(?P<separators>{_inside("", breaks=False)}){closed}',
        rf'"(?P<lines>{_inside(separator if separator == TAB else "", breaks=True)}){closed}',
        f"(?P<plain>{plain})",
    ]
    return re.compile("|".join(kind for kind in kinds if breaks or "<lines>" not in kind))


def _inside(separator: str, *, breaks: bool) -> str:
    """Return what stands between two quotes, without the separator and perhaps without breaks."""
    character = rf'[^"{separator}]' if breaks else rf'[^"{separator}\r\n]'
    return f'{character}*(?:""{character}*)*'


def _quoted_row(
    text: str, at: int, line: int, separator: str, *, breaks: bool
) -> tuple[Row, int, int]:
    """Return the row that begins at `at`, where it ends and on which line."""
    row = Row(line, [], [])
    pattern = _field(separator, breaks)
    while True:
        field = pattern.match(text, at)
        plain = field["plain"]
        if plain is None:
            found = field.groupdict()
            quoted = next(found[g] for g in found if g != "rest" and found[g] is not None)
            row.fields.append(quoted.replace('""', '"') + (field["rest"] or ""))
            line += len(_END.findall(quoted))
        else:
            row.fields.append(plain)
            if plain.startswith('"'):
                row.stray_quotes.append(line)
        if not text.startswith(separator, field.end()):
            return row, field.end(), line
        at = field.end() + 1
