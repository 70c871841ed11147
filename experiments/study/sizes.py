"""Which of two differences is the larger, whichever way each of them points?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from experiments.study.statistics import Difference, Estimate, compare, contrast
from tasks.metric import Metric

Arms = Mapping[str, Sequence[Metric]]  # one metric of each seed's run, by arm


def compare_sizes(arms: Arms, one: tuple[str, str], other: tuple[str, str]) -> Difference:
    """Return by how much two arms lie further apart than two others do; an arm may be in both.

    |a - b| - |c - d| is (a - b) - (c - d) or (a - b) + (c - d), up to its sign, and either is an
    estimate like any difference of arms. Which of them it is nobody knows where c and d are about
    the same, so that the interval is as wide as the less certain one's. The `scores` are the two
    distances. Errors are those of `compare`.
    """
    first, second = (compare(arms[a], arms[b]) for a, b in (one, other))
    distances = abs(first.value), abs(second.value)
    widest = max((_contrast(arms, one, other, s) for s in (1, -1)), key=lambda e: e.error)
    return Difference(
        distances,
        replace(widest, value=distances[0] - distances[1]),
        first.units,
        (min(first.seeds), min(second.seeds)),
        larger_is_better=True,
        words=("larger", "smaller"),
    )


def _contrast(arms: Arms, one: tuple[str, str], other: tuple[str, str], sign: int) -> Estimate:
    """Return the estimate of the first difference minus `sign` times the second."""
    weights = Counter()
    for (plus, minus), weight in ((one, 1), (other, -sign)):
        weights[plus] += weight
        weights[minus] -= weight
    return contrast([(weight, arms[name]) for name, weight in weights.items()])
