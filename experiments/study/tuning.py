"""Learning rates, and DPO's beta, by a stated budget that is the same for every arm.

LoRA wants a higher rate than full fine-tuning, each rank, adapter and loss its own, so one rate for
all, or a rate tuned for some, would decide a comparison before it is made. Every search has as many
runs (`search`), each over the study's own epochs. No value is used to score what it was tuned on:

- In a study with folds, these make PARTS parts. What is used where a fold of one part is dev is
  tuned without that part: dev is the next fold, and the others are trained on.
- In a study without, the training split alone makes FOLDS, of which the first is dev.

SFT's rate and beta are chosen by the task's headline after the last epoch. DPO's rate is not, nor
that of its relatives: on the sonnets the headline is SFT's own objective, and of what a preference
loss costs there the least is had at a rate that does nothing. So it is chosen by its own loss on
held-out pairs, which a rate too low leaves as it was, and a rate too high makes larger.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from experiments.run.config import Config, flat_options, make_config
from experiments.run.plan import with_defaults
from experiments.study.arms import Arm, Study, place
from experiments.study.runner import CarryOut
from experiments.study.search import best_value, next_values
from experiments.study.trials import Trial, read_trial, try_all
from experiments.study.tuned import OPTIONS, Tuned, kind_of, with_tuned
from minigpt.download import Absent, offline
from minigpt.errors import InputError
from objectives import PreferenceConfig
from tasks.registry import task_class

PARTS = 3  # of a study's folds; of each, two thirds of the folds are left to tune on
FOLDS = 5  # of the training split


class Part(NamedTuple):
    """Folds, and what is tuned on to be used where one of them is dev."""

    folds: tuple[int, ...] | None  # as in Tuned
    data: dict  # options of a run


@dataclass(frozen=True)
class Search:
    """An option of one kind of arm, searched on data apart from those where it will be used."""

    option: str
    kind: str
    folds: tuple[int, ...] | None  # as in Tuned
    config: Config  # its run at the default value, in the folder of all runs

    @property
    def default(self) -> float:
        return flat_options(self.config)[self.option]

    def run_at(self, value: float) -> Config:
        """Return the run that tries a value."""
        options = flat_options(self.config) | {self.option: value}
        return place(make_config(**options), self.config.out)


class Found(NamedTuple):
    """What a search has tried, by value."""

    search: Search
    trials: dict[float, Trial]

    @property
    def quality(self) -> dict[float, float]:
        return {value: trial.quality for value, trial in self.trials.items()}

    @property
    def tuned(self) -> Tuned:
        search = self.search
        return Tuned(search.option, search.kind, best_value(self.quality), search.folds)


def tune(
    base: Study, studies: Sequence[Study], runs: int, carry_out: CarryOut
) -> tuple[Study, list[Found]]:
    """Return `base` at the values that were found for the arms of studies with its options.

    They were found by as many `runs` in every search, which come with them. `carry_out` does those
    that are missing.
    """
    arms = [arm for study in studies for arm in study.arms()]
    found: list[Found] = []
    for option in OPTIONS:  # each at the best of those before
        searches = [Found(search, {}) for search in _searches(option, base, arms, found)]
        while asked := [
            (one, value, one.search.run_at(value))
            for one in searches
            for value in next_values(one.quality, default=one.search.default, runs=runs)
        ]:
            try_all([config for _, _, config in asked], carry_out)
            for one, value, config in asked:
                one.trials[value] = read_trial(config.out, option, task_class(base.task))
        found += searches
    return replace(base, tuned=tuple(one.tuned for one in found)), found


def planned_runs(base: Study, studies: Sequence[Study], runs: int) -> list[Config]:
    """Return as many runs as `tune` does, at the values that it would try if none were better.

    The arms that depend on data that are not here are left out.
    """
    arms = []
    for study in studies:
        with offline(), suppress(Absent):
            arms += study.arms()
    planned = []
    for option in OPTIONS:
        for search in _searches(option, base, arms, []):
            tried: dict[float, float] = {}
            while values := next_values(tried, default=search.default, runs=runs):
                tried |= dict.fromkeys(values, 0.0)
            planned += [search.run_at(value) for value in tried]
    return planned


def _searches(
    option: str, base: Study, arms: Sequence[Arm], so_far: Sequence[Found]
) -> list[Search]:
    """Return the searches for an option: of every kind of arm that has a use for it."""
    kinds: dict[str, Config] = {}
    for arm in arms:
        kind = kind_of(arm.config, option)
        if kind and option not in arm.fixed:
            kinds.setdefault(kind, arm.config)
    searches = []
    for part in parts_of(base.folds):
        its_own = [one.tuned for one in so_far if one.search.folds == part.folds]
        for kind, config in kinds.items():
            like = with_defaults(with_tuned(_run_like(config, option, base, part), its_own))
            searches.append(Search(option, kind, part.folds, like))
    return searches


def parts_of(folds: int | None) -> list[Part]:
    """Return on which data is tuned what is used on which; InputError for too few folds."""
    if folds is None:
        return [Part(None, {"folds": FOLDS, "fold": 0, "folds_of": "train"})]
    if folds < PARTS:
        raise InputError(
            f"--folds is {folds}; expected {PARTS} or more, since what is used on a fold is tuned "
            "on others (--no-tune does not)"
        )
    parts = [tuple(part.tolist()) for part in np.array_split(range(folds), PARTS)]
    return [
        Part(part, {"folds": folds, "fold": (part[-1] + 1) % folds, "held_back": part})
        for part in parts
    ]


def _run_like(arm: Config, option: str, base: Study, part: Part) -> Config:
    """Return a run of an arm's method, and of its loss unless it is SFT's rate that is searched."""
    options = {name: getattr(arm, name) for name in ("parameterization", "lora", "lora_plus")}
    if option != "sft_learning_rate":
        options["switch_epoch"] = min(base.early_switch, base.epochs - 1)
        options["preference"] = PreferenceConfig(arm.preference.loss)
    fewer = {
        name: min(most, getattr(base, name) or most)
        for name, most in task_class(base.task).tuning.items()
    }
    return replace(
        base.arm("").config,
        **options,
        **fewer,
        **part.data,
        seed=base.seeds[0],
        evaluate_every=base.epochs,
        headline_only=True,
        out=base.out,
    )
