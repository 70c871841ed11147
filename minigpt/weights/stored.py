"""What the formats have in common: a model in a file, and how it becomes a GPT."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from minigpt.config import GPTConfig
from minigpt.errors import InputError, listed
from minigpt.files import reading
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
    companions: Mapping[str, bytes] = field(default_factory=dict)  # minigpt.companions
    verify: Callable[[], None] = lambda: None  # reads all bytes; raises InputError if one changed


def build(
    stored: StoredModel, *, dropout: float, dtype: torch.dtype, device: str | torch.device
) -> GPT:
    """Make the GPT whose weights are stored; raises InputError unless they fit it exactly.

    The shapes in the file are compared before anything is read or made in the configuration's size,
    and memory has to be there for all of it before the file is read to its end.
    """
    check_fit(stored)
    model = empty_model(replace(stored.config, dropout=dropout))
    turned = linear_weights(model) if stored.transposed else set()
    # Copies, since what is read may be a read-only view of the file.
    with reading(stored.path, "a file that memory can hold"):
        state = {
            name: torch.empty(parameter.shape, dtype=dtype, device=device)
            for name, parameter in model.state_dict().items()
        }
    stored.verify()
    for name, copy in state.items():
        tensor = stored.read(stored.name_of(name))
        if not tensor.is_floating_point():
            raise InputError(f"{name} in {stored.path} holds {tensor.dtype}, expected floats")
        with reading(stored.path, "a file that memory can hold"):
            copy.copy_(tensor.T if name in turned else tensor)
    model.load_state_dict(state, assign=True)
    model.companions = dict(stored.companions)
    return model


def empty_model(config: GPTConfig) -> GPT:
    """A GPT with shapes but no numbers: no time goes into weights that would be thrown away."""
    with torch.device("meta"):
        return GPT(config)


def linear_weights(model: GPT) -> set[str]:
    """Names of the weights that the released files hold transposed, (in, out)."""
    modules = model.named_modules()
    return {f"{name}.weight" for name, module in modules if isinstance(module, nn.Linear)}


def check_fit(stored: StoredModel) -> None:
    """Refuse missing, surplus and misshapen tensors in one InputError, in the file's terms."""
    found = stored.shapes
    _check_sizes(stored)
    with reading(stored.path, "a model that PyTorch can hold"):
        expected = _expected_shapes(stored)
    groups = {
        "missing": [f"{name} {expected[name]}" for name in expected if name not in found],
        "surplus": [f"{name} {found[name]}" for name in found if name not in expected],
        "misshapen": [
            f"{name} is {found[name]}, expected {shape}"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ],
    }
    problems = [f"{kind}: {listed(tensors, 3)}" for kind, tensors in groups.items() if tensors]
    if problems:
        raise InputError(
            f"the weights in {stored.path} do not fit {stored.config}; {'; '.join(problems)}"
        )


def _check_sizes(stored: StoredModel) -> None:
    """Refuse a configuration beyond all that the file holds before anything gets its size."""
    largest = max((size for shape in stored.shapes.values() for size in shape), default=0)
    for name, value in stored.config.to_dict().items():
        if value > (len(stored.shapes) if name == "n_layer" else largest):
            raise InputError(
                f"{name} is {value} in the configuration of {stored.path}, which holds "
                f"{len(stored.shapes):,} tensors with sizes up to {largest:,}; expected the "
                "configuration of these weights"
            )


def _expected_shapes(stored: StoredModel) -> dict[str, Shape]:
    """The shape of every tensor by its name in the file, from one block that stands for all."""
    one = empty_model(replace(stored.config, n_layer=1))
    turned = linear_weights(one) if stored.transposed else set()
    shapes = {
        name: tuple(tensor.shape)[:: -1 if name in turned else 1]
        for name, tensor in one.state_dict().items()
    }
    return {
        stored.name_of(name.replace("h.0.", f"h.{block}.", 1)): shape
        for name, shape in shapes.items()
        for block in (range(stored.config.n_layer) if name.startswith("h.") else (0,))
    }


def no_configuration(path: Path, name: str) -> InputError:
    """The error for weights alone: any number of heads would fit them."""
    return InputError(
        f"{path} has no {name} beside it, and its tensors do not tell the number of heads; "
        f"expected a {name} there with vocab_size, n_positions, n_embd, n_layer and n_head"
    )


def plain_state(model: GPT, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """A GPT's parameters on the CPU, in `dtype` or as they are; InputError for any other module."""
    state = model.state_dict()
    plain = empty_model(model.config).state_dict()
    if state.keys() != plain.keys():
        raise InputError(
            "only a plain GPT can be saved as one: its parameters differ from a GPT's by "
            f"{listed(sorted(state.keys() ^ plain.keys()))}; merge and remove what was added"
        )
    return {name: tensor.to("cpu", dtype or tensor.dtype) for name, tensor in state.items()}
