"""Paraphrase: do two questions ask the same thing? The answer is one token, " yes" or " no"."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minigpt import GPT
from minigpt.errors import InputError
from minigpt.tokenizer import Tokenizer
from tasks.accounts import FileAccount
from tasks.base import SPLITS, UNSEEN, Predictions, check_split
from tasks.choice.cloze import ClozeTask
from tasks.choice.floors import floor_predictions, prediction_scores
from tasks.choice.rows import Choice, Unlabelled
from tasks.choice.scores import CHOICE_SCORES
from tasks.choice.template import Template
from tasks.metric import Evaluation
from tasks.own.rows import BadRow, text_in
from tasks.own.unlabelled import read_unlabelled
from tasks.paraphrase.leak import leak, question_groups, seen_questions
from tasks.paraphrase.quora import (
    COURSE_FILES,
    QUESTION_COLUMNS,
    QuestionPair,
    read_pairs,
    split_file,
)
from tasks.splits import Fold

# The prompt ends without a space because GPT-2's tokens begin with theirs: " yes" is one token
# after "?", but two after "? ".
TEMPLATE = "Question 1: {first}\nQuestion 2: {second}\nAre these questions asking the same thing?"
YES, NO = " yes", " no"
# Of the pairs neither of whose questions training has: there `lookup` knows nothing.
UNSEEN_SCORES = {
    name: replace(
        CHOICE_SCORES[name],
        short=CHOICE_SCORES[name].short.replace(" %", ", unseen %"),
        long=CHOICE_SCORES[name].long.replace(", %", " where both questions are new, %"),
    )
    for name in ("accuracy", "macro_f1")
}
COURSE_TOKENS = {"0": 3919, "1": 8505}  # "no" and "yes", as the course's files of predictions say


class ParaphraseTask(ClozeTask):
    """Answer whether two questions are duplicates.

    `data` is the official release (quora_duplicate_questions.tsv), or a folder with it or with the
    course's files; without it the course's files are fetched when a split is first asked for.
    `limits` keeps only so many pairs of a split: the same ones in every run, and a smaller limit's
    are among a larger one's. With a `fold` the training file alone is read, and dev is that fold of
    its pairs; pairs that questions tie together are in one (`question_groups`).
    """

    name = "paraphrase"
    unit = "groups of question pairs"  # that questions tie together, as they are not independent
    metrics = CHOICE_SCORES | {f"{name}{UNSEEN}": score for name, score in UNSEEN_SCORES.items()}
    tuning = {"train_examples": 4000, "dev_examples": 4000}
    predictions = ("csv", "course")
    template = Template(TEMPLATE)
    labels = ("0", "1")
    answers = (NO, YES)

    def __init__(
        self,
        data: str | Path | None = None,
        *,
        limits: dict[str, int | None] | None = None,
        fold: Fold | None = None,
    ):
        self.data = None if data is None else Path(data)
        self.fold = fold
        self.limits = limits or {}
        self.accounts: dict[str, FileAccount] = {}
        self._pairs: dict[str, list[QuestionPair]] = {}
        # By split, as every evaluation asks for them.
        self._groups: dict[str, np.ndarray] = {}
        self._unseen: dict[str, np.ndarray] = {}

    @property
    def scored_splits(self) -> tuple[str, ...]:
        """All three of the official release; the course keeps the answers to its test set.

        Folds leave no test.
        """
        _, one_split = split_file(self.data, "train")
        return SPLITS[:2] if one_split or self.fold else SPLITS

    @property
    def drawn(self) -> str | None:
        """How the splits come out of a single file; None for the course's, which come split."""
        path, one_split = split_file(self.data, "train")
        if self.fold:
            return f"all from {path.name}: {self.fold}; pairs that share questions stay together"
        if one_split:
            return None
        return f"all from {path.name}: each pair's text decides, 5 % are dev, 5 % test, 90 % train"

    def why_not_scored(self, split: str) -> str:
        """Return why test is not scored on the course's files."""
        if self.fold:
            return "folds leave train and dev"
        return f"the course keeps the answers to its test set, {COURSE_FILES[split]}"

    def pairs(self, split: str) -> list[QuestionPair]:
        """Return the question pairs of a split; its file is read when it is first asked for."""
        check_split(split)
        if split not in self._pairs:
            self._read(*self._file(split), split)
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

    def _file(self, split: str) -> tuple[Path, bool]:
        """Return the file that a split is read from, and whether it holds nothing else."""
        path, one_split = split_file(self.data, "train" if self.fold else split)
        return path, one_split and not self.fold

    def _read(self, path: Path, one_split: bool, split: str) -> None:
        pairs, account = read_pairs(path)
        self.accounts[path.name] = account
        if self.fold:
            _, alone = split_file(self.data, "train")
            own = ["train" if alone else pair.split for pair in pairs]
            drawn = self.fold.split(question_groups(pairs), own).tolist()
            account.leave_out(drawn.count(""), self.fold.back)
        else:
            drawn = [split if one_split else pair.split for pair in pairs]
        for name in [split] if one_split else SPLITS:
            chosen = [pair for pair, its in zip(pairs, drawn) if its == name]
            limit = self.limits.get(name)
            if limit is not None:
                account.leave_out(len(chosen) - limit, f"over the limit of {limit:,} for {name}")
                chosen = sorted(chosen, key=lambda pair: pair.draw)[:limit]
            self._pairs[name] = chosen

    def note(self, split: str, note: str) -> None:
        """Tell something of the pairs of a split, beside what became of the rows."""
        path, _ = self._file(split)
        self.accounts[path.name].notes.append(note)

    def choices(self, split: str) -> list[Choice]:
        """Return the question pairs of a split, whose label is 1 where they are duplicates."""
        return [Choice(pair[:2], int(pair.duplicate)) for pair in self.pairs(split)]

    def groups(self, split: str) -> np.ndarray:
        """Return the group of each pair, (N,); those that questions tie together are in one."""
        if split not in self._groups:
            self._groups[split] = question_groups(self.pairs(split))
        return self._groups[split]

    def unseen(self, split: str) -> np.ndarray:
        """Return whether training has neither question of each pair: (N,).

        A question that only another pair of the split ties to training is new to a model as well.
        """
        if split not in self._unseen:
            seen = seen_questions(self.pairs("train"), self.pairs(split))
            self._unseen[split] = ~seen.any(axis=1)
        return self._unseen[split]

    def evaluate(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Return the scores of `ClozeTask.evaluate`, and those on the unseen pairs alone.

        "accuracy_unseen" and "macro_f1_unseen" are there if such pairs are; of the others, their
        addends are 0.
        """
        found = super().evaluate(model, tokenizer, split, generator=generator)
        unseen = self.unseen(split)
        added = {
            f"{name}{UNSEEN}": score.of(found.metrics[name].statistics & unseen[:, None])
            for name, score in UNSEEN_SCORES.items()
            if unseen.any()
        }
        return replace(found, metrics=found.metrics | added)

    def floors(self, split: str, *, generator: np.random.Generator) -> dict[str, dict[str, float]]:
        """Return scores without a model (`choice_floors`), on the unseen pairs as well."""
        rows, unseen = self.choices(split), self.unseen(split)
        labels = np.array([row.label for row in rows])
        floors = {}
        for name, predicted in floor_predictions(self.choices("train"), rows, 2).items():
            floors[name] = prediction_scores(labels, predicted, 2)
            if unseen.any():
                new = prediction_scores(labels[unseen], predicted[unseen], 2)
                floors[name] |= {f"{metric}{UNSEEN}": value for metric, value in new.items()}
        return floors

    def unlabelled(self, path: Path) -> tuple[list[Unlabelled], list[str]]:
        """Return the pairs of a file, labelled or not, and what cannot be read."""
        return read_unlabelled(path, _questions)

    def predict(
        self, model: GPT, tokenizer: Tokenizer, path: Path, *, generator: torch.Generator
    ) -> Predictions:
        """Return whether each pair is a duplicate, 1 or 0; for the course as its own tokens."""
        found = super().predict(model, tokenizer, path, generator=generator)
        labels = (f"{id}, {COURSE_TOKENS[label]} \n" for id, label, _ in found.rows if label)
        return replace(found, course="id \t Predicted_Is_Paraphrase \n" + "".join(labels))

    def leak(self, split: str) -> str:
        """Return how many pairs have questions that the training pairs have too."""
        return f"{leak(self.pairs('train'), self.pairs(split))} ({split})"


def _questions(values: dict[str, Any]) -> tuple[str, str]:
    """The two questions of a row, their white space as in training."""
    columns = next((names for names in QUESTION_COLUMNS if {*names} <= values.keys()), None)
    if columns is None:
        raise BadRow(f"no columns {' or '.join(map(' and '.join, QUESTION_COLUMNS))}")
    first, second = (" ".join(text_in(values, column).split()) for column in columns)
    if not first or not second:
        raise BadRow("empty question")
    return first, second
