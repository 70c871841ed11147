"""What training has seen of the questions of another split, and what that alone can answer.

A random split of question pairs leaves questions on both sides. Who knows such a question's label
in training can answer without reading the other question, so the score of a method that cannot
compare two questions at all is a floor, and the more training pairs, the higher it lies.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tasks.paraphrase.quora import QuestionPair


class Leak(NamedTuple):
    """How many pairs of a split have a question that the training pairs have too."""

    pairs: int
    seen: int  # pairs with at least one question seen in training
    both_seen: int  # pairs with both, in one training pair or in two
    duplicates: int  # the duplicates among those with both

    def __str__(self) -> str:
        seen, both = 100 * self.seen / self.pairs, 100 * self.both_seen / self.pairs
        return (
            f"leak: of {self.pairs:,} pairs {seen:.1f} % have a question seen in training and "
            f"{both:.1f} % have both; {100 * self.duplicates / max(1, self.both_seen):.1f} % of "
            "the latter are duplicates"
        )


def words(question: str) -> list[str]:
    """The words of a question in lower case, without punctuation."""
    return re.findall(r"\w+", question.lower())


def leak(train: Sequence[QuestionPair], pairs: Sequence[QuestionPair]) -> Leak:
    """The pairs that share questions with training; a question is its `words`, in their order."""
    known = {question for pair in train for question in _questions(pair)}
    seen = np.array([[question in known for question in _questions(pair)] for pair in pairs])
    duplicate = np.array([pair.duplicate for pair in pairs])
    either, both = seen.any(axis=1), seen.all(axis=1)
    return Leak(len(pairs), int(either.sum()), int(both.sum()), int(duplicate[both].sum()))


def lookup(train: Sequence[QuestionPair], pairs: Sequence[QuestionPair]) -> np.ndarray:
    """The answers (N,), bool, of a method that never compares the two questions of a pair.

    The answer is the commoner label of the training pairs that have either question; the counts of
    two questions add up. Where they are equal, as where neither was seen, it is training's
    commoner label. A question is its `words`, in their order.
    """
    lead = Counter()  # question -> its duplicates in training minus its other pairs
    for pair in train:
        for question in _questions(pair):
            lead[question] += 1 if pair.duplicate else -1
    majority = 2 * sum(pair.duplicate for pair in train) > len(train)
    leads = np.array([sum(lead[question] for question in _questions(pair)) for pair in pairs])
    return np.where(leads == 0, majority, leads > 0)


def _questions(pair: QuestionPair) -> Iterator[str]:
    return (" ".join(words(question)) for question in (pair.first, pair.second))
