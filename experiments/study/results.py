"""What the runs of an arm found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.run.source import options_of
from experiments.study.arms import Arm
from experiments.study.claims import judged_by
from experiments.study.runs import FoldedRun, Run, by_seed
from tasks import Metric, Task
from tasks.base import UNSEEN


@dataclass(frozen=True)
class ArmResult:
    """An arm's runs, one per seed. Its score is the last epoch's: nothing is chosen on dev."""

    arm: Arm
    runs: Sequence[Run | FoldedRun]

    @property
    def name(self) -> str:
        return self.arm.name

    @property
    def parts(self) -> list[Run]:
        """Every run of every seed, each fold's by itself."""
        return [part for run in self.runs for part in run.parts]

    def metrics(self, name: str) -> list[Metric]:
        """Return one metric at the end of each seed's run."""
        return [run.metrics[name] for run in self.runs]

    def values(self, name: str) -> np.ndarray:
        """Return the metric by seed and epoch, the untuned model first: (S, E + 1)."""
        return np.array(
            [[record["scores"][name]["value"] for record in run.epochs] for run in self.runs]
        )


def recorded(results: Sequence[ArmResult]) -> set[str]:
    """Return the metrics that every run of every arm has: old ones, and old data, have fewer."""
    return set.intersection(*(set(run.metrics) for result in results for run in result.runs))


def on_same_examples(name: str, arms: Sequence[Sequence[Metric]]) -> bool:
    """Return whether a metric of arms, each with its seeds', is of the same examples in all.

    Of what training has not seen it need not be, where the training examples differ.
    """
    if not name.endswith(UNSEEN):
        return True
    scored = [metric.statistics.any(axis=1) for metrics in arms for metric in metrics]  # (units,)
    return all(np.array_equal(scored[0], each) for each in scored)


def judged_metrics(results: Sequence[ArmResult], task: Task | type[Task]) -> tuple[str, ...]:
    """Return which of a task's recorded metrics claims are judged by, the headline's first."""
    there = recorded(results)
    return tuple(name for name in judged_by(task) if name in there) or task.judged


def load_results(arms: Mapping[str, Sequence[Path]], task: Task | type[Task]) -> list[ArmResult]:
    """Return the results of every arm, given the folders of its runs for all seeds and folds.

    Raises InputError where one of them is not done.
    """
    return [
        ArmResult(Arm(name, options_of(folders[0])), by_seed([Run(each, task) for each in folders]))
        for name, folders in arms.items()
    ]
