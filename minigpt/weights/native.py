"""This project's own format: weights as the model holds them, and the configuration beside them.

    model.safetensors   every parameter under its name in GPT, linears (out, in), any float type
    config.json         "format": "minigpt", the fields of GPTConfig, and hashes (SHA-256):
                        "sha256" of model.safetensors, "files" of the companions by name, and
                        "config_sha256" of all the rest of config.json
    and the companions (minigpt.companions), Hugging Face's config.json as hugging_face.json

The hashes find any changed byte, and files that were not saved together. Folders from before there
were "files" and "config_sha256" are read too.
"""

import hashlib
import json
from dataclasses import fields
from pathlib import Path

import torch

from minigpt.companions import CONFIG, GENERATION, TOKENIZER, read_companions, write_companions
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.files import hash_file, read_bytes, read_json, reading, save_tensors, write_json
from minigpt.model import GPT
from minigpt.weights.stored import StoredModel, no_configuration, plain_state
from minigpt.weights.tensors import Tensors

MARK = {"format": "minigpt"}  # in config.json and in the metadata of model.safetensors
THEIRS = "hugging_face.json"
SIZES = {field.name for field in fields(GPTConfig)}
OLD, NEW = SIZES | {"format", "sha256"}, SIZES | {"format", "sha256", "files", "config_sha256"}


def open_native(path: Path, tensors: Tensors) -> StoredModel:
    """Take up our own weights; `verify` compares them with the hash in config.json."""
    config_path = path.with_name(CONFIG)
    if not config_path.exists():
        raise no_configuration(path, CONFIG)
    values = read_json(config_path)
    with reading(config_path, "the configuration of a model"):
        _check_configuration(config_path, values)
        config = GPTConfig(**{name: values[name] for name in SIZES})

    def verify() -> None:
        if hash_file(path, hashlib.sha256()) != values["sha256"]:
            raise InputError(
                f"{path} was changed, or {CONFIG} beside it belongs to other weights; "
                f"expected the SHA-256 {values['sha256']}"
            )

    companions = _read_companions(path.parent, values.get("files"))
    return StoredModel(
        path, config, tensors.shapes, tensors.read, False, companions=companions, verify=verify
    )


def save_native(model: GPT, folder: Path, dtype: torch.dtype | None) -> None:
    """Write a model in our own format; see `minigpt.save_pretrained`."""
    weights = folder / "model.safetensors"
    save_tensors(weights, plain_state(model, dtype), MARK)
    companions = {THEIRS if n == CONFIG else n: c for n, c in model.companions.items()}
    write_companions(folder, companions)
    values = {
        **MARK,
        "sha256": hash_file(weights, hashlib.sha256()),
        **model.config.to_dict(),
        "files": {name: hashlib.sha256(c).hexdigest() for name, c in sorted(companions.items())},
    }
    write_json(folder / CONFIG, {**values, "config_sha256": _hash(values)})


def _hash(values: dict) -> str:
    """The SHA-256 of a configuration, however it is laid out in its file."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _check_configuration(path: Path, values: dict) -> None:
    if values.keys() not in (OLD, NEW) or values["format"] != MARK["format"]:
        raise InputError(
            f"{path} is not the configuration of weights that minigpt saved; expected "
            f'"format": "{MARK["format"]}" and {", ".join(sorted(NEW))}'
        )
    rest = {name: value for name, value in values.items() if name != "config_sha256"}
    if "config_sha256" in values and _hash(rest) != values["config_sha256"]:
        raise InputError(
            f"{path} was changed: its own SHA-256 does not fit; expected it as minigpt saved it"
        )


def _read_companions(folder: Path, hashes: dict[str, str] | None) -> dict[str, bytes]:
    """The companions that were saved along, each under its hash."""
    if hashes is None:  # an old folder
        return {n: c for n, c in read_companions(folder).items() if n != CONFIG}
    companions = {}
    for name, expected in hashes.items():
        if name not in (THEIRS, GENERATION, *TOKENIZER):  # a path could lead anywhere
            raise InputError(f"{folder / CONFIG} lists {name!r}, which lies beside no model")
        content = read_bytes(folder / name)
        if hashlib.sha256(content).hexdigest() != expected:
            raise InputError(f"{folder / name} was changed; expected the SHA-256 {expected}")
        companions[CONFIG if name == THEIRS else name] = content
    return companions
