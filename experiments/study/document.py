"""A report as a list of blocks, written as Markdown and as one self-contained HTML page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from experiments.run import tables
from experiments.run.tables import (
    Mark,
    Table,
    inline_html,
    inline_markdown,
    relative,
    table_html,
    table_markdown,
)
from experiments.study import svg
from minigpt.files import make_folder, write_text

# Closed parts are printed too: `::details-content` is what a browser hides of them.
STYLE = f"""
{svg.COLOURS}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }}
h1, h2, h3 {{ line-height: 1.2; margin-top: 2.2rem; }}
nav {{ font-size: 0.85rem; display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; }}
a {{ color: var(--link); }}
summary {{ cursor: pointer; margin: 0.8rem 0; color: var(--link); }}
p, li {{ max-width: 50rem; }}
li {{ margin: 0.35rem 0; }}
.figures {{ display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }}
figure {{ margin: 0; flex: 1 1 min(100%, 26rem); max-width: 44rem; }}
figure svg {{ width: 100%; height: auto; }}
figcaption, .note {{ font-size: 0.85rem; opacity: 0.85; }}
{tables.STYLE}
@media print {{
  @page {{ size: A4 landscape; margin: 12mm; }}
  body {{ max-width: none; margin: 0; font-size: 10pt; }}
  details::details-content {{ content-visibility: visible; block-size: auto; }}
  figure {{ max-width: 110mm; }}
  figure, li, tr {{ break-inside: avoid; }}
  h1 {{ margin-top: 0; }}
  h2, h3, summary, h2 + p {{ break-after: avoid; }}
}}
"""


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Items:
    """A list, every item a marked word and a text."""

    items: Sequence[tuple[Mark, str]]


@dataclass(frozen=True)
class Picture:
    """A drawing, which is kept as a file, with what is said below it."""

    path: Path
    drawing: str  # SVG, by `experiments.study.svg`
    caption: str


@dataclass(frozen=True)
class Figures:
    """Pictures beside each other, where there is room, and how all of them are read."""

    pictures: Sequence[Picture]
    note: str = ""


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown when the reader asks for them, and that are printed."""

    title: str
    blocks: Sequence["Block"]


Block = Heading | Paragraph | Items | Table | Figures | Folded


def write_document(folder: Path, title: str, blocks: Sequence[Block]) -> None:
    """Write report.md (drawings as files beside it) and report.html (drawings within).

    Both begin with links to the headings of level 2, where there are more than two.
    """
    for picture in _pictures(blocks):
        make_folder(picture.path.parent)
        write_text(picture.path, svg.as_file(picture.drawing))
    names = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    contents = [f"[{_plain(name)}](#{_anchor(name)})" for name in names if len(names) > 2]
    parts = [f"# {_plain(title)}", " · ".join(contents), *(_markdown(b, folder) for b in blocks)]
    write_text(folder / "report.md", "\n\n".join(filter(None, parts)) + "\n")
    links = "".join(
        f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in names if len(names) > 2
    )
    body = "\n".join(_html(block, folder) for block in blocks)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n"
        f'<body class="minigpt">\n<h1>{escape(title)}</h1>\n<nav>{links}</nav>\n{body}\n'
        "</body></html>\n"
    )
    write_text(folder / "report.html", page)


def _pictures(blocks: Sequence[Block]) -> list[Picture]:
    found = []
    for block in blocks:
        if isinstance(block, Figures):
            found += block.pictures
        elif isinstance(block, Folded):
            found += _pictures(block.blocks)
    return found


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Paragraph(text):
            return _plain(text)
        case Items(items):
            return "\n".join(f"- {inline_markdown(mark)}: {_plain(text)}" for mark, text in items)
        case Figures(pictures, note):
            shown = [f"![{_plain(p.caption)}]({relative(p.path, folder)})" for p in pictures]
            return "\n\n".join([*shown, _plain(note)] if note else shown)
        case Folded(title, blocks):
            inner = "\n\n".join(_markdown(inside, folder) for inside in blocks)
            return f"<details><summary>{escape(title)}</summary>\n\n{inner}\n\n</details>"
        case Table():
            return table_markdown(block, folder)


def _html(block: Block, folder: Path) -> str:
    match block:
        case Heading(text, level):
            name = f' id="{_anchor(text)}"' if level == 2 else ""
            return f"<h{level}{name}>{escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Items(items):
            lines = [f"<li>{inline_html(mark)}: {escape(text)}</li>" for mark, text in items]
            return "\n".join(["<ul>", *lines, "</ul>"])
        case Figures(pictures, note):
            shown = "\n".join(
                f"<figure>{p.drawing}<figcaption>{escape(p.caption)}</figcaption></figure>"
                for p in pictures
            )
            below = f'\n<p class="note">{escape(note)}</p>' if note else ""
            return f'<div class="figures">{shown}</div>{below}'
        case Folded(title, blocks):
            inner = "\n".join(_html(inside, folder) for inside in blocks)
            return f"<details><summary>{escape(title)}</summary>\n{inner}\n</details>"
        case Table():
            return table_html(block, folder)


def _anchor(text: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def _plain(text: str) -> str:
    return inline_markdown(text)
