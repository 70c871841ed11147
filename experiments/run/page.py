"""A run as a notebook shows it: one piece of HTML that stands by itself."""

import base64
import io
from pathlib import Path

from matplotlib.figure import Figure

from experiments.run.display import show_duration
from experiments.run.tables import STYLE, Table, table_html

OPTIONS = ("task", "model", "parameterization", "epochs", "switch_epoch", "loss", "seed")


def result_page(folder: Path, record: dict, scores: list[list[str]], figure: Figure) -> str:
    """Return a finished run as HTML: what was done, the scores beside their floors, the curves.

    `record` is what run.json holds, `scores` the rows of the table, its head first.
    """
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100, format="png")
    curves = base64.b64encode(picture.getvalue()).decode()
    return (
        f'<div class="minigpt"><style>{STYLE}</style>\n'
        f"{table_html(Table((), _summary(folder, record)))}\n"
        f"{table_html(Table(scores[0], scores[1:]))}\n"
        "<p>Brackets are 95 % intervals over examples, for this one seed.</p>\n"
        '<img style="max-width: 100%" alt="Losses, scores and rewards by step" '
        f'src="data:image/png;base64,{curves}">'
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
