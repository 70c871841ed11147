"""What answers to question pairs are scored by, and what is said of each score."""

import numpy as np

from tasks.base import Score, ratio

BINS = 10  # of the probability of yes, for the calibration error


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Return the mean of both classes' F1: (..., 4) -> (...), from tp, fp, fn and tn.

    A class that neither occurs nor is predicted scores 0.
    """
    tp, fp, fn, tn = np.moveaxis(sums, -1, 0)
    errors = fp + fn
    return (tp / np.maximum(tp + errors / 2, 0.5) + tn / np.maximum(tn + errors / 2, 0.5)) / 2


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """Return the mean gap between promise and truth, (..., BINS + 1) -> (...).

    The addends are those of `calibration_gaps` (Naeini et al., 2015).
    """
    return np.abs(sums[..., :BINS]).sum(axis=-1) / sums[..., BINS]


# The margins are a matter of taste that is better stated than hidden: half a point.
PARAPHRASE_SCORES = {
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


def answer_statistics(duplicate: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Return what accuracy (N, 2) and macro F1 (N, 4) add up: right, 1; and tp, fp, fn, tn.

    Everything is boolean: there are many thousand pairs.
    """
    right = [duplicate == predicted, np.ones_like(duplicate)]
    confusion = [
        duplicate & predicted,
        ~duplicate & predicted,
        duplicate & ~predicted,
        ~duplicate & ~predicted,
    ]
    return {"accuracy": np.stack(right, axis=1), "macro_f1": np.stack(confusion, axis=1)}


def calibration_gaps(duplicate: np.ndarray, logps: np.ndarray) -> np.ndarray:
    """Return what each pair adds to its bin's gap between promise and truth, then 1: (N, BINS + 1).

    `logps` (N, 2) are those of yes and no.
    """
    yes = np.exp(logps[:, 0] - np.logaddexp(*logps.T))  # (N,) p(yes) / (p(yes) + p(no))
    rows = np.arange(len(yes))
    gaps = np.zeros((len(yes), BINS + 1), dtype=np.float32)
    gaps[rows, np.minimum(yes * BINS, BINS - 1).astype(int)] = yes - duplicate
    gaps[:, BINS] = 1
    return gaps
