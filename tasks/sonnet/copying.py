"""How much of a text is copied, word by word, from others."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from tasks.text import words

NGRAM = 5  # words in a row that are no coincidence


class Source(NamedTuple):
    """Texts that may be copied from, their words numbered through."""

    words: set[str]
    pairs: dict[tuple[str, str], list[int]]  # neighbours in a text -> numbers of the second


def copying_source(texts: Iterable[str]) -> Source:
    """Return the source that these texts are."""
    source = Source(set(), {})
    number = 0
    for text in texts:
        spoken = words(text)
        source.words.update(spoken)
        for place, pair in enumerate(pairwise(spoken), start=number + 1):
            source.pairs.setdefault(pair, []).append(place)
        number += len(spoken)
    return source


def copied_runs(text: str, source: Source) -> list[int]:
    """Return, for each word of a text, the longest run up to it that a source's text has."""
    longest = []
    runs: dict[int, int] = {}  # number of a word in the source -> words copied up to it, 2 or more
    before = ""
    for word in words(text):
        places = source.pairs.get((before, word), [])
        runs = {place: runs.get(place - 1, 1) + 1 for place in places}
        longest.append(max(runs.values(), default=int(word in source.words)))
        before = word
    return longest


def copied_ngrams(runs: Sequence[int]) -> tuple[int, int]:
    """Return how many n-grams of NGRAM words were copied, of how many, from `copied_runs`."""
    return sum(run >= NGRAM for run in runs), max(0, len(runs) - NGRAM + 1)
