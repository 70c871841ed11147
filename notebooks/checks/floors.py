"""The checks of notebook 5."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from checks.verdict import check, expect, given
from experiments.run.bootstrap import bootstrap_interval
from experiments.study.statistics import Estimate, Part, paired_difference
from tasks.metric import Metric, ratio


@check
def check_bootstrap(yours: Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple]) -> str:
    """Compare a 95 % interval of a mean difference, by paired bootstrap, with the library's."""
    draw = np.random.default_rng(0)
    hard = draw.normal(2.0, 0.4, 40)  # what makes a unit hard for both
    a, b = hard + draw.normal(0.0, 0.05, 40), hard + draw.normal(0.03, 0.05, 40)
    metrics = [Metric(np.stack([side, np.ones(40)], axis=1), ratio) for side in (a, b)]
    low, high = bootstrap_interval(paired_difference(*metrics), np.random.default_rng(1))
    found = given(yours(a, b, np.random.default_rng(2)), "your function")
    width = (found[1] - found[0]) / (high - low)
    expect(
        width < 2,
        f"your interval is {width:.1f} times as wide as it should be "
        "(is a unit drawn for both sides at once?)",
    )
    expect(
        0.9 < width < 1.12,
        f"your interval is {width:.2f} times as wide as it should be "
        "(does it leave out 2.5 % of the draws on either side?)",
    )
    gap = max(abs(found[0] - low), abs(found[1] - high)) / (high - low)
    expect(
        gap < 0.15,
        f"your interval is {found[0]:.3f} to {found[1]:.3f}; expected {low:.3f} to {high:.3f}",
    )
    return "the library's interval, but for the luck of the draws"


@check
def check_undecided(yours: tuple[str, str], scores: Mapping[str, Sequence[float]]) -> str:
    """Check that the seeds of two arms can tell neither which is better nor that both are alike.

    `scores` are the arms' bits per character, one for each seed.
    """
    first, second = given(yours, "your pair")
    for arm in (first, second):
        expect(arm in scores, f"there is no arm {arm!r}; expected two of {', '.join(scores)}")
    low, high = welch_interval(scores[first], scores[second])
    told = f"{first} minus {second} is {low:.4f} to {high:.4f}"
    expect(low < 0 < high, f"{told}: without 0, so the seeds decide it")
    expect(max(-low, high) > 0.01, f"{told}: within 0.01 on both sides, so the two are alike")
    return f"{told}: it holds 0 as well as differences that would matter"


def welch_interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of mean(a) - mean(b); each side keeps its own variance (Welch)."""
    seeds = tuple(Part(np.var(side, ddof=1) / len(side), len(side) - 1) for side in (a, b))
    units = Part(0.0, 1)  # the seeds tell nothing of other sonnets
    return Estimate(float(np.mean(a) - np.mean(b)), units, seeds).interval()
