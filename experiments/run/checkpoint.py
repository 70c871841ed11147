"""Everything a run needs to go on bit for bit, in one safetensors file.

One file, so that a checkpoint is either there or not: no moment exists at which the weights and
the optimizer are from different steps.
"""

import json
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import AdamW

from experiments.run.hashed_tensors import load_hashed, save_hashed
from minigpt.errors import InputError
from minigpt.files import open_tensors
from minigpt.model import GPT
from minigpt.parallel import by_first

MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps in each parameter's shape
CPU_STATE, CUDA_STATE = "random/cpu", "random/cuda"


@by_first
def save_checkpoint(path: Path, model: GPT, optimizer: AdamW, progress: dict) -> None:
    """Write the trained parameters, the optimizer, torch's random states and `progress` (JSON)."""
    tensors = {CPU_STATE: torch.get_rng_state()}
    device = model.wte.weight.device
    if device.type == "cuda":
        tensors[CUDA_STATE] = torch.cuda.get_rng_state(device)
    for name, parameter in _trained(model):
        tensors[f"model/{name}"] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{key}/{name}"] = value
    save_hashed(path, tensors, {"progress": json.dumps(progress)})


def read_progress(path: Path) -> dict:
    """The `progress` that a checkpoint was saved with."""
    with open_tensors(path) as file:
        progress = (file.metadata() or {}).get("progress")
    try:
        found = json.loads(progress or "")
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("step"), int):
        raise InputError(f"{path} is not a checkpoint; expected a file that a run wrote")
    return found


def load_checkpoint(path: Path, model: GPT, optimizer: AdamW) -> None:
    """Put parameters, optimizer and torch's random state back as they were saved.

    Raises InputError, and changes nothing, unless the file holds just the tensors of this model
    and this optimizer. A fused step would write beyond a tensor that is too small.
    """
    tensors = load_hashed(path, "progress")
    _check(path, tensors, _trained(model))
    for name, parameter in _trained(model):
        parameter.data.copy_(tensors[f"model/{name}"])
        for key in ("step", *MOMENTS):
            if f"optimizer/{key}/{name}" in tensors:
                value = tensors[f"optimizer/{key}/{name}"]
                optimizer.state[parameter][key] = value.to(parameter.device)
    torch.set_rng_state(tensors[CPU_STATE])
    device = model.wte.weight.device
    if CUDA_STATE in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors[CUDA_STATE], device)


def _check(
    path: Path, tensors: dict[str, Tensor], trained: list[tuple[str, torch.nn.Parameter]]
) -> None:
    """Raise InputError for a tensor that is missing, surplus, or not as this model would save it.

    Before its first step an optimizer keeps nothing, so its tensors may be absent all together.
    """
    stepped = any(name.startswith("optimizer/") for name in tensors)
    expected = {CPU_STATE: torch.get_rng_state()}
    for name, parameter in trained:
        kept = parameter.detach()
        expected[f"model/{name}"] = kept
        if stepped:
            expected |= {f"optimizer/{key}/{name}": kept for key in MOMENTS}
            expected[f"optimizer/step/{name}"] = torch.zeros(())
    surplus = tensors.keys() - expected.keys() - {CUDA_STATE}
    for name in sorted(surplus) or sorted(expected.keys() - tensors.keys()):
        problem = "a surplus" if surplus else "no"
        raise InputError(f"{path} holds {problem} {name:.80}; expected a checkpoint of this model")
    for name, like in expected.items():
        found = tensors[name]
        if (found.shape, found.dtype) != (like.shape, like.dtype):
            raise InputError(
                f"{name} in {path} is {found.dtype} of the shape {tuple(found.shape)}; "
                f"expected {like.dtype} of the shape {tuple(like.shape)}"
            )
        if found.is_floating_point() and not torch.isfinite(found).all():
            raise InputError(f"{name} in {path} is not finite; expected a checkpoint of a run")


def _trained(model: GPT) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
