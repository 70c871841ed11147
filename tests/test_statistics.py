"""The bootstrap: known answers, and intervals that cover what they should."""

import numpy as np
import pytest

from experiments.statistics import bootstrap_interval, paired_difference
from tasks.base import Metric, ratio


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
