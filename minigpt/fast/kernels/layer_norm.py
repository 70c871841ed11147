"""sum = x + branch and y = layer_norm(sum) in one pass, and the backward of both in one pass.

PyTorch takes a kernel each for the sum, the norm and, under autocast, the rounding of y to bf16;
backward a further one for every gradient that is added or rounded. All of them do nothing but
read and write the residual stream.
"""

import torch
from torch import Tensor

from minigpt.fast.kernels import cuda


def reference(
    x: Tensor, branch: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Residual sum and its layer norm (Ba et al., 2016, arXiv 1607.06450) over the last dimension.

    x and branch are (..., C), weight and bias (C,). Gives the sum (..., C) in their promoted type,
    its norm (..., C) in `dtype`, and, for the backward, mean and 1 / std of each row (...).
    Computed in fp32 or better.
    """
    total = (x + branch).contiguous()
    exact = _exact(total)
    mean = exact.mean(-1)
    rstd = (exact.var(-1, correction=0) + eps).rsqrt()
    normed = (exact - mean[..., None]) * rstd[..., None] * _exact(weight) + _exact(bias)
    return total, normed.to(dtype), mean, rstd


def backward_reference(
    grad_sum: Tensor,
    grad_normed: Tensor,
    total: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    x_dtype: torch.dtype,
    branch_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x and of branch (..., C), which differ in type alone, of weight and bias."""
    n = (_exact(total) - mean[..., None]) * rstd[..., None]  # (..., C)
    grad_normed = _exact(grad_normed)
    g = grad_normed * _exact(weight)
    inner = g - g.mean(-1, keepdim=True) - n * (g * n).mean(-1, keepdim=True)
    grad = (_exact(grad_sum) + rstd[..., None] * inner).contiguous()
    C = weight.numel()
    grad_weight = (grad_normed * n).reshape(-1, C).sum(0).to(weight.dtype)
    grad_bias = grad_normed.reshape(-1, C).sum(0).to(weight.dtype)
    return grad.to(x_dtype), grad.to(branch_dtype, copy=True), grad_weight, grad_bias


def _exact(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


add_layer_norm = torch.library.custom_op("minigpt::add_layer_norm", reference, mutates_args=())
add_layer_norm_backward = torch.library.custom_op(
    "minigpt::add_layer_norm_backward", backward_reference, mutates_args=()
)


@add_layer_norm.register_fake
def _outputs(x, branch, weight, bias, eps, dtype):
    """The outputs without their numbers, as a shape for the compiler and to be filled on a GPU."""
    total = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, branch.dtype))
    rows = x.new_empty(x.shape[:-1], dtype=torch.promote_types(total.dtype, torch.float32))
    return total, total.new_empty(x.shape, dtype=dtype), rows, torch.empty_like(rows)


@add_layer_norm_backward.register_fake
def _gradients(grad_sum, grad_normed, total, weight, mean, rstd, x_dtype, branch_dtype):
    """The same for the backward."""
    grads = (total.new_empty(total.shape, dtype=dtype) for dtype in (x_dtype, branch_dtype))
    return *grads, torch.empty_like(weight), torch.empty_like(weight)


def _save(ctx, inputs, output):
    x, branch, weight, *_ = inputs
    total, _, mean, rstd = output
    ctx.dtypes = x.dtype, branch.dtype
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(total, weight, mean, rstd)


def _differentiate(ctx, grad_sum, grad_normed, _mean, _rstd):
    grads = add_layer_norm_backward(grad_sum, grad_normed, *ctx.saved_tensors, *ctx.dtypes)
    return *grads, None, None


add_layer_norm.register_autograd(_differentiate, setup_context=_save)


def _fits(total: Tensor, *tensors: Tensor) -> bool:
    """A block takes a row: 1024 threads with four columns each."""
    return cuda.fits(total, *tensors) and total.size(-1) <= 4096


@add_layer_norm.register_kernel("cuda")
def forward_cuda(
    x: Tensor, branch: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`reference` on a GPU."""
    total, normed, mean, rstd = _outputs(x, branch, weight, bias, eps, dtype)
    if not _fits(x, branch, weight, bias, normed):
        return reference(x, branch, weight, bias, eps, dtype)
    x, branch, weight, bias = map(cuda.aligned, (x, branch, weight, bias.to(weight.dtype)))
    names = {
        "X": x.dtype,
        "A": branch.dtype,
        "S": total.dtype,
        "Y": dtype,
        "W": weight.dtype,
        "EPS": eps,
    }
    rows, columns = mean.numel(), weight.numel()
    cuda.launch(
        "add_layer_norm.cu",
        "add_layer_norm",
        names,
        (_blocks(rows, x.device), 1),
        _threads(columns),
        [x, branch, weight, bias, total, normed, mean, rstd, rows, columns],
    )
    return total, normed, mean, rstd


@add_layer_norm_backward.register_kernel("cuda")
def backward_cuda(
    grad_sum: Tensor,
    grad_normed: Tensor,
    total: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    x_dtype: torch.dtype,
    branch_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`backward_reference` on a GPU."""
    inputs = grad_sum, grad_normed, total, weight, mean, rstd
    grad_x, grad_branch, *_ = _gradients(*inputs, x_dtype, branch_dtype)
    if not _fits(total, weight, grad_normed, grad_x, grad_branch):
        return backward_reference(*inputs, x_dtype, branch_dtype)
    grad_sum = grad_sum.to(total.dtype)
    grad_sum, grad_normed, total, weight = map(cuda.aligned, (grad_sum, grad_normed, total, weight))
    names = {
        "X": x_dtype,
        "A": branch_dtype,
        "S": total.dtype,
        "Y": grad_normed.dtype,
        "W": weight.dtype,
        "EPS": 0.0,
    }
    rows, columns = mean.numel(), weight.numel()
    blocks = _blocks(rows, total.device)
    partials = mean.new_empty(2, blocks, columns)
    cuda.launch(
        "add_layer_norm.cu",
        "add_layer_norm_backward",
        names,
        (blocks, 1),
        _threads(columns),
        [
            grad_sum,
            grad_normed,
            total,
            weight,
            mean,
            rstd,
            grad_x,
            grad_branch,
            partials,
            rows,
            columns,
        ],
    )
    grad_weight, grad_bias = (partial.sum(0).to(weight.dtype) for partial in partials)
    return grad_x, grad_branch, grad_weight, grad_bias


def _blocks(rows: int, device: torch.device) -> int:
    return min(rows, cuda.BLOCKS_PER_PROCESSOR * cuda.processors(device))


def _threads(columns: int) -> int:
    """A thread for four columns, in whole warps of 32, as `block_sum` expects."""
    return 32 * -(-columns // 128)
