"""Tokens a second of pretraining, and the shipped model pretrained for some minutes."""

import statistics
import tempfile
from pathlib import Path

import torch

from benchmarks.data import shape
from benchmarks.gpu_parts.device import peak_flops
from benchmarks.gpu_parts.part import Report, Settings, read_rows
from benchmarks.gpu_parts.steps import PASSES
from benchmarks.least_work import Work, step_flops
from benchmarks.ours import train_steps
from experiments import pretrain
from experiments.run.record import read_run
from lora import FUSED
from minigpt import GPT, GPTConfig, accelerate
from objectives import SFT, Batch, make_batch

VERSE = "verse"
EARLIER = "pretraining"  # the part that measures the speed
SHARE = 0.8  # of the time that is spent on steps, the rest on text, evaluations and checkpoints


def measure_pretraining(settings: Settings, report: Report) -> None:
    """Report tokens a second of windows of which every token is scored."""
    for name, rows, length in _sizes(settings):
        batch = _windows(shape(name), rows, length)
        for backend in settings.backends[:2]:
            model = GPT(shape(name), generator=torch.Generator().manual_seed(0))
            accelerate(model.to(settings.device), FUSED, backend=backend)
            seconds = train_steps(
                model,
                [batch] * (PASSES + settings.steps),
                SFT(),
                precision=settings.precision,
                device=settings.device,
            )["seconds"][-settings.steps :]
            row = _row(model.config, batch, list(seconds), settings.device)
            report(model=name, side=backend, rows=rows, **row)


def _sizes(settings: Settings) -> list[tuple[str, int, int]]:
    """Return models with rows and tokens of a step, verse also with pretraining's microbatch."""
    if settings.tiny:
        return [(settings.model, 2, settings.tokens // 2)]
    full = [(name, shape(name).n_positions) for name in (VERSE, settings.model)]
    default = pretrain.PretrainConfig
    at_once = default.batch_tokens // default.accumulation
    recipe = (VERSE, at_once // full[0][1], full[0][1])
    return [recipe, *((name, settings.tokens // length, length) for name, length in full)]


def _windows(config: GPTConfig, rows: int, length: int) -> Batch:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (rows, length + 1), generator=draw).tolist()
    return make_batch([row[:1] for row in ids], [row[1:] for row in ids])


def _row(config: GPTConfig, batch: Batch, seconds: list[float], device: str) -> dict:
    rows, length = batch.inputs.shape
    tokens, attended = rows * length, rows * length * (length + 1) / 2
    flops = step_flops(config, Work(tokens, attended, tokens, attended, tokens), None)
    second, peak = statistics.median(seconds), peak_flops(device)
    return {
        "tokens": tokens,
        "ms": 1e3 * second,
        "tokens_per_second": tokens / second,
        "tflops": flops / second / 1e12,
        "mfu": flops / second / peak if peak else None,
    }


def pretrain_verse(settings: Settings, report: Report) -> None:
    """Report what the shipped model's recipe reaches on the corpus in the time that it is given."""
    speeds = [
        row["tokens_per_second"]
        for row in read_rows(settings.out, EARLIER)
        if (row["model"], row["side"]) == (VERSE, "eager")
    ]
    if not speeds:
        raise RuntimeError("the speed of pretraining was not measured")
    seconds = min(settings.pretrain_seconds, settings.seconds)
    tokens = int(SHARE * seconds * min(speeds))
    with tempfile.TemporaryDirectory() as folder:
        config = pretrain.PretrainConfig(
            corpus=Path(settings.corpus or ""),
            out=Path(folder) / "run",
            tokens=tokens,
            precision=settings.precision,
            device=settings.device,
        )
        pretrain.run(config)
        record = read_run(config.out)
    report(tokens=tokens, bits_per_char=record["held_out_bits_per_char"])
