"""From an estimate to words: does a claim hold, and if that cannot be told, what would tell."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from experiments.study.statistics import ENOUGH_SEEDS, Difference, needed

Expectation = Literal["more", "same"]
Interval = tuple[float, float]  # of a's lead over b
ALPHA = 0.05


class Verdict(NamedTuple):
    """What is said of a claim."""

    word: Literal["holds", "does not hold", "cannot be told"]
    reason: str  # why, in plain English
    interval: Interval  # of a's lead, at the level that the claim is judged at
    alpha: float = ALPHA  # what that interval leaves out

    @property
    def sentence(self) -> str:
        """The word and why."""
        return f"{self.word}: {self.reason}"


def judge(
    difference: Difference,
    *,
    expects: Expectation,
    margin: float,
    floors: Mapping[str, float],
    unit: str,
    show: Callable[[float], str],
    alpha: float = ALPHA,
) -> Verdict:
    """Return whether arm a is better than b ("more"), or as good ("same"), by an interval.

    The interval is that of a's lead over b in the metric's good direction, and leaves out a share
    `alpha`. `margin` > 0 is the smallest difference that matters, in the metric's units. `floors`
    are those that need no learning and reach the better arm's score, name -> value, the best first;
    `unit` names the examples ("sonnets"); `show` writes scores and differences. The first rule that
    applies decides:

    - There is such a floor: cannot be told, whatever the interval.
    - An arm has fewer than three seeds: cannot be told, as its spread is not known well enough.
    - "more" holds if the interval lies above 0. It does not hold if the interval lies below the
      margin: a is worse, or its lead is too small to matter.
    - "same" holds if the interval lies within -margin and margin, and does not hold if it lies
      wholly outside.
    - Else it cannot be told.

    Where a lead is sure and too small to matter, "more" does not hold. Each word is wrong in at
    most a share `alpha` of studies. Raises ValueError for another expectation or no margin.
    """
    _check(expects, margin)
    interval = difference.lead.interval(1 - alpha)
    if obstacle := _floor_reached(floors, show) or _too_few_seeds(difference):
        return Verdict("cannot be told", obstacle, interval, alpha)
    decide = _decide_more if expects == "more" else _decide_same
    told = f"{100 * (1 - alpha):.3g} % interval {' to '.join(map(show, interval))}"
    word, reason = decide(difference, interval, margin, told, show)
    if word == "cannot be told":
        reason = f"{reason}; {_remedy(difference, margin, expects, unit, alpha)}"
    return Verdict(word, reason, interval, alpha)


def smallest_told(
    difference: Difference, interval: Interval, *, expects: Expectation, margin: float
) -> float:
    """Return the smallest lead that such a design finds in four studies of five.

    It is what lies half an interval, that of the verdict, and, for the power of 80 %, 0.84 standard
    errors above 0; above the margin where the claim is that the arms are the same.
    """
    low, high = interval
    beyond = margin if expects == "same" else 0.0
    return beyond + (high - low) / 2 + 0.84 * difference.estimate.error


def _check(expects: str, margin: float) -> None:
    if expects not in ("more", "same"):
        raise ValueError(f"a claim expects {expects!r}; expected 'more' or 'same'")
    if not margin > 0:
        raise ValueError(f"the margin is {margin}; expected a number above 0")


def _decide_more(
    difference: Difference,
    interval: Interval,
    margin: float,
    told: str,
    show: Callable[[float], str],
) -> tuple[str, str]:
    """Return the word and the reason of a claim that a is better."""
    low, high = interval
    lead = f"{_lead(difference, show)} ({told})"
    if high < 0:
        return "does not hold", lead
    if high < margin:
        below = f"lies below {show(margin)}, the smallest difference that matters"
        return "does not hold", f"the lead's {told} {below}"
    if low > 0:
        return "holds", lead
    return "cannot be told", f"the {told} holds both 0 and {show(margin)}"


def _decide_same(
    difference: Difference,
    interval: Interval,
    margin: float,
    told: str,
    show: Callable[[float], str],
) -> tuple[str, str]:
    """Return the word and the reason of a claim that no difference matters."""
    low, high = interval
    if -margin < low and high < margin:
        return "holds", f"the {told} lies within ± {show(margin)}"
    if low >= margin or high <= -margin:
        beyond = f"beyond the {show(margin)} that matters"
        return "does not hold", f"{_lead(difference, show)} ({told}), {beyond}"
    both = f"holds differences on both sides of {show(margin)}"
    return "cannot be told", f"the {told} {both}"


def _too_few_seeds(difference: Difference) -> str | None:
    """Return, in a sentence, that an arm's spread over seeds is not known."""
    if difference.enough_seeds:
        return None
    a, b = difference.seeds
    return (
        f"the arms have {a} and {b} seeds, which say too little of what another seed changes; "
        f"{ENOUGH_SEEDS} of each or more are needed"
    )


def _floor_reached(floors: Mapping[str, float], show: Callable[[float], str]) -> str | None:
    """Return the best floor, in a sentence, if there is one."""
    for name, value in floors.items():
        return f"on this metric the floor {name!r} ({show(value)}) reaches the better arm's score"
    return None


def _lead(difference: Difference, show: Callable[[float], str]) -> str:
    lead = difference.lead.value
    return f"{difference.words[lead <= 0]} by {show(abs(lead))}"


def _remedy(
    difference: Difference, margin: float, expects: Expectation, unit: str, alpha: float
) -> str:
    """Return what would make the interval narrow enough to decide, rounded up to two figures.

    One narrower than the margin cannot hold both 0 and the margin; to tell on which side of the
    margin a lead lies, it takes one that is narrower than their distance.
    """
    distance = abs(abs(difference.value) - margin)
    effect = margin / 2 if expects == "more" else max(distance, margin / 10)
    low, high = difference.estimate.interval(1 - alpha)
    more = needed(difference, min(effect, (high - low) / 2), alpha)
    ways = []
    if more.examples is not None:
        ways.append(f"{_two_figures(more.examples):,} {unit}")
    if more.seeds is not None:
        ways.append(f"{_two_figures(more.seeds):,} seeds of each arm")
    if not ways:
        return f"neither more {unit} nor more seeds alone would tell, both are needed"
    return f"about {' or '.join(ways)} would tell"


def _two_figures(number: int) -> int:
    step = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // step) * step
