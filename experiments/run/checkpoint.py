"""Everything a run needs to go on bit for bit, in one safetensors file.

One file, so that a checkpoint is either there or not: no moment exists at which the weights and
the optimizer are from different steps.
"""

import json
from pathlib import Path

import torch
from torch.optim import AdamW

from minigpt.errors import InputError
from minigpt.files import open_tensors, save_tensors
from minigpt.model import GPT


def save_checkpoint(path: Path, model: GPT, optimizer: AdamW, progress: dict) -> None:
    """Write the trained parameters, the optimizer, torch's random state and `progress` (JSON)."""
    tensors = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    for name, parameter in _trained(model):
        tensors[f"model/{name}"] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{key}/{name}"] = value
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_tensors(path, tensors, {"progress": json.dumps(progress)})


def read_progress(path: Path) -> dict:
    """The `progress` that a checkpoint was saved with."""
    with open_tensors(path) as file:
        progress = (file.metadata() or {}).get("progress")
    if progress is None:
        raise InputError(f"{path} is not a checkpoint; expected a file that a run wrote")
    return json.loads(progress)


def load_checkpoint(path: Path, model: GPT, optimizer: AdamW) -> None:
    """Put parameters, optimizer and torch's random state back as they were saved."""
    with open_tensors(path) as file:
        names = set(file.keys())
        for name, parameter in _trained(model):
            if f"model/{name}" not in names:
                raise InputError(f"{path} holds no {name}; expected a checkpoint of this model")
            parameter.data.copy_(file.get_tensor(f"model/{name}"))
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if f"optimizer/{key}/{name}" in names:
                    value = file.get_tensor(f"optimizer/{key}/{name}")
                    optimizer.state[parameter][key] = value.to(parameter.device)
        torch.set_rng_state(file.get_tensor("random/cpu"))
        if "random/cuda" in names and torch.cuda.is_available():
            torch.cuda.set_rng_state(file.get_tensor("random/cuda"))


def _trained(model: GPT) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
