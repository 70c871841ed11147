"""What runs score before their end: after an epoch, or each stopped at its best."""

from dataclasses import replace
from typing import Literal

import numpy as np

from experiments.study.results import ArmResult
from experiments.study.runs import FoldedRun, Run
from tasks import Metric


def metrics_at(result: ArmResult, name: str, at: int | Literal["end", "best"]) -> list[Metric]:
    """Return one metric of each seed's run: at the end, after an epoch, or at the best."""
    if at == "end":
        return result.metrics(name)
    if at == "best":
        return [stopped_early(run, name) for run in result.runs]
    return [run.metrics_after(at)[name] for run in result.runs]


def stopped_early(run: Run | FoldedRun, name: str) -> Metric:
    """Return a metric on dev at the run's best trained epoch, without looking at what is scored.

    The best epoch by the headline on every second example is where the others are scored, and the
    other way round (cross-fitting): no example speaks for an epoch that it was chosen by.
    """
    epochs = [run.metrics_after(record["epoch"]) for record in run.epochs if record["epoch"] > 0]
    addends = np.array(epochs[0][name].statistics)  # (units, K)
    even = np.arange(len(addends)) % 2 == 0
    for half in (even, ~even):
        best = max(epochs, key=lambda metrics: _quality(metrics[run.task.headline], ~half))
        addends[half] = best[name].statistics[half]
    return replace(epochs[0][name], statistics=addends)


def _quality(metric: Metric, units: np.ndarray) -> float:
    """Return the score on some of the units, turned round where smaller is better."""
    value = replace(metric, statistics=metric.statistics[units]).value
    return value if metric.larger_is_better else -value
