"""The record as a page of Markdown: goals, tables of what was measured, what was left out."""

from collections.abc import Sequence

from benchmarks.gpu_parts.goals import GOALS, STEP, Found, step_rows

ALL_TINY = (
    "**All models were tiny, to show that the command works on a {}. The numbers mean nothing.**"
)
UNMEASURED = "-"


def page(found: Found, device: str, tiny: bool) -> str:
    """Return the page of all parts, in the order in which they ran; no goals for tiny models."""
    lines = ["# What was measured", ""]
    if tiny:
        lines += [ALL_TINY.format("GPU" if device == "cuda" else "CPU"), ""]
    else:
        lines += _table(("goal", "target", "measured", ""), [goal.judge(found) for goal in GOALS])
    if rows := step_rows(found):
        lines += ["## Steps", "", *_rows_table(rows)]
    for name, record in found.items():
        if record["rows"] and not name.startswith(STEP):
            lines += [f"## {name}", "", *_rows_table(record["rows"])]
    lines += ["## Parts", ""]
    parts = [
        (name, record["status"], f"{record['seconds']:.0f}", record["error"] or "")
        for name, record in found.items()
    ]
    lines += _table(("part", "", "seconds", "why"), parts)
    return "\n".join(lines)


def _rows_table(rows: Sequence[dict]) -> list[str]:
    """Return a table of flat rows, one column for each name that any row has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[show(row.get(name)) for name in names] for row in rows]
    return _table([name.replace("_", " ") for name in names], cells)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [*(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines), ""]


def show(value: object) -> str:
    """Return a value as a cell: four figures, words as they are."""
    if value is None:
        return UNMEASURED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, (list, tuple)):
        return "; ".join(map(show, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
