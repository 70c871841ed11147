"""What a run's policy says of rows without answers: `python -m experiments.predict --run RUN`.

    --data quora-test-student.csv --out predictions.csv                     a label for each id
    --data sonnets_held_out.txt --out predictions.txt --format course       eleven lines for three

The format "course" is that of Stanford CS224N's default project: for paraphrase a line
"id \\t Predicted_Is_Paraphrase", then "id, token" with the token 8505 for yes and 3919 for no; for
sonnets "--Generated Sonnets--", then each number above its sonnet.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.run.command import command_line
from experiments.run.display import printable
from experiments.run.loading import load_run
from experiments.run.option_types import checked
from experiments.run.plan import chosen_device
from experiments.run.record import read_run
from experiments.run.seeds import torch_generator
from experiments.run.source import options_of, policy_folder
from lora import FUSED
from minigpt import accelerate
from minigpt.errors import InputError, listed
from minigpt.files import write_text
from tasks import Task
from tasks.base import Predictions
from tasks.registry import task_class

OF_ROWS = ("train", "dev", "test", "fold")  # options that say which rows a task has


@dataclass(frozen=True)
class PredictConfig:
    """Let a run's policy answer the rows of a file, and write what it says."""

    run: Path
    """Folder of a run on paraphrase, choice or sonnet."""
    data: Path
    """File with the rows: question pairs, the columns of the template, or sonnets' first lines."""
    out: Path
    """File to write; it must not be there yet."""
    format: Literal["csv", "course"] = "csv"
    """csv, or the course's own format for paraphrase and sonnet."""
    which: Literal["best", "last", "reference"] = "best"
    """The policy of the best epoch on dev, of the last, or the one that DPO started from."""
    base: str | None = None
    """Where the base of adapters lies; None: where the run found it."""
    seed: int = 0
    """Decides what is sampled."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; None: cuda where there is one."""


def run(config: PredictConfig) -> Predictions:
    """Write the predictions and return them; what cannot be read is printed.

    Raises InputError for options without sense, before a model is loaded, for a task without
    predictions, and for a file that cannot be read.
    """
    config = checked(config)
    device = _check(config)
    task = _task(config.run)
    model, tokenizer, _ = load_run(config.run, config.which, base=config.base, device=device)
    accelerate(model, FUSED)
    generator = torch_generator(config.seed, "predictions", device=device)
    found = task.predict(model, tokenizer, config.data, generator=generator)
    write_text(config.out, found.course if config.format == "course" else _table(found))
    for sentence in found.told:
        print(printable(sentence))
    empty = [row[0] for row in found.rows if not row[1]]
    print(f"{config.out}: {len(found.rows) - len(empty):,} predictions for {len(found.rows):,} ids")
    if empty:
        missing = "left out" if config.format == "course" else "left empty"
        print(f"{missing}, as they cannot be read: {listed(empty, 20)}")
    return found


def _check(config: PredictConfig) -> str:
    """Return the device; InputError for options without sense."""
    device = chosen_device(config.device)
    policy_folder(config.run, config.which)
    task = task_class(options_of(config.run).task)
    if config.format not in task.predictions:
        raise InputError(
            f"the task {task.name!r} has no predictions in the format {config.format}; "
            f"expected {' or '.join(task.predictions) or 'another task'}"
        )
    if not config.data.is_file():
        raise InputError(f"there is no file {config.data}; expected one with rows to predict")
    if config.out.exists():
        raise InputError(f"{config.out} is there already; expected the name of a new file")
    if not config.out.absolute().parent.is_dir():
        raise InputError(f"there is no folder {config.out.parent}; expected one to write to")
    return device


def _task(run: Path) -> Task:
    """The run's task, without the rows that it was trained on."""
    options, told = options_of(run), read_run(run).get("task_options")
    if told is None:  # as in runs of before
        given = options.task_options().items()
        told = {name: v for name, v in given if v is not None and name not in OF_ROWS}
    return task_class(options.task).for_predictions(**told)


def _table(found: Predictions) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([found.columns, *found.rows])
    return text.getvalue()


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(PredictConfig, run, argv)


if __name__ == "__main__":
    main()
