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

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lora.dora import DoRALinear
from lora.injection import LoRAConfig, adapted_layers, block_number, inject, lora_layers
from lora.layer import LoRALinear
from minigpt.errors import InputError
from minigpt.files import make_folder, save_tensors, write_text

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PEFT = "base_model.model."  # what PEFT's wrapper puts before the names of the model within
_GPT2 = "transformer."  # what `transformers` puts before GPT-2's own names

_READ = {
    "peft_type", "r", "rank_pattern", "lora_alpha", "lora_dropout", "use_rslora", "use_dora",
}  # fmt: skip
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
    write_text(folder / CONFIG_FILE, json.dumps(settings, indent=2) + "\n")


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
    folder = Path(folder)
    settings = _read_settings(folder / CONFIG_FILE)
    tensors = _read_tensors(folder / WEIGHTS_FILE)
    layers = lora_layers(model)
    if any(layer.merged for layer in layers.values()):
        raise RuntimeError("the model's adapters are merged; expected unmerge(model) before")
    linears = {name: layer.base for name, layer in layers.items()} or {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(key.startswith(f"{name}.") for key in tensors)
    }
    config = _make_config(folder / CONFIG_FILE, settings, list(linears))
    _check_agreement(folder / CONFIG_FILE, config, layers)
    _check_tensors(folder / WEIGHTS_FILE, tensors, linears, config)
    if not layers:
        # The draws are overwritten below; a generator of their own keeps them off torch's default.
        inject(model, replace(config, targets=tuple(linears)), generator=torch.Generator())
    model.load_state_dict(tensors, strict=False)  # not strict: the base is not in the file
    return list(linears)


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


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The file's tensors under our names for them, such as h.0.attn.c_attn.lora_A.weight."""
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error})") from error
    if not tensors:
        raise InputError(f"{path} holds no tensors; expected those of an adapter")
    return {key.removeprefix(_PEFT).removeprefix(_GPT2): t for key, t in tensors.items()}


def _read_settings(path: Path) -> dict:
    """The file's settings, of which none is one that we lack."""
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
    return settings


def _make_config(path: Path, settings: dict, names: list[str]) -> LoRAConfig:
    """The settings, with the ranks of these layers; targets stay open, for the names tell them."""
    r = settings.get("r")
    ranks = [(name, _rank_of(path, settings, name)) for name in names]
    try:
        return LoRAConfig(
            rank=r,
            alpha=settings.get("lora_alpha"),
            dropout=settings.get("lora_dropout", 0.0),
            rank_stabilised=bool(settings.get("use_rslora")),
            rank_pattern=tuple((name, rank) for name, rank in ranks if rank != r),
            dora=bool(settings.get("use_dora")),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _rank_of(path: Path, settings: dict, name: str) -> int:
    """PEFT's rule: the first pattern that fits the name, or its end from a dot on; else r."""
    patterns = settings.get("rank_pattern") or {}
    try:
        fits = (
            rank
            for pattern, rank in patterns.items()
            if re.match(rf"(.*\.)?({pattern})$", _GPT2 + name)
        )
        return next(fits, settings.get("r"))
    except (AttributeError, re.error) as error:
        raise InputError(
            f"{path} has rank_pattern {patterns!r} ({error}); expected ranks by regular expression"
        ) from None


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
    path: Path, tensors: dict[str, Tensor], linears: dict[str, nn.Linear], config: LoRAConfig
) -> None:
    """Name every tensor that is missing, surplus or misshapen, in one error."""
    expected = {}
    for name, linear in linears.items():
        rank = config.rank_of(name)
        expected[f"{name}.lora_A.weight"] = (rank, linear.in_features)
        expected[f"{name}.lora_B.weight"] = (linear.out_features, rank)
        if config.dora:
            expected[f"{name}.lora_magnitude_vector"] = (linear.out_features,)
    problems = [f"{key} is missing" for key in expected if key not in tensors]
    problems += [f"{key} fits nothing" for key in tensors if key not in expected]
    problems += [
        f"{key} has shape {tuple(tensors[key].shape)}, expected {shape}"
        for key, shape in expected.items()
        if key in tensors and tensors[key].shape != shape
    ]
    if problems:
        raise InputError(f"{path} does not fit the model: {'; '.join(problems)}")
