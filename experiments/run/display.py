"""How metrics are shown to people: in tables, in figures, on the screen."""

from collections.abc import Sequence
from typing import NamedTuple


class Display(NamedTuple):
    short: str  # heading of a column
    long: str  # title of a panel
    factor: int  # from the recorded value to the shown one
    decimals: int

    @property
    def is_share(self) -> bool:
        """Whether recorded values lie between 0 and 1, and are shown in per cent."""
        return self.factor == 100


METRICS = {
    "bits_per_char": Display("bits/char", "held-out bits per character (lower is better)", 1, 3),
    "chrf": Display("chrF", "chrF, whole sonnet", 1, 2),
    "chrf_generated": Display("chrF generated", "chrF, generated lines alone", 1, 2),
    "chrf_mbr": Display("chrF MBR", "chrF of the minimum-Bayes-risk sample, whole sonnet", 1, 2),
    "preference_accuracy": Display(
        "preferred %", "gold preferred to it with two lines swapped, %", 100, 1
    ),
    "copy_rate": Display(
        "copied %", "word 5-grams from training sonnets, % (lower is better)", 100, 1
    ),
    "longest_copy": Display("longest copy", "longest copied run, words (lower is better)", 1, 1),
    "lines": Display("14 lines %", "samples with all fourteen lines, %", 100, 1),
    "rhyme": Display("rhymes %", "pairs of lines that rhyme, %", 100, 1),
    "syllables": Display("syllables %", "lines of 9 to 11 syllables, %", 100, 1),
    "accuracy": Display("accuracy %", "accuracy, %", 100, 2),
    "macro_f1": Display("macro F1 %", "macro F1, %", 100, 2),
    "answer_nll": Display("nats/answer", "nats of the right answer (lower is better)", 1, 3),
    "calibration_error": Display(
        "ECE %", "expected calibration error, % (lower is better)", 100, 2
    ),
}


def show(name: str, value: float) -> str:
    """A value of the metric `name`, in the units in which people read it."""
    metric = METRICS[name]
    return f"{metric.factor * value:.{metric.decimals}f}"


def show_floor(name: str, scores: dict[str, float]) -> str:
    """A floor's score, with its standard deviation over draws where it was drawn."""
    spread = f" ± {show(name, scores[f'{name}_sd'])}" if f"{name}_sd" in scores else ""
    return show(name, scores[name]) + spread


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table as lines, its columns padded to their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    ]


def show_with_interval(name: str, score: dict) -> str:
    """A recorded score as "value [low, high]"."""
    low, high = (show(name, bound) for bound in score["interval"])
    return f"{show(name, score['value'])} [{low}, {high}]"
