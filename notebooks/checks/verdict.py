"""The checks of the notebooks' exercises: each compares an answer with the library.

A check returns a `Verdict`, which a notebook shows as a sentence; it raises nothing of its own, so
that a notebook with open exercises runs from top to bottom.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import NamedTuple

import numpy as np
import torch

from minigpt import GPT, GPTConfig


class Verdict(NamedTuple):
    """Whether an answer is right, and what is to be said of it."""

    passed: bool
    words: str

    def __repr__(self) -> str:
        return f"{'passed' if self.passed else 'not yet'}: {self.words}"


class Wrong(Exception):
    """What is wrong with an answer, in a sentence."""


def check(function: Callable[..., str]) -> Callable[..., Verdict]:
    """Make a verdict of a function that returns praise or raises `Wrong`."""

    @wraps(function)
    def checked(*answer) -> Verdict:
        try:
            return Verdict(True, function(*answer))
        except Wrong as wrong:
            return Verdict(False, str(wrong))

    return checked


def expect(condition: bool | np.bool_, complaint: str) -> None:
    """Raise `Wrong` with the complaint unless the condition holds."""
    if not condition:
        raise Wrong(complaint)


def given(answer, what: str):
    """Return an answer that is there; an exercise that is untouched has none."""
    expect(answer is not None and answer is not ..., f"{what} is still to be written")
    return answer


@cache
def small_model() -> GPT:
    """Return a model of two blocks with weights large enough that every token counts."""
    generator = torch.Generator().manual_seed(0)
    config = GPTConfig(vocab_size=64, n_positions=32, n_layer=2, n_head=2, n_embd=16)
    model = GPT(config, generator=generator).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.mul_(15)
    return model
