"""Tab-separated rows as spreadsheets write them, where a quote may also be a mere character.

A field that begins with a double quote ends at the next one; within it, two of them stand for one.
So do Python's csv module and pandas read, and on sound files `read_table` agrees with them. But
where people type quotes into a plain table, one that nobody closes makes those readers swallow all
rows up to the next quote, or to the end of the file. A question may span lines, but not tabs and
lines at once: a quote that would take both is known as a character.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE = re.compile(r"[^\r\n]*")
_END = re.compile(r"\r\n|\r|\n")
# Inside quotes no single quote stands, and the closing one is no half of two.
_FIELD = re.compile(
    r'"(?P<within>[^"\t\r\n]*(?:""[^"\t\r\n]*)*)"(?!")(?P<rest>[^\t\r\n]*)'
    r'|"(?P<lines>[^"\t]*(?:""[^"\t]*)*)"(?=[\t\r\n]|\Z)'  # line breaks, but no tab
    r'|"(?P<tabs>[^"\r\n]*(?:""[^"\r\n]*)*)"(?=[\t\r\n]|\Z)'  # tabs, but no line break
    r"|(?P<plain>[^\t\r\n]*)"
)


class Row(NamedTuple):
    """One row of a table."""

    line: int  # where it begins, counted from 1
    fields: list[str]
    stray_quotes: list[int]  # lines with a quote that opens a field and closes nowhere


def read_table(text: str) -> Iterator[Row]:
    """Yield the rows of a tab-separated text, blank lines as a row of one empty field.

    A field may span lines where it is quoted as a whole. A quote that opens a field and would close
    only behind a tab on a later line, or never, is a character.
    """
    at, line = 0, 1
    while at < len(text):
        end = _LINE.match(text, at).end()
        first = text[at:end]
        if first.startswith('"') or '\t"' in first:  # elsewhere a quote is a character
            row, end, line = _quoted_row(text, at, line)
        else:
            row = Row(line, first.split("\t"), [])
        yield row
        line += 1
        after = _END.match(text, end)
        at = after.end() if after else end


def _quoted_row(text: str, at: int, line: int) -> tuple[Row, int, int]:
    """Return the row that begins at `at`, where it ends and on which line."""
    row = Row(line, [], [])
    while True:
        field = _FIELD.match(text, at)
        plain = field["plain"]
        if plain is None:
            quoted = next(field[g] for g in ("within", "lines", "tabs") if field[g] is not None)
            row.fields.append(quoted.replace('""', '"') + (field["rest"] or ""))
            line += len(_END.findall(quoted))
        else:
            row.fields.append(plain)
            if plain.startswith('"'):
                row.stray_quotes.append(line)
        if not text.startswith("\t", field.end()):
            return row, field.end(), line
        at = field.end() + 1
