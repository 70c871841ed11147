"""What a run was made from, by contents: a path may hold other data or weights tomorrow."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from experiments.run.config import FOLDS, Config
from experiments.run.hashed_tensors import feed_tensors
from minigpt import GPT
from minigpt.errors import InputError
from tasks import Task, get_task

SHOWN = 12  # characters of a hash that people see


def read_task(config: Config, task: Task | None = None) -> Task:
    """Return the task of a run, on the data that it reads: `task`, where that is there already.

    Raises InputError for options of the data beside a task that has its data.
    """
    if task is not None:
        _check_handed_over(config)
        return task
    limits = {
        "train": config.train_examples,
        "dev": config.dev_examples,
        "test": config.dev_examples,
    }
    return get_task(config.task, config.data, limits=limits, **config.task_options())


def data_options(config: Config) -> Config:
    """Return the options that decide which examples a run reads, all others at their defaults."""
    names = ("task", "data", "rows", "train_examples", "dev_examples", *FOLDS)
    return Config(**{name: getattr(config, name) for name in names})


def _check_handed_over(config: Config) -> None:
    given = {name: getattr(config, name) for name in ("data", "train_examples", "dev_examples")}
    for name, value in (given | config.task_options()).items():
        if value is not None:
            raise InputError(
                f"{name} is {value} beside a task that has its data; expected it where the task "
                "is made (limits, and the task's own options)"
            )


def contents_of(task: Task, policy: GPT) -> dict[str, str]:
    """Return the SHA-256 of the data, of the task's options, and of the base weights of a run.

    Dev, and test where it is scored, also have hashes of their own: what runs can be compared on.
    """
    scored = [split for split in ("dev", "test") if split in task.scored_splits]
    by_split = {split: data_hash(task, [split]) for split in scored}
    options = hashlib.sha256(json.dumps(task.options()).encode()).hexdigest()
    return {"data": data_hash(task), **by_split, "task": options, "weights": base_hash(policy)}


def data_hash(task: Task, splits: Iterable[str] | None = None) -> str:
    """Return a SHA-256 over the texts of some splits, or of all that a run uses."""
    digest = hashlib.sha256()
    for split in splits or dict.fromkeys(("train", "dev", *task.scored_splits)):
        digest.update(f"{split} {len(task.examples(split))}\0".encode())
        parts = (part for texts in task.contents(split) for part in texts)
        for number, part in enumerate(parts):
            text = f"\0{part}" if number else part
            digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def base_hash(policy: GPT, precision: str | None = "fp32") -> str:
    """Return a SHA-256 over the weights without adapters, which are drawn anew from the seed.

    A policy in fp32 is taken as a run in `precision` keeps it: in "bf16" that is the type of the
    weights that have adapters beside them (`make_policy`).
    """
    state = {name: w for name, w in policy.state_dict().items() if ".lora_" not in name}
    if precision == "bf16":
        state = {name: w.bfloat16() if ".base." in name else w for name, w in state.items()}
    digest = hashlib.sha256()
    feed_tensors(digest, state)
    return digest.hexdigest()


def check_contents(folder: Path, recorded: dict[str, str], found: dict[str, str]) -> None:
    """Raise InputError if what a run is made from is not what it was started with.

    What was not recorded, as in runs of before, is not compared.
    """
    for what, now in found.items():
        before = recorded.get(what, now)
        if now != before:
            verb = "have" if what == "weights" else "has"
            raise InputError(
                f"the {what} {verb} changed since the run in {folder} began "
                f"(SHA-256 {before[:SHOWN]} then, {now[:SHOWN]} now); expected the same, "
                "so bring them back or start anew in another folder"
            )
