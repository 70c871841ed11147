"""chrF (Popović, 2015), the character n-gram F-score, as sacrebleu computes it.

sacrebleu counts the n-grams. Only the last step is repeated here, from summed counts to the score,
so that a bootstrap can resample texts and score thousands of sums in one array operation.
"""

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import CHRF

ORDERS = 6  # n-grams of 1 to 6 characters, white space left out
BETA = 2  # recall counts as much as BETA precisions
COUNTS = 3 * ORDERS


def chrf_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """The n-gram counts of N texts: (N, 18), for each order those written, wanted and matched."""
    metric = CHRF(char_order=ORDERS, word_order=0, beta=BETA)
    return np.array(metric._extract_corpus_statistics(hypotheses, [references]))


def chrf_score(sums: np.ndarray) -> np.ndarray:
    """Corpus chrF, 0 to 100, of counts summed over a corpus: (..., 18) -> (...).

    Precision and recall are averaged over the orders that occur on both sides, then combined.
    """
    written, wanted, matched = np.moveaxis(sums.reshape(*sums.shape[:-1], ORDERS, 3), -1, 0)
    occurs = (written > 0) & (wanted > 0)  # (..., 6)
    n_orders = np.maximum(occurs.sum(axis=-1), 1)  # (...)
    precision = (occurs * matched / np.maximum(written, 1)).sum(axis=-1) / n_orders
    recall = (occurs * matched / np.maximum(wanted, 1)).sum(axis=-1) / n_orders
    # Nothing matched makes both zero; the tiny number then stands in for the denominator.
    denominator = np.maximum(BETA**2 * precision + recall, np.finfo(float).tiny)
    return 100 * (1 + BETA**2) * precision * recall / denominator


def mean_chrf_score(sums: np.ndarray) -> np.ndarray:
    """The mean corpus chrF of n samples of each text, counts side by side: (..., n * 18) -> (...).
    """
    return chrf_score(sums.reshape(*sums.shape[:-1], -1, COUNTS)).mean(axis=-1)
