"""Load a GPT from wherever its weights lie, and save it."""

import warnings
from pathlib import Path

import torch

from minigpt.config import PRESETS, GPTConfig
from minigpt.download import cache_folder, fetch
from minigpt.errors import InputError, listed
from minigpt.files import make_folder, open_tensors
from minigpt.model import GPT
from minigpt.weights.hugging_face import open_hugging_face, save_hugging_face
from minigpt.weights.native import MARK, open_native, save_native
from minigpt.weights.openai import INDEX, open_openai
from minigpt.weights.stored import StoredModel, build
from minigpt.weights.tensors import INDEX as SHARDS
from minigpt.weights.tensors import sharded_tensors, tensors_in

WEIGHTS = "model.safetensors"
VERSE = Path(__file__).parents[1] / "assets" / "verse"
HUB = "https://huggingface.co/openai-community"
GPT2 = {
    "revision": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    "size": 548_105_171,
    "sha256": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
}
SAVERS = {"native": save_native, "hugging_face": save_hugging_face}
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
ADAPTER = "adapter_config.json"
# What transformers' Trainer writes beside the weights, pickles too.
TRAINER = ("training_args", "optimizer", "scheduler", "scaler", "rng_state", "trainer_state")


def load_pretrained(
    name_or_path: str | Path,
    *,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> GPT:
    """Load a GPT by a preset's name, or from a file or a folder.

    A folder or a `.safetensors` file may hold Hugging Face's format (in one file, or in shards with
    an index) or ours, a folder also OpenAI's TensorFlow checkpoint; the files tell which. What lies
    beside the weights, such as a tokenizer, stays with the model (`minigpt.companions`).

    "verse" lies in the package; the released sizes are downloaded once. A preset's name wins over a
    folder of that name, which "./gpt2" reaches. Parameters come in `dtype` on `device`, writable
    and trainable; the model is in training mode, as any new module, with the given `dropout`.

    Raises InputError when there is no such model, and when its files are damaged, tampered with,
    not those of a GPT-2, or pickles, which are never read.
    """
    if name_or_path in PRESETS:
        stored = open_stored(_preset(name_or_path), PRESETS[name_or_path])
    else:
        stored = open_stored(Path(name_or_path))
    return build(stored, dropout=dropout, dtype=dtype, device=device)


def pretrained_config(name_or_path: str | Path) -> GPTConfig:
    """The shape of the GPT that `load_pretrained` loads by that name or from that place.

    A preset's is known, and nothing is read or fetched for it; elsewhere the files are opened, but
    no weights are read. Raises InputError as `load_pretrained` does, damaged weights excepted.
    """
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    return open_stored(Path(name_or_path)).config


def save_pretrained(
    model: GPT,
    folder: str | Path,
    format: str = "native",
    dtype: torch.dtype | None = None,
) -> None:
    """Write `model.safetensors`, `config.json` and the model's companions into a folder.

    Each file is written whole or not at all. `format` is "native" (ours, all of it under hashes) or
    "hugging_face", which `transformers` reads: all that the model's config.json said is kept, and
    tokenizer and generation_config.json are there too, with the tokenizer's own end-of-text.
    Weights are stored in `dtype`, by default as the model has them. Raises InputError for a model
    that is not a plain GPT, such as one with adapters, and when the folder cannot be written to.
    """
    if format not in SAVERS:
        raise InputError(f"format is {format!r}; expected one of {', '.join(SAVERS)}")
    SAVERS[format](model, make_folder(folder), dtype)


def _preset(name: str) -> Path:
    """The weights that a preset stands for, brought here if they are not."""
    if name == "verse":
        if not (VERSE / WEIGHTS).exists():
            raise InputError(
                f"the verse weights are not in this copy of the package: expected them in {VERSE}, "
                "where `python -m experiments.pretrain` puts them"
            )
        return VERSE / WEIGHTS
    path = cache_folder() / name / WEIGHTS
    if name == "gpt2":
        url = f"{HUB}/gpt2/resolve/{GPT2['revision']}/{WEIGHTS}"
        return fetch(url, path, size=GPT2["size"], sha256=GPT2["sha256"])
    warnings.warn(
        f"the weights of {name} have no pinned hash; only their structure is checked", stacklevel=3
    )
    return fetch(f"{HUB}/{name}/resolve/main/{WEIGHTS}", path)


def open_stored(path: Path, preset: GPTConfig | None = None) -> StoredModel:
    """Open a model's files, whichever format they have; errors as in `load_pretrained`.

    Headers, configuration and companions are read, no weights. `preset` is the configuration of
    weights that may lie there without one.
    """
    if path.is_dir():
        if (path / INDEX).exists():
            return open_openai(path)
        path = _weights_in(path)
    if not path.exists():
        raise InputError(
            f"there is no model {path}; expected a file, a folder or one of {', '.join(PRESETS)}"
        )
    if path.name.endswith(SHARDS):
        return open_hugging_face(path, sharded_tensors(path), preset)
    if path.suffix in PICKLES:
        raise InputError(
            f"{path} may be a pickle, which can run any code when it is read; expected "
            "safetensors, so convert it first where you trust it"
        )
    if path.suffix != ".safetensors":
        raise InputError(f"{path} is not a .safetensors file, the only kind of file that is read")
    native = (open_tensors(path).metadata() or {}).get("format") == MARK["format"]
    if native:
        return open_native(path, tensors_in(path))
    return open_hugging_face(path, tensors_in(path), preset)


def _weights_in(folder: Path) -> Path:
    """The file of weights in a folder without a TensorFlow checkpoint; InputError if none is."""
    for name in (WEIGHTS, SHARDS):
        if (folder / name).exists():
            return folder / name
    names = sorted(path.name for path in folder.iterdir())
    if ADAPTER in names:
        raise InputError(
            f"{folder} holds a LoRA adapter, not a model; expected its base model, on which "
            "lora.load_adapter then puts the adapter"
        )
    pickles = [name for name in names if name.endswith(PICKLES) and not name.startswith(TRAINER)]
    if pickles:
        return folder / pickles[0]  # to be refused with its name
    if checkpoints := [name for name in names if name.startswith("checkpoint-")]:
        raise InputError(
            f"{folder} is the output of a Trainer with no model of its own; expected one of its "
            f"checkpoints: {listed(checkpoints)}"
        )
    if any(name.startswith(TRAINER) for name in names):
        raise InputError(
            f"{folder} holds a Trainer's settings and state, but no model; expected {WEIGHTS} in it"
        )
    raise InputError(f"{folder} holds no model; expected {WEIGHTS} or {INDEX} in it")
