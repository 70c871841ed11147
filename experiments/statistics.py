"""How sure a score is."""

import numpy as np

from tasks.base import Metric

RESAMPLES = 1000
CHUNK = 50  # resamples drawn together; for 20,000 units they take 8 MB


def bootstrap_interval(
    metric: Metric, generator: np.random.Generator, *, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of a score over its units (Efron, 1979).

    Units (sonnets, question pairs) are drawn with replacement, as many as there are; the interval
    holds the middle `level` of the scores of RESAMPLES such draws. It speaks of the choice of
    units alone: another seed of the training moves the score too.
    """
    units = len(metric.statistics)
    scores = []
    for _ in range(RESAMPLES // CHUNK):
        times_drawn = generator.multinomial(units, np.full(units, 1 / units), size=CHUNK)
        scores.append(metric.score(times_drawn @ metric.statistics))  # (CHUNK, K) -> (CHUNK,)
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(scores), [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(metric: Metric, baseline: Metric) -> Metric:
    """The score of `metric` minus that of `baseline`, on the same units, as a metric itself.

    Its bootstrap interval draws a unit for both sides at once. What makes a sonnet hard for both
    then cancels, so the interval of a difference is often narrower than either side's own.
    """
    K = metric.statistics.shape[1]
    return Metric(
        np.concatenate([metric.statistics, baseline.statistics], axis=1),  # (units, K + K')
        lambda sums: metric.score(sums[..., :K]) - baseline.score(sums[..., K:]),
        metric.larger_is_better,
    )
