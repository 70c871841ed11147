"""A report as a list of blocks, written as Markdown and as one self-contained HTML page."""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from minigpt.files import write_text

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; margin-top: 2.2rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; min-width: 56rem; font-size: 0.85rem;
        font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.3rem 0.7rem; border-bottom: 1px solid #ddd;
         vertical-align: top; }
th { border-bottom: 2px solid #888; }
tr.rule td { border-top: 2px solid #bbb; }
img { max-width: 100%; height: auto; }
a { color: #1b6ca8; }
"""


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Link:
    """A table's cell that leads to a file."""

    text: str
    target: Path


@dataclass(frozen=True)
class Table:
    """Rows of text or links under a header; `rules` are the rows above which a line is drawn."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Link | Sequence[Link]]]
    rules: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    path: Path
    caption: str


Block = Heading | Paragraph | Table | Picture


def write_document(folder: Path, title: str, blocks: Sequence[Block]) -> None:
    """Write report.md (pictures as files beside it) and report.html (pictures within)."""
    blocks = [Heading(title, 1), *blocks]
    write_text(folder / "report.md", "\n\n".join(_markdown(b, folder) for b in blocks) + "\n")
    body = "\n".join(_html(block, folder) for block in blocks)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n{body}\n"
        "</body></html>\n"
    )
    write_text(folder / "report.html", page)


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Paragraph(text):
            return _plain(text)
        case Picture(path, caption):
            return f"![{_plain(caption)}]({_relative(path, folder)})"
        case Table(header, rows):

            def cell(value) -> str:
                links = _links(value)
                shown = " ".join(f"[{k.text}]({_relative(k.target, folder)})" for k in links)
                return shown if links else _plain(value).replace("|", "\\|").replace("\n", " ")

            lines = [
                [cell(name) for name in header],
                ["---"] * len(header),
                *([cell(v) for v in row] for row in rows),
            ]
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Return text in Markdown without the tags that it would otherwise be, as in the page."""
    return escape(text, quote=False)


def _html(block: Block, folder: Path) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Picture(path, caption):
            data = base64.b64encode(path.read_bytes()).decode()
            return f'<p><img alt="{escape(caption)}" src="data:image/png;base64,{data}"></p>'
        case Table(header, rows, rules):

            def cell(value) -> str:
                links = _links(value)
                shown = " ".join(
                    f'<a href="{escape(_relative(k.target, folder))}">{escape(k.text)}</a>'
                    for k in links
                )
                return f"<td>{shown if links else escape(value)}</td>"

            head = "".join(f"<th>{escape(name)}</th>" for name in header)
            body = "\n".join(
                f"<tr{' class=rule' if i in rules else ''}>{''.join(map(cell, row))}</tr>"
                for i, row in enumerate(rows)
            )
            return f'<div class="table"><table><tr>{head}</tr>\n{body}</table></div>'


def _links(value: str | Link | Sequence[Link]) -> list[Link]:
    if isinstance(value, str):
        return []
    return [value] if isinstance(value, Link) else list(value)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
