"""Linear layers by oneDNN, which PyTorch brings along for CPUs, in fp32 as well.

For fp32 PyTorch itself takes MKL, which holds back on processors that are not Intel's: on AMD's
with AVX-512, oneDNN does the same products in half the time. With AVX2 alone it is a little faster
forward, and MKL half as fast again backward, where one of the matrices comes transposed. On
Intel's it has not been measured.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.fast.fallback import Fast, ordinary

# What TorchInductor calls for a linear layer on a CPU; it has no public name.
_AVAILABLE = torch.backends.mkldnn.is_available()
_ONEDNN = torch.ops.mkldnn._linear_pointwise if _AVAILABLE else None
# Sums and gradients by it, too.
_AVX512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
_BF16 = _AVAILABLE and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # not by every processor


class FastLinear(nn.Linear, Fast):
    """nn.Linear, computed by `linear`.

    `packed` is the weight once more, in the layout that oneDNN works on, while tokens are sampled
    (`FastGPT.sampling`).
    """

    plain = nn.Linear
    packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias, self.packed)


def linear(x: Tensor, W: Tensor, b: Tensor | None = None, packed: Tensor | None = None) -> Tensor:
    """Return x W' + b, as F.linear: x (..., in), W (out, in), b (out,) -> (..., out).

    `packed` is W by `pack`, if it is at hand; it is only taken where no gradient is asked for.
    """
    if torch.compiler.is_compiling() or not ordinary(x, W):  # a compiler has products of its own
        return F.linear(x, W, b)
    if packed is not None and x.dtype == W.dtype and not torch.is_grad_enabled():
        return _forward(x, packed, b)
    if not _by_onednn(x, W) or x.size(-1) != W.size(-1):  # which PyTorch refuses in its own words
        return F.linear(x, W, b)
    rows = x.reshape(-1, x.size(-1)).contiguous()
    run = _Linear.apply if torch.is_grad_enabled() else _forward
    return run(rows, W, b).view(*x.shape[:-1], W.size(0))


def pack(W: Tensor) -> Tensor | None:
    """Return a matrix in oneDNN's layout; None where that gains nothing.

    A product with few rows, such as those of new tokens, else takes longer to lay a bf16 weight out
    than to compute. W must not change while the result is in use.
    """
    if not (_BF16 and W.device.type == "cpu" and W.dtype == torch.bfloat16 and ordinary(W)):
        return None
    return torch.ops.mkldnn._reorder_linear_weight(W.detach())


def mm(a: Tensor, b: Tensor) -> Tensor:
    """Return a b, as torch.mm: (N, K) and (K, M) -> (N, M). For gradients by hand; it has none."""
    return _forward(a, b.T, None) if _AVX512 and _by_onednn(a, b) else a @ b


def addmm(y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return y + a b, as torch.addmm: (N, M), (N, K) and (K, M) -> (N, M). Without gradients.

    The result may take the place of y, which must not be used again.
    """
    if torch.compiler.is_compiling():
        # What an autograd.Function returns from an operation in place, TorchDynamo of PyTorch 2.11
        # counts as two outputs, and the gradient goes to the one that nobody reads.
        return torch.addmm(y, a, b)
    fused = _AVX512 and _by_onednn(a, b)
    return _ONEDNN.binary(a, y, b.T, None, "add") if fused else y.addmm_(a, b)


def _by_onednn(x: Tensor, W: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == W.dtype == torch.float32
        and _ONEDNN is not None
        and torch.backends.mkldnn.enabled
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _forward(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    return _ONEDNN(x, W, b, "none", [], "")


class _Linear(torch.autograd.Function):
    """For g, the gradient of y (N, out):  dx = g W,  dW = g' x,  db = the sum of g's rows."""

    @staticmethod
    def forward(ctx, x, W, b):
        dx, dW, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if dW else None, W if dx else None)
        return _forward(x, W, b)

    @staticmethod
    def backward(ctx, g):
        x, W = ctx.saved_tensors
        g = g.contiguous()  # a sum's gradient is one number, seen many times
        # With create_graph the gradients are differentiated in their turn, which ours cannot be.
        product = torch.mm if torch.is_grad_enabled() else mm
        dx, dW, db = ctx.needs_input_grad
        return (
            product(g, W) if dx else None,
            product(g.T, x) if dW else None,
            g.sum(0) if db else None,
        )
