"""LoRA's own backward against PyTorch's of the formula written out."""

import pytest
import torch
from torch.nn import functional as F

from lora.fast import lora_linear

IN, OUT, RANK, SCALING = 12, 20, 3, 1.7


def tensors(dtype: torch.dtype, bias: bool = True) -> list[torch.Tensor | None]:
    """x, W, b, A, B: W and b frozen, as under LoRA."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 5, IN), (OUT, IN), (OUT,), (RANK, IN), (OUT, RANK)]
    x, W, b, A, B = (torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes)
    return [x.requires_grad_(), W, b if bias else None, A.requires_grad_(), B.requires_grad_()]


def written_out(x, W, b, A, B, scaling):
    return F.linear(x, W, b) + scaling * F.linear(F.linear(x, A), B)


def gradients(function, values, autocast: bool = False) -> list[torch.Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = function(*values, SCALING)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    x, _, _, A, B = values
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), (x, A, B))]


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_finite_differences(bias):
    values = tensors(torch.float64, bias)
    assert torch.autograd.gradcheck(lambda *v: lora_linear(*v, SCALING), values)
    assert torch.autograd.gradgradcheck(lambda *v: lora_linear(*v, SCALING), values)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_equals_the_formula_written_out(bias, dtype, rtol):
    values = tensors(dtype, bias)
    pairs = zip(gradients(lora_linear, values), gradients(written_out, values))
    for got, expected in pairs:
        torch.testing.assert_close(got, expected, rtol=rtol, atol=rtol)


def test_autocast_computes_in_bf16_and_gives_fp32_gradients():
    values = tensors(torch.float32)
    got, exact = gradients(lora_linear, values, autocast=True), gradients(written_out, values)
    assert [tensor.dtype for tensor in got] == [torch.bfloat16] + 3 * [torch.float32]
    for ours, expected in zip(got, exact):  # bf16 has 8 bits: steps of 2^-8, a few of which add up
        error = (ours.float() - expected).norm() / expected.norm()
        assert 0 < error < 2**-6


def test_an_input_without_gradient_gets_none():
    values = tensors(torch.float64)
    values[0] = values[0].detach()
    y = lora_linear(*values, SCALING)
    y.sum().backward()
    assert values[0].grad is None and values[3].grad is not None
