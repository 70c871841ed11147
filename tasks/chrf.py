"""chrF (Popović, 2015), the character n-gram F-score, as sacrebleu computes it.

sacrebleu counts the n-grams. Only the last step is repeated here, from summed counts to the score,
so that a bootstrap can resample texts and score thousands of sums in one array operation.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from sacrebleu.metrics import CHRF
from sacrebleu.metrics.helpers import extract_char_ngrams

ORDERS = 6  # n-grams of 1 to 6 characters, white space left out
BETA = 2  # recall counts as much as BETA precisions
COUNTS = 3 * ORDERS
METRIC = CHRF(char_order=ORDERS, word_order=0, beta=BETA)


def chrf_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Return the n-gram counts of N texts: (N, 18), by order those written, wanted, matched."""
    return np.array(
        [
            METRIC._compute_segment_statistics(hypothesis, _ngrams(reference))
            for hypothesis, reference in zip(hypotheses, references, strict=True)
        ]
    )


@lru_cache(maxsize=32)  # a gold text is the reference of many samples
def _ngrams(reference: str) -> dict:
    return METRIC._extract_reference_info([reference])


def chrf_score(sums: np.ndarray) -> np.ndarray:
    """Return corpus chrF, 0 to 100, of counts summed over a corpus: (..., 18) -> (...).

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
    """Return the mean corpus chrF of n samples of each text: (..., n * 18) -> (...)."""
    return chrf_score(sums.reshape(*sums.shape[:-1], -1, COUNTS)).mean(axis=-1)


def chrf_between(texts: Sequence[str]) -> np.ndarray:
    """Return chrF of each of N texts (row) against each of them (column): (N, N)."""
    counts = np.empty((len(texts), len(texts), ORDERS, 3))
    for order in range(ORDERS):
        ngrams = [extract_char_ngrams(text, order + 1) for text in texts]
        column = {ngram: i for i, ngram in enumerate(set().union(*ngrams))}
        count = np.zeros((len(texts), len(column)), dtype=np.float32)
        for row, mine in zip(count, ngrams):
            row[[column[ngram] for ngram in mine]] = list(mine.values())
        # An n-gram that one text has a times and another b times matches min(a, b) times: once for
        # each level that both reach. So a matrix product per level counts all pairs' matches.
        most = int(count.max(initial=0))
        levels = ((count >= level).astype(np.float32) for level in range(1, most + 1))
        counts[:, :, order, 0] = count.sum(axis=1)[:, None]
        counts[:, :, order, 1] = count.sum(axis=1)
        counts[:, :, order, 2] = sum(reached @ reached.T for reached in levels)
    return chrf_score(counts.reshape(len(texts), len(texts), COUNTS))
