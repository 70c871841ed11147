"""From an interval to words: does a claim hold, and if that cannot be told, what would tell."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from experiments.study.statistics import Difference, needed

Expectation = Literal["more", "same"]


class Verdict(NamedTuple):
    word: Literal["holds", "does not hold", "cannot be told"]
    sentence: str  # why, in plain English, beginning with the word


def judge(
    difference: Difference,
    *,
    expects: Expectation,
    margin: float,
    floors: Mapping[str, float],
    unit: str,
    show: Callable[[float], str],
) -> Verdict:
    """Return whether arm a is better than b ("more"), or as good ("same"), by the 95 % interval.

    `margin` > 0 is the smallest difference that matters, in the metric's units. `floors` are what
    no learning scores on this metric, name -> value; `unit` names the examples ("sonnets"); `show`
    writes scores and differences. Below, the interval is that of a's lead over b in the metric's
    good direction. The first rule that applies decides:

    - A floor reaches the better arm's score: cannot be told, whatever the interval.
    - No arm has two seeds: cannot be told, since the interval leaves the seeds out.
    - "more" does not hold if the interval lies below the margin: a is worse, or its lead is too
      small to matter, even where it is sure. It holds if the interval lies above 0.
    - "same" holds if the interval lies within -margin and margin. It does not hold if the interval
      excludes 0 and the lead itself reaches -margin or margin.
    - Else it cannot be told.

    "more" and "same" thus never hold both. Raises ValueError for another expectation and for a
    margin that is not above 0.
    """
    if expects not in ("more", "same"):
        raise ValueError(f"a claim expects {expects!r}; expected 'more' or 'same'")
    if not margin > 0:
        raise ValueError(f"the margin is {margin}; expected a number above 0")
    obstacle = _floor_reached(difference, floors, show)
    if not obstacle and not difference.seeds_known:
        obstacle = (
            "every arm has one seed, so what another seed changes is not known; "
            "two seeds or more are needed"
        )
    if obstacle:
        return _verdict("cannot be told", obstacle)
    rule = _judge_more if expects == "more" else _judge_same
    return rule(difference, margin, unit, show)


def _judge_more(
    difference: Difference, margin: float, unit: str, show: Callable[[float], str]
) -> Verdict:
    low, high = _lead_interval(difference)
    interval = f"{show(low)} to {show(high)}"
    if high < 0:
        return _verdict("does not hold", f"{_lead(difference, show)}, interval {interval}")
    if high < margin:
        return _verdict(
            "does not hold",
            f"the lead's interval, {interval}, lies below {show(margin)}, "
            "the smallest difference that matters",
        )
    if low > 0:
        return _verdict("holds", f"{_lead(difference, show)}, interval {interval}")
    # An interval narrower than the margin cannot hold both 0 and the margin.
    remedy = _remedy(difference, margin / 2, unit)
    return _verdict(
        "cannot be told", f"the interval, {interval}, holds both 0 and {show(margin)}; {remedy}"
    )


def _judge_same(
    difference: Difference, margin: float, unit: str, show: Callable[[float], str]
) -> Verdict:
    low, high = _lead_interval(difference)
    interval = f"{show(low)} to {show(high)}"
    size = abs(difference.value)
    if -margin < low and high < margin:
        return _verdict("holds", f"the interval, {interval}, lies within ± {show(margin)}")
    if size >= margin and not low <= 0 <= high:
        return _verdict(
            "does not hold",
            f"{_lead(difference, show)}, interval {interval}, where {show(margin)} matters",
        )
    # As for "more"; an estimate just below the margin takes more, to set it apart from the margin.
    effect = margin / 2 if size >= margin else min(margin / 2, margin - size)
    return _verdict(
        "cannot be told",
        f"the interval, {interval}, holds differences both smaller and larger than "
        f"{show(margin)}; {_remedy(difference, effect, unit)}",
    )


def _verdict(word: str, reason: str) -> Verdict:
    return Verdict(word, f"{word}: {reason}")


def _floor_reached(
    difference: Difference, floors: Mapping[str, float], show: Callable[[float], str]
) -> str | None:
    """Return the highest floor, in a sentence, if it reaches the better arm's score."""
    if not floors:
        return None
    best = max if difference.larger_is_better else min
    name = best(floors, key=floors.__getitem__)
    score = best(difference.scores)
    if best(floors[name], score) != floors[name]:
        return None
    return (
        f"on this metric the floor {name!r} ({show(floors[name])}) reaches "
        f"the better arm's score ({show(score)})"
    )


def _lead_interval(difference: Difference) -> tuple[float, float]:
    """Return the interval of a's lead: turned round where smaller is better."""
    if difference.larger_is_better:
        return difference.low, difference.high
    return -difference.high, -difference.low


def _lead(difference: Difference, show: Callable[[float], str]) -> str:
    better = (difference.value > 0) == difference.larger_is_better
    return f"{'better' if better else 'worse'} by {show(abs(difference.value))}"


def _remedy(difference: Difference, effect: float, unit: str) -> str:
    """Return what would bring the half-width below `effect`, rounded up to two figures."""
    more = needed(difference, min(effect, (difference.high - difference.low) / 2))
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
