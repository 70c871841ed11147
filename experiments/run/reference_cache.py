"""The reference's log-probs, computed once and kept beside the run that needs them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.run.hashed_tensors import feed_tensors, load_hashed, save_hashed
from experiments.run.training import autocast
from minigpt.errors import InputError
from minigpt.files import open_tensors
from minigpt.model import GPT
from minigpt.parallel import by_first
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
    logps = load_or_compute(folder, key, compute)
    if len(logps) != len(lengths):
        raise InputError(
            f"{folder} holds reference log-probs of {len(logps)} pairs; expected {len(lengths)}, "
            "start the run anew"
        )
    return logps.to(device)


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
    if by_first(path.exists)():
        return _read(path, key)
    logps = compute()
    by_first(save_hashed)(path, {"logps": logps}, {"key": json.dumps(key)})
    return logps


def _read(path: Path, key: dict[str, str]) -> Tensor:
    """Return the log-probs (N, 2) in a file; InputError for another key or for damage."""
    with open_tensors(path) as file:
        stored = _stored_key(file.metadata())
    differing = [name for name in sorted({*stored, *key}) if stored.get(name) != key.get(name)]
    if differing:
        raise InputError(
            f"{path} was computed for another {', '.join(differing)}; "
            "delete it to compute the log-probs again"
        )
    logps = load_hashed(path, "key").get("logps")
    fits = logps is not None and logps.dtype == torch.float32 and logps.shape[1:] == (2,)
    if not fits or not torch.isfinite(logps).all():
        raise InputError(
            f"{path} is damaged; expected finite float32 logps of the shape (pairs, 2), "
            "delete it to compute the log-probs again"
        )
    return logps


def _stored_key(metadata: dict[str, str] | None) -> dict:
    """Return the key in a file's metadata, empty where there is none that can be read."""
    try:
        stored = json.loads((metadata or {}).get("key", "{}"))
    except ValueError:
        return {}
    return stored if isinstance(stored, dict) else {}


def weights_fingerprint(model: GPT) -> str:
    """A SHA-256 over every parameter's name, type and bytes: any change of a weight changes it."""
    digest = hashlib.sha256()
    feed_tensors(digest, model.state_dict())
    return digest.hexdigest()
