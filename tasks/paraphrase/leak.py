"""What training has seen of the questions of another split; `lookup` answers by that alone."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tasks.choice.floors import text_key
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


def leak(train: Sequence[QuestionPair], pairs: Sequence[QuestionPair]) -> Leak:
    """The pairs that share questions with training; a question is its words, in their order."""
    known = {question for pair in train for question in _questions(pair)}
    seen = np.array([[question in known for question in _questions(pair)] for pair in pairs])
    duplicate = np.array([pair.duplicate for pair in pairs])
    either, both = seen.any(axis=1), seen.all(axis=1)
    return Leak(len(pairs), int(either.sum()), int(both.sum()), int(duplicate[both].sum()))


def _questions(pair: QuestionPair) -> Iterator[str]:
    return (text_key(question) for question in (pair.first, pair.second))
