"""All examples are read before anything is trained, and what became of every row is told."""

from tasks import Task
from tasks.base import SPLITS


def account_for(task: Task) -> dict:
    """Read every split that is scored, and return what became of all rows, for run.json.

    The record holds the number of examples of each split, why the others are not scored, how the
    splits were drawn where one file holds several, what training has seen of the other splits, and
    each file's account. Raises InputError for
    a split that cannot be used, so that none is found out after training.
    """
    scored = [split for split in SPLITS if split in task.scored_splits]
    return {
        "examples": {split: len(task.examples(split)) for split in scored},
        "not_scored": {s: task.why_not_scored(s) for s in SPLITS if s not in scored},
        "drawn": task.drawn,
        "leaks": {split: told for split in scored[1:] if (told := task.leak(split))},
        "files": {name: account.record() for name, account in task.accounts.items()},
    }


def account_lines(account: dict) -> list[str]:
    """Return what `account_for` found as lines to print, each under its heading."""
    examples = ", ".join(f"{split} {n:,}" for split, n in account["examples"].items())
    lines = [f"examples   {examples}"]
    lines += [f"not scored {split}: {reason}" for split, reason in account["not_scored"].items()]
    if account["drawn"]:
        lines.append(f"splits     {account['drawn']}")
    lines += [f"leak       {told}" for told in account["leaks"].values()]
    for name, file in account["files"].items():
        unit = file["unit"]
        lines.append(f"read       {name}: {file['used']:,} of {file['rows']:,} {unit} are used")
        for reason, rows in file["skipped"].items():
            lines.append(f"skipped    {rows:,} {unit} of {name}: {reason}")
        lines += [f"note       {name}: {note}" for note in file["notes"]]
    return lines
