"""Windows into a model: all that flows through it, and who looks at whom.

Both run the model as it stands, adapters included, and see its parts through hooks; an accelerated
or compiled model does as the plain one does meanwhile. Nothing is trained: eval mode, no gradients.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minigpt.errors import InputError
from minigpt.model import GPT
from minigpt.sampling import evaluating


@dataclass(frozen=True, repr=False)
class Trace:
    """What flowed through a model of L blocks; its repr is a table of names and shapes.

    The residual stream at depth l is what the blocks before block l have added up: depth 0 is the
    embeddings, depth L what the final norm reads. The logits of a depth are what the model would
    say if the blocks from there on were left out: its final norm and head on the residual stream
    (the "logit lens", nostalgebraist, 2020, "interpreting GPT: the logit lens"). Those of depth L
    are the model's own.
    """

    outputs: dict[str, Tensor]  # what every module gave, by its full name, in order of computation
    residual: Tensor  # (L + 1, B, T, C)
    logits: Tensor  # (L + 1, B, T, V)

    def __repr__(self) -> str:
        width = max(map(len, self.outputs))
        lines = [f"{name:{width}}  {(*output.shape,)}" for name, output in self.outputs.items()]
        return "\n".join([*lines, f"{'logits':{width}}  {(*self.logits[-1].shape,)}"])


@torch.no_grad()
def trace(model: GPT, ids: Tensor | Sequence) -> Trace:
    """Return what flows through the model as it reads token numbers `ids`, (B, T) or a list.

    A flat list is one sequence, B = 1. All L + 1 logits are kept at once: (L + 1) B T V numbers.
    Raises InputError for ids that are no token numbers of this model or are too many.
    """
    modules = {name: m for name, m in model.named_modules() if name and m is not model.h}
    ids = _checked(model, ids)
    with evaluating(model), _outputs(modules) as outputs:
        GPT.hidden(model, ids)  # a compiled model's own `hidden` would call no hook
    blocks = [outputs[f"h.{i}"] for i in range(model.config.n_layer)]
    residual = torch.stack([outputs["dropout"], *blocks])  # (L + 1, B, T, C)
    with evaluating(model):
        logits = torch.stack([model.head(model.ln_f(depth)) for depth in residual])
    return Trace(outputs, residual, logits)


@torch.no_grad()
def attention(model: GPT, ids: Tensor | Sequence) -> Tensor:
    """Return how much each token looks at each, (L, B, H, T, T), as the model reads `ids`.

    The element [l, b, h, t, s] is the weight that head h of block l gives at token t to the value
    of token s: rows sum to 1, and are 0 above the diagonal. `ids` and errors are those of `trace`.
    """
    watched = {f"h.{i}": block.attn.weight_dropout for i, block in enumerate(model.h)}
    ids = _checked(model, ids)
    with evaluating(model), _outputs(watched) as weights:
        GPT.hidden(model, ids)
    return torch.stack([*weights.values()])  # (L, B, H, T, T)


@contextmanager
def _outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that fills with what each module gives, until the block is left."""
    outputs: dict[str, Tensor] = {}

    def keeper(name: str):
        def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            outputs[name] = output

        return keep

    hooks = [module.register_forward_hook(keeper(name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _checked(model: GPT, ids: Tensor | Sequence) -> Tensor:
    """Return ids as a tensor (B, T) on the model's device; InputError if they cannot be read."""
    expected = "expected whole numbers (B, T), or a list of them for one sequence"
    try:
        ids = torch.as_tensor(ids, device=model.wte.weight.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"ids are no table of token numbers ({error}); {expected}") from error
    ids = ids[None] if ids.dim() == 1 else ids
    if ids.dim() != 2 or not ids.numel() or ids.dtype not in (torch.int32, torch.int64):
        raise InputError(f"ids are {ids.dtype} of the shape {tuple(ids.shape)}; {expected}")
    V, T, longest = model.config.vocab_size, ids.size(1), model.config.n_positions
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= V:
        raise InputError(f"ids range from {low} to {high}; expected numbers from 0 to {V - 1}")
    if longest < T:
        raise InputError(f"ids are {T} tokens a sequence; expected at most the model's {longest}")
    return ids
