"""What no learning scores: `python -m experiments.floors --task sonnet`.

A score means little until one knows what copying, guessing and the gold text itself score under
the same protocol.
"""

from dataclasses import dataclass, field
from pathlib import Path

from experiments.run.command import command_line
from experiments.run.display import align, show_floor
from experiments.run.flags import RowsConfig, RowsFlags
from experiments.run.option_types import checked
from experiments.run.reading import account_for, account_lines
from experiments.run.seeds import numpy_generator
from minigpt.errors import InputError
from tasks import Task, get_task


@dataclass(frozen=True)
class FloorsConfig:
    """Score the floors, which need no model, and the gold text."""

    task: str = "sonnet"
    """The task, such as sonnet, paraphrase or preference."""
    data: Path | None = None
    """File or folder with the task's data; None: the sonnets in the package, Quora by download."""
    split: str = "dev"
    """dev, or test where its right answers are known."""
    train_examples: int | None = None
    """Learn the paraphrase floors from so many training pairs only, those of a run's limit."""
    seed: int = 0
    """Decides what the random floors draw."""
    rows: RowsFlags = field(default_factory=RowsConfig)
    """Which rows of one's own are whose."""


def run(config: FloorsConfig) -> dict[str, dict[str, float]]:
    """Print and return the floors and the ceiling: name -> metric -> value.

    Raises InputError for options without sense.
    """
    config = checked(config)
    limits = {"train": config.train_examples}
    task = get_task(config.task, config.data, limits=limits, **vars(config.rows))
    account = account_for(task)
    if config.split not in account["examples"]:
        reason = account["not_scored"].get(config.split, "there is no such split")
        raise InputError(
            f"--split is {config.split!r} ({reason}); expected {' or '.join(account['examples'])}"
        )
    generator = numpy_generator(config.seed, "floors")
    rows = task.floors(config.split, generator=generator) | task.ceilings(config.split)
    print("\n".join(account_lines(account)))
    print(table(rows, task))
    return rows


def table(rows: dict[str, dict[str, float]], task: Task) -> str:
    """Return a line per floor, a column per metric; ± is the standard deviation over draws."""
    known = {name for floor in rows.values() for name in floor}
    shown = {name: score for name, score in task.metrics.items() if name in known}
    cells = [["", *(score.short for score in shown.values())]]
    for title, floor in rows.items():
        cells.append([title, *(show_floor(score, name, floor) for name, score in shown.items())])
    return "\n".join(align(cells))


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(FloorsConfig, run, argv)


if __name__ == "__main__":
    main()
