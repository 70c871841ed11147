"""Tables as Markdown and as HTML: every page, card and report has them from here."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

# Lines of the text's own colour, so that they show on dark and on light; what is wider than the
# screen scrolls, and is printed smaller.
STYLE = """
.minigpt table { border-collapse: collapse; font-size: 0.85em; margin: 0.6em 0;
  font-variant-numeric: tabular-nums; }
.minigpt th, .minigpt td { text-align: left; padding: 0.25em 0.6em; vertical-align: top;
  border-bottom: 1px solid rgba(128, 128, 128, 0.35); }
.minigpt th { border-bottom-color: rgba(128, 128, 128, 0.9); }
.minigpt tr.rule td { border-top: 2px solid rgba(128, 128, 128, 0.6); }
.minigpt .wide { overflow-x: auto; }
.minigpt td { white-space: nowrap; }
.minigpt td.long { white-space: normal; min-width: 12em; }
.minigpt .holds { color: var(--holds, #0072B2); }
.minigpt .fails { color: var(--fails, #B34E00); }
.minigpt .open { color: var(--open, #6b6b6b); }
@media print {
  .minigpt .wide { overflow: visible; }
  .minigpt table { font-size: 6.5pt; }
  .minigpt th, .minigpt td { padding: 0.15em 0.35em; }
  .minigpt td, .minigpt td.long { white-space: normal; min-width: 0; }
}
"""
SHORT = 28  # characters that a cell keeps on one line

Tone = Literal["holds", "fails", "open"]


@dataclass(frozen=True)
class Link:
    """A table's cell that leads to a file."""

    text: str
    target: Path


@dataclass(frozen=True)
class Mark:
    """Bold text in the colour of a verdict."""

    text: str
    tone: Tone


Cell = str | Link | Mark | Sequence[Link]


@dataclass(frozen=True)
class Table:
    """Rows under a header, none for an empty one; a line is drawn above the rows in `rules`."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    rules: frozenset[int] = frozenset()


def table_html(table: Table, folder: Path = Path()) -> str:
    """Return a table in HTML, everything in it escaped, its links seen from a page in `folder`."""
    lines = []
    if table.header:
        head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
        lines.append(f"<thead><tr>{head}</tr></thead>")
    for i, row in enumerate(table.rows):
        cells = "".join(_cell_html(cell, folder) for cell in row)
        lines.append(f"<tr{' class=rule' if i in table.rules else ''}>{cells}</tr>")
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n{body}\n</table></div>'


def _cell_html(cell: Cell, folder: Path) -> str:
    long = isinstance(cell, str) and len(cell) > SHORT
    return f"<td{' class=long' if long else ''}>{inline_html(cell, folder)}</td>"


def inline_html(cell: Cell, folder: Path = Path()) -> str:
    """Return what stands in a cell, in HTML."""
    match cell:
        case str():
            return escape(cell)
        case Mark(text, tone):
            return f'<b class="{tone}">{escape(text)}</b>'
        case Link(text, target):
            return f'<a href="{escape(relative(target, folder))}">{escape(text)}</a>'
        case _:
            return " ".join(inline_html(link, folder) for link in cell)


def table_markdown(table: Table, folder: Path = Path()) -> str:
    """Return a table in Markdown, its links seen from a file in `folder`."""
    lines = [
        [inline_markdown(name) for name in table.header],
        ["---"] * len(table.header),
        *([_cell_markdown(cell, folder) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell_markdown(cell: Cell, folder: Path) -> str:
    return inline_markdown(cell, folder).replace("|", "\\|").replace("\n", " ")


def inline_markdown(cell: Cell, folder: Path = Path()) -> str:
    """Return what stands in a cell, in Markdown, where no text becomes a tag."""
    match cell:
        case str():
            return escape(cell, quote=False)
        case Mark(text):
            return f"**{escape(text, quote=False)}**"
        case Link(text, target):
            return f"[{text}]({relative(target, folder)})"
        case _:
            return " ".join(inline_markdown(link, folder) for link in cell)


def relative(path: Path, folder: Path) -> str:
    """Return a path as it is written in a file in `folder`."""
    return Path(os.path.relpath(path, folder)).as_posix()
