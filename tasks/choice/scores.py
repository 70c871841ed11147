"""What answers are scored by, and what is said of each score; C is the number of labels."""

from math import isqrt

import numpy as np

from tasks.metric import Score, ratio

BINS = 10  # of a probability, for the calibration error


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Return the mean of all labels' F1: (..., C * C) -> (...), from the cells of `confusion`.

    A label that neither occurs nor is predicted scores 0, as scikit-learn has it for
    `f1_score(truth, predicted, labels=all C, average="macro", zero_division=0)`.
    """
    n_labels = isqrt(sums.shape[-1])
    cells = sums.reshape(*sums.shape[:-1], n_labels, n_labels)
    hits = np.diagonal(cells, axis1=-2, axis2=-1)  # (..., C)
    errors = cells.sum(axis=-1) + cells.sum(axis=-2) - 2 * hits  # false positives and negatives
    return (hits / np.maximum(hits + errors / 2, 0.5)).mean(axis=-1)


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """Return the mean gap between promise and truth, (..., BINS + 1) -> (...).

    The addends are those of `calibration_gaps` (Naeini et al., 2015).
    """
    return np.abs(sums[..., :BINS]).sum(axis=-1) / sums[..., BINS]


# The margins are a matter of taste that is better stated than hidden: half a point.
CHOICE_SCORES = {
    "accuracy": Score(
        ratio, short="accuracy %", long="accuracy, %", margin=0.005, factor=100, decimals=2
    ),
    "macro_f1": Score(
        macro_f1, short="macro F1 %", long="macro F1, %", margin=0.005, factor=100, decimals=2
    ),
    "answer_nll": Score(
        ratio, short="nats/answer", long="nats of the right answer", larger_is_better=False
    ),
    "calibration_error": Score(
        calibration_error,
        short="ECE %",
        long="expected calibration error, %",
        larger_is_better=False,
        factor=100,
        decimals=2,
    ),
}


def prediction_statistics(
    labels: np.ndarray, predicted: np.ndarray, n_labels: int
) -> dict[str, np.ndarray]:
    """Return what accuracy (N, 2) and macro F1 (N, C * C) add up, given labels' numbers (N,).

    Everything is boolean: there are many thousand rows.
    """
    right = labels == predicted
    return {
        "accuracy": np.stack([right, np.ones_like(right)], axis=1),
        "macro_f1": confusion(labels, predicted, n_labels),
    }


def confusion(labels: np.ndarray, predicted: np.ndarray, n_labels: int) -> np.ndarray:
    """Return the cell of the confusion matrix that each row is counted in: (N, C * C).

    The cells are those of a matrix of predictions (down) and truth (across), the last label first:
    tp, fp, fn and tn where there are two labels, the second of which is the positive one.
    """
    down, across = n_labels - 1 - predicted, n_labels - 1 - labels
    return (down * n_labels + across)[:, None] == np.arange(n_labels**2)


def calibration_gaps(labels: np.ndarray, logps: np.ndarray) -> np.ndarray:
    """Return what each row adds to its bin's gap between promise and truth, then 1: (N, BINS + 1).

    `logps` (N, C) are those of the answers, which share all probability. The promise is the
    probability of the second of two labels, and of the predicted one of more.
    """
    promised = logps.argmax(axis=1) if logps.shape[1] > 2 else np.ones(len(logps), dtype=int)
    rows = np.arange(len(logps))
    probability = np.exp(logps[rows, promised] - np.logaddexp.reduce(logps, axis=1))  # (N,)
    gaps = np.zeros((len(logps), BINS + 1), dtype=np.float32)
    bins = np.minimum(probability * BINS, BINS - 1).astype(int)
    gaps[rows, bins] = probability - (labels == promised)
    gaps[:, BINS] = 1
    return gaps
