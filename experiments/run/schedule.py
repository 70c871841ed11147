"""When which objective trains, and how fast."""

import math
from dataclasses import dataclass

from minigpt.errors import InputError


@dataclass(frozen=True)
class Phase:
    """Epochs `first`..`last`, counted from 1, trained on one objective with a fresh optimizer."""

    objective: str  # "sft" or "dpo"
    first: int
    last: int
    learning_rate: float  # the peak of its schedule
    dropout: bool  # whether its steps run with dropout

    @property
    def epochs(self) -> int:
        return self.last - self.first + 1


def handoff_phases(
    epochs: int, switch_epoch: int, *, sft_learning_rate: float, dpo_learning_rate: float
) -> tuple[Phase, ...]:
    """SFT for epochs 1..switch_epoch, DPO for the rest; 0 is DPO alone, `epochs` SFT alone.

    DPO runs without dropout: its reference was read without, and noise would drown the margins.
    Raises InputError for a switch that lies outside the epochs.
    """
    if epochs < 1:
        raise InputError(f"epochs is {epochs}; expected at least 1")
    if not 0 <= switch_epoch <= epochs:
        raise InputError(
            f"--switch-epoch is {switch_epoch}; expected 0 (DPO only) to {epochs} (SFT only)"
        )
    sft = Phase("sft", 1, switch_epoch, sft_learning_rate, dropout=True)
    dpo = Phase("dpo", switch_epoch + 1, epochs, dpo_learning_rate, dropout=False)
    return tuple(phase for phase in (sft, dpo) if phase.epochs > 0)


def warmup_cosine(step: int, steps: int, *, peak: float, warmup: int) -> float:
    """The learning rate of step 0..steps-1: linear up to `peak`, then half a cosine towards 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
