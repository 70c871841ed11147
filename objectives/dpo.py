"""Direct Preference Optimization: make the chosen completion likelier against the rejected one.

Rafailov et al. (2023), arXiv 2305.18290. A policy pi and a frozen reference define an implicit
reward r(x, y) = beta * log(pi(y|x) / reference(y|x)) (equation 5, up to a term in x alone). Under
the Bradley-Terry model the chosen y_w beats the rejected y_l with probability
sigmoid(r(x, y_w) - r(x, y_l)), and DPO is maximum likelihood on that (equation 7).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt.errors import InputError
from minigpt.model import GPT
from objectives.batch import Batch
from objectives.logps import sequence_logps
from objectives.objective import Losses
from objectives.reference import Reference
from objectives.sft import sft_loss


class DPOOutput(NamedTuple):
    loss: Tensor  # (B,)
    chosen_rewards: Tensor  # (B,), detached
    rejected_rewards: Tensor  # (B,), detached


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> DPOOutput:
    """The sigmoid DPO loss of B pairs, from summed completion log-probs, each (B,), in nats.

    `beta` > 0 is the price of leaving the reference. `label_smoothing` in [0, 0.5) is the
    probability that a preference was recorded the wrong way round (conservative DPO, Mitchell
    2023). The loss is ln 2 where policy and reference agree.
    """
    check_options(beta, label_smoothing)
    chosen_rewards = beta * (policy_chosen - reference_chosen)  # equation 5
    rejected_rewards = beta * (policy_rejected - reference_rejected)
    margin = chosen_rewards - rejected_rewards
    loss = -F.logsigmoid(margin)  # equation 7
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * F.logsigmoid(-margin)
    return DPOOutput(loss, chosen_rewards.detach(), rejected_rewards.detach())


@dataclass(frozen=True)
class DPO:
    """DPO on batches of pairs: the first half of the sequences are chosen, the second rejected.

    `sft_weight` adds that many times the chosen completion's mean negative log-likelihood, which
    holds up log p(chosen): DPO alone often lets both sides sink as long as the margin grows.
    """

    reference: Reference
    beta: float
    label_smoothing: float = 0.0
    sft_weight: float = 0.0

    def __post_init__(self):
        check_options(self.beta, self.label_smoothing, self.sft_weight)

    def weights(self, batch: Batch) -> Tensor:
        return torch.ones(len(batch) // 2, device=batch.counts.device)

    def __call__(self, model: GPT, batch: Batch) -> Losses:
        chosen, rejected = sequence_logps(model, batch).chunk(2)  # (B,) each
        reference_chosen, reference_rejected = self.reference(batch)
        losses, chosen_rewards, rejected_rewards = dpo_loss(
            chosen, rejected, reference_chosen, reference_rejected,
            beta=self.beta, label_smoothing=self.label_smoothing,
        )
        if self.sft_weight:
            chosen_counts, _ = batch.counts.chunk(2)
            losses = losses + self.sft_weight * sft_loss(chosen, chosen_counts)
        return Losses(losses, {
            "rewards/chosen": chosen_rewards,
            "rewards/rejected": rejected_rewards,
            "rewards/margins": chosen_rewards - rejected_rewards,
            "rewards/accuracies": (chosen_rewards > rejected_rewards).float(),  # ties do not win
            "logps/chosen": chosen.detach(),
            "logps/rejected": rejected.detach(),
        })


def check_options(beta: float, label_smoothing: float = 0.0, sft_weight: float = 0.0) -> None:
    """Raise InputError for options of DPO that make no sense."""
    if not beta > 0:
        raise InputError(f"beta is {beta}; expected a number above 0")
    if not 0 <= label_smoothing < 0.5:
        raise InputError(f"label_smoothing is {label_smoothing}; expected 0 or more, below 0.5")
    if not sft_weight >= 0:
        raise InputError(f"sft_weight is {sft_weight}; expected 0 or more")
