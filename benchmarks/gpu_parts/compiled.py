"""`--compile minigpt` beside eager: losses, gradients, a short handoff; and no Triton kernel."""

import copy

import numpy as np
import torch

from benchmarks.gpu_parts.part import Report, Settings
from benchmarks.gpu_parts.questions import train_on_questions
from experiments.run.metrics_log import STEP
from experiments.run.training import accumulate_gradients, make_optimizer, train, trainable
from lora import FUSED, LoRAConfig, inject, lora_layers
from minigpt import GPT, GPTConfig, accelerate
from minigpt.fast.compiling import triton_kernels
from objectives import SFT, Batch, make_batch

BOUNDS = {"fp32": 1e-4, "bf16": 3e-2}  # of the difference of losses and of gradients, relative
SIZES = ((3, 9), (16, 48), (5, 33))  # rows and tokens: within a bucket, filling it, odd
CALLS = 3  # warmed up, captured, replayed
APART = 1e-2  # that a step's loss may be, after all steps before it
STEPS, DEV_PAIRS = 4, 4  # of the short handoff, in an epoch
SHAPE = GPTConfig(vocab_size=1021, n_positions=64, n_layer=4, n_head=4, n_embd=256)
TINY_SHAPE = GPTConfig(vocab_size=61, n_positions=16, n_layer=1, n_head=2, n_embd=16)


def compare_gradients(settings: Settings, report: Report) -> None:
    """Report how far losses and gradients are from eager's, and the Triton kernels of a step."""
    wrong = sum(
        _compare(method, precision, settings, report)
        for method in ("full", "lora")
        for precision in (("fp32",) if settings.tiny else ("fp32", "bf16"))
    )
    if wrong:
        raise RuntimeError(f"{wrong} checks failed")


def _compare(method: str, precision: str, settings: Settings, report: Report) -> int:
    """Report on a model in all sizes of a batch; return the number of checks that failed."""
    wrong, bound = 0, BOUNDS[precision]
    eager, compiled = _models(method, settings)
    for rows, tokens in SIZES[:1] if settings.tiny else SIZES:
        batch = _batch(rows, tokens, eager.config, settings.device)
        loss, gradient = _worst(eager, compiled, batch, precision)
        ok = loss <= bound and gradient <= bound  # not so for nan
        wrong += not ok
        found = {"rows": rows, "tokens": tokens, "loss": loss, "gradient": gradient}
        report(method=method, precision=precision, **found, bound=bound, ok=ok)
    launched = triton_kernels(lambda: _step(compiled, batch, precision))
    report(method=method, precision=precision, triton_kernels=launched)
    return wrong + bool(launched)


def _models(method: str, settings: Settings) -> tuple[GPT, GPT]:
    """Return the same random model twice, eager and compiled, its adapters at work."""
    generator = torch.Generator().manual_seed(0)
    eager = GPT(TINY_SHAPE if settings.tiny else SHAPE, generator=generator)
    if method == "lora":
        inject(eager, LoRAConfig(8), generator=generator)
        for layer in lora_layers(eager).values():
            torch.nn.init.normal_(layer.lora_B.weight, std=0.1, generator=generator)
    eager.to(settings.device)
    compiled = copy.deepcopy(eager)
    accelerate(eager, FUSED)
    accelerate(compiled, FUSED, backend="minigpt")
    return eager, compiled


def _batch(rows: int, tokens: int, config: GPTConfig, device: str) -> Batch:
    ids = torch.randint(
        config.vocab_size, (rows, tokens + 1), generator=torch.Generator().manual_seed(tokens)
    ).tolist()
    return make_batch([row[:-2] for row in ids], [row[-2:] for row in ids]).to(device)


def _worst(eager: GPT, compiled: GPT, batch: Batch, precision: str) -> tuple[float, float]:
    """Return the largest relative difference of loss and gradients over all calls."""
    expected = _loss_and_gradients(eager, batch, precision)
    losses, gradients = [], []
    for _ in range(CALLS):
        found = _loss_and_gradients(compiled, batch, precision)
        differences = [
            ((a - b).norm() / b.norm().clamp_min(1e-30)).item() for a, b in zip(found, expected)
        ]
        losses.append(differences[0])
        gradients += differences[1:]
    return float(np.max(losses)), float(np.max(gradients))  # nan if any is


def _loss_and_gradients(model: GPT, batch: Batch, precision: str) -> list[torch.Tensor]:
    for parameter in trainable(model):
        parameter.grad = None
    loss = accumulate_gradients(model, [batch], SFT(), precision=precision)["loss"]
    return [loss.clone(), *(parameter.grad.clone() for parameter in trainable(model))]


def _step(model: GPT, batch: Batch, precision: str) -> None:
    steps = train(
        model,
        make_optimizer(model),
        [[batch]] * CALLS,
        SFT(),
        learning_rates=[1e-5] * CALLS,
        dropout=False,
        precision=precision,
        max_grad_norm=1.0,
    )
    for _ in steps:
        pass


def compare_handoffs(settings: Settings, report: Report) -> None:
    """Report the mean loss by epoch of a short handoff, eager and compiled, from the same seed.

    In fp32, where rounding alone tells the two apart. Raises RuntimeError if more does.
    """
    eager, compiled = (_losses(backend, settings) for backend in ("eager", "minigpt"))
    for epoch, losses in eager.items():
        means = {"eager": float(losses.mean()), "minigpt": float(compiled[epoch].mean())}
        report(epoch=epoch, **means)
    apart = float(np.max([np.abs(eager[epoch] / compiled[epoch] - 1).max() for epoch in eager]))
    report(steps=sum(map(len, eager.values())), apart=apart, bound=APART)
    if not apart <= APART:
        raise RuntimeError(f"the losses of a step are {apart:.2g} of themselves apart")


def _losses(backend: str, settings: Settings) -> dict[int, np.ndarray]:
    """Return the losses of an epoch's steps by epoch: SFT, then DPO."""
    rows: list[dict] = []
    train_on_questions(
        settings,
        STEPS * settings.batch("paraphrase"),
        DEV_PAIRS,
        rows.append,
        epochs=2,
        switch_epoch=1,
        precision="fp32",
        compile=backend,
    )
    steps = [row for row in rows if row["kind"] == STEP]
    return {
        epoch: np.array([row["loss"] for row in steps if row["epoch"] == epoch]) for epoch in (1, 2)
    }
