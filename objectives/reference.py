"""The frozen reference policy of DPO, behind one interface: a batch of pairs in, log-probs out.

The reference is the policy as it stood when DPO began. It never changes, so its log-probs are best
computed once for all pairs, in large batches, and kept (`precompute`); then the step needs no
second model. Where pairs arrive on the fly, `FrozenReference` runs a frozen copy.
"""

import copy
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from minigpt import parallel
from minigpt.model import GPT
from minigpt.sampling import evaluating
from objectives.batch import Batch
from objectives.logps import sequence_logps


class Reference(Protocol):
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summed reference log-probs of the chosen and of the rejected completions, (B,) each."""


def frozen_copy(policy: GPT) -> GPT:
    """The policy as it stands, in eval mode and without gradients.

    Only parameters that train are copied; frozen ones are shared. Under LoRA the copy therefore
    costs no more than its adapters, kept as they stood.
    """
    shared = {id(p): p for p in policy.parameters() if not p.requires_grad}
    return copy.deepcopy(policy, memo=shared).requires_grad_(False).eval()


class FrozenReference:
    """Runs a frozen model on every batch."""

    def __init__(self, model: GPT):
        self.model = model

    @torch.no_grad()
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        chosen, rejected = sequence_logps(self.model, batch).chunk(2)
        return chosen, rejected


class CachedReference:
    """Looks up log-probs that were computed before: (pairs, 2), chosen and rejected."""

    def __init__(self, logps: Tensor):
        self.logps = logps

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pairs, _ = batch.index.chunk(2)  # both halves carry the pair's number
        chosen, rejected = self.logps[pairs].unbind(1)
        return chosen, rejected


@torch.no_grad()
def precompute(
    model: GPT, batches: Iterable[Batch], n_prompts: int, *, n_completions: int = 2
) -> Tensor:
    """Log-probs (n_prompts, n_completions) under `model`, run in eval mode, without gradients.

    A batch holds the first completion of each of its prompts, then the second of each, and so on.
    Several processes divide the batches.
    """

    def of(batch: Batch) -> tuple[Tensor, Tensor]:
        prompts = batch.index.chunk(n_completions)[0]  # all parts carry the prompts' numbers
        return prompts, sequence_logps(model, batch).view(n_completions, -1).T

    logps = torch.full((n_prompts, n_completions), torch.nan, device=model.wte.weight.device)
    with evaluating(model):
        for prompts, values in parallel.mapped(of, batches):
            logps[prompts] = values.to(logps)
    return logps
