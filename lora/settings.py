"""What PEFT's adapter_config.json says of an adapter, and what of it we can do."""

from pathlib import Path

from lora.injection import LoRAConfig
from lora.patterns import Patterns
from minigpt.errors import InputError, listed
from minigpt.files import read_json

MOST_BYTES = 1 << 20  # of the file; one with a rank for every layer of GPT-2 XL has 20,000
_READ = {
    "peft_type", "r", "rank_pattern", "lora_alpha", "lora_dropout", "use_rslora", "use_dora",
    "alpha_pattern",
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


def read_settings(path: Path) -> dict:
    """Return the settings in a file; InputError names those that we lack."""
    settings = read_json(path, MOST_BYTES)
    if settings.get("peft_type") != "LORA":
        raise InputError(f"{path} describes no LoRA adapter; expected peft_type LORA")
    unsupported = [
        f"{key} = {value!r}"
        for key, value in settings.items()
        if key not in _READ | _HARMLESS and value not in _OFF + _OFF_TOO.get(key, ())
    ]
    unsupported += [
        f"{key} = {settings[key]!r}"
        for key in ("use_rslora", "use_dora")
        if settings.get(key) not in (None, False, True)
    ]
    if unsupported:
        raise InputError(
            f"{path} sets {listed(unsupported)}, not supported here; expected a plain adapter"
        )
    return settings


def make_config(path: Path, settings: dict, names: dict[str, str]) -> LoRAConfig:
    """Return the settings for these layers; targets stay open, for the names tell them.

    `names` gives what the adapter's own model calls each layer, which PEFT's patterns mean.
    Raises InputError for values without sense.
    """
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    ranks, alphas = (
        {name: patterns.get(there, default) for name, there in names.items()}
        for patterns, default in (
            (_patterns(path, settings, "rank_pattern", names), rank),
            (_patterns(path, settings, "alpha_pattern", names), alpha),
        )
    )
    others = [other for other in alphas.values() if other != alpha]
    if others and others != [others[0]] * len(names):  # one for all would be as good as lora_alpha
        raise InputError(
            f"{path} sets alpha_pattern = {settings['alpha_pattern']!r}, not supported here; "
            "expected one alpha for all layers"
        )
    try:
        return LoRAConfig(
            rank=rank,
            alpha=others[0] if others else alpha,
            dropout=settings.get("lora_dropout", 0.0),
            rank_stabilised=bool(settings.get("use_rslora")),
            rank_pattern=tuple((name, other) for name, other in ranks.items() if other != rank),
            dora=bool(settings.get("use_dora")),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _patterns(path: Path, settings: dict, setting: str, names: dict[str, str]) -> Patterns:
    return Patterns(f"{path} has {setting}", settings.get(setting) or {}, names.values())
