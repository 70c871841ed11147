"""The losses that came after DPO, on the same pairs of a chosen and a rejected completion.

    name      compares                        and pushes the margin between the two
    sigmoid   summed log-ratios, times beta   up without end, ever more weakly (dpo.py)
    ipo       summed log-ratios               to 1 / (2 beta), down as well as up
    ipo-mean  log-ratios per token            to 1 / (2 beta), down as well as up
    hinge     summed log-ratios, times beta   up to 1, and stops there
    simpo     log-probs per token, times beta up without end, strongly until target_margin
    orpo      log-odds of the token mean      up without end, ever more weakly, beside SFT

A log-ratio is log(policy / reference). Each function takes, (B,) each: the summed completion
log-probs in nats of the policy, those of the reference where it has one, and the completions'
scored tokens where it takes means. Options out of range, and shapes that differ, raise InputError.
The rewards are those that TRL 1.16 logs, for ipo-mean too: beta times the log-ratio, summed;
without a reference, beta times the mean log-prob.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from objectives.dpo import PairLosses, check_options
from objectives.objective import check_alike
from objectives.sft import sft_loss


def ipo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
) -> PairLosses:
    """IPO as published: (h - 1 / (2 beta))^2, h the difference of the summed log-ratios.

    Azar et al. (2023), arXiv 2310.12036, equation 17, where beta is tau. DPO's margin grows for
    ever where a preference is never contradicted, whatever beta; a square has its optimum at a
    finite margin, so that beta keeps the policy near the reference. TRL has only `ipo_mean_loss`.
    """
    check_options(beta)
    check_alike(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
    chosen_ratios = policy_chosen - reference_chosen
    rejected_ratios = policy_rejected - reference_rejected
    loss = (chosen_ratios - rejected_ratios - 1 / (2 * beta)) ** 2
    return PairLosses(loss, beta * chosen_ratios.detach(), beta * rejected_ratios.detach())


def ipo_mean_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    chosen_counts: Tensor,
    rejected_counts: Tensor,
    *,
    beta: float,
) -> PairLosses:
    """IPO on log-ratios per token: (h - 1 / (2 beta))^2, h the difference of their means.

    TRL's loss_type="ipo": by its account the IPO authors' own form, which equation 17 does not
    spell out. One target then serves completions of every length; it is a target per token, so
    at one beta it asks for a far larger move than `ipo_loss`.
    """
    check_options(beta)
    check_alike(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
    check_alike(policy_chosen, chosen_counts, rejected_counts)
    chosen_ratios = policy_chosen - reference_chosen
    rejected_ratios = policy_rejected - reference_rejected
    difference = chosen_ratios / chosen_counts - rejected_ratios / rejected_counts
    loss = (difference - 1 / (2 * beta)) ** 2
    return PairLosses(loss, beta * chosen_ratios.detach(), beta * rejected_ratios.detach())


def hinge_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
) -> PairLosses:
    """max(0, 1 - margin), the margin being DPO's difference of rewards.

    The rank calibration loss of SLiC, max(0, delta - log pi(y_w|x) + log pi(y_l|x)) (Zhao et al.
    2023, arXiv 2305.10425), on log-ratios in place of log-probs, with delta = 1 / beta and all
    multiplied by beta (Liu et al. 2023, arXiv 2309.06657, "hinge-norm"); TRL's loss_type="hinge".
    A pair that is told apart by a margin of 1 is left alone. SLiC's own regulariser, an SFT term,
    is not part of it.
    """
    check_options(beta)
    check_alike(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
    chosen_rewards = beta * (policy_chosen - reference_chosen)
    rejected_rewards = beta * (policy_rejected - reference_rejected)
    loss = F.relu(1 - (chosen_rewards - rejected_rewards))
    return PairLosses(loss, chosen_rewards.detach(), rejected_rewards.detach())


def simpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    chosen_counts: Tensor,
    rejected_counts: Tensor,
    *,
    beta: float,
    target_margin: float,
) -> PairLosses:
    """-log sigmoid(margin - target_margin), the reward being beta times the mean log-prob.

    Meng et al. (2024), arXiv 2405.14734, equation 6, where target_margin is gamma. The reward is
    what generation ranks by, so neither a reference nor a completion's length comes in. TRL's
    CPOTrainer with loss_type="simpo", cpo_alpha=0 and simpo_gamma=target_margin.
    """
    check_options(beta, target_margin=target_margin)
    check_alike(policy_chosen, policy_rejected, chosen_counts, rejected_counts)
    chosen_rewards = beta * policy_chosen / chosen_counts  # equation 4
    rejected_rewards = beta * policy_rejected / rejected_counts
    loss = -F.logsigmoid(chosen_rewards - rejected_rewards - target_margin)  # equation 6
    return PairLosses(loss, chosen_rewards.detach(), rejected_rewards.detach())


def orpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    chosen_counts: Tensor,
    rejected_counts: Tensor,
    *,
    beta: float,
) -> PairLosses:
    """SFT on the chosen completion - beta * log sigmoid(log odds(chosen) - log odds(rejected)).

    Hong et al. (2024), arXiv 2403.07691, equations 6 and 7, where beta is lambda (TRL's name is
    kept). SFT alone makes the rejected likelier along with the chosen; the odds say which of the
    two to prefer. The SFT term is the paper's: the mean over the chosen completion, then over
    pairs. TRL's ORPOTrainer takes it over the prompt as well and over all tokens of a batch alike,
    and agrees where prompts have one token and chosen completions one length.
    """
    check_options(beta)
    check_alike(policy_chosen, policy_rejected, chosen_counts, rejected_counts)
    chosen_means = policy_chosen / chosen_counts  # equation 3
    rejected_means = policy_rejected / rejected_counts
    log_odds_ratio = _log_odds(chosen_means) - _log_odds(rejected_means)
    loss = sft_loss(policy_chosen, chosen_counts) - beta * F.logsigmoid(log_odds_ratio)
    return PairLosses(loss, beta * chosen_means.detach(), beta * rejected_means.detach())


def _log_odds(logps: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p (equation 4 of ORPO): (B,) -> (B,)."""
    # A sure model's p rounds to 1: infinite odds, whose gradient would be NaN.
    logps = logps.clamp(max=-torch.finfo(logps.dtype).eps)
    return logps - torch.log(-torch.expm1(logps))
