"""Finished runs, read back from their folders; those of a seed over all folds, read as one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from experiments.run.evaluation import evaluations, load_statistics, statistics_path
from experiments.run.metrics_log import read_finished
from experiments.run.record import read_run
from experiments.study.claims import MEMORY, PEAK_MEMORY, SECONDS, SECONDS_PER_EPOCH
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
        # Twice the one peak, as nothing else than another seed moves it.
        memory = PEAK_MEMORY.of(np.array([(self.record["peak_memory_mib"], 1.0)] * 2))
        costs = {SECONDS: self.time, MEMORY: memory}
        return {**self.metrics_after(self.epochs[-1]["epoch"]), **costs}

    @property
    def time(self) -> Metric:
        """Seconds of training per epoch: each evaluated one stands for those before it, too."""
        addends = [
            (record["seconds"] * (stands_for := record["epoch"] - before["epoch"]), stands_for)
            for before, record in pairwise(self.epochs)
        ]
        return SECONDS_PER_EPOCH.of(np.array(addends, dtype=float))

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

    Its units are those of every fold's dev, scored by the run that did not learn from that fold;
    or the folds, `by_fold`.
    """

    parts: Sequence[Run]
    by_fold: bool = False

    @property
    def task(self) -> Task | type[Task]:
        return self.parts[0].task

    @cached_property
    def record(self) -> dict:
        """What the runs recorded; of numbers that differ by fold the mean."""
        records = [run.record for run in self.parts]
        merged = {name: _mean_of([record[name] for record in records]) for name in MEANT}
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
        """Every metric after the last epoch, and the costs: units are epochs, and runs."""
        peaks = [(run.record["peak_memory_mib"], 1.0) for run in self.parts]
        memory = {MEMORY: PEAK_MEMORY.of(np.array(peaks))}
        return self._pooled([run.metrics for run in self.parts]) | memory

    def metrics_after(self, epoch: int) -> dict[str, Metric]:
        """Return every metric after an epoch that was evaluated, with its addends."""
        return self._pooled([run.metrics_after(epoch) for run in self.parts])

    def _pooled(self, folds: Sequence[dict[str, Metric]]) -> dict[str, Metric]:
        """Return each metric that all folds have, on the units of all."""
        found = {}
        for name in folds[0]:
            if all(name in metrics for metrics in folds):
                parts = [metrics[name] for metrics in folds]
                found[name] = pool([part.whole for part in parts] if self.by_fold else parts)
        return found


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
