"""This project's own format: weights as the model holds them, and the configuration beside them.

    model.safetensors   every parameter under its name in GPT, linears (out, in), any float type
    config.json         the fields of GPTConfig, "format": "minigpt", and the SHA-256 of the former

The hash finds any changed byte, and weights and configuration that were not saved together.
"""

import hashlib
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import safe_open

from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.files import hash_file, save_tensors, tensor_reader
from minigpt.model import GPT
from minigpt.weights.stored import StoredModel, infer_config, plain_state, read_json, write_json

MARK = {"format": "minigpt"}  # in config.json and in the metadata of model.safetensors


def open_native(path: Path, file: safe_open) -> StoredModel:
    """Take up our own weights; without a config.json beside them, their shapes must tell it."""
    read = tensor_reader(path)  # before its hash is taken, when the model is built
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    config_path = path.with_name("config.json")
    if not config_path.exists():
        return StoredModel(path, infer_config(path, shapes), shapes, read, transposed=False)
    config, sha256 = _read_config(config_path, path)
    return StoredModel(path, config, shapes, read, transposed=False, sha256=sha256)


def save_native(model: GPT, folder: Path, dtype: torch.dtype | None) -> None:
    """Write a model in our own format; see `minigpt.save_pretrained`."""
    weights = folder / "model.safetensors"
    save_tensors(weights, plain_state(model, dtype), MARK)
    sha256 = hash_file(weights, hashlib.sha256())
    write_json(folder / "config.json", {**MARK, "sha256": sha256, **model.config.to_dict()})


def _read_config(path: Path, weights: Path) -> tuple[GPTConfig, str]:
    """The configuration of the weights, and their SHA-256."""
    values = read_json(path)
    names = {field.name for field in fields(GPTConfig)}
    if values.keys() != names | {"format", "sha256"} or values["format"] != MARK["format"]:
        raise InputError(
            f"{path} is not the configuration of {weights.name}, which minigpt saved; expected "
            f'"format": "{MARK["format"]}", "sha256" and {", ".join(sorted(names))}'
        )
    return GPTConfig(**{name: values[name] for name in names}), values["sha256"]
