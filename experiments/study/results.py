"""What the runs of an arm found, read back from their folders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.run.evaluation import evaluations, load_statistics, statistics_path
from experiments.run.metrics_log import read_finished
from experiments.run.record import read_run
from experiments.run.source import options_of
from experiments.study.arms import Arm
from experiments.study.claims import SECONDS, SECONDS_PER_EPOCH
from minigpt.errors import InputError
from tasks import Metric, Task


@dataclass(frozen=True)
class Run:
    """One finished run."""

    folder: Path
    task: Task | type[Task]

    @cached_property
    def record(self) -> dict:
        record = read_run(self.folder)
        if record.get("status") != "finished":
            raise InputError(
                f"the run in {self.folder} is {record.get('status')}; "
                "expected it finished, run the study again"
            )
        return record

    @cached_property
    def epochs(self) -> list[dict]:
        """The evaluations on dev, the untuned model's first."""
        return evaluations(read_finished(self.folder, self.record))

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Every metric on dev after the last epoch, with its addends, and the training's time."""
        seconds = [record["seconds"] for record in self.epochs if record["epoch"] > 0]
        time = SECONDS_PER_EPOCH.of(np.array([(s, 1.0) for s in seconds]))
        return {**self.metrics_after(self.epochs[-1]["epoch"]), SECONDS: time}

    def metrics_after(self, epoch: int) -> dict[str, Metric]:
        """Return every metric on dev after an epoch that was evaluated, with its addends."""
        record = next(record for record in self.epochs if record["epoch"] == epoch)
        return self.metrics_on("dev", epoch, record["scores"])

    def metrics_on(self, split: str, epoch: int, scores: dict) -> dict[str, Metric]:
        """Return every metric on a split after an epoch, with its addends.

        Raises InputError unless they make the `scores` that the run tells of.
        """
        path = statistics_path(self.folder, split, epoch)
        metrics = load_statistics(path, self.task)
        for name, score in scores.items():
            if name not in metrics or not math.isclose(metrics[name].value, score["value"]):
                raise InputError(
                    f"{path} does not make the {name} that the log of its run tells of; expected "
                    "the files of one run, remove its folder and run it again"
                )
        return metrics


@dataclass(frozen=True)
class ArmResult:
    """An arm's runs, one per seed. Its score is the last epoch's: nothing is chosen on dev."""

    arm: Arm
    runs: Sequence[Run]

    @property
    def name(self) -> str:
        return self.arm.name

    def metrics(self, name: str) -> list[Metric]:
        """Return one metric at the end of each seed's run."""
        return [run.metrics[name] for run in self.runs]

    def values(self, name: str) -> np.ndarray:
        """Return the metric by seed and epoch, the untuned model first: (S, E + 1)."""
        return np.array(
            [[record["scores"][name]["value"] for record in run.epochs] for run in self.runs]
        )


def load_results(arms: Mapping[str, Sequence[Path]], task: Task | type[Task]) -> list[ArmResult]:
    """Return the results of every arm, given the folders of its runs.

    Raises InputError where one of them is not done.
    """
    return [
        ArmResult(Arm(name, options_of(folders[0])), [Run(folder, task) for folder in folders])
        for name, folders in arms.items()
    ]
