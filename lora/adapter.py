"""Adapters on disk, in the format of Hugging Face's PEFT.

    adapter_model.safetensors   base_model.model.transformer.h.0.attn.c_attn.lora_A.weight  (r, in)
                                base_model.model.transformer.h.0.attn.c_attn.lora_B.weight  (out, r)
    adapter_config.json         peft_type, r, lora_alpha, lora_dropout, use_rslora, target_modules

What we save PEFT loads onto `transformers`' GPT-2, and the reverse. Only the base weight differs
between the two (`transformers` stores its transpose, hence `fan_in_fan_out`), and no adapter file
holds it.
"""

import json
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lora.inject import LoRAConfig, adapted_layers, inject, lora_layers
from minigpt.errors import InputError
from minigpt.files import make_folder, save_tensors, write_text

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PEFT = "base_model.model."  # what PEFT's wrapper puts before the names of the model within
_GPT2 = "transformer."  # what `transformers` puts before GPT-2's own names

_READ = {"peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora"}
# These change nothing in what the saved tensors compute. The first four chose the layers; which
# layers have an adapter the tensors' names say, and say better.
_HARMLESS = {
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "base_model_name_or_path", "revision", "task_type", "auto_mapping", "inference_mode",
    "peft_version", "fan_in_fan_out", "megatron_core", "qalora_group_size",
}  # fmt: skip
# Every other setting must be off, so that an option unknown today is refused, not misread.
_OFF = (None, False, {}, [])
_OFF_TOO = {
    "bias": ("none",),
    # The others (PiSSA, OLoRA, ...) also change the base, which the adapter's file does not hold.
    "init_lora_weights": (True, "gaussian", "orthogonal"),
}


def save_adapter(
    model: nn.Module, folder: str | Path, *, base_model_name: str | None = None
) -> None:
    """Write the model's adapters into `folder` as PEFT's two files, each atomically.

    `base_model_name` tells PEFT what the adapter belongs to: a Hub name or a folder. Merged or
    disabled adapters are saved all the same. Raises RuntimeError if the model has none, InputError
    if its layers differ in rank or scaling or if the folder cannot be written.
    """
    layers = adapted_layers(model)
    config = _config_of(model)
    tensors = {}
    for name, layer in layers.items():
        tensors[f"{_PEFT}{_GPT2}{name}.lora_A.weight"] = layer.lora_A.weight.detach()
        tensors[f"{_PEFT}{_GPT2}{name}.lora_B.weight"] = layer.lora_B.weight.detach()
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model_name,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilised,
        # Full names: PEFT takes a name for a suffix, and c_proj alone would hit two layers a block.
        "target_modules": [_GPT2 + name for name in layers],
        "fan_in_fan_out": True,
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
    }
    folder = make_folder(folder)
    save_tensors(folder / WEIGHTS_FILE, tensors, {"format": "pt"})
    write_text(folder / CONFIG_FILE, json.dumps(settings, indent=2) + "\n")


def load_adapter(model: nn.Module, folder: str | Path) -> list[str]:
    """Load adapters that `save_adapter` or PEFT wrote; returns the names of their layers.

    A model without adapters gets them where the file has tensors, with the file's settings, and
    all its other parameters are frozen. A model with adapters must agree with the file in layers,
    rank and scaling; its dropout stays, which is a matter of training and not of the function.

    Raises InputError, and leaves the model alone, for missing or damaged files, for PEFT's options
    that we lack (each is named) and for tensors that do not fit (all are named). Raises
    RuntimeError for a merged model.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG_FILE)
    tensors = _read_tensors(folder / WEIGHTS_FILE)
    layers = lora_layers(model)
    if any(layer.merged for layer in layers.values()):
        raise RuntimeError("the model's adapters are merged; expected unmerge(model) before")
    linears = {name: layer.base for name, layer in layers.items()} or {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(key.startswith(f"{name}.") for key in tensors)
    }
    if layers:
        _check_agreement(folder / CONFIG_FILE, config, _config_of(model))
    _check_tensors(folder / WEIGHTS_FILE, tensors, linears, config.rank)
    if not layers:
        # The draws are overwritten below; a generator of their own keeps them off torch's default.
        inject(model, replace(config, targets=tuple(linears)), generator=torch.Generator())
    model.load_state_dict(tensors, strict=False)  # not strict: the base is not in the file
    return list(linears)


def _config_of(model: nn.Module) -> LoRAConfig:
    """The one config that would make the model's adapters."""
    layers = adapted_layers(model)
    configs = {
        LoRAConfig(x.rank, x.alpha, x.dropout.p, tuple(layers), x.rank_stabilised)
        for x in layers.values()
    }
    if len(configs) > 1:
        raise InputError(f"the adapters have {len(configs)} different settings; expected one")
    return configs.pop()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The file's tensors under our names for them, such as h.0.attn.c_attn.lora_A.weight."""
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error})") from error
    if not tensors:
        raise InputError(f"{path} holds no tensors; expected those of an adapter")
    return {key.removeprefix(_PEFT).removeprefix(_GPT2): t for key, t in tensors.items()}


def _read_config(path: Path) -> LoRAConfig:
    """The file's settings, except its targets: those the tensors' names tell better."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise InputError(f"{path} describes no LoRA adapter; expected peft_type LORA")
    unsupported = [
        f"{key} = {value!r}"
        for key, value in settings.items()
        if key not in _READ | _HARMLESS and value not in _OFF + _OFF_TOO.get(key, ())
    ]
    if unsupported:
        raise InputError(
            f"{path} sets {', '.join(unsupported)}, not supported here; expected a plain adapter"
        )
    try:
        return LoRAConfig(
            rank=settings.get("r"),
            alpha=settings.get("lora_alpha"),
            dropout=settings.get("lora_dropout", 0.0),
            rank_stabilised=bool(settings.get("use_rslora")),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_agreement(path: Path, theirs: LoRAConfig, ours: LoRAConfig) -> None:
    """Refuse a file whose tensors would fit and yet mean another correction."""
    for field in ("rank", "alpha", "rank_stabilised"):
        got, expected = getattr(theirs, field), getattr(ours, field)
        if got != expected:
            raise InputError(f"{path} has {field} {got}; expected the model's {expected}")


def _check_tensors(
    path: Path, tensors: dict[str, Tensor], linears: dict[str, nn.Linear], rank: int
) -> None:
    """Name every tensor that is missing, surplus or misshapen, in one error."""
    expected = {}
    for name, linear in linears.items():
        expected[f"{name}.lora_A.weight"] = (rank, linear.in_features)
        expected[f"{name}.lora_B.weight"] = (linear.out_features, rank)
    problems = [f"{key} is missing" for key in expected if key not in tensors]
    problems += [f"{key} fits nothing" for key in tensors if key not in expected]
    problems += [
        f"{key} has shape {tuple(tensors[key].shape)}, expected {shape}"
        for key, shape in expected.items()
        if key in tensors and tensors[key].shape != shape
    ]
    if problems:
        raise InputError(f"{path} does not fit the model: {'; '.join(problems)}")
