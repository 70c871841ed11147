"""What the training loop asks of a loss."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from minigpt.errors import InputError
from minigpt.model import GPT
from objectives.batch import Batch

SPREAD = ("weights",)  # the metrics of which quantiles are told beside the mean
QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}


def quantiles(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the quantiles of the metrics in SPREAD, "weights/q10" and so on, as scalars.

    `values` are the metrics of all examples, name -> (B,), of which some or all may be others.
    """
    return {
        f"{name}/{short}": torch.quantile(values[name], share)
        for name in SPREAD
        if name in values
        for short, share in QUANTILES.items()
    }


def check_alike(*values: Tensor) -> None:
    """Raise InputError unless all have one shape: (B,) and (B, 1) would make (B, B) in silence."""
    shapes = {tuple(value.shape) for value in values}
    if len(shapes) > 1:
        raise InputError(f"the shapes of a loss's tensors are {sorted(shapes)}; expected all alike")


class ExampleLosses(NamedTuple):
    """Per-example values of one microbatch; the loop reduces them over the whole step."""

    losses: Tensor  # (B,)
    metrics: dict[str, Tensor]  # name -> (B,), detached


class Objective(Protocol):
    """A loss over batches. B is the number of examples: sequences for SFT, pairs for DPO."""

    def example_weights(self, batch: Batch) -> Tensor:
        """What each example counts for in the step's mean, (B,), known before the forward."""

    def __call__(self, model: GPT, batch: Batch) -> ExampleLosses:
        """The per-example losses and metrics of `model` on `batch`."""
