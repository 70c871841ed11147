"""A prompt that both sides of a pair share: the same log-probs and gradients as apart."""

import doctest

import numpy as np
import pytest
import torch

from lora import FUSED, LoRAConfig, inject
from minigpt import GPT, GPTConfig, accelerate
from objectives import (
    FrozenReference,
    PreferenceConfig,
    PreferenceObjective,
    make_batch,
    make_pair_batch,
    make_shared_batch,
    pairs,
    sequence_logps,
)
from objectives.sequences import Sequences, pair_batch

V = 40


def drawn(prompts, chosen, rejected, seed=0):
    """Random tokens, in sides of these lengths."""
    draw = np.random.default_rng(seed)
    return [[draw.integers(1, V, n) for n in side] for side in (prompts, chosen, rejected)]


def apart(prompts, chosen, rejected):
    index = np.arange(len(prompts))
    return make_batch(prompts * 2, chosen + rejected, np.tile(index, 2))


def model_of(fast: bool, rank: int | None) -> GPT:
    generator = torch.Generator().manual_seed(0)
    model = GPT(GPTConfig(V, 32, 2, 2, 16), generator=generator).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=float) / 10)
    if rank:
        inject(model, LoRAConfig(rank=rank), generator=generator)
    if fast:
        accelerate(model, FUSED)
    return model


LENGTHS = {
    "equal": ((9, 9), (4, 4), (4, 4)),
    "ragged": ((12, 3, 8), (1, 5, 2), (6, 1, 3)),
    "one token": ((5, 4), (1, 1), (1, 1)),
}


def test_the_example_of_the_docstring():
    assert doctest.testmod(pairs).failed == 0


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("fast", [False, True])
def test_losses_and_gradients_are_those_of_rows_apart(fast, rank, lengths):
    model, sides = model_of(fast, rank), drawn(*LENGTHS[lengths])
    objective = PreferenceObjective(PreferenceConfig(), FrozenReference(model_of(False, None)))
    found = []
    for batch in (make_shared_batch(*sides), apart(*sides)):
        model.zero_grad()
        losses, metrics = objective(model, batch)
        losses.sum().backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
        found.append((losses.detach(), metrics, gradients))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_neither_side_sees_the_other():
    model, (prompts, chosen, rejected) = model_of(False, None), drawn((9,), (4,), (5,))
    before = sequence_logps(model, make_shared_batch(prompts, chosen, rejected))
    for changed, kept in ((chosen, 1), (rejected, 0)):
        original, changed[0] = changed[0], changed[0][::-1].copy()
        after = sequence_logps(model, make_shared_batch(prompts, chosen, rejected))
        torch.testing.assert_close(after[kept], before[kept])
        assert (after[1 - kept] - before[1 - kept]).abs() > 1e-3
        changed[0] = original


def test_a_prompt_is_shared_where_that_saves_tokens():
    long = make_pair_batch(*drawn((28, 28), (4, 4), (4, 4)))
    assert long.shared is not None and long.inputs.shape == (2, 34)
    short = make_pair_batch(*drawn((3, 3), (20, 20), (20, 20)))
    assert short.shared is None and short.inputs.shape == (4, 22)
    answers = make_pair_batch(*drawn((28, 28), (1, 1), (1, 1)))  # both sides read the same
    assert answers.shared is None and answers.inputs.shape == (2, 28)


def test_prompts_that_cuts_made_different_are_not_shared():
    def sequences(prompt, completion):
        tokens = np.array([*prompt, *completion], dtype=np.uint16)
        return Sequences(tokens, np.array([0, len(tokens)]), np.array([len(prompt)]), 0)

    chosen, index = sequences(range(1, 30), [7, 8]), np.array([0])
    assert pair_batch(chosen, sequences(range(1, 30), [9, 8]), index).shared is not None
    assert pair_batch(chosen, sequences(range(2, 30), [9, 8]), index).shared is None
    assert pair_batch(chosen, sequences(range(1, 30), [9, 8]), index, share=False).shared is None
