"""What continuations of sonnets score as texts, whoever wrote them."""

from collections.abc import Sequence

import numpy as np

from tasks.base import Example
from tasks.chrf import chrf_counts
from tasks.sonnet.copying import Source, copied_ngrams, copied_runs
from tasks.sonnet.decoding import minimum_bayes_risk
from tasks.sonnet.diversity import distinct_ngrams
from tasks.sonnet.form import metrical_lines, rhyming_pairs
from tasks.sonnet.judge import LineJudge
from tasks.sonnet.scores import DISTINCT
from tasks.sonnet.shakespeare import LINES


def text_statistics(
    examples: list[Example], written: list[str], training: Source, judge: LineJudge
) -> dict[str, np.ndarray]:
    """Return the addends of each metric, (N, K), of n continuations of each of N examples.

    The continuations of one example stand side by side in `written`; `training` is what they may
    have copied, and `judge` tells which lines look like gold ones. "chrf" compares whole sonnets,
    the given lines included, as the course does; "chrf_generated" the continuations alone.
    """
    n = len(written) // len(examples)
    prompts = [example.prompt for example in examples for _ in range(n)]
    gold = [example.completion for example in examples for _ in range(n)]
    lines = [text.splitlines() for text in written]
    given = [prompt.splitlines() for prompt in prompts]
    runs = [copied_runs(text, training) for text in written]
    complete = [len(head + tail) >= LINES for head, tail in zip(given, lines)]
    pairs = {  # of each continuation: what counts, and out of how many
        "copy_rate": [copied_ngrams(r) for r in runs],
        "longest_copy": [(max(r, default=0), 1) for r in runs],
        "lines": [(is_complete, 1) for is_complete in complete],
        "rhyme": [rhyming_pairs(head + tail, len(head)) for head, tail in zip(given, lines)],
        "syllables": [metrical_lines(tail) for tail in lines],
        "judged_gold": [judge.count(tail) for tail in lines],
    }
    return {
        "chrf": _whole_counts(prompts, written, gold).reshape(len(examples), -1),
        "chrf_generated": chrf_counts(written, gold).reshape(len(examples), -1),
        **{
            name: np.array(values).reshape(len(examples), n, 2).sum(axis=1)
            for name, values in pairs.items()
        },
    }


def set_statistics(examples: list[Example], written: list[str]) -> dict[str, np.ndarray]:
    """Return the addends (N, K) of each metric of all n continuations of an example together.

    They depend on n. "chrf_mbr" is chrF of whole sonnets, each with its best continuation: the
    minimum-Bayes-risk choice, which does not look at the gold lines; there is none among one.
    "distinct_1" to "distinct_3" are shares of different n-grams (`distinct_ngrams`).
    """
    n = len(written) // len(examples)
    samples = [written[i : i + n] for i in range(0, len(written), n)]
    found = {
        f"distinct_{order}": np.array([distinct_ngrams(texts, order) for texts in samples])
        for order in DISTINCT
    }
    if n > 1:
        chosen = [texts[minimum_bayes_risk(texts)] for texts in samples]
        prompts, gold = zip(*examples)
        found["chrf_mbr"] = _whole_counts(prompts, chosen, gold)
    return found


def _whole_counts(
    prompts: Sequence[str], written: Sequence[str], gold: Sequence[str]
) -> np.ndarray:
    wholes = [[head + tail for head, tail in zip(prompts, tails)] for tails in (written, gold)]
    return chrf_counts(*wholes)
