"""The one training loop, for pretraining, SFT and DPO alike.

`train` is a generator: it takes one optimizer step, hands out the step's metrics and waits. What
happens between steps (records, checkpoints, evaluations, stopping) is the caller's business, so the
loop has no hooks, callbacks or options for any of it.
"""

from collections.abc import Iterable, Iterator

import torch
from torch.optim import AdamW

from experiments.run.bounds import check_bounds
from experiments.run.reduction import gather_by_name, sum_by_name, sum_gradients
from lora import lora_layers
from minigpt import parallel
from minigpt.errors import InputError, NotFinite
from minigpt.model import GPT
from objectives.batch import Batch
from objectives.objective import SPREAD, Objective, quantiles

LOSS_EVERY = 10  # steps between the losses that a progress bar shows, as each waits for the device


def train(
    model: GPT,
    optimizer: AdamW,
    steps: Iterable[list[Batch]],
    objective: Objective,
    *,
    learning_rates: Iterable[float],
    dropout: bool,
    precision: str,
    max_grad_norm: float,
) -> Iterator[dict[str, float | torch.Tensor]]:
    """Take one optimizer step per list of microbatches and yield its metrics.

    Yields loss (the step's weighted mean), grad_norm (before clipping to `max_grad_norm`),
    learning_rate, num_tokens (input positions, padding included) and the objective's own metrics.
    Of several processes (`minigpt.parallel`) each is given microbatches of its own, or none, and
    all take the step of all of them.
    What the model computed is given as scalar tensors on its device: turning one into a number
    waits for the device, and a loop that never does can prepare the next step meanwhile.
    With LoRA+ the parameter groups of `make_optimizer` learn at multiples of that rate.
    `dropout` says whether the step runs in train mode; DPO compares log-probs and does without.
    """
    parameters = trainable(model)
    for microbatches, learning_rate in zip(steps, learning_rates):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group["ratio"]
        model.train(dropout)
        metrics = accumulate_gradients(model, microbatches, objective, precision=precision)
        sum_gradients(parameters)
        metrics["grad_norm"] = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield {
            **metrics,
            "learning_rate": learning_rate,
            "num_tokens": sum(
                parallel.told_by_all(sum(batch.inputs.numel() for batch in microbatches))
            ),
        }


def accumulate_gradients(
    model: GPT, microbatches: list[Batch], objective: Objective, *, precision: str
) -> dict[str, torch.Tensor]:
    """Add the gradient of the whole step's mean loss to `.grad`; return the step's metrics.

    They are means over the step's examples, of some (`quantiles`) also quantiles.

    Every example counts by its weight over the whole step, not over its microbatch, so 8 x 1,
    4 x 2 and 1 x 8 are the same step. Of several processes each adds its own part of that gradient;
    the metrics are those of all.
    """
    device = model.wte.weight.device
    weights = [objective.example_weights(batch) for batch in microbatches]
    total = sum(parallel.told_by_all(sum(weight.sum() for weight in weights)))
    if len(microbatches) > 1 and device.type == "cuda":
        # Else the first gradient is kept where it was made, which costs nothing; but there a
        # captured backward, called again, would write the second one over it.
        for parameter in trainable(model):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
    means: dict[str, torch.Tensor] = {}
    examples: dict[str, list[torch.Tensor]] = {}  # the metrics of each, those with quantiles
    for batch, weight in zip(microbatches, weights):
        with autocast(device, precision):
            losses, metrics = objective(model, batch.to(device))
        share = (weight / total).to(device)  # (B,)
        loss = (losses * share).sum()
        loss.backward()
        for name, values in {"loss": losses, **metrics}.items():
            means[name] = means.get(name, 0.0) + (values.detach() * share).sum()
            if name in SPREAD:
                examples.setdefault(name, []).append(values.detach())
    spread = {name: torch.cat(parts) for name, parts in examples.items()}
    return sum_by_name(means, device) | quantiles(gather_by_name(spread, device))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a forward runs: "bf16" over fp32 weights, or "fp32" as it stands."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def trainable(model: GPT) -> list[torch.nn.Parameter]:
    """The parameters that the optimizer moves."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def check_weights(model: GPT) -> None:
    """Raise NotFinite unless all that is trained is finite; waits for the device."""
    finite = [torch.isfinite(parameter).all() for parameter in trainable(model)]
    if not torch.stack(finite).all():
        raise NotFinite(
            "training diverged: the weights are no longer finite; start anew with a lower "
            "learning rate; the checkpoint before it is kept"
        )


def make_optimizer(
    model: GPT,
    *,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    lora_plus: float = 1.0,
) -> AdamW:
    """AdamW (Loshchilov & Hutter, 2019) in one fused kernel; `train` sets the learning rate.

    Only matrices decay: pulling biases and norms towards zero has no regularising purpose.

    `lora_plus` is how many times as fast as A LoRA's B learns (LoRA+, Hayou et al., 2024, arXiv
    2402.12354): at one rate for both, wide models change their features too little. Raises
    InputError for a ratio below 1, and for any other than 1 if the model has no adapters.
    """
    check_bounds({"lora_plus": lora_plus})
    if lora_plus != 1 and not lora_layers(model):
        raise InputError(f"lora_plus is {lora_plus} for a model without adapters; expected 1")
    groups: dict[tuple[bool, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # DoRA's magnitudes, which are vectors, learn as fast as B, as in PEFT's LoRA+. PEFT
            # also lets them decay; here they do not, as they scale the base's weight itself.
            matrix = parameter.dim() >= 2
            ratio = 1.0 if matrix and ".lora_B." not in name else lora_plus
            groups.setdefault((matrix, ratio), []).append(parameter)
    settings = [
        {"params": params, "weight_decay": weight_decay if matrix else 0.0, "ratio": ratio}
        for (matrix, ratio), params in groups.items()
    ]
    return AdamW(settings, lr=0.0, betas=betas, fused=True)
