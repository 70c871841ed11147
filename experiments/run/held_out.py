"""What DPO does on pairs that it does not learn from.

On the pairs that a policy trains on, rewards and margins grow whatever they are worth. Held-out
pairs, made at the handoff of examples of dev, tell what carries over, and at which distance from
the reference.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.run.data import PhaseData
from experiments.run.policy import frozen_policy
from experiments.run.reference_cache import weights_fingerprint
from experiments.run.training import autocast
from minigpt import GPT, parallel
from minigpt.errors import InputError
from minigpt.sampling import evaluating
from objectives import quantiles, sequence_logps_and_kl
from objectives.sequences import length_buckets

BATCH = 4  # pairs; the KL holds several tensors as wide as the vocabulary for each scored token


@torch.no_grad()
def diagnose(
    policy: GPT, pairs: PhaseData, reference: Path, *, weights: str, precision: str
) -> dict[str, float]:
    """Return what the objective says of the policy on held-out pairs, and the KL, by TRL's names.

    They are TRL's with its prefix for evaluations: eval_loss, eval_rewards/chosen, /rejected,
    /margins and /accuracies, eval_logps/chosen and /rejected, all means over pairs; for the loss
    sigmoid also eval_weights with its quantiles. eval_kl/chosen and eval_kl/rejected are the KL
    from the policy to the reference in nats per token (`kl_per_token`), means over the completions'
    tokens. The reference is read from its folder, and given up afterwards; raises InputError
    unless it has the fingerprint `weights`.
    """
    device = policy.wte.weight.device
    frozen = frozen_policy(policy, reference)
    if weights_fingerprint(frozen) != weights:
        raise InputError(
            f"the weights in {reference} are not those that the run wrote there at the handoff; "
            "expected them, put them back or start the run anew"
        )

    def of(index: np.ndarray) -> dict[str, Tensor]:
        batch = pairs.batch(index).to(device)
        logps, kl = sequence_logps_and_kl(policy, frozen, batch)  # (2B,), (P,)
        losses, metrics = pairs.objective.of_logps(logps, batch)
        chosen = batch.sequence < len(batch) // 2
        sides = {"kl/chosen": kl[chosen], "kl/rejected": kl[~chosen]}
        found = {"loss": losses, **metrics, **sides}
        return {name: values.cpu() for name, values in found.items()}

    with evaluating(policy), autocast(device, precision):
        found = parallel.mapped(of, length_buckets(pairs.lengths, BATCH))
    examples = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    means = {name: values.mean() for name, values in examples.items()}
    told = means | quantiles(examples)
    return {f"eval_{name}": value.item() for name, value in told.items()}
