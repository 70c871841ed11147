"""Reading Quora's question pairs, from the official release or from the course's files.

The course's files come split. The official release does not; a pair's split is then drawn from its
text, so that it never depends on the order of a file. That is a random split of pairs, as the
paper's is, and it leaks as the paper's does: many questions occur in several pairs, so a question
of the dev set may have been seen in training beside another.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from minigpt.download import cache_folder, fetch
from minigpt.errors import InputError, listed
from tasks.accounts import FileAccount
from tasks.table import Row, read_table, stray_note
from tasks.text import read_text

OFFICIAL_FILE = "quora_duplicate_questions.tsv"
COURSE_FILES = {
    "train": "quora-train.csv",
    "dev": "quora-dev.csv",
    "test": "quora-test-student.csv",
}
ADDRESS = (
    "https://raw.githubusercontent.com/cfifty/public_cs224n_gpt/"
    "7570cfa4385f3417298573c770df5ddfe2d97f89/data/"
)
GIT_BLOB_SHA1 = {
    "train": "1f2e73b884113e629e2786001fb9cc8ae4a696c1",
    "dev": "97f9430a53b7f5544f857ff27a236c40bb42b5c7",
    "test": "a1b1e5ba3ef282ba1e9b169c509eb80dbbc68666",
}
QUESTION_COLUMNS = [("question1", "question2"), ("sentence1", "sentence2")]
LABEL_COLUMN = "is_duplicate"
LONGEST_SHOWN = 40  # characters of a column's name in an error
LABELS = {"0": False, "0.0": False, "1": True, "1.0": True}


class QuestionPair(NamedTuple):
    """Two questions, and whether they ask the same."""

    first: str
    second: str
    duplicate: bool

    @property
    def draw(self) -> float:
        """A number in [0, 1) that follows from the questions, whichever comes first."""
        text = "\n".join(sorted([self.first, self.second]))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    @property
    def split(self) -> str:
        """The split of a pair that comes without one: 5 % dev, 5 % test, the rest train."""
        draw = self.draw
        return "dev" if draw < 0.05 else "test" if draw < 0.10 else "train"


def split_file(data: Path | None, split: str) -> tuple[Path, bool]:
    """Return the file that holds a split, and whether it holds nothing else.

    Without `data` it is the course's file, fetched on first use. Raises InputError when `data` is
    neither a file nor a folder with the official file or the course's.
    """
    if data is None:
        name = COURSE_FILES[split]
        path = cache_folder() / "quora" / name
        return fetch(ADDRESS + name, path, git_blob_sha1=GIT_BLOB_SHA1[split]), True
    if data.is_file():
        return data, False
    if any((data / name).is_file() for name in COURSE_FILES.values()):
        return data / COURSE_FILES[split], True
    if (data / OFFICIAL_FILE).is_file():
        return data / OFFICIAL_FILE, False
    raise InputError(
        f"{data} holds no question pairs; expected {OFFICIAL_FILE}, "
        f"or a folder with it or with {', '.join(COURSE_FILES.values())}"
    )


def read_pairs(path: Path) -> tuple[list[QuestionPair], FileAccount]:
    """Return the pairs of a tab-separated file, and what became of each of its rows.

    White space inside questions, line breaks included, becomes single spaces. Raises InputError
    when the file is not what it should be.
    """
    rows = read_table(read_text(path))
    header = next(rows, Row(1, [], [])).fields
    columns = _columns(path, header)
    pairs, account, stray = [], FileAccount(), []
    for row in rows:
        stray += row.stray_quotes
        pair = _pair(row.fields, columns, header)
        if isinstance(pair, QuestionPair):
            pairs.append(pair)
        else:
            account.skipped[pair] += 1
    account.used = len(pairs)
    if stray:
        account.notes.append(stray_note(stray))
    if not pairs:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in account.skipped.items()) or "none"
        raise InputError(
            f"{path} holds no usable pair in {account.rows:,} rows (skipped: {reasons}); "
            "expected some"
        )
    return pairs, account


def _columns(path: Path, header: list[str]) -> list[int]:
    """Return where the two questions and the label stand."""
    for first, second in QUESTION_COLUMNS:
        names = [first, second, LABEL_COLUMN]
        if set(names) <= set(header):
            return [_column(path, header, name) for name in names]
        if {first, second} <= set(header):
            raise InputError(
                f"{path}, line 1: there is no column {LABEL_COLUMN}, so nothing can be scored "
                "on this file; expected labels (the course keeps those of its test set)"
            )
    expected = " or ".join(", ".join(names) for names in QUESTION_COLUMNS)
    shown = [repr(name[:LONGEST_SHOWN])[1:-1] for name in header]  # control characters escaped
    raise InputError(
        f"{path}, line 1: the columns are {listed(shown) or 'none at all'}; "
        f"expected {expected}, each with {LABEL_COLUMN}, separated by tabs"
    )


def _column(path: Path, header: list[str], name: str) -> int:
    if header.count(name) > 1:
        raise InputError(
            f"{path}, line 1: {header.count(name)} columns are called {name}; expected one"
        )
    return header.index(name)


def _pair(row: list[str], columns: list[int], header: list[str]) -> QuestionPair | str:
    """Return the pair in a row, or why there is none."""
    if len(row) == 1 and not row[0].strip():
        return "blank line"
    if row == header:
        return "header again"
    if len(row) != len(header):
        return "wrong number of fields"
    first, second, label = (row[column] for column in columns)
    if "\t" in first + second:
        return "tab inside a question"
    if not label.strip():
        return "no label"
    if label.strip() not in LABELS:
        return "label is not 0 or 1"
    if not first.strip() or not second.strip():
        return "empty question"
    return QuestionPair(" ".join(first.split()), " ".join(second.split()), LABELS[label.strip()])
