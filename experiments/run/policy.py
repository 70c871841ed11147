"""The model that is trained: which weights, which of them move, and how they are kept."""

from pathlib import Path

import torch

from experiments.run.source import Source, load_source
from lora import FUSED, LoRAConfig, inject, load_adapter, lora_layers, save_adapter
from minigpt import GPT, PRESETS, accelerate, decelerate, load_pretrained, save_pretrained
from minigpt.parallel import by_first
from objectives import frozen_copy


def make_policy(
    source: Source,
    *,
    dropout: float,
    device: str,
    lora: LoRAConfig | None,
    precision: str,
    compile: str,
    generator: torch.Generator,
) -> tuple[GPT, list[str]]:
    """A pretrained model, and the names of the layers that got LoRA adapters (none without).

    Adapters that the source has are merged, and new ones stand beside the sum.
    In "bf16" the frozen weights beside adapters are kept in bf16. Autocast would round them all
    the same, but anew in every forward, and it keeps no copy of what is not trained. `compile` is a
    backend of `minigpt.compile`.
    """
    policy = load_source(source, dropout=dropout, device=device)
    adapted = inject(policy, lora, generator=generator) if lora else []
    if precision == "bf16":
        for layer in lora_layers(policy).values():
            layer.cast_base(torch.bfloat16)
    accelerate(policy, FUSED, backend=compile)
    return policy, adapted


@by_first
def save_policy(policy: GPT, folder: Path, *, base_model_name: str) -> None:
    """Keep what training made: the adapters in PEFT's format, or else all weights in ours.

    Adapters name their base by an absolute path where it is one, as it is looked for from anywhere.
    """
    if lora_layers(policy):
        name = base_model_name
        name = name if name in PRESETS else str(Path(name).absolute())
        save_adapter(policy, folder, base_model_name=name)
    else:
        save_pretrained(policy, folder)


@torch.no_grad()
def restore_policy(policy: GPT, folder: Path) -> None:
    """Put what `save_policy` kept back into the same policy."""
    if lora_layers(policy):
        load_adapter(policy, folder)
    else:
        policy.load_state_dict(load_pretrained(folder).state_dict())


def frozen_policy(policy: GPT, folder: Path) -> GPT:
    """Return what `save_policy` kept of an earlier state of the policy, as a model beside it.

    Weights that do not train are shared. It is not compiled, as it is not meant to stay.
    """
    earlier = frozen_copy(policy)
    decelerate(earlier)
    accelerate(earlier, FUSED)
    restore_policy(earlier, folder)
    return earlier
