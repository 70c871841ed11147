"""The one place where log-probabilities are made.

SFT, DPO, the reference policy, bits per character and the paraphrase prediction all call
`sequence_logps`, so they cannot disagree about shifts, masks or precision.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt.model import GPT
from objectives.batch import Batch


def sequence_logps(model: GPT, batch: Batch) -> Tensor:
    """log p(completion | prompt) of every sequence, summed over its scored tokens: (N,), in nats.

    Divide by `batch.counts` for the mean per token. Only the P scored positions go through the
    output head; the log-softmax is taken in fp32 (or better) whatever the model computes in.
    """
    hidden = model.hidden(batch.inputs)  # (R, T, C)
    scored = hidden[batch.row, batch.position]  # (P, C)
    logits = model.head(scored)  # (P, V)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    token_logps = -F.cross_entropy(logits, batch.target, reduction="none")  # (P,)
    return token_logps.new_zeros(len(batch)).index_add(0, batch.sequence, token_logps)  # (N,)
