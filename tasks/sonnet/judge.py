"""A judge of single lines: is it a poet's, or did a language model write it?

It learns from the gold lines of the training sonnets, and from lines that the shipped model wrote
before any fine-tuning. They stand in data/sampled.json, by the first line of the sonnet that was to
be continued; only what continues a training sonnet is learnt from. No policy asks it for advice,
but DPO without SFT, on pairs of a gold and a sampled side, is taught to tell the same two kinds
apart: from the judge's kind of question such an arm has more to gain than others. The gold lines'
own share is the goal, and more than that is no better. A copied line looks as good as the poet's,
so that "judged_gold" means little where "copy_rate" is high.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from tasks.metric import ratio
from tasks.sonnet.shakespeare import GIVEN_LINES
from tasks.text import read_text

SAMPLED = Path(__file__).parent / "data" / "sampled.json"
ORDERS = (1, 2, 3)  # characters of the n-grams that a line is known by

Sonnets = Mapping[str, Sequence[Sequence[str]]]  # by split, each the list of its lines


class LineJudge:
    """Naive Bayes by the character n-grams that occur in a line, the ends of the line included.

    Each n-gram speaks for the gold by log p(n-gram | gold) - log p(n-gram | sampled), where p is
    the share of lines that have it (one line of each kind that has it, and one that has not, are
    added; Laplace). Both kinds are held to be as likely before the line is read.
    """

    def __init__(self, gold: Sequence[str], sampled: Sequence[str]):
        ours, theirs = (
            Counter(gram for line in lines for gram in _ngrams(line)) for lines in (gold, sampled)
        )
        n_ours, n_theirs = len(gold) + 2, len(sampled) + 2
        self.evidence = {
            gram: math.log((ours[gram] + 1) / n_ours) - math.log((theirs[gram] + 1) / n_theirs)
            for gram in ours | theirs
        }

    def takes_for_gold(self, line: str) -> bool:
        """Return whether a line is likelier among the gold ones; n-grams never seen say nothing."""
        return sum(self.evidence.get(gram, 0.0) for gram in _ngrams(line)) > 0

    def count(self, lines: Sequence[str]) -> tuple[int, int]:
        """Return how many lines it takes for gold, and how many there are."""
        return sum(map(self.takes_for_gold, lines)), len(lines)


def fit_judge(sonnets: Sonnets) -> LineJudge:
    """Return the judge that learns from the training sonnets, and from what was written for them.

    Where nothing was, as they are not Shakespeare's, it learns from all that was for any but the
    held-out ones.
    """
    train = {lines[0] for lines in sonnets["train"]}
    held_out = {lines[0] for split in ("dev", "test") for lines in sonnets[split]}
    gold = tuple(line for lines in sonnets["train"] for line in lines[GIVEN_LINES:])
    sampled = _sampled(train.__contains__) or _sampled(lambda first: first not in held_out)
    return _fitted(gold, tuple(sampled))


def accuracy(judge: LineJudge, sonnets: Sequence[Sequence[str]]) -> float | None:
    """Return how often the judge is right of held-out lines, gold and sampled ones counted alike.

    None where no lines were sampled for these sonnets, which are not Shakespeare's.
    """
    gold = [line for lines in sonnets for line in lines[GIVEN_LINES:]]
    firsts = {lines[0] for lines in sonnets}
    sampled = _sampled(lambda first: first in firsts)
    if not sampled or not gold:
        return None
    taken, wrongly_taken = (ratio(np.array(judge.count(lines))) for lines in (gold, sampled))
    return float(taken + 1 - wrongly_taken) / 2


@lru_cache(maxsize=8)  # a process may well read the same sonnets many times
def _fitted(gold: tuple[str, ...], sampled: tuple[str, ...]) -> LineJudge:
    return LineJudge(gold, sampled)


def _sampled(wanted: Callable[[str], bool]) -> list[str]:
    """Return the lines sampled for the sonnets whose first line is wanted."""
    texts = json.loads(read_text(SAMPLED))["texts"]
    return [line for first, text in texts.items() if wanted(first) for line in text.splitlines()]


def _ngrams(line: str) -> list[str]:
    """Return the n-grams of a line, each once, in the order of the text."""
    text = f"\n{line.strip()}\n"
    return list(dict.fromkeys(text[i : i + n] for n in ORDERS for i in range(len(text) - n + 1)))
