"""Our side of a measurement: the training loop and the sampling of this repository."""

import time

import numpy as np
import torch

from benchmarks.job import (
    ALPHA,
    BETA,
    DTYPES,
    LEARNING_RATE,
    MAX_GRAD_NORM,
    NEW_TOKENS,
    SAMPLING,
    WARM_UP,
    Job,
    clock,
    time_each,
    worker,
)
from experiments.run.memory import keep_freed_memory
from experiments.run.policy import make_policy
from experiments.run.reference_cache import REFERENCE_BATCH
from experiments.run.source import find_source
from experiments.run.training import autocast, make_optimizer, train
from lora import LoRAConfig
from minigpt import GPT, accelerate, generate, load_pretrained
from objectives import (
    SFT,
    Batch,
    CachedReference,
    Objective,
    PreferenceConfig,
    PreferenceObjective,
    make_batch,
    make_pair_batch,
    precompute,
)
from objectives.sequences import length_buckets

Examples = list[dict[str, list[int]]]


def measure_training(job: Job, launched: float) -> dict:
    """Seconds of each counted step, and what came before the first of all."""
    model, objective, batches, reference_seconds = prepare(job)
    begun = time.time()
    steps = train_steps(model, batches, objective, precision=job.precision, device=job.device)
    return {
        **steps,
        "reference_per_step": reference_seconds / len(batches),  # over one epoch
        "start_up_seconds": begun - launched - reference_seconds,
    }


def prepare(job: Job) -> tuple[GPT, Objective, list[Batch], float]:
    """Return what a job trains, on what, and the seconds that the reference's log-probs took."""
    model, _ = make_policy(
        find_source(job.model),
        dropout=0.0,
        device=job.device,
        precision=job.precision,
        lora=None if job.rank is None else LoRAConfig(job.rank, ALPHA),
        compile=job.compile,
        generator=torch.Generator().manual_seed(0),
    )
    examples = job.examples()
    begun = clock(job.device)
    objective = SFT() if job.objective == "sft" else _preference(job, model, examples)
    reference_seconds = clock(job.device) - begun
    batches = [
        _batch(job, examples, index)
        for index in length_buckets(_lengths(job, examples), job.batch, np.random.default_rng(0))
    ]
    return model, objective, batches, reference_seconds


def train_steps(
    model: GPT, batches: list[Batch], objective: Objective, *, precision: str, device: str
) -> dict:
    """One step per batch: the seconds of each after the warm-up, and the mean loss of all."""
    steps = train(
        model,
        make_optimizer(model),
        ([batch] for batch in batches),
        objective,
        learning_rates=[LEARNING_RATE] * len(batches),
        dropout=False,
        precision=precision,
        max_grad_norm=MAX_GRAD_NORM,
    )
    seconds, metrics = zip(*time_each(steps, device))
    loss = float(np.mean([float(metric["loss"]) for metric in metrics]))
    return {"seconds": seconds[WARM_UP:], "loss": loss}


def measure_generation(job: Job, launched: float) -> dict:
    """Seconds of each counted batch of continuations."""
    model = load_pretrained(job.model, dtype=DTYPES[job.precision], device=job.device)
    accelerate(model)
    temperature, top_p = SAMPLING[job.data]
    begun = time.time()
    answers = (
        generate(
            model,
            job.prompts(),
            max_new_tokens=NEW_TOKENS,
            temperature=temperature,
            top_p=top_p,
            generator=torch.Generator(job.device).manual_seed(i),
        )
        for i in range(WARM_UP + job.steps)
    )
    seconds, new = zip(*time_each(answers, job.device))
    return {
        "seconds": seconds[WARM_UP:],
        "tokens": sum(map(len, new[-1])),
        "start_up_seconds": begun - launched,
    }


def _preference(job: Job, model: GPT, examples: Examples) -> PreferenceObjective:
    """DPO with the reference's log-probs of all pairs, computed as before a run of ours."""
    batches = (
        _batch(job, examples, index).to(job.device)
        for index in length_buckets(_lengths(job, examples), REFERENCE_BATCH)
    )
    with autocast(torch.device(job.device), job.precision):
        logps = precompute(model, batches, len(examples))
    return PreferenceObjective(PreferenceConfig(beta=BETA), CachedReference(logps))


def _batch(job: Job, examples: Examples, index: np.ndarray) -> Batch:
    prompts, chosen, rejected = (
        [examples[i][part] for i in index] for part in ("prompt", "chosen", "rejected")
    )
    if job.objective == "sft":
        return make_batch(prompts, chosen, index)
    if job.compile != "eager":  # which knows no shared rows, as in a run
        return make_batch(prompts * 2, chosen + rejected, np.tile(index, 2))
    return make_pair_batch(prompts, chosen, rejected, index)


def _lengths(job: Job, examples: Examples) -> np.ndarray:
    return np.array([len(e["prompt"]) + max(len(e[side]) for side in job.scored) for e in examples])


if __name__ == "__main__":
    keep_freed_memory()  # as every command of ours does
    worker(measure_training, measure_generation)
