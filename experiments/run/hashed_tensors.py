"""Tensors in a safetensors file, under a SHA-256 of their own: damage is found before use.

The hash stands in the file's metadata, over the names, types, shapes and bytes of the tensors and
the rest of the metadata. Files of before it was written have none, and are read as they are.
"""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from minigpt.errors import InputError, listed
from minigpt.files import open_tensors, save_tensors

KEY = "sha256"  # of the metadata


def save_hashed(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and `metadata`, whole or not at all, with their hash."""
    kept = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_tensors(path, kept, {**metadata, KEY: tensors_hash(kept, metadata)})


def load_hashed(path: Path, *names: str) -> dict[str, Tensor]:
    """Read all tensors of a file; raises InputError unless they are what was saved.

    `names` are those that its metadata may have: another one may be the hash's own, damaged.
    """
    with open_tensors(path) as file:
        metadata = dict(file.metadata() or {})
        try:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, AttributeError, ValueError) as error:  # a type unknown to torch
            raise InputError(
                f"{path} holds a tensor that cannot be read ({error}); expected tensors of a run"
            ) from error
    told = metadata.pop(KEY, None)
    if other := sorted(metadata.keys() - {*names}):
        raise InputError(f"{path} is damaged at {listed(other)}; expected the metadata of a run")
    if told is not None and told != tensors_hash(tensors, metadata):
        raise InputError(f"{path} was changed since it was written; expected the SHA-256 {told}")
    return tensors


def tensors_hash(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Return a SHA-256 over the metadata and the tensors."""
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    feed_tensors(digest, tensors)
    return digest.hexdigest()


def feed_tensors(digest, tensors: dict[str, Tensor]) -> None:
    """Feed every tensor's name, type, shape and bytes to a digest of hashlib's."""
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
