"""What the report says of tuning: every run of every search, and what was chosen."""

from collections.abc import Sequence
from pathlib import Path

from experiments.run.tables import Link, Table
from experiments.study.arms import Study
from experiments.study.document import Block, Paragraph
from experiments.study.search import at_edge
from experiments.study.trials import HELD_OUT_LOSS, Trial
from experiments.study.tuning import PARTS, Found, parts_of
from tasks import Task
from tasks.registry import task_class

SHOWN = {"sft_learning_rate": "SFT's rate", "dpo_learning_rate": "DPO's rate", "beta": "beta"}
HOW = (
    "Every search has {runs} runs of the first seed over all epochs{fewer}, and no value is used "
    "to score what it was tuned on: {data}. The first three values are the default, a third of it"
    " and three times as much. The others follow one by one: three times beyond the edge if the "
    "best value lies there, else in the middle of the wider gap beside it. SFT's rate is searched"
    " for each method, then DPO's for each method and loss at the early handoff, which all "
    "handoffs use, then DPO's beta. SFT's rate and beta are chosen by {headline} after the last "
    "epoch, the rate of a preference loss by that loss on held-out pairs: a rate that does next "
    "to nothing would lose least of what SFT has learnt, and is no DPO. Losses of two betas do "
    "not compare, so that beta is chosen as SFT's rate is, which favours one that changes little."
    " A run whose numbers were no longer finite, or whose loss rose by a quarter on the way, has "
    "diverged and counts as worst. A value chosen at the edge, or beside one that diverged, may "
    "not be the best there is."
)


def tuning_blocks(base: Study, found: Sequence[Found]) -> list[Block]:
    """Return how studies with the options in `base` were tuned, and a row for every run."""
    task = task_class(base.task)
    rows, rules = [], set()
    for one in found:
        rules.add(len(rows))
        rows += [_row(one, value, task) for value in sorted(one.trials)]
    header = [
        f"{base.task}, {Path(base.model).name}",
        *(["where dev is"] if base.folds else []),
        "option",
        "value",
        task.metrics[task.headline].short,
        "held-out preference loss",
        "",
        "run",
    ]
    how = _how(base, task, runs=len(found[0].trials))
    return [Paragraph(how), Table(header, rows, rules=frozenset(rules - {0}))]


def tried_runs(tuning: Sequence[Block]) -> list[Path]:
    """Return the folders of the runs that the tables of `tuning_blocks` link to."""
    tables = [block for block in tuning if isinstance(block, Table)]
    cells = [cell for table in tables for row in table.rows for cell in row]
    return [cell.target.parent for cell in cells if isinstance(cell, Link)]


def _row(found: Found, value: float, task: type[Task]) -> list[str | Link]:
    search, trial = found.search, found.trials[value]
    score, loss = (trial.scores.get(name) for name in (task.headline, HELD_OUT_LOSS))
    return [
        search.kind,
        *([f"fold {', '.join(map(str, search.folds))}"] if search.folds else []),
        SHOWN[search.option],
        f"{value:.4g}",
        "" if score is None else task.metrics[task.headline].show(score),
        "" if loss is None else f"{loss:.4f}",
        _note(found, value, trial),
        Link("run", trial.folder / "run.json"),
    ]


def _note(found: Found, value: float, trial: Trial) -> str:
    notes = [f"diverged: {trial.diverged}"] if trial.diverged else []
    if value == found.tuned.value:
        notes.append("chosen, at the edge" if at_edge(found.quality) else "chosen")
    return "; ".join(notes)


def _how(base: Study, task: type[Task], *, runs: int) -> str:
    fewer = [f"{most:,} {name.replace('_', ' ')}" for name, most in task.tuning.items()]
    data = (
        f"the {base.folds} folds make {PARTS} parts, and a value is used where one of its folds is "
        "dev, but tuned without its part, on the fold after it, the others being trained on "
        f"({_others(base)} folds)"
        if base.folds
        else "a fifth of the training split is dev, the rest is trained on"
    )
    return HOW.format(
        runs=runs,
        fewer=f" (at most {' and '.join(fewer)})" if fewer else "",
        data=data,
        headline=task.metrics[task.headline].short,
    )


def _others(base: Study) -> str:
    """Return on how many folds tuning runs are trained."""
    numbers = sorted({base.folds - 1 - len(part.folds) for part in parts_of(base.folds)})
    return " or ".join(map(str, numbers))
