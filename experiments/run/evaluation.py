"""Scores as they go into a record: each with its interval and its direction."""

from pathlib import Path

import numpy as np
import torch

from experiments.run.bootstrap import bootstrap_interval
from experiments.run.config import Config
from experiments.run.hashed_tensors import load_hashed, save_hashed
from experiments.run.metrics_log import EVALUATION
from experiments.run.packed import load_packed
from experiments.run.seeds import numpy_generator, torch_generator
from experiments.run.training import autocast
from minigpt import GPT, get_tokenizer
from minigpt.errors import InputError
from minigpt.files import make_folder
from minigpt.parallel import by_first
from tasks import Evaluation, Metric, Task

GROUPS = "groups"  # the name of the units' groups among the addends of the metrics
PACKED = ".npz"  # of a record's statistics


def evaluate(
    policy: GPT, task: Task, split: str, *, seed: int, precision: str, headline_only: bool = False
) -> Evaluation:
    """Return the metrics of `policy` on a split, or its headline alone.

    Every evaluation samples from the same stream, so that two epochs differ by their weights alone.
    """
    device = policy.wte.weight.device
    with autocast(device, precision):
        of_task = task.evaluate_headline if headline_only else task.evaluate
        return of_task(
            policy,
            get_tokenizer(policy),
            split,
            generator=torch_generator(seed, "evaluation", device=str(device)),
        )


def floors_and_ceilings(task: Task, split: str, config: Config) -> dict[str, dict]:
    """Return what scores stand between, as run.json keeps it; nothing beside a headline alone."""
    if config.headline_only:
        return {"floors": {}, "ceilings": {}}
    floors = by_first(task.floors)(split, generator=numpy_generator(config.seed, "floors"))
    return {"floors": floors, "ceilings": by_first(task.ceilings)(split)}


def describe(evaluation: Evaluation, groups: np.ndarray | None, *, seed: int) -> dict:
    """Return every metric with its 95 % bootstrap interval, and texts to look at, as JSON.

    The interval is over groups of units, where they are not independent (`Task.groups`).
    """
    scores = {
        name: {
            "value": evaluation.metrics[name].value,
            "interval": [*bootstrap_interval(metric, numpy_generator(seed, "bootstrap"))],
            "larger_is_better": metric.larger_is_better,
        }
        for name, metric in evaluation.grouped(groups).items()
    }
    return {"scores": scores, "samples": list(evaluation.samples)}


def score(
    policy: GPT, task: Task, split: str, *, folder: Path, epoch: int, seed: int, **options
) -> dict:
    """Evaluate `policy` after an epoch; return the scores as JSON and keep what they are made of.

    The addends of every metric go into the run's `folder`, see `statistics_path`; `options` are
    those of `evaluate`.
    """
    evaluation = evaluate(policy, task, split, seed=seed, **options)
    groups = task.groups(split)
    save_statistics(statistics_path(folder, split, epoch), evaluation.metrics, groups)
    return describe(evaluation, groups, seed=seed)


def statistics_path(folder: Path, split: str, epoch: int) -> Path:
    """Return where a run keeps the addends of its scores on a split after an epoch."""
    return folder / "evaluations" / f"{split}-{epoch:02}.safetensors"


@by_first
def save_statistics(
    path: Path, metrics: dict[str, Metric], groups: np.ndarray | None = None
) -> None:
    """Keep the addends of every metric, so that arms can be compared without evaluating again.

    Beside them stand the `groups` of the units, numbered from 0, where these are not independent.
    """
    make_folder(path.parent)
    # Copies, since metrics may share their addends and the format wants each tensor by itself.
    tensors = {name: torch.tensor(metric.statistics) for name, metric in metrics.items()}
    if groups is not None:
        numbers = np.unique(groups, return_inverse=True)[1]
        tensors[GROUPS] = torch.tensor(numbers, dtype=torch.int32)
    save_hashed(path, tensors, {})


def read_addends(path: Path) -> dict[str, np.ndarray]:
    """Return what `save_statistics` kept, by name; InputError if the file is not whole.

    A record that was made to be kept has a packed file in its stead.
    """
    packed = path.with_suffix(PACKED)
    if packed.exists():
        return load_packed(packed)
    return {name: addends.numpy() for name, addends in load_hashed(path).items()}


def load_statistics(path: Path, task: Task | type[Task]) -> dict[str, Metric]:
    """Return the metrics that `save_statistics` kept; errors as for `read_addends`.

    Their units are the groups, where there are some.
    """
    found = read_addends(path)
    groups = found.pop(GROUPS, None)
    for name, addends in found.items():
        if name not in task.metrics or addends.ndim != 2 or not np.isfinite(addends).all():
            raise InputError(
                f"{path} is damaged at {name:.80}; expected finite addends (units, K) "
                f"of {', '.join(task.metrics)}"
            )
    metrics = {name: task.metrics[name].of(addends) for name, addends in found.items()}
    if groups is not None and groups.shape != (max(map(len, found.values()), default=0),):
        raise InputError(f"{path} is damaged at {GROUPS}; expected the group of each unit")
    return Evaluation(metrics).grouped(groups)


def evaluations(records: list[dict]) -> list[dict]:
    """Return the lines of metrics.jsonl that hold scores, in order, the untuned model's first."""
    return [r for r in records if r["kind"] == EVALUATION and "scores" in r]


def check_evaluated(records: list[dict], expected: list[int], folder: Path) -> None:
    """Raise InputError unless the log of the run in `folder` has every expected epoch's scores."""
    found = {record["epoch"] for record in records}
    missing = [epoch for epoch in expected if epoch not in found]
    if missing:
        raise InputError(
            f"{folder / 'metrics.jsonl'} lacks the evaluations of the epochs "
            f"{', '.join(map(str, missing))}; expected all before the checkpoint, put "
            "the file back or start the run anew in another folder"
        )


def best_epoch(epochs: list[dict], headline: str) -> dict:
    """Return the trained epoch with the best headline score, the earliest of equals."""

    def quality(record: dict) -> float:
        headline_score = record["scores"][headline]
        sign = 1 if headline_score["larger_is_better"] else -1
        return sign * headline_score["value"]

    return max((record for record in epochs if record["epoch"] > 0), key=quality)
