"""Adapters on disk, in the format of Hugging Face's PEFT.

    adapter_model.safetensors   base_model.model.transformer.h.0.attn.c_attn.lora_A.weight  (r, in)
                                base_model.model.transformer.h.0.attn.c_attn.lora_B.weight  (out, r)
                                                  and for DoRA ... .lora_magnitude_vector  (out,)
    adapter_config.json         peft_type, r, rank_pattern, lora_alpha, lora_dropout, use_rslora,
                                use_dora, target_modules, layers_to_transform

What we save PEFT loads onto `transformers`' GPT-2, and the reverse. Only the base weight differs
between the two (`transformers` stores its transpose, hence `fan_in_fan_out`), and no adapter file
holds it.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from lora.dora import DoRALinear
from lora.injection import LoRAConfig, adapted_layers, block_number, inject, lora_layers
from lora.layer import LoRALinear
from lora.settings import make_config, read_settings
from minigpt.errors import InputError, listed
from minigpt.files import (
    make_folder,
    open_tensors,
    save_tensors,
    tensor_reader,
    tensor_shapes,
    write_json,
)

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PEFT = "base_model.model."  # what PEFT's wrapper puts before the names of the model within
_GPT2 = "transformer."  # what `transformers` puts before GPT-2's own names


def save_adapter(
    model: nn.Module, folder: str | Path, *, base_model_name: str | None = None
) -> None:
    """Write the model's adapters into `folder` as PEFT's two files, each atomically.

    `base_model_name` tells PEFT what the adapter belongs to: a Hub name or a folder. Merged or
    disabled adapters are saved all the same. Raises RuntimeError if the model has none, InputError
    if its layers differ in more than rank or if the folder cannot be written.
    """
    layers = adapted_layers(model)
    config = _common_config(layers)
    blocks = {block_number(name) for name in layers}
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model_name,
        "r": config.rank,
        # PEFT reads regular expressions; alpha holds for every rank, there as here.
        "rank_pattern": {re.escape(_GPT2 + name): rank for name, rank in config.rank_pattern},
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilised,
        "use_dora": config.dora,
        # Full names: PEFT takes a name for a suffix, and c_proj alone would hit two layers a block.
        "target_modules": [_GPT2 + name for name in layers],
        "layers_to_transform": None if None in blocks else sorted(blocks),
        "fan_in_fan_out": True,
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
    }
    tensors = {
        f"{_PEFT}{_GPT2}{name}.{key}": tensor
        for name, layer in layers.items()
        for key, tensor in layer.state_dict().items()
        if key.startswith("lora_")
    }
    folder = make_folder(folder)
    save_tensors(folder / WEIGHTS_FILE, tensors, {"format": "pt"})
    write_json(folder / CONFIG_FILE, settings)


def load_adapter(model: nn.Module, folder: str | Path) -> list[str]:
    """Load adapters that `save_adapter` or PEFT wrote; returns the names of their layers.

    A model without adapters gets them where the file has tensors, with the file's settings, and
    all its other parameters are frozen. A model with adapters must agree with the file in layers,
    kind, ranks and scaling; its dropout stays, which is a matter of training and not of the
    function.

    Raises InputError, and leaves the model alone, for missing or damaged files, for PEFT's options
    that we lack (each is named) and for tensors that do not fit (all are named). Raises
    RuntimeError for a merged model.
    """
    config_path, path = Path(folder) / CONFIG_FILE, Path(folder) / WEIGHTS_FILE
    settings = read_settings(config_path)
    shapes = tensor_shapes(path, open_tensors(path))
    there = _our_names(path, shapes)
    layers = lora_layers(model)
    if any(layer.merged for layer in layers.values()):
        raise RuntimeError("the model's adapters are merged; expected unmerge(model) before")
    linears = {name: layer.base for name, layer in layers.items()} or {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(key.startswith(f"{name}.") for key in there)
    }
    config = make_config(config_path, settings, _layer_names(there, linears))
    _check_agreement(config_path, config, layers)
    _check_tensors(path, {name: shapes[key] for name, key in there.items()}, linears, config)
    read = tensor_reader(path)
    tensors = {name: read(key) for name, key in there.items()}
    if other := [name for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise InputError(f"{path} holds other numbers than floats in {listed(other)}")
    if not layers:
        # The draws are overwritten below; a generator of their own keeps them off torch's default.
        inject(model, replace(config, targets=tuple(linears)), generator=torch.Generator())
    model.load_state_dict(tensors, strict=False)  # not strict: the base is not in the file
    return list(linears)


def _layer_names(there: dict[str, str], linears: Iterable[str]) -> dict[str, str]:
    """What the adapter's own model calls each layer: with `transformer.` in front, or without."""
    found = {name.rpartition(".lora_")[0]: key for name, key in there.items()}
    keys = {name: found.get(name, f"{_GPT2}{name}") for name in linears}
    return {n: key.removeprefix(_PEFT).rpartition(".lora_")[0] or key for n, key in keys.items()}


def _config_of(layer: LoRALinear) -> LoRAConfig:
    """What made this layer, but for which layer it is."""
    return LoRAConfig(
        layer.rank,
        layer.alpha,
        layer.dropout.p,
        rank_stabilised=layer.rank_stabilised,
        dora=isinstance(layer, DoRALinear),
    )


def _common_config(layers: dict[str, LoRALinear]) -> LoRAConfig:
    """The one config for all layers: their commonest rank, and a pattern for every other one."""
    rank = Counter(layer.rank for layer in layers.values()).most_common(1)[0][0]
    configs = {replace(_config_of(layer), rank=rank) for layer in layers.values()}
    if len(configs) > 1:
        raise InputError(
            f"the adapters have {len(configs)} different settings besides their ranks; expected one"
        )
    others = tuple((name, layer.rank) for name, layer in layers.items() if layer.rank != rank)
    return replace(configs.pop(), rank_pattern=others)


def _our_names(path: Path, names: Iterable[str]) -> dict[str, str]:
    """From our names, such as h.0.attn.c_attn.lora_A.weight, to what the file calls the same."""
    found = {}
    for there in names:
        name = there.removeprefix(_PEFT).removeprefix(_GPT2)
        if name in found:
            raise InputError(f"{path} holds {name} twice, as {found[name]} and as {there}")
        found[name] = there
    if not found:
        raise InputError(f"{path} holds no tensors; expected those of an adapter")
    return found


def _check_agreement(path: Path, config: LoRAConfig, layers: dict[str, LoRALinear]) -> None:
    """Refuse a file whose tensors would fit the model's layers and yet mean another correction."""
    for name, layer in layers.items():
        ours, theirs = _config_of(layer), replace(config, rank=config.rank_of(name))
        for field in ("rank", "alpha", "rank_stabilised", "dora"):
            got, expected = getattr(theirs, field), getattr(ours, field)
            if got != expected:
                raise InputError(
                    f"{path} has for {name} {field} {got}; expected the model's {expected}"
                )


def _check_tensors(
    path: Path, found: dict[str, tuple[int, ...]], linears: dict[str, nn.Linear], config: LoRAConfig
) -> None:
    """Name what is missing, surplus and misshapen in one error: the first few, and how many."""
    expected = {}
    for name, linear in linears.items():
        rank = config.rank_of(name)
        expected[f"{name}.lora_A.weight"] = (rank, linear.in_features)
        expected[f"{name}.lora_B.weight"] = (linear.out_features, rank)
        if config.dora:
            expected[f"{name}.lora_magnitude_vector"] = (linear.out_features,)
    groups = (
        [f"{key} is missing" for key in expected if key not in found],
        [f"{key} fits nothing" for key in found if key not in expected],
        [
            f"{key} has shape {found[key]}, expected {shape}"
            for key, shape in expected.items()
            if found.get(key, shape) != shape
        ],
    )
    if problems := "; ".join(listed(group, 3) for group in groups if group):
        raise InputError(f"{path} does not fit the model: {problems}")
