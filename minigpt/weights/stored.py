"""What the formats have in common: a model in a file, and how it becomes a GPT."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from minigpt.config import PRESETS, GPTConfig
from minigpt.errors import InputError
from minigpt.files import hash_file, write_text
from minigpt.model import GPT

Shape = tuple[int, ...]


@dataclass(frozen=True)
class StoredModel:
    """A file of weights, opened but not yet read."""

    path: Path
    config: GPTConfig
    shapes: dict[str, Shape]  # of every tensor that must find its place in the model
    read: Callable[[str], Tensor]  # from a name in `shapes` to its tensor
    transposed: bool  # whether linears are stored (in, out), as the released ones are
    name_of: Callable[[str], str] = str  # from a GPT parameter's name to its name in `shapes`
    sha256: str | None = None  # of the file, where something beside it tells


def build(
    stored: StoredModel, *, dropout: float, dtype: torch.dtype, device: str | torch.device
) -> GPT:
    """Make the GPT whose weights are stored; raises InputError unless they fit it exactly."""
    check_hash(stored)
    model = empty_model(replace(stored.config, dropout=dropout))
    turned = linear_weights(model) if stored.transposed else set()
    check_fit(model, turned, stored)
    state = {}
    for name, parameter in model.state_dict().items():
        tensor = stored.read(stored.name_of(name))
        if not tensor.is_floating_point():
            raise InputError(f"{name} in {stored.path} holds {tensor.dtype}, expected floats")
        # A copy, since what was read may be a read-only view of the file.
        state[name] = torch.empty(parameter.shape, dtype=dtype, device=device)
        state[name].copy_(tensor.T if name in turned else tensor)
    model.load_state_dict(state, assign=True)
    return model


def empty_model(config: GPTConfig) -> GPT:
    """A GPT with shapes but no numbers: no time goes into weights that would be thrown away."""
    with torch.device("meta"):
        return GPT(config)


def linear_weights(model: GPT) -> set[str]:
    """Names of the weights that the released files hold transposed, (in, out)."""
    modules = model.named_modules()
    return {f"{name}.weight" for name, module in modules if isinstance(module, nn.Linear)}


def check_hash(stored: StoredModel) -> None:
    """Raise InputError for a file that is not the one whose SHA-256 is told."""
    path, sha256 = stored.path, stored.sha256
    if sha256 is not None and hash_file(path, hashlib.sha256()) != sha256:
        raise InputError(
            f"{path} was changed, or config.json beside it belongs to other weights; "
            f"expected the SHA-256 {sha256}"
        )


def check_fit(model: GPT, turned: set[str], stored: StoredModel) -> None:
    """List every missing, surplus and misshapen tensor in one InputError, in the file's terms."""
    found = stored.shapes
    expected = {
        stored.name_of(name): tuple(tensor.shape)[:: -1 if name in turned else 1]
        for name, tensor in model.state_dict().items()
    }
    problems = [f"missing: {name} {expected[name]}" for name in expected if name not in found]
    problems += [f"surplus: {name} {found[name]}" for name in found if name not in expected]
    problems += [
        f"misshapen: {name} is {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    if problems:
        raise InputError(
            f"the weights in {stored.path} do not fit {stored.config}:\n  " + "\n  ".join(problems)
        )


def plain_state(model: GPT, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """A GPT's parameters on the CPU, in `dtype` or as they are; InputError for any other module."""
    state = model.state_dict()
    plain = empty_model(model.config).state_dict()
    if state.keys() != plain.keys():
        raise InputError(
            "only a plain GPT can be saved as one: its parameters differ from a GPT's by "
            f"{', '.join(sorted(state.keys() ^ plain.keys()))}; merge and remove what was added"
        )
    return {name: tensor.to("cpu", dtype or tensor.dtype) for name, tensor in state.items()}


def write_json(path: Path, values: dict) -> None:
    """Write one JSON object, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_json(path: Path) -> dict:
    """Read a file that holds one JSON object; raises InputError when it does not."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read {path}, which describes the weights beside it: {error.strerror}"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds {type(value).__name__}, expected a JSON object")
    return value


def infer_config(path: Path, shapes: dict[str, Shape]) -> GPTConfig:
    """The configuration of weights that come without one, from the tensors' shapes.

    Shapes do not tell the number of heads, so the width must be that of a preset.
    """
    heads = {preset.n_embd: preset.n_head for preset in PRESETS.values()}
    embeddings = [shapes.get(name, ()) for name in ("wte.weight", "wpe.weight")]
    if any(len(shape) != 2 or shape[1] not in heads for shape in embeddings):
        raise InputError(
            f"{path} has no config.json beside it, and its wte.weight and wpe.weight of the shapes "
            f"{embeddings} do not tell the model; expected (V, C) and (T, C) with C one of "
            f"{', '.join(map(str, heads))}"
        )
    (vocab_size, n_embd), (n_positions, _) = embeddings
    layers = {name.split(".")[1] for name in shapes if name.startswith("h.")}
    return GPTConfig(vocab_size, n_positions, len(layers), heads[n_embd], n_embd)
