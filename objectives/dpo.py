"""Direct Preference Optimization: make the chosen completion likelier against the rejected one.

Rafailov et al. (2023), arXiv 2305.18290. A policy pi and a frozen reference define an implicit
reward r(x, y) = beta * log(pi(y|x) / reference(y|x)) (equation 5, up to a term in x alone). Under
the Bradley-Terry model the chosen y_w beats the rejected y_l with probability
sigmoid(r(x, y_w) - r(x, y_l)), and DPO is maximum likelihood on that (equation 7).

relatives.py has the losses that came after; preference.py runs any of them on batches.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt.errors import InputError
from objectives.objective import check_alike


class PairLosses(NamedTuple):
    """The losses of B pairs, and the rewards behind them: what every loss on pairs returns."""

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
) -> PairLosses:
    """The sigmoid DPO loss of B pairs, from summed completion log-probs, each (B,), in nats.

    `beta` > 0 scales the log-ratios into rewards: the larger, the smaller the change that satisfies
    the loss. In the objective that DPO stands for it is the weight of the KL to the reference; how
    far training really goes has to be measured (`kl_per_token`). `label_smoothing` in [0, 0.5) is
    the probability that a preference was recorded the wrong way round (conservative DPO, Mitchell
    2023). The loss is ln 2 where policy and reference agree. Raises InputError for options out of
    range and for shapes that differ.
    """
    check_options(beta, label_smoothing)
    check_alike(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
    chosen_rewards = beta * (policy_chosen - reference_chosen)  # equation 5
    rejected_rewards = beta * (policy_rejected - reference_rejected)
    margin = chosen_rewards - rejected_rewards
    loss = -F.logsigmoid(margin)  # equation 7
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * F.logsigmoid(-margin)
    return PairLosses(loss, chosen_rewards.detach(), rejected_rewards.detach())


def dpo_weight(margin: Tensor) -> Tensor:
    """sigmoid(-margin): how much each pair counts in DPO's gradient, of the margin's shape, 0..1.

    `margin` is the chosen minus the rejected reward, beta included. The gradient of a pair's loss,
    without label smoothing, is (Rafailov et al., section 4)

        -beta * sigmoid(-margin) * (grad log pi(chosen) - grad log pi(rejected)),

    so that a pair counts half where policy and reference agree, more where the policy has the two
    the wrong way round, and hardly at all once they are far apart.
    """
    return torch.sigmoid(-margin)


def check_options(
    beta: float,
    label_smoothing: float = 0.0,
    sft_weight: float = 0.0,
    target_margin: float = 0.0,
) -> None:
    """Raise InputError for options that make no sense, for DPO or for the losses after it."""
    if not beta > 0:
        raise InputError(f"beta is {beta}; expected a number above 0")
    if not 0 <= label_smoothing < 0.5:
        raise InputError(f"label_smoothing is {label_smoothing}; expected 0 or more, below 0.5")
    if not sft_weight >= 0:
        raise InputError(f"sft_weight is {sft_weight}; expected 0 or more")
    if not target_margin >= 0:
        raise InputError(f"target_margin is {target_margin}; expected 0 or more")
