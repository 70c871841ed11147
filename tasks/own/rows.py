"""What the tasks on users' own rows share: reading, splitting, and telling what became of a row."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minigpt.errors import InputError
from tasks.accounts import FileAccount
from tasks.base import SPLITS, Example, Task, check_split
from tasks.own.reading import Entry, check_read, read_rows, rows_in_memory
from tasks.own.sources import Rows, Source, find_sources, name_of
from tasks.own.store import StoredRows, TextStore
from tasks.splits import Fold, components, draw_splits, group_key, text_hash


class BadRow(ValueError):
    """A row of no use: why, and whether it is malformed, no row of such a file at all."""

    def __init__(self, reason: str, *, malformed: bool = False, detail: str = ""):
        super().__init__(reason)
        self.reason, self.malformed, self.detail = reason, malformed, detail


def text_in(values: dict[str, Any], column: str) -> str:
    """Return the text in a column; BadRow where there is none."""
    value = values.get(column)
    if value is None:
        raise BadRow(f"no {column}", malformed=column not in values)
    if not isinstance(value, str):
        kind = type(value).__name__
        raise BadRow(f"{column} is not text", malformed=True, detail=kind)
    return value


@dataclass
class _Table:
    """The rows of use of one source: their texts, and their hashes, 8 bytes each."""

    store: TextStore
    keys: array = field(default_factory=lambda: array("Q"))  # of the texts that tie rows together
    hashes: array = field(default_factory=lambda: array("Q"))  # of the whole rows

    def keys_of_rows(self) -> np.ndarray:
        """Return the hashes of each row's ties: (N, K)."""
        return np.frombuffer(self.keys, dtype=np.uint64).reshape(len(self.store), -1)

    def hash_of(self, numbers: np.ndarray) -> np.ndarray:
        return np.frombuffer(self.hashes, dtype=np.uint64)[numbers]


class RowsTask(Task):
    """A task whose examples are rows of files or of memory; `tasks.from_rows` makes it of both.

    `data`, `train`, `dev` and `test` say where rows come from (`find_sources`); `limits` keeps only
    so many of a split: the same in every run, and a smaller limit's are among a larger one's. With
    a `fold`, dev is that fold of the rows for train, and no other rows are read. A
    subclass names the `columns`, and says what it takes from a row (`texts`), by which texts rows
    belong together (`ties`), and what example that makes (`example`). Raises InputError for rows
    that cannot be used.
    """

    needs_data = True
    columns: ClassVar[tuple[str, ...]]  # that every row needs
    width: ClassVar[int]  # texts that are kept of a row
    shared = "a text"  # that ties rows to one another
    together = "by a text that they share"

    def __init__(
        self,
        data: str | Path | None = None,
        *,
        limits: dict[str, int | None] | None = None,
        train: str | Path | Rows | None = None,
        dev: str | float | Path | Rows | None = None,
        test: str | float | Path | Rows | None = None,
        fold: Fold | None = None,
    ):
        folded = fold is not None and not fold.of_train
        given, shares = find_sources(data, train, dev, test, folded=folded)
        if fold:
            given = {"train": given["train"]}
        self.fold = fold
        self.accounts: dict[str, FileAccount] = {}
        self._tables: dict[str, _Table] = {}
        self._leaks: dict[str, str] = {}
        self._names: dict[str, str] = {}  # split -> the name of its account
        for split, source in given.items():
            self._read(split, source)
        self._numbers = self._split(shares)
        self.scored_splits = tuple(split for split in SPLITS if len(self._numbers.get(split, ())))
        self._tell_repetitions()
        for split, limit in (limits or {}).items():
            self._limit(split, limit)

    def rows_of(self, entry: Entry) -> Iterable[Entry]:
        """Return the rows that an entry of a source makes: itself."""
        return [entry]

    def texts(self, values: dict[str, Any]) -> tuple[str, ...]:
        """Return what is kept of a row, `width` texts; BadRow where it is of no use."""
        raise NotImplementedError

    def ties(self, *texts: str) -> tuple[str, ...]:
        """Return the texts by which rows belong together, as many for every row: the first."""
        return texts[:1]

    def example(self, *texts: str) -> Example:
        """Return the example that a row's texts make."""
        return Example(*texts)

    def rows(self, split: str, make: Callable[..., Any]) -> Sequence[Any]:
        """Return the rows of a split, each as `make` makes it of its texts when it is asked for."""
        check_split(split)
        if split not in self.scored_splits:
            raise InputError(f"there are no rows for {split!r}; expected {self._expected(split)}")
        table = self._tables.get(split, self._tables["train"])
        return StoredRows(table.store, self._numbers[split], make)

    def examples(self, split: str) -> Sequence[Example]:
        """Return the examples of a split, which are read from the disk one by one."""
        return self.rows(split, self.example)

    def contents(self, split: str) -> Sequence[tuple[str, ...]]:
        """Return all that is kept of a split's rows."""
        return self.rows(split, lambda *texts: texts)

    def groups(self, split: str) -> np.ndarray:
        """Return the group of each row of a split, (N,); rows that share a text are in one."""
        table = self._tables.get(split, self._tables["train"])
        return components(table.keys_of_rows()[self._numbers[split]])

    def why_not_scored(self, split: str) -> str:
        """Return why a split has no rows."""
        return f"there are none; expected {self._expected(split)}"

    def leak(self, split: str) -> str | None:
        """Return how many rows share a text with training; None for a split that was drawn."""
        return self._leaks.get(split)

    def _expected(self, split: str) -> str:
        return f"--{split} with a file or a share"

    def _read(self, split: str, source: Source) -> None:
        """Read a source to its end, and keep what is of use."""
        name = name_of(split, source)
        if name in self.accounts:  # a file of that name, or this one, is another split's, too
            name = f"{name} for {split}"
        self._names[split] = name
        account = self.accounts[name] = FileAccount()
        is_file = isinstance(source, Path)
        entries = read_rows(source, account) if is_file else rows_in_memory(source, name)
        table = self._tables[split] = _Table(TextStore(self.width))
        found: tuple[str, ...] = ()  # columns of the first row
        for entry in entries:
            found = found or tuple(entry.values)
            for row in self.rows_of(entry):
                self._keep(row, table, account)
        self._check_source(split, name, found)

    def _check_source(self, split: str, name: str, found: tuple[str, ...]) -> None:
        """Raise InputError for a source without rows of use; its first row has columns `found`."""
        account = self.accounts[name]
        if not account.used and (missing := [c for c in self.columns if c not in found]) and found:
            raise InputError(
                f"{name} has the columns {', '.join(found)}; expected {', '.join(self.columns)}, "
                f"and there is no {' and no '.join(missing)}"
            )
        check_read(name, account)

    def _keep(self, entry: Entry, table: _Table, account: FileAccount) -> None:
        """Keep a row, or count it as skipped."""
        try:
            texts = self.texts(entry.values)
            table.store.append(texts)
        except BadRow as bad:
            skip = account.skip_malformed if bad.malformed else account.skip
            skip(bad.reason, entry.where, bad.detail)
        except UnicodeEncodeError:
            account.skip_malformed("not Unicode", entry.where, "half a surrogate pair")
        else:
            account.used += 1
            table.keys.extend(group_key(text) for text in self.ties(*texts))
            table.hashes.append(text_hash(*texts))

    def _split(self, shares: dict[str, float]) -> dict[str, np.ndarray]:
        """Return the numbers of each split's rows in the table that they lie in."""
        numbers = {split: np.arange(len(t.store)) for split, t in self._tables.items()}
        if not shares and not self.fold:
            return numbers
        groups = components(self._tables["train"].keys_of_rows())
        self._tell_largest(groups)
        drawn, splits = np.full(len(groups), "train"), ["train", *shares]
        if shares:
            drawn = draw_splits(groups, dev=shares.get("dev", 0.0), test=shares.get("test", 0.0))
            told = ", ".join(f"{100 * share:g} % {split}" for split, share in shares.items())
            told = f"about {told} by the hash of a text"
        if self.fold:
            drawn, splits = self.fold.split(groups, drawn), ["train", "dev"]
            told = str(self.fold)
            self.accounts[self._names["train"]].leave_out(sum(drawn == ""), self.fold.back)
        for split in splits:
            numbers[split] = np.flatnonzero(drawn == split)
            self._names[split] = self._names["train"]
        self.drawn = f"{told}; rows that share one stay together"
        return numbers

    def _tell_largest(self, groups: np.ndarray) -> None:
        """Note a group with more than half of the rows, as a column of few texts makes it."""
        largest = np.unique(groups, return_counts=True)[1].max(initial=0)
        if largest > len(groups) / 2:
            told = f"{largest:,} of {len(groups):,} rows hang together, {self.together}"
            self.note("train", f"{told}, and lie in one split")

    def _tell_repetitions(self) -> None:
        """Note how many rows of training repeat others; count how many of dev and test it has."""
        known = self._hashes("train")
        distinct = np.unique(known)
        if repeated := len(known) - len(distinct):
            self.note("train", f"{repeated:,} of {len(known):,} rows for train repeat another one")
        ties = self._tables["train"].keys_of_rows()
        for split in SPLITS[1:]:
            if split in self._tables:
                same = np.isin(self._hashes(split), distinct)
                tied = np.isin(self._tables[split].keys_of_rows(), ties).any(axis=1)
                told = f"{100 * tied.mean():.1f} % share {self.shared} with a row of train, and"
                told = f"{told} {100 * same.mean():.1f} % stand there whole"
                self._leaks[split] = f"of {len(tied):,} rows for {split} {told}"

    def note(self, split: str, note: str) -> None:
        """Tell something of a split's rows before training."""
        self.accounts[self._names[split]].notes.append(note)

    def _hashes(self, split: str) -> np.ndarray:
        table = self._tables.get(split, self._tables["train"])
        return table.hash_of(self._numbers[split])

    def _limit(self, split: str, limit: int | None) -> None:
        """Keep only the rows of a split with the lowest hashes, in their order."""
        numbers = self._numbers.get(split, np.arange(0))
        if limit is not None and len(numbers) > limit:
            reason = f"over the limit of {limit:,} for {split}"
            self.accounts[self._names[split]].leave_out(len(numbers) - limit, reason)
            lowest = np.argsort(self._hashes(split), kind="stable")[:limit]
            self._numbers[split] = numbers[np.sort(lowest)]
