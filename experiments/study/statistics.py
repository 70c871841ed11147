"""How sure a score is, and how sure the difference of two arms: examples and seeds both count."""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.run.bootstrap import RESAMPLES, middle, resampled_scores
from tasks.base import Metric


class SeedNoise(NamedTuple):
    """How far another seed moves the score of an arm."""

    sd: float  # in the metric's units; nan where nothing is known
    degrees_of_freedom: int  # 0 where no arm ran with two seeds

    def error(self, seeds: Sequence[int]) -> float:
        """Return the standard error of a mean over S seeds, or of the difference of two such."""
        return self.sd * math.sqrt(sum(1 / S for S in seeds))


@dataclass(frozen=True)
class Difference:
    """The score of arm a minus that of arm b, each the mean over the arm's seeds."""

    scores: tuple[float, float]
    low: float  # the 95 % interval of the difference
    high: float
    p: float  # two-sided: the share of replicates on the rarer side of 0, doubled
    units: int
    seeds: tuple[int, int]
    units_error: float  # the standard error that the choice of units makes
    noise: SeedNoise
    larger_is_better: bool

    @property
    def value(self) -> float:
        return self.scores[0] - self.scores[1]

    @property
    def seeds_known(self) -> bool:
        """Whether the interval speaks of other seeds too, and not of other units alone."""
        return self.noise.degrees_of_freedom > 0

    @property
    def seeds_error(self) -> float:
        """The standard error that the choice of seeds makes; nan where nothing is known."""
        return self.noise.error(self.seeds)


class Needed(NamedTuple):
    """How many examples, or else how many seeds of each arm; None where no number would do."""

    examples: int | None
    seeds: int | None


def paired_difference(metric: Metric, baseline: Metric) -> Metric:
    """Return the score of `metric` minus that of `baseline`, on the same units, as a metric itself.

    Its bootstrap interval draws a unit for both sides at once. What makes a sonnet hard for both
    then cancels, so the interval of a difference is often narrower than either side's own.
    """
    K = metric.statistics.shape[1]
    return Metric(
        np.concatenate([metric.statistics, baseline.statistics], axis=1),  # (units, K + K')
        lambda sums: metric.score(sums[..., :K]) - baseline.score(sums[..., K:]),
        metric.larger_is_better,
    )


def seed_mean(metrics: Sequence[Metric]) -> Metric:
    """Return the mean score of an arm's S seeds on the same units, as a metric itself."""
    ends = np.cumsum([metric.statistics.shape[1] for metric in metrics])

    def score(sums: np.ndarray) -> np.ndarray:  # (..., S * K) -> (...)
        parts = np.split(sums, ends[:-1], axis=-1)
        return np.mean([metric.score(part) for metric, part in zip(metrics, parts)], axis=0)

    addends = [metric.statistics for metric in metrics]
    statistics = np.concatenate(addends, axis=1, dtype=float)  # (units, S * K)
    return Metric(statistics, score, metrics[0].larger_is_better)


def pooled_seed_noise(arms: Iterable[Sequence[Metric]]) -> SeedNoise:
    """Return the standard deviation of the score over seeds, pooled over the arms with two or more.

    Three seeds of one arm say little (2 degrees of freedom); those of ten arms, if alike, much.
    """
    scores = [np.array([metric.value for metric in arm]) for arm in arms if len(arm) > 1]
    degrees = sum(len(arm) - 1 for arm in scores)
    if degrees == 0:
        return SeedNoise(math.nan, 0)
    squares = sum(float(np.square(arm - arm.mean()).sum()) for arm in scores)
    return SeedNoise(math.sqrt(squares / degrees), degrees)


def arm_interval(
    metrics: Sequence[Metric], noise: SeedNoise, generator: np.random.Generator
) -> tuple[float, float]:
    """Return the 95 % interval of an arm's score, over units and seeds: `compare` for one arm."""
    _check(metrics)
    replicates, _ = _replicates(seed_mean(metrics), noise, (len(metrics),), generator)
    return middle(replicates)


def compare(
    a: Sequence[Metric], b: Sequence[Metric], noise: SeedNoise, generator: np.random.Generator
) -> Difference:
    """Return the difference of two arms, S_a seeds against S_b on the same units.

    A paired bootstrap over units, with the seeds as the outer level. A replicate draws units with
    replacement, the same for every seed of both arms, and adds what other seeds might change:
    sd * sqrt(1 / S_a + 1 / S_b) times a draw of Student's t (1908) with the degrees of freedom of
    `noise`. Drawing among three seeds instead would cover far too little: their spread around
    their own mean is too small, often by much. A t draw is a normal draw over an uncertain
    deviation, hence right for few seeds; so is the units' part made right for twelve sonnets.

    The interval errs on the wide side: seeds that differ on single examples widen both parts, and
    seeds that two arms share count as independent. Without degrees of freedom it speaks of the
    units alone (`seeds_known` is False). NaN is nowhere handled: a score that is not a number, in
    any resample, makes the interval NaN.

    Raises ValueError for an arm without seeds, for unequal units, for fewer than two units.
    """
    _check(a, b)
    first, second = seed_mean(a), seed_mean(b)
    seeds = (len(a), len(b))
    replicates, units_error = _replicates(paired_difference(first, second), noise, seeds, generator)
    rarer = min((replicates <= 0).sum(), (replicates >= 0).sum())
    low, high = middle(replicates)
    return Difference(
        scores=(first.value, second.value),
        low=low,
        high=high,
        # The estimate itself counts as a replicate: no finite number of draws makes p zero.
        p=min(1.0, 2 * (int(rarer) + 1) / (RESAMPLES + 1)),
        units=len(first.statistics),
        seeds=seeds,
        units_error=units_error,
        noise=noise,
        larger_is_better=first.larger_is_better,
    )


def needed(difference: Difference, effect: float) -> Needed:
    """Return what would bring the interval's half-width below `effect` (in the metric's units).

    Either more examples with today's seeds, or more seeds of both arms with today's examples;
    today's numbers where the interval is narrow enough. The half-width is the root of the summed
    squares of t * standard error of the two parts, which is a little wide where both count.
    """
    if (difference.high - difference.low) / 2 < effect:
        return Needed(difference.units, min(difference.seeds) if difference.seeds_known else None)

    def units_part(n: int) -> float:
        return t_quantile(n - 1) * difference.units_error * math.sqrt(difference.units / n)

    def seeds_part(least: int) -> float:
        if not difference.seeds_known:
            return 0.0
        seeds = [max(least, S) for S in difference.seeds]
        # Each run that is added to the study also adds a degree of freedom.
        degrees = difference.noise.degrees_of_freedom + sum(seeds) - sum(difference.seeds)
        return t_quantile(degrees) * difference.noise.error(seeds)

    units_now, seeds_now = units_part(difference.units), seeds_part(1)
    return Needed(
        _least_above(difference.units, lambda n: math.hypot(units_part(n), seeds_now) < effect)
        if seeds_now < effect
        else None,
        _least_above(min(difference.seeds), lambda S: math.hypot(units_now, seeds_part(S)) < effect)
        if units_now < effect and difference.seeds_known
        else None,
    )


def t_quantile(degrees_of_freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t: 12.71, 4.30, 3.18, ... towards 1.96.

    Its density is proportional to cos(angle)^(df - 1) in angle = arctan(t / sqrt(df)).
    """
    degrees = min(degrees_of_freedom, 10_000)  # where the t is the normal, to 0.0003
    angle = np.linspace(0, np.pi / 2, 10_001)
    density = np.cos(angle) ** (degrees - 1)
    mass = np.cumsum(density) - (density + density[0]) / 2  # the trapezoid rule
    return math.sqrt(degrees) * math.tan(np.interp(0.95 * mass[-1], mass, angle))


def _replicates(
    metric: Metric, noise: SeedNoise, seeds: tuple[int, ...], generator: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Return what other units and seeds might have given (RESAMPLES,), and the units' error."""
    units = len(metric.statistics)
    deviations = resampled_scores(metric, generator) - metric.value
    # n draws among n units spread as if their mean were known, which is too little by (n - 1) / n;
    # a chi-square in the place of n - 1 makes a t draw of what is nearly a normal one.
    scale = np.sqrt(units / generator.chisquare(units - 1, size=RESAMPLES))
    replicates = metric.value + scale * deviations
    if noise.degrees_of_freedom:
        draws = generator.standard_t(noise.degrees_of_freedom, size=RESAMPLES)
        replicates += noise.error(seeds) * draws
    return replicates, float(deviations.std() * math.sqrt(units / (units - 1)))


def _least_above(number: int, enough: Callable[[int], bool]) -> int:
    """Return the least whole number above `number` that is enough: by doubling, then by halving."""
    low, high = number, number + 1
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(*arms: Sequence[Metric]) -> None:
    units = [[len(metric.statistics) for metric in arm] for arm in arms]
    sizes = set(functools.reduce(operator.iadd, units, []))
    if not all(units) or len(sizes) > 1 or min(sizes) < 2:
        raise ValueError(
            f"the arms' seeds have {units} units; expected at least one seed in each "
            "arm, and the same units, two or more, in all"
        )
