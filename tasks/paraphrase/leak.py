"""Questions that pairs share: within a split, and with training, by which alone `lookup` answers.

A question is its words, in their order.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tasks.paraphrase.quora import QuestionPair
from tasks.splits import components, text_hash
from tasks.text import text_key


class Leak(NamedTuple):
    """How many pairs of a split have a question that the training pairs have too."""

    pairs: int
    seen: int  # pairs with at least one question seen in training
    both_seen: int  # pairs with both, in one training pair or in two
    duplicates: int  # the duplicates among those with both

    def __str__(self) -> str:
        seen, both = 100 * self.seen / self.pairs, 100 * self.both_seen / self.pairs
        return (
            f"of {self.pairs:,} pairs {seen:.1f} % have a question seen in training and "
            f"{both:.1f} % have both; {100 * self.duplicates / max(1, self.both_seen):.1f} % of "
            "the latter are duplicates"
        )


def leak(train: Sequence[QuestionPair], pairs: Sequence[QuestionPair]) -> Leak:
    """Return how many pairs share questions with training."""
    seen = seen_questions(train, pairs)
    duplicate = np.array([pair.duplicate for pair in pairs])
    either, both = seen.any(axis=1), seen.all(axis=1)
    return Leak(len(pairs), int(either.sum()), int(both.sum()), int(duplicate[both].sum()))


def seen_questions(train: Sequence[QuestionPair], pairs: Sequence[QuestionPair]) -> np.ndarray:
    """Return whether training has the first and the second question of each pair: (N, 2)."""
    known = {question for pair in train for question in _questions(pair)}
    return np.array([[question in known for question in _questions(pair)] for pair in pairs])


def question_groups(pairs: Sequence[QuestionPair]) -> np.ndarray:
    """Return the group of each pair, (N,): those that questions tie together, by way of others too.

    They are the connected components of the graph whose vertices are questions and whose edges are
    the pairs.
    """
    keys = [[text_hash(question) for question in _questions(pair)] for pair in pairs]
    return components(np.array(keys, dtype=np.uint64).reshape(-1, 2))


def _questions(pair: QuestionPair) -> Iterator[str]:
    return (text_key(question) for question in (pair.first, pair.second))
