"""A run as a notebook shows it: one piece of HTML that stands by itself."""

import base64
import io
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from experiments.run.display import show_duration

# The text's own colours, so that a dark page and a light one show it; the figure brings its ground.
STYLE = """
.minigpt-run table { border-collapse: collapse; font-size: 0.9em; margin: 0.6em 0;
  font-variant-numeric: tabular-nums; }
.minigpt-run th, .minigpt-run td { text-align: left; padding: 0.2em 0.8em; white-space: nowrap;
  border-bottom: 1px solid rgba(128, 128, 128, 0.35); vertical-align: top; }
.minigpt-run .wide { overflow-x: auto; }
.minigpt-run img { max-width: 100%; height: auto; border-radius: 4px; }
"""
OPTIONS = ("task", "model", "parameterization", "epochs", "switch_epoch", "loss", "seed")


def result_page(folder: Path, record: dict, scores: list[list[str]], figure: Figure) -> str:
    """Return a finished run as HTML: what was done, the scores beside their floors, the curves.

    `record` is what run.json holds, `scores` the rows of the table, its head first.
    """
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100, format="png")
    curves = base64.b64encode(picture.getvalue()).decode()
    return (
        f'<div class="minigpt-run"><style>{STYLE}</style>\n{_table(_summary(folder, record))}\n'
        f"{_table(scores[1:], scores[0])}\n"
        "<p>Brackets are 95 % intervals over examples, for this one seed.</p>\n"
        f'<img alt="Losses, scores and rewards by step" src="data:image/png;base64,{curves}">'
        "</div>"
    )


def _summary(folder: Path, record: dict) -> list[list[str]]:
    options = ", ".join(f"{name} {record['config'][name]}" for name in OPTIONS)
    trained, total = (record["parameters"][which] for which in ("trained", "total"))
    return [
        ["folder", str(folder)],
        ["options", options],
        ["parameters", f"{trained:,} trained of {total:,}"],
        ["took", f"{show_duration(record['seconds'])}, {record['peak_memory_mib']:,.0f} MiB"],
    ]


def _table(rows: list[list[str]], head: list[str] | None = None) -> str:
    """Return rows as a table, everything in them escaped."""
    lines = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>"] if head else []
    lines += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n{body}\n</table></div>'
