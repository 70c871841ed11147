"""What a study's preference pairs are like, as a table of its report."""

from collections.abc import Sequence

import numpy as np

from experiments.run.tables import Table
from experiments.study.document import Block, Heading, Paragraph
from experiments.study.results import ArmResult

COLUMNS = {  # of `describe_pairs`: heading, factor to the shown value, decimals
    "examples": ("examples", 1, 0),
    "pairs": ("pairs", 1, 0),
    "share_dropped": ("dropped %", 100, 1),
    "share_degenerate": ("degenerate %", 100, 1),
    "length_ratio": ("length ratio", 1, 2),
    "margin_mean": ("margin", 1, 2),
    "margin_10": ("margin, 10 %", 1, 2),
    "margin_50": ("margin, 50 %", 1, 2),
    "margin_90": ("margin, 90 %", 1, 2),
}
MEANING = (
    "Means over seeds: training examples and the pairs made of them; examples dropped because both "
    "sides were equal; degenerate pairs, where a side is empty or has fewer than half of the "
    "gold's lines; characters of the rejected side over those of the chosen; and the margin, chrF "
    "of the chosen side against the gold minus that of the rejected, with its 10, 50 and 90 % "
    "quantiles."
)


def pair_blocks(results: Sequence[ArmResult]) -> list[Block]:
    """Return a table of the arms with pairs; nothing where all are the same in numbers."""
    made = {
        result.name: _mean_statistics(result)
        for result in results
        if "reference" in result.runs[0].record
    }
    found = {name for statistics in made.values() for name in statistics}
    columns = [name for name in COLUMNS if name in found]  # answers have no margins
    rows = [
        [arm, *(_show(name, statistics[name]) for name in columns)]
        for arm, statistics in made.items()
    ]
    if len({tuple(cells) for _, *cells in rows}) < 2:
        return []
    header = ["arm", *(COLUMNS[name][0] for name in columns)]
    return [Heading("Preference pairs", 3), Paragraph(MEANING), Table(header, rows)]


def _mean_statistics(result: ArmResult) -> dict[str, float]:
    pairs = [run.record["reference"]["pairs"] for run in result.runs]
    return {name: float(np.mean([seed[name] for seed in pairs])) for name in pairs[0]}


def _show(name: str, value: float) -> str:
    _, factor, decimals = COLUMNS[name]
    return f"{factor * value:.{decimals}f}"
