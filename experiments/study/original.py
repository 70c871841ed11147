"""The paper's own study: `python -m experiments.reproduce --paper`.

GPT-2 124M, all of Quora's training pairs (283,003 in the course's split) and the sonnets, and the
comparisons that the paper's headline is made of. Rates are tuned, and seeds repeated, as always.
"""

from dataclasses import replace
from typing import TypeVar

from minigpt.errors import InputError

Whole = TypeVar("Whole")  # the options of `experiments.reproduce`

MODELS = ("gpt2",)
PLAN = {"experiments": ("parameterization", "handoff_grid"), "epochs": 10}
OPTIONS = {
    "parameterization": {"ranks": (4, 8, 16)},
    "handoff_grid": {"switch_epochs": (0, 3, 9)},
}


def planned(config: Whole) -> Whole:
    """Return the paper's plan of the same tasks; InputError for one in small at the same time."""
    if config.smoke:
        raise InputError("--paper and --smoke are two plans; expected one of them")
    plans = {task: replace(config.plan(task), **PLAN) for task in config.tasks}
    return replace(config, models=MODELS, plans=plans)
