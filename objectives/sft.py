"""Supervised fine-tuning: make the given completion likely."""

from torch import Tensor

from minigpt.model import GPT
from objectives.batch import Batch
from objectives.logps import sequence_logps
from objectives.objective import ExampleLosses, check_alike


def sft_loss(logps: Tensor, counts: Tensor) -> Tensor:
    """Mean negative log-likelihood per scored token of each sequence: (N,), (N,) -> (N,), nats."""
    check_alike(logps, counts)
    return -logps / counts


class SFT:
    """Cross-entropy on completions.

    A sequence weighs as many as its scored tokens, so that a step's loss is the mean over all its
    tokens however the step is cut into microbatches.
    """

    def example_weights(self, batch: Batch) -> Tensor:
        return batch.counts

    def __call__(self, model: GPT, batch: Batch) -> ExampleLosses:
        logps = sequence_logps(model, batch, even=True)  # (N,)
        return ExampleLosses(sft_loss(logps, batch.counts), metrics={})
