"""Hugging Face's format for GPT-2: model.safetensors and config.json, as `transformers` has them.

Linears are stored (in, out). The names are GPT's own, with `transformer.` in front or not; old
files hold the causal masks too, and some the output matrix, which in GPT-2 is the embedding.
"""

import re
from pathlib import Path

import torch
from safetensors import safe_open

from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.files import save_tensors, tensor_reader
from minigpt.model import GPT
from minigpt.weights.stored import (
    StoredModel,
    infer_config,
    linear_weights,
    plain_state,
    read_json,
    write_json,
)

PREFIX = "transformer."
MASK_BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
HEAD, EMBEDDING = "lm_head.weight", "wte.weight"
SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
# The options of GPT2Config that change what is computed, at the values that GPT computes.
FIXED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",  # the tanh form
    "layer_norm_epsilon": 1e-5,
    "n_inner": None,  # 4C
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def open_hugging_face(path: Path, file: safe_open) -> StoredModel:
    """Take up Hugging Face's weights; without a config.json, their shapes must tell it."""
    names = {}  # GPT's to the file's
    for there in file.keys():
        name = there.removeprefix(PREFIX)
        if name in names:
            raise InputError(f"{path} holds {name} twice, with {PREFIX} in front and without")
        if not MASK_BUFFER.fullmatch(name):
            names[name] = there
    if HEAD in names:
        _tie_head(path, file, names)
    shapes = {name: tuple(file.get_slice(there).get_shape()) for name, there in names.items()}
    config_path = path.with_name("config.json")
    config = _read_config(config_path) if config_path.exists() else infer_config(path, shapes)
    read = tensor_reader(path)
    return StoredModel(path, config, shapes, lambda name: read(names[name]), transposed=True)


def save_hugging_face(model: GPT, folder: Path, dtype: torch.dtype | None) -> None:
    """Write a model so that `transformers` reads it; see `minigpt.save_pretrained`."""
    turned = linear_weights(model)
    tensors = {
        PREFIX + name: (tensor.T if name in turned else tensor).contiguous()
        for name, tensor in plain_state(model, dtype).items()
    }
    save_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    config, end_of_text = model.config, model.config.vocab_size - 1
    dropout = {f"{place}_pdrop": config.dropout for place in ("embd", "attn", "resid")}
    write_json(
        folder / "config.json",
        {
            "architectures": ["GPT2LMHeadModel"],
            **FIXED,
            **{name: getattr(config, name) for name in SIZES},
            **dropout,
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_text,
        },
    )


def _tie_head(path: Path, file: safe_open, names: dict[str, str]) -> None:
    """Drop the output matrix if it is the embedding; a file may hold one of the two or both."""
    head = names.pop(HEAD)
    embedding = names.setdefault(EMBEDDING, head)
    if not torch.equal(file.get_tensor(head), file.get_tensor(embedding)):
        raise InputError(
            f"{HEAD} in {path} differs from {EMBEDDING}; expected GPT-2, which has one matrix "
            "for both"
        )


def _read_config(path: Path) -> GPTConfig:
    values = read_json(path)
    missing = [name for name in SIZES if name not in values]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; expected a GPT-2's config.json")
    expected = {**FIXED, "n_inner": values.get("n_inner") and 4 * values["n_embd"]}
    other = [
        f"{name} is {values[name]!r}, expected {value!r}"
        for name, value in expected.items()
        if values.get(name, value) != value
    ]
    if other:
        raise InputError(f"{path} describes another model than GPT-2: {'; '.join(other)}")
    return GPTConfig(**{name: values[name] for name in SIZES})
