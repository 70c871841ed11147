"""Hugging Face's format for GPT-2: model.safetensors and config.json, as `transformers` has them.

Linears are stored (in, out). The names are GPT's own with any of PREFIXES in front; old files hold
the causal masks too, and some the output matrix, which in GPT-2 is the embedding.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from minigpt.companions import (
    CONFIG,
    GENERATION,
    VOCABULARIES,
    read_companions,
    settings,
    write_companions,
)
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.files import parse_json, reading, save_tensors, write_json
from minigpt.model import GPT
from minigpt.tokenizer_files import tokenizer_for
from minigpt.weights.gpt2_files import gpt2_files
from minigpt.weights.stored import StoredModel, linear_weights, no_configuration, plain_state
from minigpt.weights.tensors import Tensors

PREFIX = "transformer."
# Also what torch.compile, DistributedDataParallel and a class around the model put in front.
PREFIXES = re.compile(r"(transformer\.|_orig_mod\.|module\.|model\.)*")
MASK_BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
HEAD, EMBEDDING = "lm_head.weight", "wte.weight"
SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
# The options of GPT2Config that change what is computed, at the values that GPT computes.
FIXED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",  # the tanh form, which has a second name
    "layer_norm_epsilon": 1e-5,
    "n_inner": None,  # 4C
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
ENDS = ("bos_token_id", "eos_token_id")
SAME = {"gelu_pytorch_tanh": "gelu_new"}


def open_hugging_face(path: Path, tensors: Tensors, preset: GPTConfig | None) -> StoredModel:
    """Take up Hugging Face's weights; without a config.json they must be those of a preset."""
    names = {}  # GPT's to the file's
    for there in tensors.shapes:
        name = there[PREFIXES.match(there).end() :]
        if name in names:
            raise InputError(f"{path} holds {name} twice, as {names[name]} and as {there}")
        if not MASK_BUFFER.fullmatch(name):
            names[name] = there
    if HEAD in names:
        _tie_head(path, tensors, names)
    shapes = {name: tensors.shapes[there] for name, there in names.items()}
    companions = read_companions(path.parent)
    if CONFIG in companions:
        config = _read_config(path.with_name(CONFIG), companions[CONFIG])
    elif preset is None:
        raise no_configuration(path, CONFIG)
    else:
        config = preset
    return StoredModel(
        path, config, shapes, lambda name: tensors.read(names[name]), True, companions=companions
    )


def save_hugging_face(model: GPT, folder: Path, dtype: torch.dtype | None) -> None:
    """Write a model and its tokenizer so that `transformers` reads both; see `save_pretrained`."""
    turned = linear_weights(model)
    tensors = {
        PREFIX + name: (tensor.T if name in turned else tensor).contiguous()
        for name, tensor in plain_state(model, dtype).items()
    }
    ends = settings(_companions(model), GENERATION)
    config = _config(model, tensors[PREFIX + EMBEDDING].dtype, ends)
    save_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    save_tokenizer(model, folder)
    write_json(folder / CONFIG, config)


def save_tokenizer(model: GPT, folder: Path) -> None:
    """Write a model's tokenizer and generation_config.json as `save_hugging_face` does."""
    write_companions(folder, {n: c for n, c in _companions(model).items() if n != CONFIG})


def _companions(model: GPT) -> dict[str, bytes]:
    """The model's companions; without a tokenizer among them, the files of the one it has."""
    companions = dict(model.companions)
    try:
        tokenizer = tokenizer_for(companions, model.config.vocab_size)
    except InputError:  # we have none that fits the model; nothing is better than a wrong one
        return companions
    if not any(name in companions for name in VOCABULARIES):
        files = gpt2_files(tokenizer.encoding.n_vocab, model.config.n_positions)
        companions = files | companions
    read = settings(companions)
    ends = {name: read.get(name, tokenizer.eot) for name in ENDS}
    return {GENERATION: json.dumps(ends).encode(), **companions}


def _config(model: GPT, dtype: torch.dtype, ends: Mapping) -> dict:
    """What config.json says: all that was read with the model, and what the model is now."""
    read = settings(model.companions)
    dropout = {f"{place}_pdrop": model.config.dropout for place in ("embd", "attn", "resid")}
    ends = {name: ends.get(name) for name in ENDS}
    written = {"architectures": ["GPT2LMHeadModel"], **FIXED, **dropout, **ends}
    dtype_name = "torch_dtype" if "torch_dtype" in read else "dtype"
    now = {name: getattr(model.config, name) for name in SIZES}
    return {**written, **read, **now, dtype_name: str(dtype).removeprefix("torch.")}


def _tie_head(path: Path, tensors: Tensors, names: dict[str, str]) -> None:
    """Drop the output matrix if it is the embedding; a file may hold one of the two or both."""
    head = names.pop(HEAD)
    embedding = names.setdefault(EMBEDDING, head)
    with reading(path, "a GPT-2's weights"):
        if head == embedding or torch.equal(tensors.read(head), tensors.read(embedding)):
            return
    raise InputError(
        f"{HEAD} in {path} differs from {EMBEDDING}; expected GPT-2, which has one matrix for both"
    )


def _read_config(path: Path, content: bytes) -> GPTConfig:
    values = parse_json(content, path)
    with reading(path, "a GPT-2's config.json"):
        missing = [name for name in SIZES if name not in values]
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}; expected a GPT-2's config.json")
        expected = {**FIXED, "n_inner": values.get("n_inner") and 4 * values["n_embd"]}
        activation = values.get("activation_function")
        got = {**values, "activation_function": SAME.get(activation, activation)}
        other = [
            f"{name} is {values[name]!r}, expected {value!r}"
            for name, value in expected.items()
            if name in values and got[name] != value
        ]
        if other:
            raise InputError(f"{path} describes another model than GPT-2: {'; '.join(other)}")
        return GPTConfig(**{name: values[name] for name in SIZES})
