"""Errors over units and seeds: known answers, and intervals that cover what they should."""

import math

import numpy as np
import pytest

from experiments import coverage
from experiments.run.bootstrap import bootstrap_interval
from experiments.study.statistics import (
    Needed,
    arm_estimate,
    compare,
    compare_by_seed,
    needed,
    paired_difference,
)
from experiments.study.student import t_quantile, t_tail
from tasks.metric import Evaluation, Metric, ratio


def mean_metric(values: np.ndarray) -> Metric:
    return Metric(np.stack([values, np.ones(len(values))], axis=1), ratio)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(5.0, 2.0, size=2000)
    low, high = bootstrap_interval(mean_metric(values), np.random.default_rng(1))
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.15 * error)


def test_units_without_spread_give_a_point():
    assert bootstrap_interval(mean_metric(np.full(7, 3.0)), np.random.default_rng(0)) == (3.0, 3.0)


def test_a_ratio_of_sums_is_not_a_mean_of_ratios():
    """Bits 10 of 10 characters and 0 of 90: 0.1 bits per character, not 0.5."""
    metric = Metric(np.array([[10.0, 10.0], [0.0, 90.0]]), ratio)
    assert metric.value == pytest.approx(0.1)
    assert bootstrap_interval(metric, np.random.default_rng(0)) == (0.0, 1.0)


def test_95_percent_intervals_cover_the_truth_about_95_percent_of_the_time():
    """400 samples of 100 values: with a coverage of 95 % the count has a deviation of 4.4."""
    covered = 0
    for seed in range(400):
        values = np.random.default_rng([7, seed]).exponential(1.0, size=100)
        low, high = bootstrap_interval(mean_metric(values), np.random.default_rng(seed))
        covered += low <= 1.0 <= high
    assert 0.90 * 400 <= covered <= 0.98 * 400


def test_the_same_generator_gives_the_same_interval():
    metric = mean_metric(np.arange(20.0))
    one, again, other = (bootstrap_interval(metric, np.random.default_rng(s)) for s in (0, 0, 1))
    assert one == again != other


def test_a_paired_difference_cancels_what_both_sides_share():
    """Units spread by 10, a shift of 0.5 with a spread of 0.1: sure in pairs, not otherwise."""
    draw = np.random.default_rng(3)
    hard = draw.normal(0.0, 10.0, size=50)
    baseline = mean_metric(hard)
    better = mean_metric(hard + draw.normal(0.5, 0.1, size=50))
    difference = paired_difference(better, baseline)
    low, high = bootstrap_interval(difference, np.random.default_rng(0))
    assert difference.value == pytest.approx(better.value - baseline.value)
    assert 0.45 < low < difference.value < high < 0.55
    assert bootstrap_interval(baseline, np.random.default_rng(0))[1] > better.value


def two_levels(
    draw: np.random.Generator, *, units: int, seeds: tuple[int, ...], seed_sd: float, shift=0.0
) -> list[list[Metric]]:
    """Arms on the same units: an effect of the unit, of the unit in the arm (sd 1), of the seed.

    The first arm is better by `shift`.
    """
    hard = draw.normal(0.0, 2.0, size=units)
    arms = []
    for S in seeds:
        values = hard + draw.normal(0.0 if arms else shift, 1.0, size=units)
        arms.append([mean_metric(values + draw.normal(0.0, seed_sd)) for _ in range(S)])
    return arms


def test_quantiles_and_tails_of_student_are_those_of_the_tables():
    table = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 11: 2.2010, 30: 2.0423, 10**9: 1.96}
    for degrees, quantile in table.items():
        assert t_quantile(degrees) == pytest.approx(quantile, rel=5e-4)
        assert t_tail(t_quantile(degrees), degrees) == pytest.approx(0.025)
    for t, degrees, tail in [(1.0, 1, 0.25), (5.0, 4, 0.003745), (-1.0, 1, 0.75), (0.0, 7, 0.5)]:
        assert t_tail(t, degrees) == pytest.approx(tail, rel=1e-3)


def test_one_seed_on_many_units_is_the_paired_t_test():
    draw = np.random.default_rng(0)
    x, y = draw.normal(1.0, 2.0, size=40), draw.normal(size=40)
    difference = compare([mean_metric(x)], [mean_metric(y)])
    error = (x - y).std(ddof=1) / math.sqrt(40)
    assert difference.value == pytest.approx((x - y).mean())
    assert difference.estimate.error == pytest.approx(error)
    low, high = difference.estimate.interval()
    assert (high - low) / 2 == pytest.approx(2.0227 * error, rel=1e-4)  # 39 degrees
    t = (x - y).mean() / error
    assert difference.p == pytest.approx(2 * t_tail(t, 39))
    assert not difference.enough_seeds


def test_seeds_on_units_without_noise_are_welchs_t_test():
    """Welch's example with unequal spreads: the degrees are his, not those of a pooled spread."""
    a, b = ([mean_metric(np.full(50, v)) for v in values] for values in ([1.0, 2, 3], [4.0, 6, 14]))
    difference = compare(a, b)
    v, w = 1 / 3, np.var([4, 6, 14], ddof=1) / 3
    assert difference.value == pytest.approx(-6)
    assert difference.estimate.error == pytest.approx(math.sqrt(v + w))
    assert difference.estimate.degrees == pytest.approx((v + w) ** 2 / (v**2 / 2 + w**2 / 2))
    assert difference.seeds == (3, 3) and difference.enough_seeds


def test_the_variance_has_both_levels_and_counts_no_seeds_noise_twice():
    """Many seeds: var(unit effects) / n + (sd^2 + own noise / n) (1 / S_a + 1 / S_b)."""
    draw, n, S = np.random.default_rng(0), 400, 60
    unit = draw.normal(0.0, 1.5, size=n)
    a, b = (
        [mean_metric(shift + draw.normal(0, sd) + draw.normal(0, 2.0, size=n)) for _ in range(S)]
        for shift, sd in ((unit, 0.3), (0.0, 0.1))
    )
    difference = compare(a, b)
    truth = 1.5**2 / n + (0.3**2 + 4 / n + 0.1**2 + 4 / n) / S
    assert difference.estimate.error**2 == pytest.approx(truth, rel=0.15)
    assert difference.estimate.units.variance == pytest.approx(1.5**2 / n, rel=0.15)


def test_what_a_seed_does_to_both_arms_cancels_where_seeds_belong_together():
    draw = np.random.default_rng(0)
    before = [draw.normal(0, 5.0) + draw.normal(size=30) for _ in range(3)]
    a = [mean_metric(values + 0.5 + draw.normal(0, 0.01, size=30)) for values in before]
    b = [mean_metric(values) for values in before]
    paired, apart = compare_by_seed(a, b), compare(a, b)
    assert paired.value == pytest.approx(apart.value) and paired.scores == apart.scores
    assert paired.lead.interval()[0] > 0.45 and apart.lead.interval()[0] < 0
    with pytest.raises(ValueError, match="got 3 and 2 seeds"):
        compare_by_seed(a, b[:2])


def test_a_lead_is_in_the_good_direction_of_its_metric():
    bits = [
        Metric(np.stack([values, np.ones(20)], 1), ratio, larger_is_better=False)
        for values in (np.random.default_rng(0).normal(1.0, 0.1, 20), np.full(20, 2.0))
    ]
    difference = compare(bits[:1], bits[1:])
    assert difference.value < 0 < difference.lead.interval()[0]
    assert difference.lead.value == -difference.value


def test_without_a_spread_an_estimate_is_sure():
    same = [mean_metric(np.full(5, 1.0))] * 3
    assert compare(same, same).p == 1.0
    other = [mean_metric(np.full(5, 2.0))] * 3
    assert compare(other, same).p == 0.0 and compare(other, same).lead.interval() == (1.0, 1.0)


def test_seeds_are_averaged_after_the_score_not_before():
    """A ratio of sums of each seed, 1 / 2 and 9 / 10; the ratio of all sums would be 10 / 12."""
    a = [Metric(np.array(addends), ratio) for addends in ([[1, 1], [0, 1]], [[9, 9], [0, 1]])]
    assert arm_estimate(a).value == pytest.approx(0.7)
    assert compare(a, a[:1]).value == pytest.approx(0.2)


def test_the_storage_of_the_addends_does_not_matter():
    right = np.random.default_rng(0).integers(0, 2, size=(400, 2))
    intervals = [
        compare(
            *([Metric(np.stack([r, np.ones(400)], axis=1).astype(dtype), ratio)] for r in right.T)
        ).lead.interval()
        for dtype in (np.uint8, np.float32, np.int64, np.float64)
    ]
    assert intervals[0] == intervals[1] == intervals[2] == intervals[3]


def test_arms_must_have_seeds_and_share_their_units():
    metric, other = mean_metric(np.arange(5.0)), mean_metric(np.arange(6.0))
    with pytest.raises(ValueError, match=r"\[\[5\], \[\]\] units; expected at least one seed"):
        compare([metric], [])
    with pytest.raises(ValueError, match=r"\[\[5, 5\], \[6\]\] units.* the same units"):
        compare([metric, metric], [other])
    with pytest.raises(ValueError, match="two or more"):
        arm_estimate([mean_metric(np.ones(1))])


def test_a_few_simulated_studies_are_covered_and_told(capsys):
    (cell, *others) = coverage.run(coverage.CoverageConfig(trials=12, n_seeds=(3,), n_units=(12,)))
    assert len(others) == 7 and 0.6 <= cell.covered <= 1.0 and cell.holds <= 0.3
    shown = capsys.readouterr().out
    assert "tenfold" in shown and "covered (95 %)" in shown
    config = coverage.CoverageConfig(trials=12, n_seeds=(3,), n_units=(12,), claims=10)
    (wider, *_) = coverage.run(config)  # on the same draws
    assert wider.covered >= cell.covered and "covered (99.5 %)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("S", [3, 5])
def test_intervals_cover_the_truth_whatever_the_arms_spreads(S):
    """400 studies in each of 16 cells, to ± 2.2 points each: all of them together to ± 0.6."""
    config = coverage.CoverageConfig(trials=400, n_seeds=(S,), n_units=(12, 150))
    cells = coverage.run(config)
    assert 0.94 <= np.mean([cell.covered for cell in cells]) <= 0.97
    assert all(0.91 <= cell.covered <= 0.985 for cell in cells)
    assert all(cell.holds <= 0.05 and cell.does_not_hold <= 0.05 for cell in cells)


def half_width(units: int, S: int) -> float:
    """The mean half-width of many such differences: unit effects of sd root 2, seeds of sd 0.2."""
    widths = []
    for simulation in range(40):
        draw = np.random.default_rng([13, simulation])
        a, b = two_levels(draw, units=units, seeds=(S, S), seed_sd=0.2)
        low, high = compare(a, b).lead.interval()
        widths.append((high - low) / 2)
    return float(np.mean(widths))


def test_as_many_examples_or_seeds_as_needed_are_enough_and_no_more():
    draw = np.random.default_rng(5)
    values = draw.normal(size=40)
    values *= math.sqrt(2) / values.std(ddof=1)
    moves = np.array([-1, 0, 1]) * 0.2  # their spread is 0.2, to the digit
    a, b = ([mean_metric(v + move) for move in moves] for v in (values, np.zeros(40)))
    enough = needed(compare(a, b), 0.52)
    assert enough.examples > 50 and enough.seeds > 4
    assert 0.85 * 0.52 < half_width(enough.examples, 3) < 0.52 * 1.1
    assert 0.85 * 0.52 < half_width(40, enough.seeds) < 0.52 * 1.1


def test_no_number_is_given_where_none_would_do():
    values = np.random.default_rng(0).normal(size=20)
    moves = np.array([-1, 0, 1]) * 1.0
    a, b = ([mean_metric(v + move) for move in moves] for v in (values, np.zeros(20)))
    difference = compare(a, b)
    assert needed(difference, 0.01) == Needed(None, None)
    assert needed(difference, 100.0) == Needed(20, 3)
    alone = compare(a[:1], b[:1])
    enough = needed(alone, 0.1)
    # Large numbers leave the t: n = (1.96 sd / 0.1)^2.
    assert enough.examples == pytest.approx((1.96 * values.std(ddof=1) / 0.1) ** 2, rel=0.03)
    assert enough.seeds is None


@pytest.mark.slow
def test_a_true_difference_of_3_points_on_20000_examples_is_found():
    found = 0
    for simulation in range(20):
        draw = np.random.default_rng([17, simulation])
        ease = draw.normal(1.2, 1.0, size=20_000)
        difference = compare(right_answers(draw, ease, 0.16), right_answers(draw, ease, 0.0))
        assert difference.value == pytest.approx(0.03, abs=0.015)
        found += difference.lead.interval()[0] > 0
    assert found >= 17


def right_answers(draw: np.random.Generator, ease: np.ndarray, shift: float) -> list[Metric]:
    """Accuracy of three seeds, which move the score by half a point and many single answers."""
    seeds = []
    for _ in range(3):
        right = ease + draw.normal(shift + draw.normal(0.0, 0.025), 1.0, size=len(ease)) > 0
        seeds.append(Metric(np.stack([right, np.ones(len(ease))], 1).astype(np.uint8), ratio))
    return seeds


def test_groups_of_one_unit_change_nothing_and_sums_over_groups_no_score():
    generator = np.random.default_rng(0)
    metrics = {n: mean_metric(generator.normal(size=n)) for n in (30, 9)}  # of all, of the first
    evaluation = Evaluation(metrics)
    assert evaluation.grouped(None) is metrics
    for n, metric in evaluation.grouped(np.arange(30)).items():
        assert (metric.statistics == metrics[n].statistics).all()
    groups = generator.integers(5, size=30)
    for n, metric in evaluation.grouped(groups).items():
        assert len(metric.statistics) == len(set(groups[:n].tolist()))
        assert metric.value == pytest.approx(metrics[n].value)
