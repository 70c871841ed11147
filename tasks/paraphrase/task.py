"""Paraphrase: do two questions ask the same thing? The answer is one token, " yes" or " no"."""

from pathlib import Path

from minigpt.errors import InputError
from tasks.accounts import FileAccount
from tasks.base import SPLITS, check_split
from tasks.choice.cloze import ClozeTask
from tasks.choice.rows import Choice
from tasks.choice.template import Template
from tasks.paraphrase.leak import leak
from tasks.paraphrase.quora import COURSE_FILES, QuestionPair, read_pairs, split_file

# The prompt ends without a space because GPT-2's tokens begin with theirs: " yes" is one token
# after "?", but two after "? ".
TEMPLATE = "Question 1: {first}\nQuestion 2: {second}\nAre these questions asking the same thing?"
YES, NO = " yes", " no"


class ParaphraseTask(ClozeTask):
    """Answer whether two questions are duplicates.

    `data` is the official release (quora_duplicate_questions.tsv), or a folder with it or with the
    course's files; without it the course's files are fetched when a split is first asked for.
    `limits` keeps only so many pairs of a split: the same ones in every run, and a smaller limit's
    are among a larger one's.
    """

    name = "paraphrase"
    unit = "question pairs"
    tuning = {"epochs": 2, "train_examples": 4000, "dev_examples": 4000}
    template = Template(TEMPLATE)
    answers = (NO, YES)

    def __init__(
        self, data: str | Path | None = None, *, limits: dict[str, int | None] | None = None
    ):
        self.data = None if data is None else Path(data)
        self.limits = limits or {}
        self.accounts: dict[str, FileAccount] = {}
        self._pairs: dict[str, list[QuestionPair]] = {}

    @property
    def scored_splits(self) -> tuple[str, ...]:
        """All three of the official release; the course keeps the answers to its test set."""
        _, one_split = split_file(self.data, "train")
        return SPLITS[:2] if one_split else SPLITS

    @property
    def drawn(self) -> str | None:
        """How dev and test come out of a single file; None for the course's, which come split."""
        path, one_split = split_file(self.data, "train")
        if one_split:
            return None
        return f"all from {path.name}: each pair's text decides, 5 % are dev, 5 % test, 90 % train"

    def why_not_scored(self, split: str) -> str:
        """Return why test is not scored on the course's files."""
        return f"the course keeps the answers to its test set, {COURSE_FILES[split]}"

    def pairs(self, split: str) -> list[QuestionPair]:
        """Return the question pairs of a split; its file is read when it is first asked for."""
        check_split(split)
        if split not in self._pairs:
            self._read(*split_file(self.data, split), split)
        if not self._pairs[split]:
            read = [
                "; ".join([f"{account.used:,} pairs in {name} can be used", *account.notes])
                for name, account in self.accounts.items()
            ]
            raise InputError(
                f"{self.data} has no pairs for the split {split!r} ({'; '.join(read)}); "
                "expected more"
            )
        return self._pairs[split]

    def _read(self, path: Path, one_split: bool, split: str) -> None:
        pairs, account = read_pairs(path)
        self.accounts[path.name] = account
        for name in [split] if one_split else SPLITS:
            chosen = pairs if one_split else [pair for pair in pairs if pair.split == name]
            limit = self.limits.get(name)
            if limit is not None:
                account.leave_out(len(chosen) - limit, f"over the limit of {limit:,} for {name}")
                chosen = sorted(chosen, key=lambda pair: pair.draw)[:limit]
            self._pairs[name] = chosen

    def choices(self, split: str) -> list[Choice]:
        """Return the question pairs of a split, whose label is 1 where they are duplicates."""
        return [Choice(pair[:2], int(pair.duplicate)) for pair in self.pairs(split)]

    def leak(self, split: str) -> str:
        """Return how many pairs have questions that the training pairs have too."""
        return str(leak(self.pairs("train"), self.pairs(split)))
