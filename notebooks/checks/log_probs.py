"""The checks of notebook 1."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from checks.verdict import check, expect, given, small_model
from minigpt import GPT
from objectives import make_batch, sequence_logps


@check
def check_sequence_logp(yours: Callable[[GPT, list[int], list[int]], Tensor]) -> str:
    """Compare log p(completion | prompt) of one sequence with `objectives.sequence_logps`."""
    model = small_model()
    for prompt, completion in [([5, 9, 2], [7, 1, 30, 8]), ([3], [4, 4]), ([8, 1, 6, 2], [9])]:
        found = float(given(yours(model, prompt, completion), "your function"))
        right = float(sequence_logps(model, make_batch([prompt], [completion])))
        if len(completion) > 1:
            expect(
                not math.isclose(found, right / len(completion), rel_tol=1e-4),
                f"{found:.3f} nats is the mean over the tokens; expected their sum, {right:.3f}",
            )
        everything = make_batch([prompt[:1]], [prompt[1:] + completion])
        expect(
            len(prompt) == 1
            or not math.isclose(found, float(sequence_logps(model, everything)), rel_tol=1e-4),
            f"{found:.3f} nats counts the prompt as well; expected the completion's, {right:.3f}",
        )
        expect(
            math.isclose(found, right, rel_tol=1e-4),
            f"{found:.3f} nats for a prompt of {len(prompt)} and a completion of "
            f"{len(completion)} tokens; expected {right:.3f} (which position predicts a token?)",
        )
    return "the same nats as objectives.sequence_logps, whatever the lengths"


@check
def check_padding(yours: Callable[[list[list[int]]], Tensor]) -> str:
    """Check that the model gives every token of a padded row the logits that it has alone."""
    model, rows = small_model(), [[5, 9, 2, 7], [3], [8, 8]]
    table = given(yours(rows), "your function")
    expect(
        tuple(table.shape) == (3, 4),
        f"the table has the shape {tuple(table.shape)}; expected (3, 4): the longest row has 4",
    )
    logits = model(table)
    for i, row in enumerate(rows):
        alone = model(torch.tensor([row]))[0]
        gap = float((logits[i, : len(row)] - alone).abs().max())
        expect(
            gap < 1e-4,
            f"row {i} reads otherwise than alone: a logit differs by {gap:.2f} "
            "(on which side can a causal model not see the padding?)",
        )
    return "every row gets the logits that it has alone, to 1e-4"
