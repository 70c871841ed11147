"""What a metric is: a function of addends, which are kept for each unit; and what is said of it."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Score:
    """What is said of a metric, whoever reached it: how it is computed, compared and shown."""

    function: Callable[[np.ndarray], np.ndarray]  # (..., K) sums over the units -> (...) values
    _: KW_ONLY
    short: str  # heading of a column
    long: str  # title of a figure's panel
    larger_is_better: bool = True
    margin: float | None = None  # smallest difference that matters; None: no claim is judged by it
    relative: bool = False  # whether the margin is a share of the score that is compared with
    factor: int = 1  # from the recorded value to the shown one; 100 makes a share per cent
    decimals: int = 3
    suffix: str = ""  # what stands behind a shown value
    unit: str | None = None  # what is scored one by one, in the plural; None: the task's unit

    @property
    def title(self) -> str:
        """The long name, with the direction where it is not the usual one."""
        return self.long if self.larger_is_better else f"{self.long} (lower is better)"

    @property
    def is_share(self) -> bool:
        """Whether recorded values lie between 0 and 1, and are shown in per cent."""
        return self.factor == 100

    def of(self, statistics: np.ndarray) -> "Metric":
        """Return the metric that these addends (units, K) make."""
        return Metric(statistics, self.function, self.larger_is_better)

    def show(self, value: float) -> str:
        """Return a recorded value, or a difference of two, as people read it."""
        return f"{self.factor * value:.{self.decimals}f}{self.suffix}"


@dataclass(frozen=True)
class Metric:
    """A score that is a function of sums over units (a sonnet, a question pair).

    Accuracy is sum(correct) / sum(1); bits per character sum(bits) / sum(characters); F1 and chrF
    are functions of summed counts. Keeping the addends, not only the score, is what lets a
    bootstrap resample the units without evaluating the model again. Stored addends make the metric
    again: `task.metrics[name].of(statistics)`.
    """

    statistics: np.ndarray  # (units, K), K addends of each unit, in any numeric dtype
    score: Callable[[np.ndarray], np.ndarray]  # (..., K) sums -> (...) scores
    larger_is_better: bool = True

    @property
    def value(self) -> float:
        # In float64 whatever the addends are stored in: thousands of float32 would lose digits.
        return float(self.score(self.statistics.sum(axis=0, dtype=np.float64)))

    @property
    def whole(self) -> "Metric":
        """The same score with all units as one."""
        return replace(self, statistics=self.statistics.sum(axis=0, keepdims=True, dtype=float))

    def grouped(self, groups: np.ndarray) -> "Metric":
        """Return the same score with groups as its units, given the group of each unit: (units,).

        Intervals are to be over groups, as units of one group are not independent (`Task.groups`).
        """
        names, places = np.unique(groups, return_inverse=True)
        sums = np.zeros((len(names), self.statistics.shape[1]))
        np.add.at(sums, places, self.statistics)
        return replace(self, statistics=sums)


def pool(metrics: Sequence[Metric]) -> Metric:
    """Return one score of several parts, on the units of all of them."""
    return replace(metrics[0], statistics=np.concatenate([m.statistics for m in metrics]))


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on a split, by name, and texts to look at."""

    metrics: dict[str, Metric]
    samples: tuple[str, ...] = ()

    @property
    def scores(self) -> dict[str, float]:
        return {name: metric.value for name, metric in self.metrics.items()}

    def grouped(self, groups: np.ndarray | None) -> dict[str, Metric]:
        """Return the metrics with groups as their units, given the group of each unit: (units,).

        A metric of fewer units is one of the first. None stands for independent units.
        """
        if groups is None:
            return self.metrics
        return {n: m.grouped(groups[: len(m.statistics)]) for n, m in self.metrics.items()}


def ratio(sums: np.ndarray) -> np.ndarray:
    """Return the plain mean, the first addend over the second: (..., 2) -> (...).

    The second counts things (units, characters, lines); where there are none the mean is 0.
    """
    return sums[..., 0] / np.maximum(sums[..., 1], 1)
