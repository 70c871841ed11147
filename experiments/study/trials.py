"""The runs of a search: those that diverge are no failure, but the worst there is."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.run.config import Config
from experiments.run.divergence import has_stopped, loss_rose
from experiments.run.evaluation import evaluations
from experiments.run.keeping import clear
from experiments.run.metrics_log import STEP, read_finished
from experiments.run.record import read_run
from experiments.study.runner import CarryOut
from experiments.study.search import DIVERGED
from minigpt.errors import InputError
from tasks import Task

HELD_OUT_LOSS = "eval_loss"  # of the preference loss, by TRL's name


class Trial(NamedTuple):
    """What came of a value that was tried."""

    folder: Path  # of the run
    diverged: str | None  # in which way it did
    scores: dict[str, float]  # after the last epoch, by the headline's name or HELD_OUT_LOSS
    quality: float  # by which values are compared; more is better


def try_all(configs: Sequence[Config], carry_out: CarryOut) -> None:
    """Do the runs that are missing, but none again that has diverged: it would once more.

    Raises what `carry_out` raises for any other reason.
    """
    waiting = _not_diverged(configs)
    if not waiting:
        return
    try:
        carry_out(waiting)
    except InputError:
        if len(_not_diverged(waiting)) == len(waiting):
            raise
        try_all(waiting, carry_out)


def _not_diverged(configs: Sequence[Config]) -> list[Config]:
    """Return the runs but for those that diverged, of which their records alone are kept."""
    left = []
    for config in configs:
        if (config.out / "run.json").is_file() and has_stopped(read_run(config.out)):
            clear(config.out, "nothing")
        else:
            left.append(config)
    return left


def read_trial(folder: Path, option: str, task: type[Task]) -> Trial:
    """Return what came of a run that tried a value of an option.

    Raises InputError for a run without held-out pairs, where DPO's rate is chosen by them.
    """
    record = read_run(folder)
    if has_stopped(record):
        return Trial(folder, "stopped, not finite", {}, DIVERGED)
    lines = read_finished(folder, record)
    last = evaluations(lines)[-1]
    scores = {task.headline: last["scores"][task.headline]["value"]}
    if HELD_OUT_LOSS in last:
        scores[HELD_OUT_LOSS] = last[HELD_OUT_LOSS]
    steps = [line for line in lines if line["kind"] == STEP and line["phase"] == last["phase"]]
    if loss_rose([step["loss"] for step in steps]):
        return Trial(folder, "the loss rose", scores, DIVERGED)
    if not all(map(math.isfinite, scores.values())):
        return Trial(folder, "a score is not finite", scores, DIVERGED)
    if option != "dpo_learning_rate":
        sign = 1 if task.metrics[task.headline].larger_is_better else -1
        return Trial(folder, None, scores, sign * scores[task.headline])
    if HELD_OUT_LOSS not in scores:
        raise InputError(
            f"the run in {folder} has no held-out pairs, by which DPO's rate is chosen; expected "
            "examples of dev that make some (--no-tune needs none)"
        )
    return Trial(folder, None, scores, -scores[HELD_OUT_LOSS])
