"""The tasks by name."""

import inspect
from pathlib import Path
from typing import Any

from minigpt.errors import InputError
from tasks.base import Task
from tasks.own.choice import ChoiceTask
from tasks.own.completion import CompletionTask
from tasks.own.preference import PreferenceTask
from tasks.own.rows import RowsTask
from tasks.own.sources import Rows
from tasks.paraphrase.task import ParaphraseTask
from tasks.sonnet.task import SonnetTask

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (ParaphraseTask, SonnetTask, PreferenceTask, ChoiceTask, CompletionTask)
}


def task_class(name: str) -> type[Task]:
    """Return the class of the task called `name`; InputError for a name that no task has."""
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}; expected one of {', '.join(TASKS)}")
    return TASKS[name]


def get_task(
    name: str,
    data: str | Path | None = None,
    *,
    limits: dict[str, int | None] | None = None,
    **options: Any,
) -> Task:
    """Return the task called `name`, on a file or folder `data`; None stands for its own data.

    `limits` maps a split to the number of examples to keep of it. `options` are the task's own
    (SonnetTask: n_samples, temperature, top_p); None stands for its default. Raises InputError for
    a name that no task has, an option that this one does not take, and no data where a task has
    none of its own.
    """
    task = task_class(name)
    given = {option: value for option, value in options.items() if value is not None}
    known = [p for p in inspect.signature(task).parameters if p not in ("data", "limits")]
    for option in given:
        if option not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise InputError(f"the task {name!r} has no option {option!r}; expected {expected}")
    return task(data, limits=limits, **given)


def from_rows(
    kind: str,
    train: Rows,
    dev: float | Rows | None = None,
    test: float | Rows | None = None,
    *,
    limits: dict[str, int | None] | None = None,
    **options: Any,
) -> Task:
    """Return the task called `kind` on rows in memory: any iterable of dicts, gone through once.

    `dev` and `test` are rows as well, or shares of `train`. A `datasets.Dataset` works as it is.
    Raises InputError for a task that is not made of rows.
    """
    if not issubclass(task_class(kind), RowsTask):
        names = [name for name, task in TASKS.items() if issubclass(task, RowsTask)]
        raise InputError(f"the task {kind!r} is not made of rows; expected {' or '.join(names)}")
    return get_task(kind, limits=limits, train=train, dev=dev, test=test, **options)
