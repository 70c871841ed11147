"""Runs of one task beside each other: each against the first, on the same examples."""

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from experiments.run.config import make_config
from experiments.run.contents import SHOWN
from experiments.run.display import TERMINAL, printable
from experiments.run.record import read_run
from experiments.study.arms import Arm
from experiments.study.results import ArmResult, on_same_examples
from experiments.study.runs import Run
from experiments.study.statistics import Difference, compare
from minigpt.errors import InputError
from tasks import Metric, Task
from tasks.registry import task_class


def read_runs(folders: Sequence[Path]) -> list[ArmResult]:
    """Return finished runs, each as an arm of one seed, called by its folder.

    Raises InputError for fewer than two, for one that is not finished, and where tasks or the
    contents of dev differ.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise InputError(
            f"--runs names {', '.join(map(str, folders)) or 'nothing'}; "
            "expected the folders of two runs or more, each once"
        )
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    arms = [_read(folder, name) for folder, name in zip(folders, names)]
    for arm in arms[1:]:
        _check_alike(arms[0].runs[0], arm.runs[0])
    return arms


def _read(folder: Path, name: str) -> ArmResult:
    options = read_run(folder)["config"]
    run = Run(folder, task_class(options["task"]))
    if "dev" not in run.record.get("contents", {}):
        raise InputError(
            f"{folder / 'run.json'} does not say by a hash what dev was; expected a run of this "
            "version, so run it anew"
        )
    return ArmResult(Arm(name, make_config(**options)), [run])


def _check_alike(one: Run, other: Run) -> None:
    if one.task is not other.task:
        raise InputError(
            f"{one.folder} is a run of the task {one.task.name}, {other.folder} of "
            f"{other.task.name}; expected runs of one task"
        )
    dev, other_dev = (run.record["contents"]["dev"] for run in (one, other))
    if dev != other_dev:
        raise InputError(
            f"the dev examples of {one.folder} and {other.folder} differ (SHA-256 {dev[:SHOWN]} "
            f"and {other_dev[:SHOWN]}); expected the same, since examples are compared in pairs"
        )


def have_test(a: ArmResult, b: ArmResult) -> bool:
    """Return whether both runs were scored on the same test examples."""
    hashes = [arm.runs[0].record["contents"].get("test") for arm in (a, b)]
    return hashes[0] is not None and hashes[0] == hashes[1]


def best_of(arm: ArmResult) -> dict:
    """Return the evaluation of a run's best epoch on dev."""
    run = arm.runs[0]
    return next(r for r in run.epochs if r["epoch"] == run.record["best"]["epoch"])


def differences(baseline: ArmResult, arm: ArmResult, split: str) -> dict[str, Difference]:
    """Return the score of `arm` minus that of `baseline` by metric, best epoch against best epoch.

    The intervals speak of other examples, paired, and not of other seeds: there is one of each.
    Metrics of what training has not seen are left out where the two have seen other examples.
    """
    before, after = _metrics(baseline, split), _metrics(arm, split)
    both = {name: ([after[name]], [before[name]]) for name in before if name in after}
    return {name: compare(*two) for name, two in both.items() if on_same_examples(name, two)}


def _metrics(arm: ArmResult, split: str) -> dict[str, Metric]:
    run, best = arm.runs[0], best_of(arm)
    scored = best if split == "dev" else run.record["test"]
    metrics = run.metrics_on(split, best["epoch"], scored["scores"])
    if any(len(metric.statistics) < 2 for metric in metrics.values()):
        raise InputError(
            f"{run.folder} has one example of {split}; expected two or more, for an interval"
        )
    return metrics


def difference_rows(task: type[Task], found: dict[str, Difference]) -> list[list[str]]:
    """Return a row per metric: its name, which way is better, both scores, and the lead."""
    rows = []
    for name, difference in found.items():
        score = task.metrics[name]
        value, low, high = (
            f"{'+' if number > 0 else ''}{score.show(number)}"
            for number in (difference.lead.value, *difference.lead.interval())
        )
        better = "higher" if score.larger_is_better else "lower"
        after, before = map(score.show, difference.scores)
        rows.append([score.short, better, before, after, f"{value} [{low}, {high}]"])
    return rows


def common_floors(arms: Sequence[ArmResult]) -> dict[str, dict[str, float]]:
    """Return the floors that all runs have alike; one learnt from training rows may differ."""
    first, *others = (arm.runs[0].record["floors"] for arm in arms)
    return {n: floor for n, floor in first.items() if all(floor == o.get(n) for o in others)}


def samples_beside(arms: Sequence[ArmResult]) -> list[str]:
    """Return each text of the runs' best epochs beside the others' of the same example."""
    texts = [best_of(arm)["samples"] for arm in arms]
    return [
        _columns([[arm.name, "", *printable(text).splitlines()] for arm, text in zip(arms, row)])
        for row in zip(*texts)
    ]


def _columns(texts: Sequence[Sequence[str]]) -> str:
    """Return the lines of several texts beside each other, wrapped to share a terminal's width."""
    between = " | "
    width = (TERMINAL - len(between) * (len(texts) - 1)) // len(texts)
    wrapped = [
        [part for line in lines for part in textwrap.wrap(line, width) or [""]] for lines in texts
    ]
    rows = zip_longest(*wrapped, fillvalue="")
    return "\n".join(between.join(part.ljust(width) for part in row).rstrip() for row in rows)
