"""Verdicts: every rule, in words, and no difference claimed between arms of equal worth."""

import math
from dataclasses import replace

import numpy as np
import pytest

from experiments.study.statistics import Difference, Estimate, Part, compare, needed
from experiments.study.student import t_quantile
from experiments.study.verdict import Verdict, judge, smallest_told
from tasks.metric import Metric, ratio


def difference(low: float, high: float, **changes) -> Difference:
    """A difference in the middle of its interval, over twelve sonnets and three seeds."""
    value = (low + high) / 2
    error = (high - low) / 2 / t_quantile(11)
    made = Difference(
        scores=(50 + value, 50.0),
        estimate=Estimate(value, Part(error**2, 11), (Part(0.0, 2), Part(0.0, 2))),
        units=12,
        seeds=(3, 3),
        larger_is_better=True,
    )
    return replace(made, **changes)


def judged(made: Difference, expects: str, *, margin=0.5, floors=(), alpha=0.05) -> Verdict:
    return judge(
        made,
        alpha=alpha,
        expects=expects,
        margin=margin,
        floors=dict(floors),
        unit="sonnets",
        show=lambda value: f"{value:.1f}",
    )


@pytest.mark.parametrize(
    ("low", "high", "more", "same"),
    [
        (0.6, 1.4, "holds", "does not hold"),
        (0.2, 1.2, "holds", "cannot be told"),  # sure, and 0.7 matters, but 0.3 would not
        (0.2, 0.6, "holds", "cannot be told"),  # sure, but 0.4 may or may not matter
        (0.1, 0.3, "does not hold", "holds"),  # sure, and too small to matter
        (-0.2, 0.3, "does not hold", "holds"),
        (-0.2, 0.8, "cannot be told", "cannot be told"),
        (-0.8, 0.2, "does not hold", "cannot be told"),
        (-0.3, -0.1, "does not hold", "holds"),
        (-1.4, -0.2, "does not hold", "cannot be told"),
        (-1.4, -0.6, "does not hold", "does not hold"),
        (-2.0, 4.0, "cannot be told", "cannot be told"),  # the estimate matters, but is not sure
    ],
)
def test_the_rules_in_both_directions(low: float, high: float, more: str, same: str):
    upwards = difference(low, high)
    downwards = difference(-high, -low, larger_is_better=False)
    for made in (upwards, downwards):
        assert judged(made, "more").word == more
        assert judged(made, "same").word == same
    for expects in ("more", "same"):
        assert judged(upwards, expects) == judged(downwards, expects)


def test_the_sentences_say_why():
    assert judged(difference(0.6, 1.4), "more").sentence == (
        "holds: better by 1.0 (95 % interval 0.6 to 1.4)"
    )
    assert judged(difference(-1.4, -0.2), "more").sentence == (
        "does not hold: worse by 0.8 (95 % interval -1.4 to -0.2)"
    )
    assert judged(difference(0.1, 0.3), "more").sentence == (
        "does not hold: the lead's 95 % interval 0.1 to 0.3 lies below 0.5, "
        "the smallest difference that matters"
    )
    assert judged(difference(-0.2, 0.3), "same").sentence == (
        "holds: the 95 % interval -0.2 to 0.3 lies within ± 0.5"
    )
    assert judged(difference(-1.4, -0.6), "same").sentence == (
        "does not hold: worse by 1.0 (95 % interval -1.4 to -0.6), beyond the 0.5 that matters"
    )


def test_what_would_tell_is_said():
    undecided = difference(-0.2, 0.8)
    enough = needed(undecided, 0.25)
    assert 36 < enough.examples < 45 and enough.seeds is None  # as the seeds have no spread
    assert judged(undecided, "more").sentence == (
        "cannot be told: the 95 % interval -0.2 to 0.8 holds both 0 and 0.5; "
        f"about {enough.examples} sonnets would tell"
    )
    primary = judged(undecided, "more", alpha=0.01)  # whose interval is wider: more would tell
    assert f"about {needed(undecided, 0.25, 0.01).examples} sonnets" in primary.sentence
    assert primary.sentence.startswith("cannot be told: the 99 % interval -0.4 to 1.0 holds both")
    large = replace(undecided, units=20_212)
    assert 63_000 < needed(large, 0.25).examples < 66_000
    assert judged(large, "more").sentence.endswith("000 sonnets would tell")
    seeds = Estimate(0.3, Part(0.0, 11), (Part(0.02, 2), Part(0.02, 2)))
    assert (
        "seeds of each arm would tell"
        in judged(replace(undecided, estimate=seeds), "same").sentence
    )
    both = Estimate(0.3, Part(0.09, 11), (Part(0.09, 2), Part(0.09, 2)))
    assert judged(replace(undecided, estimate=both), "same").sentence.endswith(
        "neither more sonnets nor more seeds alone would tell, both are needed"
    )


def test_a_floor_that_reaches_the_better_arm_forbids_every_verdict():
    sure = difference(1.0, 3.0)  # 52 against 50
    floors = {"random lines": 52.5, "random continuation": 52.0}
    for expects in ("more", "same"):
        verdict = judged(sure, expects, floors=floors)
        assert verdict.word == "cannot be told"
        assert verdict.sentence == (
            "cannot be told: on this metric the floor 'random lines' (52.5) reaches "
            "the better arm's score"
        )
    assert judged(sure, "more", floors={}).word == "holds"


def test_with_fewer_than_three_seeds_nothing_is_told():
    for seeds in ((1, 1), (2, 3), (3, 2)):
        for low, high in [(0.6, 1.4), (-0.2, 0.3), (-2.0, 4.0), (-1.4, -0.2)]:
            for expects in ("more", "same"):
                verdict = judged(difference(low, high, seeds=seeds), expects)
                assert verdict.word == "cannot be told"
                assert verdict.sentence.endswith("3 of each or more are needed")


@pytest.mark.parametrize("expects, margin", [("more", 0.5), ("same", 0.5)])
def test_the_smallest_lead_that_a_design_tells_is_found_four_times_of_five(expects, margin):
    """Told from 0, or, where the arms are said to be the same, from the margin."""
    made, found = difference(-1.0, 1.0), 0
    smallest = smallest_told(made, made.lead.interval(), expects=expects, margin=margin)
    bound = margin if expects == "same" else 0.0
    for trial in range(2000):
        draw = np.random.default_rng([23, trial])
        error = made.estimate.error
        lead = draw.normal(smallest, error)
        found += lead - bound > t_quantile(11) * error * math.sqrt(draw.chisquare(11) / 11)
    assert 0.76 < found / 2000 < 0.84


def test_a_claim_is_more_or_same_by_a_margin_above_0():
    with pytest.raises(ValueError, match="expects 'less'; expected 'more' or 'same'"):
        judged(difference(0.0, 1.0), "less")
    for margin in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected a number above 0"):
            judged(difference(0.0, 1.0), "more", margin=margin)


@pytest.mark.slow
def test_arms_that_differ_in_nothing_but_the_seed_are_not_called_different():
    """200 pairs of arms: accuracy on 2,000 examples, three seeds, any difference matters.

    The seed moves the score by two points and single answers besides; the examples by one.
    """
    claims = 0
    for pair in range(200):
        draw = np.random.default_rng([19, pair])
        ease = draw.normal(0.5, 1.0, size=2000)
        seeds = []
        for _ in range(6):
            right = ease + draw.normal(draw.normal(0.0, 0.07), 0.3, size=2000) > 0
            seeds.append(Metric(np.stack([right, np.ones(2000)], axis=1).astype(np.uint8), ratio))
        a, b = seeds[:3], seeds[3:]
        made = compare(a, b)
        better = judged(made, "more", margin=1e-9).word == "holds"
        different = judged(made, "same", margin=1e-9).word == "does not hold"
        assert different or not better
        claims += different
    assert claims <= 0.075 * 200
    assert claims > 0  # 5 % are expected: an interval that never errs is too wide
