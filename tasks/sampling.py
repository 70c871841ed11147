"""Texts that a model writes: many prompts at a time, each up to end-of-text or a limit."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from minigpt import parallel
from minigpt.errors import InputError
from minigpt.model import GPT
from minigpt.sampling import generate
from minigpt.tokenizer import Tokenizer
from tasks.base import Written

SAMPLING_BATCH = 64  # rows generated together; GPT-2's cache for as many takes 1 GB


@dataclass(frozen=True)
class Sampling:
    """How an evaluation samples; InputError for values without sense."""

    n_samples: int  # completions of each prompt
    temperature: float
    top_p: float

    def __post_init__(self):
        if self.n_samples < 1:
            raise InputError(f"n_samples is {self.n_samples}; expected at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature}; expected 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; expected more than 0 and at most 1")


def sample_texts(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
    *,
    sampling: Sampling,
    max_new_tokens: int,
    generator: torch.Generator,
    finished: Callable[[list[int]], bool] = lambda new: False,
) -> list[Written]:
    """Return one text that follows each prompt, which are tokens; without end-of-text.

    A text ends there; it is cut after `max_new_tokens`, or where `finished` says so of its tokens.
    """

    def stop(new: list[int]) -> bool:
        return new[-1] == tokenizer.eot or finished(new)

    tokens = []
    for start in range(0, len(prompts), SAMPLING_BATCH):
        batch = prompts[start : start + SAMPLING_BATCH]
        own = generate(
            model,
            batch,
            max_new_tokens=max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            generator=generator,
            stop=stop,
            rows=parallel.share(range(len(batch))),
        )
        tokens += _of_all(own, generator)
    return [
        Written(tokenizer.decode([t for t in new if t != tokenizer.eot]), new[-1] == tokenizer.eot)
        for new in tokens
    ]


def _of_all(own: list[list[int]], generator: torch.Generator) -> list[list[int]]:
    """Return the tokens of every row, of which each process has written its share.

    A step draws a number for each row, written here or not. So all generators go on from where that
    of the longest row is, which is where one process by itself would be.
    """
    parts = parallel.told_by_all((own, generator.get_state()))
    _, state = max(parts, key=lambda part: max(map(len, part[0])))
    generator.set_state(state)
    return [max(rows, key=len) for rows in zip(*(written for written, _ in parts))]
