"""The one place where log-probabilities are made.

SFT, DPO, the reference policy, bits per character and the paraphrase prediction all call
`sequence_logps`, so they cannot disagree about shifts, masks or precision.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt.model import GPT
from objectives.batch import Batch


def sequence_logps(model: GPT, batch: Batch, *, even: bool = False) -> Tensor:
    """log p(completion | prompt) of every sequence, summed over its scored tokens: (N,), in nats.

    Divide by `batch.counts` for the mean per token. `even` is explained at `GPT.log_prob`.
    """
    return _summed(token_logps(model, batch, even=even), batch)


def token_logps(model: GPT, batch: Batch, *, even: bool = False) -> Tensor:
    """log p(token | what stands before it) of every scored token: (P,), in nats.

    All sequences stand one after the other and there is no padding: element p belongs to the
    sequence `batch.sequence[p]` and is about the token `batch.target[p]`.
    """
    return model.log_prob(scored_states(model, batch), batch.target, even=even)


def kl_per_token(policy: GPT, reference: GPT, batch: Batch) -> Tensor:
    """KL(policy || reference) of the next token at every scored position: (P,), in nats.

    It is exact, a sum over the whole vocabulary of p (log p - log q), where p is the policy's
    distribution and q the reference's: 0 where they agree, and above elsewhere. Laid out as
    `token_logps`. The text is the batch's, so that this is no estimate of the KL of whole
    completions, which would have to be sampled from the policy.
    """
    return sequence_logps_and_kl(policy, reference, batch)[1]


def sequence_logps_and_kl(policy: GPT, reference: GPT, batch: Batch) -> tuple[Tensor, Tensor]:
    """The policy's `sequence_logps` (N,) and `kl_per_token` (P,), for which it runs but once."""
    log_p, log_q = (
        F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        for logits in (m.head(scored_states(m, batch)) for m in (policy, reference))
    )  # (P, V) each
    logps = log_p.gather(1, batch.target[:, None]).squeeze(1)  # (P,)
    kl = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)  # (P,)
    return _summed(logps, batch), kl


def _summed(logps: Tensor, batch: Batch) -> Tensor:
    """The sums (N,) over each sequence of what its tokens have, (P,)."""
    return logps.new_zeros(len(batch)).index_add(0, batch.sequence, logps)


def scored_states(model: GPT, batch: Batch) -> Tensor:
    """The hidden states (P, C) at the scored positions, the only ones that need the head."""
    return model.states(batch.inputs, batch.row, batch.position, batch.shared)
