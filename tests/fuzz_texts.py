"""Files of question pairs, sonnets and rows of one's own to damage, and what reading them may give.

A `check` reads the folder. It raises InputError, or else every row of the damaged file is used, or
left out for a reason that is told.
"""

import re
from collections.abc import Callable
from pathlib import Path

from tasks import get_task
from tasks.accounts import FileAccount
from tasks.own.reading import check_read, read_rows
from tasks.paraphrase.quora import OFFICIAL_FILE, read_pairs
from tasks.sonnet.shakespeare import SPLIT_FILES, split_sonnets

CASES = Path(__file__).parent / "cases"


def make_pairs(folder: Path) -> None:
    source = CASES / "quora-one-stray-quote" / OFFICIAL_FILE
    (folder / OFFICIAL_FILE).write_bytes(source.read_bytes())


def make_quoted_pairs(folder: Path) -> None:
    rows = [f'{i}\t"What ""is"" {i}?"\t"Who\nis {i}?"\t{i % 2}.0\n' for i in range(60)]
    text = "".join(["id\tsentence1\tsentence2\tis_duplicate\n", *rows])
    (folder / "quora-train.csv").write_text(text, encoding="utf-8")


def check_pairs(folder: Path, changed: str) -> None:
    (path,) = folder.iterdir()
    pairs, account = read_pairs(path)
    assert account.used == len(pairs)
    assert account.rows == account.used + sum(account.skipped.values())
    text = path.read_bytes().decode("utf-8-sig")
    if '"' not in text:  # then a row is a line, and what is used can be counted apart
        lines = re.split("\r\n|\r|\n", text)
        assert account.rows == len(lines) - 1 - (lines[-1] == "")
    for pair in pairs:
        assert pair.first.strip() and pair.second.strip() and "\t" not in pair.first


def make_sonnets(folder: Path) -> None:
    for path in (CASES / "sonnets-own-from-155").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())


def check_sonnets(folder: Path, changed: str) -> None:
    splits, accounts, _ = split_sonnets(folder)
    assert sum(map(len, splits.values())) == sum(a.used for a in accounts.values())
    text = (folder / (changed or SPLIT_FILES["train"])).read_bytes().decode("utf-8-sig")
    lines = [line.strip() for line in text.splitlines()]
    numbers = [line for line in lines if line.isdecimal() and len(line) <= 6]
    account = accounts[changed or SPLIT_FILES["train"]]
    assert account.rows == len(numbers) == len({int(n) for n in numbers})
    # Every other line that is not blank belongs to a sonnet or to the title.
    if not account.skipped:
        split = "train" if changed in ("", SPLIT_FILES["train"]) else "dev"
        title = sum(bool(line) for line in lines[: lines.index(numbers[0])])
        verses = sum(len(sonnet.lines) for sonnet in splits[split])
        assert title + len(numbers) + verses == sum(map(bool, lines))
        assert bool(title) == any("title" in note for note in account.notes)


def make_rows(name: str) -> Callable[[Path], None]:
    """Return the maker of a folder with one of the files of one's own data."""
    source = CASES / "own-data" / name
    return lambda folder: (folder / name).write_bytes(source.read_bytes())


def check_rows(folder: Path, changed: str) -> None:
    (path,) = folder.iterdir()
    account = FileAccount()
    for entry in read_rows(path, account):
        assert set(entry.values) and entry.where.startswith("line ")
        account.used += 1
    check_read(path.name, account)
    assert account.used and account.malformed <= account.rows / 10
    if path.suffix == ".jsonl":  # where a row is a line
        lines = path.read_bytes().split(b"\n")
        assert account.rows == len(lines) - (not lines[-1])
        task = get_task("preference", path)
        assert sum(len(task.examples(split)) for split in task.scored_splits) <= account.used
