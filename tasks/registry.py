"""The tasks by name."""

from pathlib import Path

from minigpt.errors import InputError
from tasks.base import Task
from tasks.paraphrase import ParaphraseTask
from tasks.sonnet import SonnetTask

TASKS = {task.name: task for task in (ParaphraseTask, SonnetTask)}


def get_task(
    name: str,
    data: str | Path | None = None,
    *,
    limits: dict[str, int | None] | None = None,
) -> Task:
    """The task called `name`, on a file or folder `data`, or on its own data when that is None.

    `limits` maps a split to the number of examples to keep of it. Raises InputError for a name
    that no task has.
    """
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}; expected one of {', '.join(TASKS)}")
    return TASKS[name](data, limits=limits)
