"""The process of one point: `python -m benchmarks.growth_point POINT SETTINGS THREADS`, as JSON.

torchrun may start several of them, which share each step; the first one prints.
"""

import json
import sys
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from benchmarks.data import shape
from benchmarks.job import WARM_UP
from benchmarks.ours import train_steps
from experiments.run.memory import keep_freed_memory, peak_memory_mib
from minigpt import GPT, accelerate, parallel
from objectives import SFT
from objectives.sequences import length_buckets, sequence_batch, tokenise

COMPLETION = 2  # tokens


@dataclass(frozen=True)
class Point:
    """One measurement: what is trained on what."""

    model: str
    length: int  # tokens of a sequence
    batch: int  # sequences of a step
    examples: int  # sequences of the data set
    processes: int = 1  # that share a step


@dataclass(frozen=True)
class RandomTokens:
    """In a tokenizer's place: a "text" is a number, and that many tokens are drawn for it."""

    vocab_size: int
    draw: np.random.Generator

    def encode(self, length: int) -> list[int]:
        return self.draw.integers(0, self.vocab_size, length).tolist()


def train_point(point: Point, *, precision: str, device: str, steps: int) -> dict:
    """Median seconds of a step, parameters, and memory of this process: idle, and at its peak."""
    idle = peak_memory_mib(device)
    draw = np.random.default_rng(0)
    model = GPT(shape(point.model), generator=torch.Generator().manual_seed(0)).to(device)
    accelerate(model)
    lengths = (point.length - COMPLETION, COMPLETION)
    sequences = tokenise(
        (lengths for _ in range(point.examples)),
        RandomTokens(model.config.vocab_size, draw),
        n_positions=model.config.n_positions,
        end_of_text=False,
    )
    indices = length_buckets(sequences.lengths, point.batch, draw)
    own = [parallel.share(index) for index in indices]
    batches = [sequence_batch(sequences, own[i % len(own)]) for i in range(WARM_UP + steps)]
    found = train_steps(model, batches, SFT(), precision=precision, device=device)
    return {
        "seconds": median(found["seconds"]),
        "idle_memory_mib": idle,
        "peak_memory_mib": peak_memory_mib(device),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


if __name__ == "__main__":
    keep_freed_memory()  # as every command of ours does
    point, settings, threads = map(json.loads, sys.argv[1:4])
    torch.set_num_threads(threads)
    with parallel.joined():
        print(json.dumps(train_point(Point(**point), **settings)))
