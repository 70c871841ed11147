"""The head and its log-softmax, chunk by chunk: the logits of all positions never exist at once.

At GPT-2's vocabulary they cost more memory than the rest of a step, and more time in passes over it
than in sums. The idea is cut cross-entropy's (Wijmans et al., 2024, arXiv 2411.09009); here it is
plain PyTorch. For hidden states h (P, C), the matrix W (V, C), logits z = h W' and p = softmax(z),

    log p[target] = z[target] - logsumexp(z),  with the gradient  e - p  in z, e one at the target.

Where g (P,) is the gradient of the log-probs, the chain rule makes of it

    dh = g (W[target] - p W)                     dW = (e - p)' (g h).

All but g is known while a chunk's p is at hand, so dh is made then, and dW too if g will be one
number everywhere, as in SFT. Else dW takes a second pass, which makes p again.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt.fast.linear import addmm, linear, mm

CHUNK = 2**24  # logits at a time: 64 MiB in fp32
TWICE = 2**28  # logits from which on a second pass is better than to keep them all


def log_prob(hidden: Tensor, W: Tensor, target: Tensor, even: bool) -> Tensor:
    """Return log p(target) of every position: (P, C), (V, C), (P,) -> (P,), fp32 or better.

    `even` says that the gradient to come is one number for all positions. Where it turns out not to
    be, the result is right all the same and takes longer.
    """
    device, dtype = hidden.device.type, hidden.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        return _LogProb.apply(hidden, W, target, even, dtype)


def pays(hidden: Tensor, W: Tensor, even: bool) -> bool:
    """Return whether chunks are better than all logits at once: more than one, and no second pass.

    From a gibibyte of logits on they are better with a second pass too.
    """
    twice = torch.is_grad_enabled() and W.requires_grad and not even
    return hidden.size(0) * W.size(0) > (TWICE if twice else CHUNK)


class _LogProb(torch.autograd.Function):
    """`dtype` is that of the products; sums over chunks are kept in W's own."""

    @staticmethod
    def forward(ctx, hidden, W, target, even, dtype):
        needs_dh, needs_dW, *_ = ctx.needs_input_grad
        h, matrix = hidden.to(dtype), W.to(dtype)
        logps = h.new_empty(len(h), dtype=torch.promote_types(dtype, torch.float32))
        slope = torch.empty_like(h) if needs_dh else None  # dh / g
        total = torch.zeros_like(W) if needs_dW and even else None  # dW / g
        for chunk in _chunks(h, W):
            log_p = _log_softmax(h[chunk], matrix)
            logps[chunk] = log_p.gather(1, target[chunk, None])[:, 0]
            if not needs_dh and total is None:
                continue
            p = log_p.exp_().to(dtype)
            if needs_dh:
                slope[chunk] = matrix[target[chunk]] - mm(p, matrix)
            if total is not None:
                total = _add_product(total, p.T, -h[chunk])
        if total is not None:
            total.index_add_(0, target, h.to(W.dtype))
        ctx.save_for_backward(hidden, W, target, slope)
        ctx.total, ctx.dtype = total, dtype
        return logps

    @staticmethod
    def backward(ctx, g):
        hidden, W, target, slope = ctx.saved_tensors
        needs_dh, needs_dW, *_ = ctx.needs_input_grad
        if torch.is_grad_enabled():  # create_graph: the gradients are differentiated in their turn
            logps = _log_softmax(hidden.to(ctx.dtype), W.to(ctx.dtype)).gather(1, target[:, None])
            wanted = [t for t, needed in ((hidden, needs_dh), (W, needs_dW)) if needed]
            found = torch.autograd.grad(logps[:, 0], wanted, g, create_graph=True)
            dh, dW = found if len(found) == 2 else (*found, None) if needs_dh else (None, *found)
            return dh, dW, None, None, None
        dh = slope * g[:, None] if needs_dh else None
        dW = None
        if needs_dW:
            total, ctx.total = ctx.total, None  # scaled in place: a second backward has none
            if total is not None and _is_even(g):
                dW = total.mul_(g[0])
            else:
                dW = _second_pass(hidden.to(ctx.dtype), W, target, g)
        return dh, dW, None, None, None


def _second_pass(h: Tensor, W: Tensor, target: Tensor, g: Tensor) -> Tensor:
    """Return dW where every position has a gradient of its own."""
    matrix, scaled = W.to(h.dtype), (h * g[:, None]).to(h.dtype)
    dW = torch.zeros_like(W)
    for chunk in _chunks(h, W):
        p = _log_softmax(h[chunk], matrix).exp_().to(h.dtype)
        dW = _add_product(dW, p.T, -scaled[chunk])
    return dW.index_add_(0, target, scaled.to(W.dtype))


def _log_softmax(h: Tensor, matrix: Tensor) -> Tensor:
    """Return the log-probs of every token: (P, C), (V, C) -> (P, V), fp32 or better."""
    logits = linear(h, matrix)
    return F.log_softmax(logits, dim=1, dtype=torch.promote_types(h.dtype, torch.float32))


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return total + a b in total's type, maybe in its place."""
    return addmm(total, a, b) if total.dtype == a.dtype else total.add_(a @ b)


def _chunks(h: Tensor, W: Tensor) -> Iterator[slice]:
    rows = max(1, CHUNK // len(W))
    return (slice(start, start + rows) for start in range(0, len(h), rows))


def _is_even(g: Tensor) -> bool:
    """Return whether g is one number, but for what the rounding of means makes of it."""
    return torch.allclose(g, g[0].expand_as(g), rtol=4 * torch.finfo(g.dtype).eps, atol=0.0)
