"""What a step sums over the processes that take it: gradients and metrics.

Gradients are summed by a call that can be read, and not by a wrapper around the model such as
DistributedDataParallel. That takes the mean over the processes, where an example here weighs what
it does in the step of all of them; and it works by hooks on `forward`, where the objectives call
other methods of the model.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from minigpt.parallel import place, summed, told_by_all

BUCKET = 1 << 23  # gradients that are summed in one message, 32 MiB in fp32


def sum_by_name(values: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the sums over all processes of scalars by name, on a device; some may lack all."""
    if place().size == 1:
        return values
    parts = gather_by_name({name: value[None] for name, value in values.items()}, device)
    return {name: part.sum() for name, part in parts.items()}


def gather_by_name(values: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return by name the values (B,) of all processes, one after the other, on a device.

    The first process has all names; another one has the same, or none at all.
    """
    if place().size == 1:
        return values
    told = told_by_all({name: (len(value), value.dtype) for name, value in values.items()})
    whole = {}
    for name, (_, dtype) in told[0].items():
        lengths = [other.get(name, (0, dtype))[0] for other in told]
        whole[name] = torch.zeros(sum(lengths), dtype=dtype, device=device)
        if name in values:
            whole[name].split(lengths)[place().rank].copy_(values[name])
    if whole:  # the others add zeros to what one process has, so that it stays as it is
        flat = summed(torch.cat([*whole.values()]))
        parts = flat.split([len(value) for value in whole.values()])
        whole = {name: part.to(whole[name].dtype) for name, part in zip(whole, parts)}
    return whole


def sum_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Give each parameter the sum of its gradients in all processes; one without counts as zero."""
    if place().size == 1:
        return
    for bucket in _buckets(parameters):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = summed(torch.cat([gradient.flatten() for gradient in gradients]))
        for parameter, whole in zip(bucket, flat.split([p.numel() for p in bucket])):
            parameter.grad = whole.view_as(parameter)


def _buckets(parameters: list[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Cut parameters into lists of some BUCKET numbers: few messages, and no second copy of all."""
    bucket: list[torch.nn.Parameter] = []
    for parameter in parameters:
        bucket.append(parameter)
        if sum(p.numel() for p in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket
