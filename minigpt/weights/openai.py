"""OpenAI's release of GPT-2: a TensorFlow checkpoint and hparams.json in one folder.

Linears are stored (1, in, out), since TensorFlow's model had them as convolutions of width 1.
"""

from pathlib import Path

import torch

from minigpt.companions import CONFIG, GENERATION, read_companions
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.files import read_json, reading
from minigpt.weights.stored import StoredModel
from minigpt.weights.tensor_bundle import read_index, read_tensor

INDEX = "model.ckpt.index"
DATA = "model.ckpt.data-00000-of-00001"
HPARAMS = {  # GPTConfig's names and theirs
    "vocab_size": "n_vocab",
    "n_positions": "n_ctx",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
}


def open_openai(folder: Path) -> StoredModel:
    """Open a released checkpoint; what of it is checked when, `tensor_bundle` says."""
    hparams = read_json(folder / "hparams.json")
    missing = [theirs for theirs in HPARAMS.values() if theirs not in hparams]
    if missing:
        raise InputError(f"{folder / 'hparams.json'} lacks {', '.join(missing)}")
    config = GPTConfig(**{ours: hparams[theirs] for ours, theirs in HPARAMS.items()})
    if not (folder / DATA).exists():
        raise InputError(f"{folder / DATA} is missing; {INDEX} beside it needs it")
    entries = read_index(folder / INDEX, folder / DATA)
    shapes = {name: _without_width(entry.shape) for name, entry in entries.items()}

    def read(name: str) -> torch.Tensor:
        with reading(folder / DATA, "a checkpoint that memory can hold"):
            values = read_tensor(folder / DATA, name, entries[name])
            return torch.from_numpy(values).view(shapes[name])

    companions = read_companions(folder)
    for name in (CONFIG, GENERATION):  # of weights in another format
        companions.pop(name, None)
    return StoredModel(
        folder / DATA, config, shapes, read, True, openai_name, companions=companions
    )


def openai_name(name: str) -> str:
    """h.0.attn.c_attn.weight is model/h0/attn/c_attn/w; embeddings have no last part."""
    *path, kind = name.split(".")
    if path[0] == "h":
        path[:2] = [f"h{path[1]}"]
    if path[0] not in ("wte", "wpe"):
        norm = path[-1].startswith("ln_")
        path.append({"weight": "g" if norm else "w", "bias": "b"}[kind])
    return "/".join(["model", *path])


def _without_width(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
