"""How sure a score is that was measured on a sample of examples: the bootstrap over them."""

import numpy as np

from tasks.metric import Metric

RESAMPLES = 1000
CHUNK = 50  # resamples drawn together; for 20,000 units they take some 30 MB


def bootstrap_interval(
    metric: Metric, generator: np.random.Generator, *, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of a score over its units (Efron, 1979).

    Units (sonnets, question pairs) are drawn with replacement, as many as there are; the interval
    holds the middle `level` of the scores of RESAMPLES such draws. It speaks of the choice of
    units alone: another seed of the training moves the score too, see `study.statistics`.
    """
    return middle(resampled_scores(metric, generator), level)


def resampled_scores(metric: Metric, generator: np.random.Generator) -> np.ndarray:
    """The scores (RESAMPLES,) of units drawn with replacement, as many as there are."""
    units = len(metric.statistics)
    addends = metric.statistics.astype(float)  # integers would miss the fast matrix product
    scores = []
    for _ in range(RESAMPLES // CHUNK):
        drawn = generator.integers(units, size=(CHUNK, units)) + units * np.arange(CHUNK)[:, None]
        times_drawn = np.bincount(drawn.ravel(), minlength=CHUNK * units).reshape(CHUNK, units)
        scores.append(metric.score(times_drawn @ addends))  # (CHUNK, K) -> (CHUNK,)
    return np.concatenate(scores)


def middle(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
