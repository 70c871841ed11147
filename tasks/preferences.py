"""Preference pairs for DPO: what is better than what, made from a task's examples.

Every construction turns each example into one pair. Pairs without a difference teach nothing and
are dropped: `len(examples) - len(pairs)` of them.
"""

import re
from collections.abc import Callable

import torch

from minigpt.errors import InputError
from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from tasks.base import Example, PreferencePair, Task
from tasks.paraphrase import NO, YES
from tasks.sonnet import SonnetTask

_LAST_WORD = re.compile(r"(.*?)([\w'’]*)(\W*)")  # what stands before it, itself, punctuation


def build_pairs(
    name: str,
    task: Task,
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    *,
    generator: torch.Generator,
) -> list[PreferencePair]:
    """The preference pairs of `examples` by the construction `name`, without those that tie.

    `model` is the policy as it stands at the handoff. The same generator state gives the same
    pairs. Raises InputError for a construction that the task does not offer.
    """
    if name not in task.preferences:
        raise InputError(
            f"preference pairs {name!r} do not exist for the task {task.name!r}; "
            f"expected one of {', '.join(task.preferences)}"
        )
    pairs = CONSTRUCTIONS[name](task, model, tokenizer, examples, generator)
    return [pair for pair in pairs if pair.chosen != pair.rejected]


def right_vs_wrong(
    task: Task,
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    generator: torch.Generator,
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
) -> list[PreferencePair]:
    """Shakespeare's lines against the same words without their order; no model is asked."""
    return [PreferencePair(*e, corrupt(e.completion, generator)) for e in examples]


def corrupt(text: str, generator: torch.Generator) -> str:
    """The lines of a text shuffled, and then their last words shuffled among the lines.

    Punctuation stays where its line went. No line is new in length or vocabulary, so what is left
    to tell the two texts apart is sense and rhyme.
    """
    lines = text.splitlines()
    parts = [_LAST_WORD.fullmatch(lines[i]).groups() for i in _permutation(len(lines), generator)]
    words = [parts[i][1] for i in _permutation(len(lines), generator)]
    return "".join(f"{head}{word}{tail}\n" for (head, _, tail), word in zip(parts, words))


def _permutation(n: int, generator: torch.Generator) -> list[int]:
    return torch.randperm(n, generator=generator, device=generator.device).tolist()


Construction = Callable[
    [Task, GPT, Tokenizer, list[Example], torch.Generator], list[PreferencePair]
]
CONSTRUCTIONS: dict[str, Construction] = {
    "right-vs-wrong": right_vs_wrong,
    "gold-vs-sample": gold_vs_sample,
    "gold-vs-corrupted": gold_vs_corrupted,
}
