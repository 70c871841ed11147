"""Losses and the log-probabilities that they are made of."""

from objectives.batch import Batch, Shared, make_batch
from objectives.dpo import PairLosses, dpo_loss, dpo_weight
from objectives.logps import kl_per_token, sequence_logps, sequence_logps_and_kl, token_logps
from objectives.objective import ExampleLosses, Objective, quantiles
from objectives.pairs import make_pair_batch, make_shared_batch
from objectives.preference import (
    PREFERENCE_LOSSES,
    PREFERENCE_OPTIONS,
    PreferenceConfig,
    PreferenceObjective,
)
from objectives.reference import (
    CachedReference,
    FrozenReference,
    Reference,
    frozen_copy,
    precompute,
)
from objectives.relatives import hinge_loss, ipo_loss, ipo_mean_loss, orpo_loss, simpo_loss
from objectives.sft import SFT, sft_loss

__all__ = [
    "Batch",
    "CachedReference",
    "ExampleLosses",
    "FrozenReference",
    "Objective",
    "PairLosses",
    "PREFERENCE_LOSSES",
    "PREFERENCE_OPTIONS",
    "PreferenceConfig",
    "PreferenceObjective",
    "Reference",
    "SFT",
    "Shared",
    "dpo_loss",
    "dpo_weight",
    "frozen_copy",
    "hinge_loss",
    "ipo_loss",
    "ipo_mean_loss",
    "kl_per_token",
    "make_batch",
    "make_pair_batch",
    "make_shared_batch",
    "orpo_loss",
    "precompute",
    "quantiles",
    "sequence_logps",
    "sequence_logps_and_kl",
    "sft_loss",
    "simpo_loss",
    "token_logps",
]
