"""Every fast operation against the plain formula in fp64, forward and backward."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu_parts.part import Report, Settings
from lora.fast import lora_linear
from minigpt import GPTConfig
from minigpt.fast.attention import FastAttention
from minigpt.fast.head import log_prob
from minigpt.fast.kernels import add_layer_norm, bias_gelu
from minigpt.fast.linear import linear
from minigpt.model import CausalSelfAttention

BF16 = torch.bfloat16
BOUNDS = {torch.float32: 1e-5, BF16: 1.5e-2}  # of |ours - exact| / |exact|
# Rows and columns: a warp's and a block's edges, six columns (which are no groups of four), more
# columns than a block takes, and what GPT-2 has.
SHAPES = ((1, 4), (21, 516), (7, 6), (5, 5120), (1000, 3072), (4096, 768))
TINY_SHAPES = ((7, 6), (21, 132))
HEADS, WIDEST, LONGEST = 4, 64, 1024  # of attention: heads, channels of one, tokens
VOCABULARY, TINY_VOCABULARY = 50257, 97
RANK, SCALING = 8, 2.0


class Operation(NamedTuple):
    """Two functions of the same tensors, the second of which is the formula as it is written."""

    name: str
    fast: Callable[..., Tensor | tuple[Tensor, ...]]
    plain: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: Callable[[int, int], list[tuple[int, ...]]]  # shapes, from rows N and columns C
    rounds: bool = False  # to bf16, whatever its inputs are


def check_kernels(settings: Settings, report: Report) -> None:
    """Report the worst errors of each operation and type; RuntimeError if one is too large."""
    wrong = 0
    for operation in operations(TINY_VOCABULARY if settings.tiny else VOCABULARY):
        for dtype in (torch.float32, BF16):
            cases = [
                _check(operation, *size, dtype, awkward, settings.device)
                for size in (TINY_SHAPES if settings.tiny else SHAPES)
                for awkward in (False, True)
            ]
            failed = [case for case in cases if not case["ok"]]
            wrong += len(failed)
            report(
                operation=operation.name,
                type=str(dtype).removeprefix("torch."),
                checks=len(cases),
                forward=float(np.max([case["forward"] for case in cases])),
                backward=float(np.max([case["backward"] for case in cases])),
                bound=cases[0]["bound"],
                failed=[case["what"] for case in failed],
            )
    if wrong:
        raise RuntimeError(f"{wrong} checks failed")


def operations(V: int) -> list[Operation]:
    """Return all of them; V is the head's vocabulary."""

    def target(h: Tensor) -> Tensor:
        return torch.arange(len(h), device=h.device) * 7 % V

    def scaled(h: Tensor) -> Tensor:  # so that logits are a few units large, as a model's
        return h / math.sqrt(h.size(-1))

    def logps(h: Tensor, W: Tensor) -> Tensor:
        return -F.cross_entropy(h @ W.T, target(h), reduction="none")

    def head_inputs(N: int, C: int) -> list[tuple[int, ...]]:
        return [(N, C), (V, C)]

    return [
        *_fused(),
        *_products(),
        Operation("attention", _attention(FastAttention), _attention(CausalSelfAttention), _qkv),
        Operation(
            "head",
            lambda h, W: log_prob(scaled(h), W, target(h), False),
            lambda h, W: logps(scaled(h), W),
            head_inputs,
        ),
        Operation(  # one gradient everywhere, as SFT has it
            "head, even",
            lambda h, W: log_prob(scaled(h), W, target(h), True).mean(),
            lambda h, W: logps(scaled(h), W).mean(),
            head_inputs,
        ),
    ]


def _fused() -> list[Operation]:
    """Return the kernels of a compiled model, in one type and as autocast mixes types."""

    def gelu(x: Tensor, bias: Tensor) -> Tensor:
        return F.gelu(x + bias, approximate="tanh")

    def norm(x: Tensor, branch: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        total = x + branch
        return total, F.layer_norm(total, weight.shape, weight, bias, 1e-5)

    def gelu_inputs(N: int, C: int) -> list[tuple[int, ...]]:
        return [(N, C), (C,)]

    def norm_inputs(N: int, C: int) -> list[tuple[int, ...]]:
        return [(N, C), (N, C), (C,), (C,)]

    return [
        Operation("bias_gelu", bias_gelu, gelu, gelu_inputs),
        Operation(
            "bias_gelu, mixed",
            lambda x, b: bias_gelu(x.to(BF16), b.float()),
            gelu,
            gelu_inputs,
            True,
        ),
        Operation(
            "add_layer_norm",
            lambda x, y, w, b: add_layer_norm(x, y, w, b, 1e-5, x.dtype)[:2],
            norm,
            norm_inputs,
        ),
        Operation(
            "add_layer_norm, mixed",
            lambda x, y, w, b: add_layer_norm(
                x.float(), y.to(BF16), w.float(), b.float(), 1e-5, BF16
            )[:2],
            norm,
            norm_inputs,
            True,
        ),
    ]


def _products() -> list[Operation]:
    return [
        Operation("linear", linear, F.linear, lambda N, C: [(N, C), (2 * C, C), (2 * C,)]),
        Operation(
            "lora_linear",
            lambda x, W, b, A, B: lora_linear(x, W.detach(), b.detach(), A, B, SCALING),
            lambda x, W, b, A, B: F.linear(x, W.detach(), b.detach()) + SCALING * (x @ A.T) @ B.T,
            lambda N, C: [(N, C), (2 * C, C), (2 * C,), (RANK, C), (2 * C, RANK)],
        ),
    ]


def _attention(cls: type[CausalSelfAttention]) -> Callable[..., Tensor]:
    module = cls(GPTConfig(n_embd=16 * HEADS, n_head=HEADS))

    def attend(x: Tensor) -> Tensor:
        # Fresh memory, as a linear leaves it: a head's width may be odd, but where q, k and v begin
        # and how far their rows are apart are multiples of it, as PyTorch's kernels take for given.
        B, T, _ = x.shape
        qkv = x.clone(memory_format=torch.contiguous_format).view(B, T, 3, HEADS, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, D), as in the model's forward
        mask = torch.ones(T, T, dtype=torch.bool, device=q.device).tril()
        return module.attend(q, k, v, None if cls is FastAttention else mask)

    return attend


def _qkv(N: int, C: int) -> list[tuple[int, ...]]:
    """Return the shape of q, k and v in one: a single token gives the first two no gradient."""
    return [(2, min(N, LONGEST), 3 * HEADS * min(C, WIDEST))]


def _check(
    operation: Operation, N: int, C: int, dtype: torch.dtype, awkward: bool, device: str
) -> dict:
    """Return the largest relative error of outputs and of gradients, and whether both are small.

    `awkward` inputs lie in memory with gaps, and not at a multiple of 16 bytes.
    """
    bound = BOUNDS[BF16 if operation.rounds else dtype]
    case = {"what": f"{N} x {C}" + ", awkward" * awkward, "bound": bound}
    generator = torch.Generator(device).manual_seed(0)
    inputs = [
        _draw(shape, dtype, awkward, generator).requires_grad_() for shape in operation.inputs(N, C)
    ]
    try:
        forward, backward = _errors(operation, inputs, generator)
    except RuntimeError as error:  # a kernel that cannot be made, or a device that gave up
        case["what"] += f": {str(error).splitlines()[0]}"
        forward = backward = math.inf
    ok = forward <= bound and backward <= bound  # not so for nan
    return {**case, "forward": forward, "backward": backward, "ok": ok}


def _errors(
    operation: Operation, inputs: list[Tensor], generator: torch.Generator
) -> tuple[float, float]:
    """Return the largest error of the outputs, and of the gradients, beside those in fp64."""
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    outputs, expected = _tuple(operation.fast(*inputs)), _tuple(operation.plain(*exact))
    grads = [
        torch.randn(y.shape, generator=generator, device=y.device, dtype=torch.float64)
        for y in expected
    ]
    rounded = [grad.to(y.dtype) for grad, y in zip(grads, outputs)]
    ours = torch.autograd.grad(outputs, inputs, rounded, allow_unused=True)
    theirs = torch.autograd.grad(expected, exact, grads, allow_unused=True)
    return (  # nan if any is
        float(np.max([*map(_error, outputs, expected)])),
        float(np.max([_error(a, b) for a, b in zip(ours, theirs) if b is not None])),
    )


def _draw(
    shape: Sequence[int], dtype: torch.dtype, awkward: bool, generator: torch.Generator
) -> Tensor:
    *rows, columns = shape
    wide = torch.randn(*rows, columns + 1, generator=generator, device=generator.device).to(dtype)
    return wide[..., 1:] if awkward else wide[..., 1:].contiguous()


def _tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _error(ours: Tensor, exact: Tensor) -> float:
    scale = exact.double().norm().clamp_min(1e-30)
    return ((ours.double() - exact.double()).norm() / scale).item()
