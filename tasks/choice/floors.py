"""What answers score that no model gave: the commonest label, and what training alone tells.

Texts stand on both sides of a random split. Whoever knows the labels that such a text had in
training can answer without reading any other text of its row, so the score of a method that cannot
compare two texts at all is a floor, and the more training rows, the higher it lies.
"""

from collections.abc import Sequence

import numpy as np

from tasks.choice.rows import Choice
from tasks.choice.scores import CHOICE_SCORES, prediction_statistics
from tasks.text import text_key


def choice_floors(
    train: Sequence[Choice], rows: Sequence[Choice], n_labels: int
) -> dict[str, dict[str, float]]:
    """Return the scores of predictions without a model (`floor_predictions`): floor -> metric."""
    labels = np.array([row.label for row in rows])
    return {
        name: prediction_scores(labels, predicted, n_labels)
        for name, predicted in floor_predictions(train, rows, n_labels).items()
    }


def prediction_scores(labels: np.ndarray, predicted: np.ndarray, n_labels: int) -> dict[str, float]:
    """Return accuracy and macro F1 of predictions (N,), given labels' numbers (N,)."""
    statistics = prediction_statistics(labels, predicted, n_labels)
    return {metric: CHOICE_SCORES[metric].of(found).value for metric, found in statistics.items()}


def floor_predictions(
    train: Sequence[Choice], rows: Sequence[Choice], n_labels: int
) -> dict[str, np.ndarray]:
    """Return predictions without a model (N,), learnt on the training rows.

    "majority class" always gives the commonest label. "word overlap", for two texts and two labels,
    gives the second label from a certain share of common words on, the share that classifies most
    training rows rightly. "lookup" gives the commonest label of the training rows with the same
    texts.
    """
    known = np.array([row.label for row in train])
    predictions = {"majority class": np.full(len(rows), _majority(known, n_labels))}
    if n_labels == 2 and len(rows[0].texts) == 2:
        threshold = _best_threshold(_overlaps(train), known == 1)
        predictions["word overlap"] = (_overlaps(rows) >= threshold).astype(int)
    predictions["lookup"] = lookup(train, rows, n_labels)
    return predictions


def lookup(train: Sequence[Choice], rows: Sequence[Choice], n_labels: int) -> np.ndarray:
    """Return the answers (N,) of a method that never compares the texts of a row.

    The answer is the commonest label of the training rows that have any of its texts; the counts of
    several texts add up. Where labels are equally common, as where no text was seen, it is
    training's commonest. A text is its words, in their order.
    """
    numbers: dict[str, int] = {}  # of the texts that training has
    seen = [
        (numbers.setdefault(text_key(text), len(numbers)), row.label)
        for row in train
        for text in row.texts
    ]
    counts = np.zeros((len(numbers) + 1, n_labels), dtype=int)  # nothing in the last row
    np.add.at(counts, tuple(zip(*seen)), 1)
    asked = [[numbers.get(text_key(text), -1) for text in row.texts] for row in rows]
    found = np.array([counts[texts].sum(axis=0) for texts in asked])  # (N, C)
    tied = (found == found.max(axis=1, keepdims=True)).sum(axis=1) > 1
    majority = _majority(np.array([row.label for row in train]), n_labels)
    return np.where(tied, majority, found.argmax(axis=1))


def _majority(labels: np.ndarray, n_labels: int) -> int:
    """Return the commonest label, the first of equals."""
    return int(np.bincount(labels, minlength=n_labels).argmax())


def _overlaps(rows: Sequence[Choice]) -> np.ndarray:
    """Return the share of words, of all in either text, that are in both (Jaccard): (N,)."""

    def overlap(row: Choice) -> float:
        first, second = (set(text_key(text).split()) for text in row.texts)
        return len(first & second) / max(1, len(first | second))

    return np.array([overlap(row) for row in rows])


def _best_threshold(values: np.ndarray, positive: np.ndarray) -> float:
    """Return the value from which on "positive" is right most often, the lowest such."""
    candidates, place = np.unique(values, return_inverse=True)
    positives = np.bincount(place, weights=positive)  # at each candidate
    negatives = np.bincount(place, weights=~positive)
    right = positives[::-1].cumsum()[::-1] + negatives.cumsum() - negatives
    return candidates[right.argmax()]
