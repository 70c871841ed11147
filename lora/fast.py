"""LoRA's and DoRA's layers in fewer passes over the data.

Written as W x + b + s B A x, a LoRA layer costs three passes over tensors as wide as its output
(the base's product, B's, their sum) forward, as many backward, and PyTorch's bookkeeping for seven
operations. Here the small products add straight into the large ones' results.
"""

import torch
from torch import Tensor

from lora.dora import DoRALinear
from lora.layer import LoRALinear
from minigpt.fast.fallback import Fast, drops, ordinary, untouched
from minigpt.fast.linear import FastLinear, addmm, linear, mm


class FusedLoRALinear(LoRALinear, Fast):
    """A LoRALinear as one operation, where that can do all that is asked of the layer.

    With dropout, parts that somebody changed, a base that trains or types that differ it is a
    LoRALinear.
    """

    plain = LoRALinear

    def adapted(self, x: Tensor) -> Tensor:
        if not self._fusible(x):
            return super().adapted(x)
        return lora_linear(
            x,
            self.base.weight,
            self.base.bias,
            self.lora_A.weight,
            self.lora_B.weight,
            self.scaling,
            self.base.packed if isinstance(self.base, FastLinear) else None,
        )

    def _fusible(self, x: Tensor) -> bool:
        W, A, B = self.base.weight, self.lora_A.weight, self.lora_B.weight
        trained = W.requires_grad or (self.base.bias is not None and self.base.bias.requires_grad)
        one_type = x.dtype == W.dtype == A.dtype == B.dtype
        return (
            untouched(self.base, self.dropout, self.lora_A, self.lora_B)
            and not drops(self.dropout)
            and not trained
            and (one_type or torch.is_autocast_enabled(x.device.type))
            and ordinary(x, W, A, B)
        )


class FusedDoRALinear(DoRALinear, Fast):
    """A DoRALinear that takes W x from what its base has computed, where nobody changes that."""

    plain = DoRALinear

    def _base_product(self, y: Tensor, x: Tensor) -> Tensor:
        if not untouched(self.base, self.dropout) or drops(self.dropout):
            return super()._base_product(y, x)
        return y if self.base.bias is None else y - self.base.bias


FUSED = (FusedLoRALinear, FusedDoRALinear)  # for minigpt.accelerate


def lora_linear(
    x: Tensor,
    W: Tensor,
    b: Tensor | None,
    A: Tensor,
    B: Tensor,
    scaling: float,
    packed: Tensor | None = None,
) -> Tensor:
    """Return x W' + b + scaling (x A') B': x (..., in), W (out, in), A (r, in), B (out, r) ->
    (..., out).

    Gradients reach x, A and B; W and b are frozen. Under autocast all are taken in its type.
    `packed` is W for `minigpt.fast.linear.linear`.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, W, A, B = (tensor.to(dtype) for tensor in (x, W, A, B))
        b = None if b is None else b.to(dtype)
    y = _LoRALinear.apply(x.reshape(-1, x.size(-1)), W, b, A, B, scaling, packed)  # (N, out)
    return y.view(*x.shape[:-1], W.size(0))


class _LoRALinear(torch.autograd.Function):
    """For g, the gradient of y (N, out):

    dx = g W + s (g B) A        dA = s (g B)' x        dB = s g' (x A')
    """

    @staticmethod
    def forward(ctx, x, W, b, A, B, scaling, packed):
        h = scaling * mm(x, A.T)  # (N, r)
        ctx.save_for_backward(x, W, A, B, h)
        ctx.scaling = scaling
        return addmm(linear(x, W, b, packed), h, B.T)

    @staticmethod
    def backward(ctx, g):
        x, W, A, B, h = ctx.saved_tensors
        if torch.is_grad_enabled():  # with create_graph, by what can be differentiated again
            gB = ctx.scaling * (g @ B)
            dB = ctx.scaling * (g.T @ (x @ A.T))
            return g @ W + gB @ A, None, None, gB.T @ x, dB, None, None
        g = g.contiguous()
        gB = ctx.scaling * mm(g, B)  # (N, r)
        dx = addmm(mm(g, W), gB, A) if ctx.needs_input_grad[0] else None
        # dB' rather than dB: products with few rows are faster than those with few columns.
        return dx, None, None, mm(gB.T, x), mm(h.T, g).T, None, None
