"""The reference's log-probs, computed once and kept beside the run that needs them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.run.training import autocast
from minigpt.errors import InputError
from minigpt.files import open_tensors, save_tensors
from minigpt.model import GPT
from objectives import precompute
from objectives.sequences import Sequences, length_buckets, pair_batch

REFERENCE_BATCH = 32  # pairs; a forward alone takes larger batches than a training step


def reference_logps(
    policy: GPT,
    chosen: Sequences,
    rejected: Sequences,
    *,
    reference: str,
    precision: str,
    folder: Path,
) -> Tensor:
    device = policy.wte.weight.device
    lengths = np.maximum(chosen.lengths, rejected.lengths)

    def compute() -> Tensor:
        if weights_fingerprint(policy) != reference:
            raise InputError(
                f"the reference log-probs are missing from {folder} and the policy "
                "has moved on; expected them there, start the run anew"
            )
        batches = (
            pair_batch(chosen, rejected, index).to(device)
            for index in length_buckets(lengths, REFERENCE_BATCH)
        )
        with autocast(device, precision):
            return precompute(policy, batches, len(lengths))

    key = {
        "weights": reference,
        "pairs": _fingerprint(chosen, rejected),  # as tokens: tokenizer and truncation included
        "precision": precision,
        "device": device.type,
        "torch": torch.__version__,
    }
    return load_or_compute(folder, key, compute).to(device)


def _fingerprint(*sides: Sequences) -> str:
    digest = hashlib.sha256()
    for side in sides:
        for array in (side.tokens, side.starts, side.prompt_lengths):
            digest.update(array.tobytes())
    return digest.hexdigest()


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
            raise InputError(
                f"{path} was computed for another {', '.join(differing)}; "
                "delete it to compute the log-probs again"
            )
        return file.get_tensor("logps")


def weights_fingerprint(model: GPT) -> str:
    """A SHA-256 over every parameter's name, type and bytes: any change of a weight changes it."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
