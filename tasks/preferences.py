"""Preference pairs for DPO: what is better than what, made from a task's examples.

A task names its ways of making them in `Task.preferences`. Those that fit any task with texts to
write stand here. Each turns an example into one pair. Pairs without a difference teach nothing and
are dropped, as are sides without a token to score: `len(examples) - len(pairs)` of them.
"""

from collections.abc import Callable

import numpy as np
import torch

from minigpt.errors import InputError
from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from tasks.base import Draws, Example, PairMaker, PreferencePair, Task
from tasks.chrf import chrf_counts, chrf_score


def build_pairs(
    name: str,
    task: Task,
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    *,
    generator: torch.Generator,
    n_samples: int = 8,
) -> list[tuple[PreferencePair, Example]]:
    """Return the pairs that the task's maker `name` makes of `examples`, without those that tie.

    Each stands beside the example that it was made of, which its prompt alone does not tell.
    `model` is the policy as it stands at the handoff; a maker that chooses among samples takes
    `n_samples` from it for each example. The same generator state gives the same pairs. Raises
    InputError for a maker that the task does not have.
    """
    if name not in task.preferences:
        raise InputError(
            f"preference pairs {name!r} do not exist for the task {task.name!r}; "
            f"expected one of {', '.join(task.preferences)}"
        )
    draws = Draws(task, model, tokenizer, generator, n_samples)
    made = zip(task.preferences[name](examples, draws), examples, strict=True)
    return [(pair, example) for pair, example in made if _teaches(pair, task.end_of_text)]


def _teaches(pair: PreferencePair, end_of_text: bool) -> bool:
    """Return whether a pair's sides differ, and each has a token to score."""
    chosen = pair.chosen or (end_of_text and pair.chosen_ends)
    rejected = pair.rejected or (end_of_text and pair.rejected_ends)
    return pair.chosen != pair.rejected and bool(chosen and rejected)


def gold_vs_sample(examples: list[Example], draws: Draws) -> list[PreferencePair]:
    """Prefer the gold completion to the policy's own, sampled as it is for the evaluation."""
    sampled = draws.sample([example.prompt for example in examples])
    return [
        PreferencePair(*e, text, rejected_ends=ends) for e, (text, ends) in zip(examples, sampled)
    ]


def gold_vs_corrupted(corrupt: Callable[[str, torch.Generator], str]) -> PairMaker:
    """Return the maker that prefers the gold completion to `corrupt(completion, generator)`.

    No model is asked.
    """

    def make(examples: list[Example], draws: Draws) -> list[PreferencePair]:
        return [PreferencePair(*e, corrupt(e.completion, draws.generator)) for e in examples]

    return make


def best_vs_worst(examples: list[Example], draws: Draws) -> list[PreferencePair]:
    """Prefer the best to the worst of the policy's own samples, by chrF against the gold.

    Raises InputError for fewer than two samples.
    """
    n = draws.n_samples
    if n < 2:
        raise InputError(f"best-vs-worst got n_samples = {n}; expected at least 2")
    sampled = draws.sample([example.prompt for example in examples for _ in range(n)])
    gold = [example.completion for example in examples for _ in range(n)]
    scores = chrf_score(chrf_counts([text for text, _ in sampled], gold)).reshape(-1, n)  # (N, n)
    pairs = []
    for row, example in enumerate(examples):
        best, worst = (sampled[n * row + pick(scores[row])] for pick in (np.argmax, np.argmin))
        pairs.append(PreferencePair(example.prompt, best.text, worst.text, best.ends, worst.ends))
    return pairs


def describe_pairs(
    made: list[tuple[PreferencePair, Example]], n_examples: int, *, free_text: bool
) -> dict[str, float]:
    """Return what is known of the pairs that `build_pairs` made of examples, as plain numbers.

    "share_dropped" counts the examples whose two sides were equal. A pair is degenerate when a
    side is empty or has fewer than half of the gold's lines. A margin is the chrF of the chosen
    side against the gold minus that of the rejected: mean, and 10, 50 and 90 % quantiles; answers,
    which are no `free_text`, have none. "length_ratio" is the mean of rejected over chosen, in
    characters. Where every pair was dropped, only the counts are there.
    """
    found = {
        "examples": n_examples,
        "pairs": len(made),
        "share_dropped": 1 - len(made) / n_examples,
    }
    if not made:
        return found
    pairs, gold = [pair for pair, _ in made], [example.completion for _, example in made]
    degenerate = [
        min(_lines(pair.chosen), _lines(pair.rejected)) < max(1, _lines(text) / 2)
        for pair, text in zip(pairs, gold)
    ]
    ratios = [len(pair.rejected) / max(1, len(pair.chosen)) for pair in pairs]
    found |= {"share_degenerate": np.mean(degenerate), "length_ratio": np.mean(ratios)}
    if free_text:
        found |= _margins(pairs, gold)
    return {name: float(value) for name, value in found.items()}


def _margins(pairs: list[PreferencePair], gold: list[str]) -> dict[str, float]:
    chosen, rejected = (
        chrf_score(chrf_counts(side, gold))
        for side in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    )
    margins = chosen - rejected
    quantiles = {f"margin_{p}": np.percentile(margins, p) for p in (10, 50, 90)}
    return {"margin_mean": margins.mean(), **quantiles}


def _lines(text: str) -> int:
    return len(text.splitlines())
