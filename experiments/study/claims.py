"""The paper's claims, in a form that an interval can answer."""

from dataclasses import dataclass
from typing import Literal

from experiments.run.display import show

SECONDS = "seconds"  # of training per epoch; its units are the epochs
# Judged on the paper's own metric and on one that tells models apart.
PAPER_METRICS = {"sonnet": ("bits_per_char", "chrf"), "paraphrase": ("accuracy", "macro_f1")}
# The smallest difference that matters, a matter of taste that is better stated than hidden:
# a hundredth of a bit per character, half a point, a tenth of the other arm's time.
MARGINS = {"bits_per_char": 0.01, "chrf": 0.5, "accuracy": 0.005, "macro_f1": 0.005, SECONDS: 0.1}
UNITS = {"sonnet": "sonnets", "paraphrase": "question pairs"}


@dataclass(frozen=True)
class Claim:
    """What the paper says of two arms.

    `expects` "more": `a` is better than `b`; "same": no difference of `margin` or more, the
    smallest that matters, in the metric's recorded units ("seconds": as a share of b's).
    """

    text: str
    paper: str  # the paper's own figures, or what it says
    a: str
    b: str
    metric: str
    expects: Literal["more", "same"]
    margin: float


def show_value(metric: str, value: float) -> str:
    """A value in the units in which people read it."""
    return f"{value:.2f} s" if metric == SECONDS else show(metric, value)
