"""Rows without right answers, to be predicted: each keeps its id, whether it can be read or not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from minigpt.errors import InputError
from tasks.accounts import FileAccount
from tasks.choice.rows import Unlabelled
from tasks.own.reading import read_rows
from tasks.own.rows import BadRow

ID = "id"  # the column that names a row; without it a row's number does


def read_unlabelled(
    path: Path, texts: Callable[[dict[str, Any]], tuple[str, ...]]
) -> tuple[list[Unlabelled], list[str]]:
    """Return the rows of a file in their order, and in sentences what cannot be read.

    `texts` takes from a row what a prompt is made of; BadRow where it cannot. Raises InputError for
    a file without any row of use.
    """
    account, rows = FileAccount(), []
    for number, entry in enumerate(read_rows(path, account), start=1):
        found = None
        try:
            found = texts(entry.values)
        except BadRow as bad:
            account.skip(bad.reason, entry.where, bad.detail)
        name = entry.values.get(ID, number + account.malformed)  # malformed rows count
        rows.append(Unlabelled(str(name), found))
    if all(row.texts is None for row in rows):
        reasons = "; ".join(account.notes) or "it is empty"
        raise InputError(f"{path} has no row to predict ({reasons}); expected some")
    told = [f"{n:,} rows cannot be read, {reason}" for reason, n in account.skipped.items()]
    return rows, [f"{path.name}: {sentence}" for sentence in (*told, *account.notes)]
