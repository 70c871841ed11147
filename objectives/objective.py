"""What the training loop asks of a loss."""

from typing import NamedTuple, Protocol

from torch import Tensor

from minigpt.model import GPT
from objectives.batch import Batch


class ExampleLosses(NamedTuple):
    """Per-example values of one microbatch; the loop reduces them over the whole step."""

    losses: Tensor  # (B,)
    metrics: dict[str, Tensor]  # name -> (B,), detached


class Objective(Protocol):
    """A loss over batches. B is the number of examples: sequences for SFT, pairs for DPO."""

    def weights(self, batch: Batch) -> Tensor:
        """What each example counts for in the step's mean, (B,), known before the forward."""

    def __call__(self, model: GPT, batch: Batch) -> ExampleLosses:
        """The per-example losses and metrics of `model` on `batch`."""
