"""Fused operators: against PyTorch's own chains, and their CUDA C++ against their references."""

import ctypes
import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from minigpt.fast.kernels import add_layer_norm, bias_gelu, cuda, gelu, layer_norm
from tests import cuda_on_cpu
from tests.conftest import need_program, oracle

DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]
FP32, BF16, FP64 = torch.float32, torch.bfloat16, torch.float64
# Types of x, branch, y and of the weights: all fp32, autocast, a model in bf16, autocast without
# rounding, and what is left.
NORM_TYPES = [
    (FP32, FP32, FP32, FP32), (FP32, BF16, BF16, FP32), (BF16, BF16, BF16, BF16),
    (FP32, BF16, FP32, FP32), (BF16, FP32, BF16, BF16),
]  # fmt: skip
GELU_TYPES = [(FP32, FP32), (BF16, FP32), (BF16, BF16)]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def find_nvrtc() -> Path:
    """The library in NVIDIA's package `nvidia-cuda-nvrtc`, which needs no GPU."""
    folders = oracle("nvidia").__path__
    found = [path for folder in folders for path in Path(folder).glob("*/lib/libnvrtc.so.*")]
    if not found and "CI" not in os.environ:
        pytest.skip("the package nvidia-cuda-nvrtc is not installed")
    return found[0]


@pytest.fixture
def emulated(monkeypatch):
    """Send the CUDA implementations' launches to the CPU; gives the names of what was launched."""
    need_program("g++")
    launched = []

    def launch(file, name, *arguments):
        launched.append(name)
        cuda_on_cpu.launch(file, name, *arguments)

    monkeypatch.setattr(cuda, "launch", launch)
    monkeypatch.setattr(cuda, "processors", lambda device: 1)
    return launched


def draw(generator, shape, dtype, device="cpu"):
    return torch.randn(shape, generator=generator, dtype=FP64).to(device, dtype).requires_grad_()


def gelu_inputs(generator, x_dtype, bias_dtype, shape=(2, 5, 132), device="cpu"):
    x = draw(generator, shape, x_dtype, device)
    return x, draw(generator, shape[-1], bias_dtype, device)


def norm_inputs(generator, x_dtype, branch_dtype, weight_dtype, shape=(2, 5, 132), device="cpu"):
    streams = [draw(generator, shape, dtype, device) for dtype in (x_dtype, branch_dtype)]
    return *streams, *(draw(generator, shape[-1], weight_dtype, device) for _ in range(2))


def close(ours, expected, dtype):
    """Equal up to the rounding of the coarser type; sums over rows stay below a few roundings."""
    bound = 1e-2 if dtype == BF16 else 2e-6
    assert ours.dtype == expected.dtype
    error = (ours.double() - expected.double()).norm() / expected.double().norm()
    assert error < bound


@pytest.mark.parametrize("device", DEVICES)
def test_bias_gelu_equals_the_chain_forward_and_backward(generator, device):
    for x_dtype, bias_dtype in [(FP64, FP64), *GELU_TYPES]:
        x, bias = gelu_inputs(generator, x_dtype, bias_dtype, device=device)
        y = bias_gelu(x, bias)
        plain = F.gelu(x.double() + bias.double(), approximate="tanh")
        grad = draw(generator, y.shape, y.dtype, device)
        close(y, plain.to(x_dtype), x_dtype)
        ours = torch.autograd.grad(y, (x, bias), grad)
        expected = torch.autograd.grad(plain, (x, bias), grad.double())
        for a, b in zip(ours, expected):
            close(a, b, x_dtype)


@pytest.mark.parametrize("device", DEVICES)
def test_add_layer_norm_equals_the_chain_forward_and_backward(generator, device):
    for types in [(FP64,) * 4, *NORM_TYPES]:
        inputs = norm_inputs(generator, types[0], types[1], types[3], device=device)
        x, branch, weight, bias = inputs
        total, normed, _, _ = add_layer_norm(x, branch, weight, bias, 1e-5, types[2])
        exact = [tensor.double() for tensor in inputs]
        plain_total = exact[0] + exact[1]
        plain = F.layer_norm(plain_total, (132,), exact[2], exact[3], 1e-5)
        coarsest = BF16 if BF16 in types else FP32
        close(total, plain_total.to(total.dtype), coarsest)
        close(normed, plain.to(types[2]), coarsest)
        grads = [draw(generator, y.shape, y.dtype, device) for y in (total, normed)]
        ours = torch.autograd.grad((total, normed), inputs, grads)
        expected = torch.autograd.grad(
            (plain_total, plain), inputs, [grad.double() for grad in grads]
        )
        for a, b in zip(ours, expected):
            close(a, b, coarsest)


def test_gradients_are_those_of_the_forward(generator):
    assert torch.autograd.gradcheck(bias_gelu, gelu_inputs(generator, FP64, FP64, (3, 4)))

    def sum_and_norm(*inputs):
        return add_layer_norm(*inputs, 1e-5, FP64)[:2]

    assert torch.autograd.gradcheck(sum_and_norm, norm_inputs(generator, *[FP64] * 3, (3, 8)))


@pytest.mark.slow
def test_operators_keep_pytorchs_rules(generator):
    x, bias = gelu_inputs(generator, BF16, FP32)
    torch.library.opcheck(bias_gelu, (x, bias))
    plain = (x.detach(), x.detach(), bias.detach())
    torch.library.opcheck(gelu.bias_gelu_backward, plain)
    x, branch, weight, bias = norm_inputs(generator, FP32, BF16, FP32)
    torch.library.opcheck(add_layer_norm, (x, branch, weight, bias, 1e-5, BF16))
    total, normed, mean, rstd = add_layer_norm(x, branch, weight, bias, 1e-5, BF16)
    saved = [tensor.detach() for tensor in (total, normed, total, weight, mean, rstd)]
    torch.library.opcheck(layer_norm.add_layer_norm_backward, (*saved, FP32, BF16))
    turned = torch.randn(6, 8, generator=generator).T
    torch.library.opcheck(bias_gelu, (turned, torch.ones(6)))


@pytest.mark.parametrize("types", GELU_TYPES)
def test_the_cuda_code_of_bias_gelu_equals_its_reference(generator, emulated, types):
    x, bias = (tensor.detach() for tensor in gelu_inputs(generator, *types, (3, 7, 516)))
    grad = torch.randn(x.shape, generator=generator).to(x.dtype)
    close(gelu.forward_cuda(x, bias), gelu.reference(x, bias), types[0])
    ours = gelu.backward_cuda(grad, x, bias)
    for a, b in zip(ours, gelu.backward_reference(grad, x, bias)):
        close(a, b, types[0])
    assert emulated == ["bias_gelu", "bias_gelu_backward"]


@pytest.mark.slow
@pytest.mark.parametrize("types", NORM_TYPES)
def test_the_cuda_code_of_add_layer_norm_equals_its_reference(generator, emulated, types):
    inputs = norm_inputs(generator, types[0], types[1], types[3], (2, 5, 132))
    inputs = [tensor.detach() for tensor in inputs]
    coarsest = BF16 if BF16 in types else FP32
    outputs = layer_norm.forward_cuda(*inputs, 0.5, types[2])
    for a, b in zip(outputs, layer_norm.reference(*inputs, 0.5, types[2])):
        close(a, b, coarsest)
    total, normed, mean, rstd = outputs
    grads = [torch.randn(y.shape, generator=generator).to(y.dtype) for y in (total, normed)]
    arguments = (*grads, total, inputs[2], mean, rstd, types[0], types[1])
    ours = layer_norm.backward_cuda(*arguments)
    for a, b in zip(ours, layer_norm.backward_reference(*arguments)):
        close(a, b, coarsest)
    assert emulated == ["add_layer_norm", "add_layer_norm_backward"]


def test_the_cuda_code_rounds_to_bf16_as_pytorch_does(generator, emulated):
    upper = torch.randint(2**16, (8, 64), generator=generator, dtype=torch.int64)
    lower = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])  # ties and their neighbours
    special = torch.tensor([0x7F80, 0xFF80, 0x7FFF, 0xFFFF, 0x7F7F, 0, 0x8000, 1])  # inf, NaN, ...
    upper = torch.cat([upper, special[:, None]], dim=1)
    x = (upper[..., None] * 2**16 + lower).to(torch.int32).view(FP32).flatten(1)  # (8, 390)
    x = F.pad(x, (0, 2))
    nothing, rows = torch.zeros_like(x), torch.zeros(8)
    _, rounded, _, _ = layer_norm.backward_cuda(
        x, nothing, nothing, torch.ones(392), rows, rows, FP32, BF16
    )
    assert torch.equal(rounded.isnan(), x.isnan()) and x.isnan().any()
    assert torch.equal(rounded.nan_to_num(0.0, None, None), x.to(BF16).nan_to_num(0.0, None, None))


def test_awkward_inputs_reach_the_cuda_code_in_order(generator, emulated):
    x = torch.randn(8, 6, generator=generator).T  # not contiguous
    bias = torch.randn(9, generator=generator)[1:]  # not at a multiple of 16 bytes
    close(gelu.forward_cuda(x, bias), gelu.reference(x, bias), FP32)
    odd = torch.randn(4, 6, generator=generator)  # 6 columns are no groups of four: the reference
    assert len(emulated) == 1
    close(gelu.forward_cuda(odd, odd[0]), gelu.reference(odd, odd[0]), FP32)
    nothing = torch.empty(0, 8)
    assert gelu.forward_cuda(nothing, bias).shape == (0, 8)
    assert len(emulated) == 1


@pytest.mark.slow
@pytest.mark.parity
def test_nvrtc_compiles_every_kernel_for_every_type():
    nvrtc = ctypes.CDLL(str(find_nvrtc()))
    for architecture in ("sm_80", "sm_90"):
        for types in GELU_TYPES:
            code = cuda.source("bias_gelu.cu", tuple(zip("XB", types)))
            assert cuda.compile_source(code, architecture, nvrtc)[:4] == b"\x7fELF"
        for x, branch, y, weight in NORM_TYPES:
            total = torch.promote_types(x, branch)
            names = (*zip("XASYW", (x, branch, total, y, weight)), ("EPS", 1e-5))
            code = cuda.source("add_layer_norm.cu", names)
            assert cuda.compile_source(code, architecture, nvrtc)[:4] == b"\x7fELF"
    with pytest.raises(RuntimeError, match="NVRTC refused a kernel for sm_90"):
        cuda.compile_source("nonsense", "sm_90", nvrtc)
