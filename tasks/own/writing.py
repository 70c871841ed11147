"""What completions that a model wrote are scored by, what scores without one, and what is worse."""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from tasks.base import Example
from tasks.chrf import chrf_counts, mean_chrf_score
from tasks.likelihood import BITS_PER_CHAR, BITS_PER_CHAR_TEXT
from tasks.metric import Score, ratio
from tasks.text import words

FLOOR_DRAWS = 20

COMPLETION_SCORES = {
    "bits_per_char": BITS_PER_CHAR,
    "bits_per_char_text": BITS_PER_CHAR_TEXT,
    "chrf": Score(mean_chrf_score, short="chrF", long="chrF of samples", margin=0.5, decimals=2),
    "distinct": Score(
        ratio,
        short="distinct %",
        long="word pairs new to their sample, %",
        factor=100,
        decimals=1,
    ),
}


def writing_statistics(examples: Sequence[Example], written: list[str]) -> dict[str, np.ndarray]:
    """Return the addends, (N, K), of n completions of each of N examples, which stand together.

    "chrf" compares them with the gold completion. "distinct" is the share of a text's pairs of
    neighbouring words that it has not had before (distinct-2, Li et al., 2016, in each text by
    itself), as texts that go round in circles have few.
    """
    n = len(written) // len(examples)
    gold = [example.completion for example in examples for _ in range(n)]
    distinct = np.array([_distinct_pairs(text) for text in written])
    return {
        "chrf": chrf_counts(written, gold).reshape(len(examples), -1),
        "distinct": distinct.reshape(len(examples), n, 2).sum(axis=1),
    }


def writing_scores(examples: Sequence[Example], written: list[str]) -> dict[str, float]:
    """Return what one completion of each example scores, metric -> value."""
    found = writing_statistics(examples, written)
    return {name: COMPLETION_SCORES[name].of(found[name]).value for name in found}


def writing_floors(
    examples: Sequence[Example], train: Sequence[Example], generator: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Return what completions without a model score.

    "random completion" is that of a training example, a mean over FLOOR_DRAWS with its standard
    deviation; "prompt again" repeats the prompt.
    """
    draws = []
    for _ in range(FLOOR_DRAWS):
        numbers = generator.integers(len(train), size=len(examples))
        draws.append(writing_scores(examples, [train[int(i)].completion for i in numbers]))
    values = {name: [draw[name] for draw in draws] for name in draws[0]}
    return {
        "random completion": {name: float(np.mean(v)) for name, v in values.items()}
        | {f"{name}_sd": float(np.std(v)) for name, v in values.items()},
        "prompt again": writing_scores(examples, [example.prompt for example in examples]),
    }


def shuffled(text: str, generator: torch.Generator) -> str:
    """Return a text with its lines in another order; the words of one that has a single line.

    Nothing is new in it, so that what is left to tell the two apart is sense. White space stays
    where it was. A text whose lines or words are all the same comes back as it is.
    """
    pieces = re.split(r"(\n+)" if "\n" in text.strip() else r"(\s+)", text)
    places = [i for i, piece in enumerate(pieces) if piece.strip()]
    movable = [pieces[i] for i in places]
    while len(set(movable)) > 1 and movable == [pieces[i] for i in places]:
        order = torch.randperm(len(movable), generator=generator, device=generator.device)
        movable = [movable[i] for i in order.tolist()]
    for place, piece in zip(places, movable):
        pieces[place] = piece
    return "".join(pieces)


def _distinct_pairs(text: str) -> tuple[int, int]:
    """Return how many pairs of neighbouring words are different, and how many there are."""
    said = words(text)
    pairs = list(pairwise(said))
    return len(set(pairs)), len(pairs)
