"""Low-rank adaptation: small trainable corrections beside frozen linear layers."""

from lora.adapter import load_adapter, save_adapter
from lora.change import Spectrum, delta, spectrum
from lora.dora import DoRALinear
from lora.fast import FUSED
from lora.injection import (
    TARGETS,
    LoRAConfig,
    disabled,
    inject,
    lora_layers,
    merge,
    trainable_parameters,
    unload,
    unmerge,
)
from lora.layer import LoRALinear

__all__ = [
    "FUSED",
    "TARGETS",
    "DoRALinear",
    "LoRAConfig",
    "LoRALinear",
    "Spectrum",
    "delta",
    "disabled",
    "inject",
    "load_adapter",
    "lora_layers",
    "merge",
    "save_adapter",
    "spectrum",
    "trainable_parameters",
    "unload",
    "unmerge",
]
