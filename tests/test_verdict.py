"""Verdicts: every rule, in words, and no difference claimed between arms of equal worth."""

import math
from dataclasses import replace

import numpy as np
import pytest

from experiments.study.statistics import Difference, SeedNoise, compare, needed, pooled_seed_noise
from experiments.study.verdict import Verdict, judge
from tasks.base import Metric, ratio


def difference(low: float, high: float, **changes) -> Difference:
    """A difference in the middle of its interval, over twelve sonnets and three seeds."""
    value, error = (low + high) / 2, (high - low) / 2 / 3
    made = Difference(
        scores=(50 + value, 50.0),
        low=low,
        high=high,
        p=0.5,
        units=12,
        seeds=(3, 3),
        units_error=error,
        noise=SeedNoise(error, 10),
        larger_is_better=True,
    )
    return replace(made, **changes)


def judged(made: Difference, expects: str, *, margin=0.5, floors=()) -> Verdict:
    return judge(
        made,
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
        (0.2, 1.2, "holds", "does not hold"),  # sure, and the estimate of 0.7 matters
        (0.2, 0.6, "holds", "cannot be told"),  # sure, but 0.4 may or may not matter
        (0.1, 0.3, "does not hold", "holds"),  # sure, and too small to matter
        (-0.2, 0.3, "does not hold", "holds"),
        (-0.2, 0.8, "cannot be told", "cannot be told"),
        (-0.8, 0.2, "does not hold", "cannot be told"),
        (-0.3, -0.1, "does not hold", "holds"),
        (-1.4, -0.2, "does not hold", "does not hold"),
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
        "holds: better by 1.0, interval 0.6 to 1.4"
    )
    assert judged(difference(-1.4, -0.2), "more").sentence == (
        "does not hold: worse by 0.8, interval -1.4 to -0.2"
    )
    assert judged(difference(0.1, 0.3), "more").sentence == (
        "does not hold: the lead's interval, 0.1 to 0.3, lies below 0.5, "
        "the smallest difference that matters"
    )
    assert judged(difference(-0.2, 0.3), "same").sentence == (
        "holds: the interval, -0.2 to 0.3, lies within ± 0.5"
    )
    assert judged(difference(-1.4, -0.2), "same").sentence == (
        "does not hold: worse by 0.8, interval -1.4 to -0.2, where 0.5 matters"
    )


def test_the_numbers_are_those_that_make_the_interval_narrower_than_the_margin():
    undecided = difference(-0.2, 0.8, units_error=0.2, noise=SeedNoise(0.2, 40))
    enough = needed(undecided, 0.25)
    assert (enough.examples, enough.seeds) == (None, None)
    assert judged(undecided, "more").sentence == (
        "cannot be told: the interval, -0.2 to 0.8, holds both 0 and 0.5; "
        "neither more sonnets nor more seeds alone would tell, both are needed"
    )
    examples = replace(undecided, noise=SeedNoise(0.05, 40))
    # 2.03 * 0.2 * root(12 / 36) is 0.234, and 2.02 * 0.05 * root(2 / 3) is 0.083: together 0.249.
    assert needed(examples, 0.25) == (36, None)
    assert judged(examples, "more").sentence.endswith("0.5; about 36 sonnets would tell")
    seeds = replace(undecided, units_error=0.05)
    assert needed(seeds, 0.25).examples is None
    assert judged(seeds, "same").sentence == (
        "cannot be told: the interval, -0.2 to 0.8, holds differences both smaller and larger "
        f"than 0.5; about {needed(seeds, 0.2).seeds} seeds of each arm would tell"
    )
    either = replace(undecided, units_error=0.1, noise=SeedNoise(0.1, 40))
    enough = needed(either, 0.25)
    assert judged(either, "more").sentence.endswith(
        f"about {enough.examples} sonnets or {enough.seeds} seeds of each arm would tell"
    )


def test_numbers_are_rounded_up_to_two_figures():
    undecided = difference(-0.2, 0.8, units=20_212, units_error=0.25, noise=SeedNoise(0.0, 4))
    assert 77_000 < needed(undecided, 0.25).examples < 78_000
    assert judged(undecided, "more").sentence.endswith("about 78,000 sonnets would tell")


def test_what_is_asked_for_is_more_than_what_there_is():
    """Even where the parts' errors, by luck of the resamples, promise a narrower interval."""
    lucky = difference(-0.1, 0.6, units_error=0.01, noise=SeedNoise(0.01, 4))
    assert "about 13 sonnets or 4 seeds of each arm would tell" in judged(lucky, "same").sentence


def test_a_floor_that_reaches_the_better_arm_forbids_every_verdict():
    sure = difference(1.0, 3.0)  # 52 against 50
    floors = {"one line": 24.8, "random lines": 52.0, "random continuation": 51.5}
    for expects in ("more", "same"):
        verdict = judged(sure, expects, floors=floors)
        assert verdict.word == "cannot be told"
        assert verdict.sentence == (
            "cannot be told: on this metric the floor 'random lines' (52.0) reaches "
            "the better arm's score (52.0)"
        )
    assert judged(sure, "more", floors={"random lines": 51.9}).word == "holds"


def test_floors_lie_above_where_smaller_is_better():
    sure = difference(-3.0, -1.0, larger_is_better=False)  # 48 against 50
    assert judged(sure, "more", floors={"untuned": 48.1}).word == "holds"
    verdict = judged(sure, "more", floors={"untuned": 47.9, "uniform": 60.0})
    assert verdict.word == "cannot be told" and "'untuned' (47.9)" in verdict.sentence


def test_with_one_seed_everywhere_nothing_is_told():
    unknown = SeedNoise(math.nan, 0)
    for low, high in [(0.6, 1.4), (-0.2, 0.3), (-2.0, 4.0), (-1.4, -0.2)]:
        for expects in ("more", "same"):
            verdict = judged(difference(low, high, noise=unknown, seeds=(1, 1)), expects)
            assert verdict.word == "cannot be told"
            assert verdict.sentence.endswith("two seeds or more are needed")


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
        noise = pooled_seed_noise([a, b])
        made = compare(a, b, noise, draw)
        better = judged(made, "more", margin=1e-9).word == "holds"
        different = judged(made, "same", margin=1e-9).word == "does not hold"
        assert different or not better
        claims += different
    assert claims <= 0.075 * 200
    assert claims > 0  # 5 % are expected: an interval that never errs is too wide
