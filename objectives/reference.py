"""The frozen reference policy of DPO, behind one interface: a batch of pairs in, log-probs out.

The reference is the policy as it stood when DPO began. It never changes, so its log-probs are best
computed once for all pairs, in large batches, and kept (`precompute`, `load_or_compute`); then the
step needs no second model. Where pairs arrive on the fly, `FrozenReference` runs a frozen copy.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from minigpt.errors import InputError
from minigpt.files import open_tensors, save_tensors
from minigpt.generate import evaluating
from minigpt.model import GPT
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
def precompute(model: GPT, batches: Iterable[Batch], n_pairs: int) -> Tensor:
    """Log-probs (n_pairs, 2) of every pair under `model`, run in eval mode, without gradients."""
    logps = torch.full((n_pairs, 2), torch.nan, device=model.wte.weight.device)
    with evaluating(model):
        for batch in batches:
            pairs, _ = batch.index.chunk(2)
            logps[pairs] = sequence_logps(model, batch).view(2, -1).T.to(logps.dtype)
    return logps


def load_or_compute(folder: Path, key: dict[str, str], compute: Callable[[], Tensor]) -> Tensor:
    """Log-probs kept in `folder` under a name made from `key`, else computed and kept there.

    `key` must name everything that moves a log-prob: weights, pairs, tokenizer, truncation,
    precision, device. It is stored beside the numbers, and a file that holds another key than its
    name says is refused with the fields that differ.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = Path(folder) / f"reference-{digest[:16]}.safetensors"
    if path.exists():
        return _read(path, key)
    logps = compute()
    save_tensors(path, {"logps": logps.cpu()}, {"key": json.dumps(key)})
    return logps


def _read(path: Path, key: dict[str, str]) -> Tensor:
    with open_tensors(path) as file:
        stored = json.loads((file.metadata() or {}).get("key", "{}"))
        differing = [name for name in sorted({*stored, *key}) if stored.get(name) != key.get(name)]
        if differing:
            raise InputError(f"{path} was computed for another {', '.join(differing)}; "
                             "delete it to compute the log-probs again")
        return file.get_tensor("logps")


def weights_fingerprint(model: GPT) -> str:
    """A SHA-256 over every parameter's name, type and bytes: any change of a weight changes it."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
