"""How sure a score is, and how sure the difference of two arms: examples and seeds both count.

An arm is a method with S seeds, all scored on the same G units. Its score is the mean over them.
Another draw of units would move it, and so would other seeds. Let V be the variance of a difference
that the units make for the seeds at hand, by the jackknife, and s_a, s_b the arms' own standard
deviations over their seeds. Both count what a seed does to single units, which is taken out of V:

    variance = (V - interaction) + s_a^2 / S_a + s_b^2 / S_b

Arms keep their own spreads: one may move ten times as far as another. The interval is Student's t
with the degrees of freedom of Welch and Satterthwaite (1947). `experiments.coverage` shows how
often such intervals cover the truth; from three seeds on, LOG.md has 93 to 97 %. Two leave each
spread to one degree of freedom, and one leaves it unknown.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiments.study.student import t_quantile, t_tail
from tasks.metric import Metric

ENOUGH_SEEDS = 3  # in each arm, for intervals that cover what they should


class Part(NamedTuple):
    """A part of the variance of an estimate, and how well it is known."""

    variance: float
    degrees: int  # of freedom


@dataclass(frozen=True)
class Estimate:
    """A score or a difference, with what other units and other seeds might have given."""

    value: float
    units: Part
    seeds: tuple[Part, ...]  # one for each arm with more than one seed

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(sum(part.variance for part in (self.units, *self.seeds)))

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the error, between those of its parts."""
        parts = [part for part in (self.units, *self.seeds) if part.variance]
        spread = sum(part.variance**2 / part.degrees for part in parts)
        return self.error**4 / spread if spread else float(self.units.degrees)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval that covers the truth in a share `level` of such studies."""
        half = t_quantile(self.degrees, level) * self.error
        return self.value - half, self.value + half

    def p_above(self, bound: float) -> float:
        """Return how likely an estimate this high is, or a higher one, where the truth is `bound`.

        A small p is what speaks for a truth above the bound.
        """
        if not self.error:
            return 0.5 * (1 - np.sign(self.value - bound))
        return t_tail((self.value - bound) / self.error, self.degrees)


@dataclass(frozen=True)
class Difference:
    """The score of arm a minus that of arm b, each the mean over the arm's seeds."""

    scores: tuple[float, float]
    estimate: Estimate
    units: int
    seeds: tuple[int, int]
    larger_is_better: bool
    words: tuple[str, str] = ("better", "worse")  # what a lead above 0 makes of a, and one below

    @property
    def value(self) -> float:
        return self.estimate.value

    @property
    def lead(self) -> Estimate:
        """The estimate of a's lead over b: turned round where smaller is better."""
        if self.larger_is_better:
            return self.estimate
        return Estimate(-self.estimate.value, self.estimate.units, self.estimate.seeds)

    @property
    def enough_seeds(self) -> bool:
        """Whether the interval covers the truth as often as it says."""
        return min(self.seeds) >= ENOUGH_SEEDS

    @property
    def p(self) -> float:
        """How likely a difference this large is, either way, where there is none."""
        return min(1.0, 2 * min(self.lead.p_above(0.0), 1 - self.lead.p_above(0.0)))


class Needed(NamedTuple):
    """How many examples, or else how many seeds of each arm; None where no number would do."""

    examples: int | None
    seeds: int | None


def arm_estimate(metrics: Sequence[Metric]) -> Estimate:
    """Return an arm's score over S seeds; of one seed, the estimate speaks of the units alone."""
    return contrast([(1, metrics)])


def compare(a: Sequence[Metric], b: Sequence[Metric]) -> Difference:
    """Return the difference of two arms, S_a seeds against S_b on the same units.

    Seeds that two arms share count as independent. A score that is not a number makes the interval
    NaN. Raises ValueError for an arm without seeds, for unequal units,
    for fewer than two units.
    """
    return _difference(a, b, contrast([(1, a), (-1, b)]))


def compare_by_seed(a: Sequence[Metric], b: Sequence[Metric]) -> Difference:
    """Return the difference of two arms whose seeds belong together, one of a's to one of b's.

    A run and its own reference, the same policy some epochs before, are such a pair: what the seed
    has done to both cancels, and the spread over seeds is that of the S differences. Errors as for
    `compare`, and ValueError for arms with different numbers of seeds.
    """
    _check(a, b)
    if len(a) != len(b):
        raise ValueError(f"got {len(a)} and {len(b)} seeds; expected pairs of them")
    return _difference(a, b, contrast([(1, [paired_difference(*both) for both in zip(a, b)])]))


def paired_difference(metric: Metric, baseline: Metric) -> Metric:
    """Return the score of `metric` minus that of `baseline`, on the same units, as a metric itself.

    What makes a sonnet hard for both then cancels, so the interval of a difference is often
    narrower than either side's own.
    """
    K = metric.statistics.shape[1]
    return Metric(
        np.concatenate([metric.statistics, baseline.statistics], axis=1),  # (units, K + K')
        lambda sums: metric.score(sums[..., :K]) - baseline.score(sums[..., K:]),
        metric.larger_is_better,
    )


def needed(difference: Difference, effect: float, alpha: float = 0.05) -> Needed:
    """Return what would bring the interval's half-width below `effect` (in the metric's units).

    The interval leaves out a share `alpha`. Either more examples with today's seeds, or more seeds
    of both arms with today's examples; today's numbers where the interval is narrow enough.
    """
    estimate = difference.estimate

    def half_width(units: int, seeds: int) -> float:
        variance = estimate.units.variance * difference.units / units
        parts = [_with_seeds(part, max(seeds, part.degrees + 1)) for part in estimate.seeds]
        return Estimate(0.0, Part(variance, units - 1), tuple(parts)).interval(1 - alpha)[1]

    fewest = min(difference.seeds)
    return Needed(
        _least(difference.units, lambda units: half_width(units, 1) < effect),
        _least(fewest, lambda seeds: half_width(difference.units, seeds) < effect)
        if fewest > 1
        else None,
    )


def _difference(a: Sequence[Metric], b: Sequence[Metric], estimate: Estimate) -> Difference:
    scores = tuple(float(np.mean([metric.value for metric in arm])) for arm in (a, b))
    first = a[0]
    return Difference(
        scores, estimate, len(first.statistics), (len(a), len(b)), first.larger_is_better
    )


def contrast(arms: Sequence[tuple[int, Sequence[Metric]]]) -> Estimate:
    """Return a weighted sum of arms' scores, each arm once, with its variance; see the module.

    Errors are those of `compare`.
    """
    _check(*(metrics for _, metrics in arms))
    value, without_unit, interaction, parts = 0.0, 0.0, 0.0, []
    for weight, metrics in arms:
        scores = np.array([metric.value for metric in metrics])  # (S,)
        jackknifed = np.stack([_leave_one_out(metric) for metric in metrics])  # (S, G)
        mean = jackknifed.mean(axis=0)
        value, without_unit = value + weight * scores.mean(), without_unit + weight * mean
        if (S := len(metrics)) > 1:
            own = _jackknife_variance(jackknifed - mean).sum() / (S - 1)
            interaction += weight**2 * own / S
            parts.append(Part(weight**2 * float(scores.var(ddof=1)) / S, S - 1))
    G = len(without_unit)
    variance = max(0.0, float(_jackknife_variance(without_unit)) - float(interaction))
    return Estimate(float(value), Part(variance, G - 1), tuple(parts))


def _leave_one_out(metric: Metric) -> np.ndarray:
    """Return the scores without each of the G units in turn: (G,)."""
    addends = metric.statistics.astype(float)  # (G, K)
    return metric.score(addends.sum(axis=0) - addends)


def _jackknife_variance(without_one: np.ndarray) -> np.ndarray:
    """Return the variance of a score by its values without each unit: (..., G) -> (...)."""
    G = without_one.shape[-1]
    return (G - 1) * without_one.var(axis=-1)


def _with_seeds(part: Part, seeds: int) -> Part:
    """Return what the spread over seeds would contribute with another number of them."""
    return Part(part.variance * (part.degrees + 1) / seeds, seeds - 1)


def _least(number: int, enough: Callable[[int], bool]) -> int | None:
    """Return the least whole number from `number` on that is enough, to a hundredth; else None."""
    low, high = number - 1, number
    while not enough(high):
        if high > 1_000 * number:
            return None
        low, high = high, 2 * high
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(*arms: Sequence[Metric]) -> None:
    units = [[len(metric.statistics) for metric in arm] for arm in arms]
    sizes = {n for arm in units for n in arm}
    if not all(units) or len(sizes) > 1 or min(sizes) < 2:
        raise ValueError(
            f"the arms' seeds have {units} units; expected at least one seed in each "
            "arm, and the same units, two or more, in all"
        )
