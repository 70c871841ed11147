"""What a run was made from, by contents: a path may hold other data or weights tomorrow."""

import hashlib
from pathlib import Path

from experiments.run.config import Config
from experiments.run.hashed_tensors import feed_tensors
from minigpt import GPT
from minigpt.errors import InputError
from tasks import Task, get_task

SHOWN = 12  # characters of a hash that people see


def read_task(config: Config) -> Task:
    """Return the task of a run, on the data that it reads."""
    limits = {
        "train": config.train_examples,
        "dev": config.dev_examples,
        "test": config.dev_examples,
    }
    return get_task(config.task, config.data, limits=limits, **config.sampling())


def contents_of(task: Task, policy: GPT) -> dict[str, str]:
    """Return the SHA-256 of the data and of the base weights that a run starts from."""
    return {"data": data_hash(task), "weights": base_hash(policy)}


def data_hash(task: Task) -> str:
    """Return a SHA-256 over the text of all examples of the splits that a run uses."""
    digest = hashlib.sha256()
    for split in dict.fromkeys(("train", "dev", *task.scored_splits)):
        examples = task.examples(split)
        digest.update(f"{split} {len(examples)}\0".encode())
        text = "\0".join(part for example in examples for part in example)
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
    """Raise InputError if a run's data or weights are not those that it was started with.

    What was not recorded, as in runs of before, is not compared.
    """
    for what, now in found.items():
        before = recorded.get(what, now)
        if now != before:
            verb = "has" if what == "data" else "have"
            raise InputError(
                f"the {what} {verb} changed since the run in {folder} began "
                f"(SHA-256 {before[:SHOWN]} then, {now[:SHOWN]} now); expected the same, "
                "so bring them back or start anew in another folder"
            )
