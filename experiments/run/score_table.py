"""The scores of a run as a table: every evaluation, the floors, the best epoch, the last, test."""

from collections.abc import Mapping

from experiments.run.display import TERMINAL, align, show_floor, show_with_interval
from tasks import Score


def score_rows(
    epochs: list[dict],
    best: dict,
    test: dict | None,
    floors: dict[str, dict[str, float]],
    shown: Mapping[str, Score],
) -> list[list[str]]:
    """Return the table's rows, its head first: a title, a phase, and a cell for each `shown` score.

    Brackets are 95 % intervals.
    """
    rows = [["", "phase", *(score.short for score in shown.values())]]

    def add(title: str, phase: str, scores: dict) -> None:
        cells = [show_with_interval(score, scores[name]) for name, score in shown.items()]
        rows.append([title, phase, *cells])

    for record in epochs:
        add(f"epoch {record['epoch']}", record["phase"], record["scores"])
    for title, floor in floors.items():
        cells = [show_floor(score, name, floor) for name, score in shown.items()]
        rows.append([title, "floor", *cells])
    for title, record in (("best", best), ("last", epochs[-1])):
        add(f"{title}: epoch {record['epoch']}", record["phase"], record["scores"])
    if test:
        add(f"test: epoch {best['epoch']}", best["phase"], test["scores"])
    return rows


def fitting(rows: list[list[str]]) -> list[list[str]]:
    """Return a table without its last scores, as many as are too wide for a terminal."""
    while max(map(len, align(rows))) > TERMINAL and len(rows[0]) > len(("title", "phase", "score")):
        rows = [row[:-1] for row in rows]
    return rows


def as_text(rows: list[list[str]]) -> str:
    """Return a table's rows as text, a rule under its head."""
    lines = align(rows)
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
