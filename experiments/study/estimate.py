"""What a plan will take, from a moment's measurement."""

import contextlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.run.config import Config
from experiments.run.loop import run
from experiments.study.arms import make_task
from experiments.study.runner import finished

STEPS = 3  # of each phase in a measurement
SCORED = 8  # dev examples in it


def print_plan(configs: Sequence[Config], jobs: int) -> None:
    """Print every run with its estimated minutes, and how long all of them will take."""
    distinct = list({config.out: config for config in configs}.values())
    speeds: dict[tuple, dict[str, float]] = {}
    sizes: dict[tuple, dict[str, int]] = {}
    total = 0.0
    for config in distinct:
        if finished(config):
            print(f"finished   {config.out}")
            continue
        key = (config.task, config.model, config.parameterization, config.lora, config.precision)
        if key not in speeds:
            speeds[key] = _measure(config)
        data = (config.task, config.data, config.train_examples, config.dev_examples)
        if data not in sizes:
            sizes[data] = _sizes(config)
        seconds = _seconds(config, speeds[key], sizes[data])
        total += seconds
        print(f"{seconds / 60:6.1f} min {config.out}")
    print(
        f"in all     {len(distinct)} runs, about {total / 60:.0f} minutes of work one after "
        f"another ({jobs} at a time)",
        flush=True,
    )


def _measure(config: Config) -> dict[str, float]:
    """Return seconds per step of each phase and per dev example, from a tiny run of the kind."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        result = run(
            replace(
                config,
                epochs=2,
                switch_epoch=1,
                train_examples=STEPS * config.batch_size,
                dev_examples=SCORED,
                evaluate_every=1,
                resume=False,
                out=Path(folder) / "run",
            )
        )
        _, sft, dpo = result.epochs
    return {
        "sft": sft["seconds"] / STEPS,
        "dpo": dpo["seconds"] / STEPS,
        "dev": dpo["evaluation_seconds"] / SCORED,
    }


def _sizes(config: Config) -> dict[str, int]:
    """Return the number of examples of each split that a run reads."""
    task = make_task(config)
    return {split: len(task.examples(split)) for split in ("train", "dev")}


def _seconds(config: Config, speed: dict[str, float], size: dict[str, int]) -> float:
    steps = -(-size["train"] // config.batch_size)
    evaluations = config.epochs // config.evaluate_every + 1
    return (
        steps * config.switch_epoch * speed["sft"]
        + steps * (config.epochs - config.switch_epoch) * speed["dpo"]
        + evaluations * size["dev"] * speed["dev"]
    )
