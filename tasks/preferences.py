"""Preference pairs for DPO: what is better than what, made from a task's examples.

Every construction turns each example into one pair. Pairs without a difference teach nothing and
are dropped: `len(examples) - len(pairs)` of them.
"""

from collections.abc import Callable

import numpy as np
import torch

from minigpt.errors import InputError
from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from tasks.base import Example, PreferencePair, Task
from tasks.chrf import chrf_counts, chrf_score
from tasks.paraphrase.task import NO, YES
from tasks.sonnet.corruption import corrupt
from tasks.sonnet.task import SonnetTask


def build_pairs(
    name: str,
    task: Task,
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    *,
    generator: torch.Generator,
    n_samples: int = 8,
) -> list[PreferencePair]:
    """The preference pairs of `examples` by the construction `name`, without those that tie.

    `model` is the policy as it stands at the handoff; "best-vs-worst" takes `n_samples` from it
    for each example. The same generator state gives the same pairs. Raises InputError for a
    construction that the task does not offer.
    """
    if name not in task.preferences:
        raise InputError(
            f"preference pairs {name!r} do not exist for the task {task.name!r}; "
            f"expected one of {', '.join(task.preferences)}"
        )
    pairs = CONSTRUCTIONS[name](task, model, tokenizer, examples, generator, n_samples)
    return [pair for pair in pairs if pair.chosen != pair.rejected]


def right_vs_wrong(
    task: Task,
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    generator: torch.Generator,
    n_samples: int,
) -> list[PreferencePair]:
    """The right answer against the other one; nothing is drawn and no model is asked."""
    other = {YES: NO, NO: YES}
    return [PreferencePair(prompt, answer, other[answer]) for prompt, answer in examples]


def gold_vs_sample(
    task: SonnetTask,
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    generator: torch.Generator,
    n_samples: int,
) -> list[PreferencePair]:
    """Shakespeare's lines against the policy's own, sampled as they are for the evaluation."""
    prompts = [example.prompt for example in examples]
    sampled = task.sample(model, tokenizer, prompts, generator=generator)
    return [PreferencePair(*example, text) for example, text in zip(examples, sampled)]


def gold_vs_corrupted(
    task: Task,
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    generator: torch.Generator,
    n_samples: int,
) -> list[PreferencePair]:
    """Shakespeare's lines against the same words without their order; no model is asked."""
    return [PreferencePair(*e, corrupt(e.completion, generator)) for e in examples]


def best_vs_worst(
    task: SonnetTask,
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    generator: torch.Generator,
    n_samples: int,
) -> list[PreferencePair]:
    """The best against the worst of the policy's own samples, by chrF against Shakespeare's lines.

    Raises InputError for fewer than two samples.
    """
    if n_samples < 2:
        raise InputError(f"best-vs-worst got n_samples = {n_samples}; expected at least 2")
    prompts = [example.prompt for example in examples for _ in range(n_samples)]
    gold = [example.completion for example in examples for _ in range(n_samples)]
    sampled = task.sample(model, tokenizer, prompts, generator=generator)
    scores = chrf_score(chrf_counts(sampled, gold)).reshape(-1, n_samples)  # (N, n)
    samples = np.array(sampled, dtype=object).reshape(scores.shape)
    rows = np.arange(len(examples))
    best, worst = samples[rows, scores.argmax(axis=1)], samples[rows, scores.argmin(axis=1)]
    return [PreferencePair(e.prompt, *texts) for e, *texts in zip(examples, best, worst)]


Construction = Callable[
    [Task, GPT, Tokenizer, list[Example], torch.Generator, int], list[PreferencePair]
]
CONSTRUCTIONS: dict[str, Construction] = {
    "right-vs-wrong": right_vs_wrong,
    "gold-vs-sample": gold_vs_sample,
    "gold-vs-corrupted": gold_vs_corrupted,
    "best-vs-worst": best_vs_worst,
}


def describe_pairs(pairs: list[PreferencePair], examples: list[Example]) -> dict[str, float]:
    """What is known of the pairs that `build_pairs` made of `examples`, as plain numbers.

    "share_dropped" counts the examples whose two sides were equal. A pair is degenerate when a
    side is empty or has fewer than half of the gold's lines. A margin is the chrF of the chosen
    lines against the gold minus that of the rejected: mean, and 10, 50 and 90 % quantiles; the
    answers yes and no have none. "length_ratio" is the mean of rejected over chosen, in
    characters. Where every pair was dropped, only the counts are there.
    """
    found = {
        "examples": len(examples),
        "pairs": len(pairs),
        "share_dropped": 1 - len(pairs) / len(examples),
    }
    if not pairs:
        return found
    completions = dict(examples)
    gold = [completions[pair.prompt] for pair in pairs]
    degenerate = [
        min(_lines(pair.chosen), _lines(pair.rejected)) < max(1, _lines(text) / 2)
        for pair, text in zip(pairs, gold)
    ]
    ratios = [len(pair.rejected) / max(1, len(pair.chosen)) for pair in pairs]
    found |= {"share_degenerate": np.mean(degenerate), "length_ratio": np.mean(ratios)}
    if not {YES, NO}.issuperset(gold):
        chosen, rejected = (
            chrf_score(chrf_counts(side, gold))
            for side in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
        )
        margins = chosen - rejected
        found["margin_mean"] = margins.mean()
        for percent in (10, 50, 90):
            found[f"margin_{percent}"] = np.percentile(margins, percent)
    return {name: float(value) for name, value in found.items()}


def _lines(text: str) -> int:
    return len(text.splitlines())
