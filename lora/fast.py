"""LoRA's layer as one operation with a backward pass of its own.

Written as W x + b + s B A x, a LoRA layer costs three passes over tensors as wide as its output
(the base's product, B's, their sum) forward, as many backward, and PyTorch's bookkeeping for seven
operations. Here the small products add straight into the large ones' results.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from minigpt.fast.linear import addmm, linear, mm


def lora_linear(
    x: Tensor, W: Tensor, b: Tensor | None, A: Tensor, B: Tensor, scaling: float
) -> Tensor:
    """x W' + b + scaling (x A') B': x (..., in), W (out, in), A (r, in), B (out, r) -> (..., out).

    Gradients reach x, A and B; W and b are frozen. Under autocast all are taken in its type.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, W, A, B = (tensor.to(dtype) for tensor in (x, W, A, B))
        b = None if b is None else b.to(dtype)
    y = _LoRALinear.apply(x.reshape(-1, x.size(-1)), W, b, A, B, scaling)  # (N, out)
    return y.view(*x.shape[:-1], -1)


class _LoRALinear(torch.autograd.Function):
    """For g, the gradient of y (N, out):

    dx = g W + s (g B) A        dA = s (g B)' x        dB = s g' (x A')
    """

    @staticmethod
    def forward(ctx, x, W, b, A, B, scaling):
        h = scaling * mm(x, A.T)  # (N, r)
        ctx.save_for_backward(x, W, A, B, h)
        ctx.scaling = scaling
        return addmm(linear(x, W, b), h, B.T)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, W, A, B, h = ctx.saved_tensors
        g = g.contiguous()
        gB = ctx.scaling * mm(g, B)  # (N, r)
        dx = addmm(mm(g, W), gB, A) if ctx.needs_input_grad[0] else None
        # dB' rather than dB: products with few rows are faster than those with few columns.
        return dx, None, None, mm(gB.T, x), mm(h.T, g).T, None
