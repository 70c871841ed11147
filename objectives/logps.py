"""The one place where log-probabilities are made.

SFT, DPO, the reference policy, bits per character and the paraphrase prediction all call
`sequence_logps`, so they cannot disagree about shifts, masks or precision.
"""

from torch import Tensor

from minigpt.model import GPT
from objectives.batch import Batch


def sequence_logps(model: GPT, batch: Batch, *, even: bool = False) -> Tensor:
    """log p(completion | prompt) of every sequence, summed over its scored tokens: (N,), in nats.

    Divide by `batch.counts` for the mean per token. Only the P scored positions go through the
    output head, `GPT.log_prob`, which has `even` explained.
    """
    hidden = model.hidden(batch.inputs)  # (R, T, C)
    scored = hidden[batch.row, batch.position]  # (P, C)
    token_logps = model.log_prob(scored, batch.target, even=even)  # (P,)
    return token_logps.new_zeros(len(batch)).index_add(0, batch.sequence, token_logps)  # (N,)
