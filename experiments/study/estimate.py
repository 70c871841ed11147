"""What a plan will take, from a moment's measurement."""

import contextlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from experiments.run.config import Config
from experiments.run.contents import data_options, read_task
from experiments.run.loop import run
from experiments.run.plan import resolve
from experiments.study.arms import Study
from experiments.study.runner import finished
from minigpt import GPT, pretrained_config, save_pretrained
from minigpt.download import Absent, offline

STEPS = 3  # of each phase in a measurement
SCORED = 8  # dev examples in it


def print_plan(studies: Sequence[Study], jobs: int, *, before: Sequence[Config] = ()) -> None:
    """Print every run with its estimated minutes, and how long all of them will take.

    `before` are runs before those of the studies. Nothing is fetched, and nothing is written where
    it stays: what is not here yet is named, and the time of the runs on data that are not is not
    told.
    Raises InputError for a plan without sense.
    """
    estimate, total, unknown = RunTimes(), 0.0, False
    with offline():
        configs = [*before, *(config for study in studies for config in estimate.runs(study))]
        distinct = {config.out: config for config in configs}
        for path, config in distinct.items():
            seconds = estimate.seconds(config)
            total += seconds or 0.0
            unknown |= seconds is None
            minutes = "     ?" if seconds is None else f"{seconds / 60:6.1f}"
            print("finished  " if seconds == 0 else f"{minutes} min", path)
    for reason in estimate.absent:
        print(f"not here   {reason}")
    print(
        f"in all     {len(distinct)} runs, about {total / 60:.0f} minutes of work one after "
        f"another ({jobs} at a time)" + (", without those marked ?" if unknown else ""),
        flush=True,
    )


class RunTimes:
    """What runs will take; a kind of run is measured, and data are read, once."""

    def __init__(self) -> None:
        self.absent: dict[str, None] = {}  # what was looked for and is not here, as sentences
        self._speeds: dict[tuple, dict[str, float]] = {}
        self._sizes: dict[Config, dict[str, int]] = {}

    def runs(self, study: Study) -> list[Config]:
        """Return the study's runs, none if they depend on data that are not here."""
        try:
            study.check()
            return study.all_configs()
        except Absent as error:
            self.absent[f"{error}; the runs of {study.name} depend on it"] = None
            return []

    def seconds(self, config: Config) -> float | None:
        """Return how long a run will take, 0 if it is finished; None if that cannot be told."""
        data = data_options(config)
        kind = (config.task, config.model, config.parameterization, config.lora, config.precision)
        kind += (config.headline_only, config.samples)
        try:
            if finished(config):
                return 0.0
            if data not in self._sizes:
                self._sizes[data] = _sizes(config)
            if kind not in self._speeds:
                self._speeds[kind] = self._speed(config)
        except Absent as error:
            self.absent[str(error)] = None
            return None
        return _seconds(config, self._speeds[kind], self._sizes[data])

    def _speed(self, config: Config) -> dict[str, float]:
        """Return what `_measure` does, with random weights where the run's are not here."""
        try:
            return _measure(config)
        except Absent as error:
            self.absent[f"{error}; measured with random weights of the same shape"] = None
        shape = pretrained_config(resolve(config).source.weights)
        with tempfile.TemporaryDirectory() as folder:
            save_pretrained(GPT(shape, generator=torch.Generator().manual_seed(0)), folder)
            return _measure(replace(config, model=folder, base=None))


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
    task = read_task(config)
    return {split: len(task.examples(split)) for split in ("train", "dev")}


def _seconds(config: Config, speed: dict[str, float], size: dict[str, int]) -> float:
    steps = -(-size["train"] // config.batch_size)
    evaluations = sum(map(resolve(config).is_evaluated, range(config.epochs + 1)))
    return (
        steps * config.switch_epoch * speed["sft"]
        + steps * (config.epochs - config.switch_epoch) * speed["dpo"]
        + evaluations * size["dev"] * speed["dev"]
    )
