"""The model that is trained: which weights, which of them move, and how they are kept."""

from pathlib import Path

import torch

from lora import FUSED, LoRAConfig, inject, load_adapter, lora_layers, save_adapter
from minigpt import GPT, accelerate, load_pretrained, save_pretrained


def make_policy(
    model: str,
    *,
    dropout: float,
    device: str,
    lora: LoRAConfig | None,
    precision: str,
    compile: str,
    generator: torch.Generator,
) -> tuple[GPT, list[str]]:
    """A pretrained model, and the names of the layers that got LoRA adapters (none without).

    In "bf16" the frozen weights beside adapters are kept in bf16. Autocast would round them all
    the same, but anew in every forward, and it keeps no copy of what is not trained. `compile` is a
    backend of `minigpt.compile`.
    """
    policy = load_pretrained(model, dropout=dropout, device=device)
    adapted = inject(policy, lora, generator=generator) if lora else []
    if precision == "bf16":
        for layer in lora_layers(policy).values():
            layer.base.to(torch.bfloat16)
    accelerate(policy, FUSED, backend=compile)
    return policy, adapted


def save_policy(policy: GPT, folder: Path, *, base_model_name: str) -> None:
    """Keep what training made: the adapters in PEFT's format, or else all weights in ours."""
    if lora_layers(policy):
        save_adapter(policy, folder, base_model_name=base_model_name)
    else:
        save_pretrained(policy, folder)


@torch.no_grad()
def restore_policy(policy: GPT, folder: Path) -> None:
    """Put what `save_policy` kept back into the same policy."""
    if lora_layers(policy):
        load_adapter(policy, folder)
    else:
        policy.load_state_dict(load_pretrained(folder).state_dict())
