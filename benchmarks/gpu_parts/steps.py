"""Step times, model FLOPs utilisation and memory: ours in each backend, and the usual stack's."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.data import paraphrases, preferences, shape, write_examples
from benchmarks.gpu_parts.device import peak_flops
from benchmarks.gpu_parts.part import Report, Settings
from benchmarks.job import WARM_UP, Job
from benchmarks.least_work import Ceilings, least_training
from benchmarks.ours import prepare, train_steps
from experiments.run.memory import peak_memory_mib
from minigpt import GPT, get_tokenizer, save_pretrained

PASSES = 4  # over the batches, the last of which is timed: compiled, warmed up, captured, replayed
RANK = 8
NO_CEILINGS = Ceilings({"fp32": float("inf"), "bf16": float("inf")}, float("inf"))
TIMED = 3  # steps of a batch size whose memory is measured
FEWEST = 8  # times fewer tokens than a step has, from which batches are doubled


def write_gpu_inputs(settings: Settings) -> None:
    """Write the random model and the examples into `settings.inputs`, where `Job` finds them."""
    folder = Path(settings.inputs)
    model = GPT(shape(settings.model), generator=torch.Generator().manual_seed(0))
    save_pretrained(model, folder / "model", "hugging_face")
    tokenizer, steps = get_tokenizer(model), WARM_UP + settings.steps
    for name, make in {"paraphrase": paraphrases, "preferences": preferences}.items():
        write_examples(folder / f"{name}.json", make(tokenizer, steps * settings.batch(name)))


def make_job(
    settings: Settings, objective: str, method: str, data: str, backend: str = "eager"
) -> Job:
    """Return a measurement of a step with as many tokens as `settings` say."""
    return Job(
        objective,
        RANK if method == "lora" else None,
        data,
        settings.precision,
        settings.device,
        settings.steps,
        backend,
        settings.inputs,
        settings.batch(data),
    )


def measure_ours(
    objective: str, method: str, data: str, backend: str, settings: Settings, report: Report
) -> None:
    """Report our step in a backend; with half the batch, and again, where memory lacks."""
    job = make_job(settings, objective, method, data, backend)
    report(side=backend, **_row(*halving(job, _seconds_of_ours), settings))


def measure_peers(
    objective: str, method: str, data: str, settings: Settings, report: Report
) -> None:
    """Report the step of transformers, PEFT and TRL, as users find them."""
    from benchmarks import peers  # which imports what may be missing

    def seconds(job: Job) -> list[float]:
        return peers.measure_training(job, time.time())["seconds"]

    job = make_job(settings, objective, method, data)
    report(side="peers", **_row(*halving(job, seconds), settings))


def _seconds_of_ours(job: Job) -> list[float]:
    model, objective, batches, _ = prepare(job)
    found = train_steps(
        model, batches * PASSES, objective, precision=job.precision, device=job.device
    )
    return found["seconds"][-len(batches) :]


def halving(job: Job, measure: Callable[[Job], list[float]]) -> tuple[Job, list[float]]:
    """Return the job with the largest batch that fits, all, a half, a quarter, and its times."""
    while job.batch:
        try:
            return job, measure(job)
        except torch.cuda.OutOfMemoryError:
            smaller = replace(job, batch=job.batch // 2)
        job = smaller
        _forget(job.device)  # only here has the error let go of what was held
    raise RuntimeError("not even one example fits into the memory")


def _forget(device: str) -> None:
    """Give what is no longer held back to the device, and count its peak anew."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _row(job: Job, seconds: list[float], settings: Settings) -> dict:
    """Return a step's numbers; the operations are those that it cannot do without."""
    flops = least_training(shape(settings.model), job, NO_CEILINGS)["flops"]
    second, peak = statistics.median(seconds), peak_flops(job.device)
    return {
        "row": job.row,
        "examples": job.batch,
        "ms": 1e3 * second,
        "fastest_ms": 1e3 * min(seconds),
        "slowest_ms": 1e3 * max(seconds),
        "examples_per_second": job.batch / second,
        "tflop": flops / 1e12,
        "tflops": flops / second / 1e12,
        "mfu": flops / second / peak if peak else None,
        "peak_mib": peak_memory_mib(job.device),
    }


def measure_memory(settings: Settings, report: Report) -> None:
    """Report time and memory of ever larger batches until one does not fit, and the fastest."""
    for method in ("full", "lora"):
        job = make_job(settings, "sft", method, "paraphrase")
        most, batch, rows = len(job.examples()), max(1, job.batch // FEWEST), []
        while batch <= most:
            _forget(settings.device)
            try:
                rows.append(_row(*_timed(replace(job, batch=batch)), settings))
            except torch.cuda.OutOfMemoryError:
                report(row=job.row, examples=batch, fits=False)
                break
            report(**rows[-1], fits=True)
            batch *= 2
        fastest = max(rows, key=lambda row: row["examples_per_second"])
        report(row=job.row, chosen=fastest["examples"])


def _timed(job: Job) -> tuple[Job, list[float]]:
    model, objective, batches, _ = prepare(job)
    fullest = max(batches, key=len)
    found = train_steps(
        model, [fullest] * (WARM_UP + TIMED), objective, precision=job.precision, device=job.device
    )
    return job, list(found["seconds"])
