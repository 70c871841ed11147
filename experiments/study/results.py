"""What the runs of an arm found, read back from their folders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.run.evaluation import evaluations, load_statistics, statistics_path
from experiments.run.metrics_log import read_finished
from experiments.run.record import read_run
from experiments.run.source import options_of
from experiments.study.arms import Arm
from experiments.study.claims import (
    MEMORY,
    PEAK_MEMORY,
    SECONDS,
    SECONDS_PER_EPOCH,
    judged_by,
)
from minigpt.errors import InputError
from tasks import Metric, Task
from tasks.metric import pool

MEANT = ("floors", "ceilings")  # of a run's record, where folds are read as one


@dataclass(frozen=True)
class Run:
    """One finished run."""

    folder: Path
    task: Task | type[Task]
    # What was read of the statistics, by split and epoch.
    read: dict[tuple[str, int], dict[str, Metric]] = field(default_factory=dict, compare=False)

    @property
    def parts(self) -> Sequence["Run"]:
        """The run itself, where that of a seed over several folds has several."""
        return [self]

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
        """Every metric on dev after the last epoch, with its addends, and the training's costs."""
        seconds = [record["seconds"] for record in self.epochs if record["epoch"] > 0]
        time = SECONDS_PER_EPOCH.of(np.array([(s, 1.0) for s in seconds]))
        # Twice the one peak, as nothing else than another seed moves it.
        memory = PEAK_MEMORY.of(np.array([(self.record["peak_memory_mib"], 1.0)] * 2))
        costs = {SECONDS: time, MEMORY: memory}
        return {**self.metrics_after(self.epochs[-1]["epoch"]), **costs}

    @cached_property
    def on_test(self) -> dict[str, Metric]:
        """Every metric on test after the epoch that is best on dev; none without right answers."""
        if not (test := self.record.get("test")):
            return {}
        return self.metrics_on("test", self.record["best"]["epoch"], test["scores"])

    def metrics_after(self, epoch: int) -> dict[str, Metric]:
        """Return every metric on dev after an epoch that was evaluated, with its addends."""
        record = next(record for record in self.epochs if record["epoch"] == epoch)
        return self.metrics_on("dev", epoch, record["scores"])

    def metrics_on(self, split: str, epoch: int, scores: dict) -> dict[str, Metric]:
        """Return every metric on a split after an epoch, with its addends.

        Raises InputError unless they make the `scores` that the run tells of.
        """
        if (split, epoch) in self.read:
            return self.read[split, epoch]
        path = statistics_path(self.folder, split, epoch)
        metrics = load_statistics(path, self.task)
        for name, score in scores.items():
            if name not in metrics or not math.isclose(metrics[name].value, score["value"]):
                raise InputError(
                    f"{path} does not make the {name} that the log of its run tells of; expected "
                    "the files of one run, remove its folder and run it again"
                )
        self.read[split, epoch] = metrics
        return metrics


@dataclass(frozen=True)
class FoldedRun:
    """The runs of one seed over all folds, in their order, read as one run on the whole data.

    Its units are those of every fold's dev, scored by the run that did not learn from that fold.
    """

    parts: Sequence[Run]

    @property
    def task(self) -> Task | type[Task]:
        return self.parts[0].task

    @cached_property
    def record(self) -> dict:
        """What the runs recorded; of numbers that differ by fold the mean, of memory the most."""
        records = [run.record for run in self.parts]
        merged = {name: _mean_of([record[name] for record in records]) for name in MEANT}
        merged["peak_memory_mib"] = max(record["peak_memory_mib"] for record in records)
        if "reference" in records[0]:
            pairs = _mean_of([record["reference"]["pairs"] for record in records])
            merged["reference"] = {**records[0]["reference"], "pairs": pairs}
        return {**records[0], **merged}

    @cached_property
    def epochs(self) -> list[dict]:
        """The evaluations on dev: scores over all folds, means of what held-out pairs told.

        The rest is the first fold's.
        """
        found = []
        for each in zip(*(run.epochs for run in self.parts)):
            metrics = self.metrics_after(each[0]["epoch"])
            scores = {name: {"value": metric.value} for name, metric in metrics.items()}
            of_pairs = [{n: v for n, v in r.items() if n.startswith("eval_")} for r in each]
            found.append({**each[0], **_mean_of(of_pairs), "scores": scores})
        return found

    @property
    def on_test(self) -> dict[str, Metric]:
        """Nothing, as folds leave no test."""
        return {}

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Every metric after the last epoch, and the training's time, whose units are epochs."""
        return _pooled([run.metrics for run in self.parts])

    def metrics_after(self, epoch: int) -> dict[str, Metric]:
        """Return every metric after an epoch that was evaluated, with its addends."""
        return _pooled([run.metrics_after(epoch) for run in self.parts])


def by_seed(runs: Sequence[Run]) -> list[Run | FoldedRun]:
    """Return one run for each seed, where it has folds all of them together.

    Raises InputError where a seed does not have every fold once.
    """
    seeds: dict[int, dict[int, Run]] = {}
    for run in runs:
        options = run.record["config"]
        if "folds" not in options:
            return list(runs)
        seeds.setdefault(options["seed"], {})[options["fold"]] = run
    for seed, folds in seeds.items():
        K = next(iter(folds.values())).record["config"]["folds"]
        if sorted(folds) != [*range(K)]:
            raise InputError(f"seed {seed} has the folds {sorted(folds)}; expected 0 to {K - 1}")
    return [FoldedRun([folds[fold] for fold in sorted(folds)]) for folds in seeds.values()]


def _pooled(folds: Sequence[dict[str, Metric]]) -> dict[str, Metric]:
    """Return each metric that all folds have, on the units of all."""
    names = [name for name in folds[0] if all(name in metrics for metrics in folds)]
    return {name: pool([metrics[name] for metrics in folds]) for name in names}


def _mean_of(folds: Sequence[Any]) -> Any:
    """Return the mean of numbers, at every place of dicts that all have it.

    What ends in "_sd" are standard deviations of parts that were drawn apart, which the mean of
    the parts has less of.
    """
    if not isinstance(folds[0], dict):
        return float(np.mean(folds))
    found = {}
    for name in folds[0]:
        if all(name in fold for fold in folds):
            values = [fold[name] for fold in folds]
            spread = name.endswith("_sd")
            found[name] = math.hypot(*values) / len(values) if spread else _mean_of(values)
    return found


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
