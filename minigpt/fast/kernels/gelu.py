"""y = gelu(x + bias) and its backward, which makes the bias's gradient in the same pass.

Without bias, cuBLAS writes x as it is. Forward moves as many bytes as PyTorch's addmm and GELU do;
backward reads the large gradient once less, since no second kernel has to add it up.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt.fast.kernels import cuda

THREADS = 128


def reference(x: Tensor, bias: Tensor) -> Tensor:
    """GELU (Hendrycks & Gimpel, 2016, arXiv 1606.08415), tanh form, of x (..., F) + bias (F,).

    Computed in fp32 or better and returned in x's type.
    """
    return F.gelu(_exact(x) + _exact(bias), approximate="tanh").to(x.dtype).contiguous()


def backward_reference(grad: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x (..., F) and of bias (F,), given that of y (..., F)."""
    inner = _exact(x) + _exact(bias)
    grad = torch.ops.aten.gelu_backward(_exact(grad), inner, approximate="tanh")
    grad_bias = grad.reshape(-1, bias.numel()).sum(0)
    return grad.to(x.dtype).contiguous(), grad_bias.to(bias.dtype)


def _exact(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


bias_gelu = torch.library.custom_op("minigpt::bias_gelu", reference, mutates_args=())
bias_gelu_backward = torch.library.custom_op(
    "minigpt::bias_gelu_backward", backward_reference, mutates_args=()
)


@bias_gelu.register_fake
def _fake(x, bias):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@bias_gelu_backward.register_fake
def _backward_fake(grad, x, bias):
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(bias)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, grad):
    return bias_gelu_backward(grad, *ctx.saved_tensors)


bias_gelu.register_autograd(_differentiate, setup_context=_save)


def _grid(rows: int, columns: int, device: torch.device) -> tuple[int, int]:
    """Blocks over the columns, and as many over the rows as keep the GPU busy."""
    across = -(-columns // (4 * THREADS))
    down = cuda.BLOCKS_PER_PROCESSOR * cuda.processors(device) // across
    return across, min(rows, max(1, down))


@bias_gelu.register_kernel("cuda")
def forward_cuda(x: Tensor, bias: Tensor) -> Tensor:
    """`reference` on a GPU."""
    if not cuda.fits(x, bias):
        return reference(x, bias)
    x, bias = cuda.aligned(x), cuda.aligned(bias)
    y = torch.empty_like(x)
    rows, columns = x.numel() // x.size(-1), x.size(-1)
    cuda.launch(
        "bias_gelu.cu",
        "bias_gelu",
        {"X": x.dtype, "B": bias.dtype},
        _grid(rows, columns, x.device),
        THREADS,
        [x, bias, y, rows, columns],
    )
    return y


@bias_gelu_backward.register_kernel("cuda")
def backward_cuda(grad: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """`backward_reference` on a GPU."""
    if not cuda.fits(x, bias):
        return backward_reference(grad, x, bias)
    grad, x, bias = cuda.aligned(grad.to(x.dtype)), cuda.aligned(x), cuda.aligned(bias)
    grad_x = torch.empty_like(x)
    rows, columns = x.numel() // x.size(-1), x.size(-1)
    grid = _grid(rows, columns, x.device)
    partial_bias = x.new_empty(grid[1], columns, dtype=torch.float32)
    cuda.launch(
        "bias_gelu.cu",
        "bias_gelu_backward",
        {"X": x.dtype, "B": bias.dtype},
        grid,
        THREADS,
        [grad, x, bias, grad_x, partial_bias, rows, columns],
    )
    return grad_x, partial_bias.sum(0).to(bias.dtype)
