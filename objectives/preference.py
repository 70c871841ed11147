"""Training on preference pairs: a loss chosen by name, with its options, run on batches."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from minigpt.errors import InputError
from minigpt.model import GPT
from objectives.batch import Batch
from objectives.dpo import DPOOutput, check_options, dpo_loss
from objectives.logps import sequence_logps
from objectives.objective import Losses
from objectives.reference import Reference
from objectives.relatives import hinge_loss, ipo_loss, ipo_mean_loss, orpo_loss, simpo_loss
from objectives.sft import sft_loss


class _Member(NamedTuple):
    """A loss of the family: its function, the tensors it takes, its options and their defaults."""

    function: Callable[..., DPOOutput]
    reference: bool  # takes the reference's log-probs
    counts: bool  # takes the completions' lengths
    options: dict[str, float]


# Defaults are TRL's, but for simpo, whose authors ask for a far larger beta and for a margin of
# about half of it: 2 and 1 are their Llama-3-Base. orpo has an SFT term of its own.
_FAMILY = {
    "sigmoid": _Member(
        dpo_loss,
        reference=True,
        counts=False,
        options={"beta": 0.1, "label_smoothing": 0.0, "sft_weight": 0.0},
    ),
    "ipo": _Member(
        ipo_loss, reference=True, counts=False, options={"beta": 0.1, "sft_weight": 0.0}
    ),
    "ipo-mean": _Member(
        ipo_mean_loss, reference=True, counts=True, options={"beta": 0.1, "sft_weight": 0.0}
    ),
    "hinge": _Member(
        hinge_loss, reference=True, counts=False, options={"beta": 0.1, "sft_weight": 0.0}
    ),
    "simpo": _Member(
        simpo_loss,
        reference=False,
        counts=True,
        options={"beta": 2.0, "target_margin": 1.0, "sft_weight": 0.0},
    ),
    "orpo": _Member(orpo_loss, reference=False, counts=True, options={"beta": 0.1}),
}
LOSSES = tuple(_FAMILY)


@dataclass(frozen=True)
class PreferenceLoss:
    """A loss by name, and its options; None is replaced by the loss's own default.

    Raises InputError for an unknown name, an option that the loss does not use, or a value out of
    range. losses.py tells the losses apart.
    """

    name: str = "sigmoid"
    beta: float | None = None  # 0.1; simpo: 2.0
    label_smoothing: float = 0.0  # sigmoid: probability that a preference is the wrong way round
    sft_weight: float = 0.0  # all but orpo: weight of the chosen completion's mean NLL
    target_margin: float | None = None  # simpo: 1.0, the margin of rewards to reach

    def __post_init__(self):
        if self.name not in _FAMILY:
            raise InputError(f"unknown loss {self.name!r}; expected one of {', '.join(LOSSES)}")
        used = _FAMILY[self.name].options
        _, *options = fields(self)
        for option in options:
            value = getattr(self, option.name)
            if option.name not in used and value != option.default:
                users = [name for name in LOSSES if option.name in _FAMILY[name].options]
                raise InputError(
                    f"the loss {self.name} does not use {option.name}, got {value}; "
                    f"expected it with {' or '.join(users)} only"
                )
            if option.name in used and value is None:
                object.__setattr__(self, option.name, used[option.name])
        check_options(**{name: getattr(self, name) for name in used})

    @property
    def uses_reference(self) -> bool:
        """Whether the loss compares the policy with a frozen reference."""
        return _FAMILY[self.name].reference


@dataclass(frozen=True)
class PreferenceObjective:
    """A preference loss on batches of pairs: the first half of the sequences are chosen.

    `loss.sft_weight` adds that many times the chosen completion's mean negative log-likelihood,
    which holds up log p(chosen): a margin often grows while both sides sink. Every pair counts
    alike in it; in TRL every token of the batch does. logps/* are sums under every loss, where TRL
    logs means for simpo and orpo. Raises ValueError unless a reference is given exactly where the
    loss uses one.
    """

    loss: PreferenceLoss
    reference: Reference | None = None

    def __post_init__(self):
        if self.loss.uses_reference and self.reference is None:
            raise ValueError(f"the loss {self.loss.name} needs a reference, got None; expected one")
        if not self.loss.uses_reference and self.reference is not None:
            raise ValueError(f"the loss {self.loss.name} uses no reference, got one; expected None")

    def weights(self, batch: Batch) -> Tensor:
        return torch.ones(len(batch) // 2, device=batch.counts.device)

    def __call__(self, model: GPT, batch: Batch) -> Losses:
        chosen, rejected = sequence_logps(model, batch).chunk(2)  # (B,) each
        losses, chosen_rewards, rejected_rewards = self._loss(chosen, rejected, batch)
        if self.loss.sft_weight:
            chosen_counts, _ = batch.counts.chunk(2)
            losses = losses + self.loss.sft_weight * sft_loss(chosen, chosen_counts)
        return Losses(
            losses,
            {
                "rewards/chosen": chosen_rewards,
                "rewards/rejected": rejected_rewards,
                "rewards/margins": chosen_rewards - rejected_rewards,
                "rewards/accuracies": (
                    chosen_rewards > rejected_rewards
                ).float(),  # ties do not win
                "logps/chosen": chosen.detach(),
                "logps/rejected": rejected.detach(),
            },
        )

    def _loss(self, chosen: Tensor, rejected: Tensor, batch: Batch) -> DPOOutput:
        member = _FAMILY[self.loss.name]
        tensors = [chosen, rejected]
        if member.reference:
            tensors += self.reference(batch)
        if member.counts:
            tensors += batch.counts.chunk(2)
        options = {
            name: getattr(self.loss, name) for name in member.options if name != "sft_weight"
        }
        return member.function(*tensors, **options)
