"""Losses and the log-probabilities that they are made of."""

from objectives.batch import Batch, make_batch
from objectives.dpo import DPO, DPOOutput, dpo_loss
from objectives.logps import sequence_logps
from objectives.objective import Losses, Objective
from objectives.reference import (
    CachedReference,
    FrozenReference,
    Reference,
    frozen_copy,
    load_or_compute,
    precompute,
    weights_fingerprint,
)
from objectives.sft import SFT, sft_loss

__all__ = [
    "Batch", "CachedReference", "DPO", "DPOOutput", "FrozenReference", "Losses", "Objective",
    "Reference", "SFT", "dpo_loss", "frozen_copy", "load_or_compute", "make_batch", "precompute",
    "sequence_logps", "sft_loss", "weights_fingerprint",
]
