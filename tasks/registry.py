"""The tasks by name."""

import inspect
from pathlib import Path

from minigpt.errors import InputError
from tasks.base import Task
from tasks.paraphrase.task import ParaphraseTask
from tasks.sonnet.task import SonnetTask

TASKS: dict[str, type[Task]] = {task.name: task for task in (ParaphraseTask, SonnetTask)}


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
    **options: int | float | None,
) -> Task:
    """Return the task called `name`, on a file or folder `data`; None stands for its own data.

    `limits` maps a split to the number of examples to keep of it. `options` are the task's own
    (SonnetTask: n_samples, temperature, top_p); None stands for its default. Raises InputError for
    a name that no task has and an option that this one does not take.
    """
    task = task_class(name)
    given = {option: value for option, value in options.items() if value is not None}
    known = [p for p in inspect.signature(task).parameters if p not in ("data", "limits")]
    for option in given:
        if option not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise InputError(f"the task {name!r} has no option {option!r}; expected {expected}")
    return task(data, limits=limits, **given)
