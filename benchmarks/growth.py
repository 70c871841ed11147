"""How our step's time and memory grow: with sequence length, batch, data set and model.

    python -m benchmarks.growth

Each point is a process of its own that makes up its model and its tokens, trains a few steps of
SFT with all weights and two scored tokens a sequence, and reports median time and peak memory.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import torch

from benchmarks.data import shape
from benchmarks.job import WARM_UP, measured
from benchmarks.ours import train_steps
from experiments.run.bounds import check_bounds
from experiments.run.command import command_line
from experiments.run.display import align
from experiments.run.environment import environment
from experiments.run.memory import keep_freed_memory, peak_memory_mib
from minigpt import GPT, accelerate
from minigpt.errors import InputError
from minigpt.files import make_folder, write_text
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


@dataclass(frozen=True)
class Config:
    """Measure how the cost of a step grows with one quantity at a time."""

    model: str = "verse"
    """Shape of the random model where it is not what grows: a preset, or 6x256."""
    models: tuple[str, ...] = ("2x128", "4x256", "6x512", "gpt2")
    """Shapes that the model grows through."""
    lengths: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Tokens of a sequence."""
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Sequences of a step."""
    examples: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    """Sequences of the tokenised data set."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass over fp32 weights."""
    steps: int = 7
    """Counted steps of a point, after two that warm up."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the steps run."""
    out: Path = Path("runs/growth.json")
    """File that gets all measurements."""


def run(config: Config) -> dict:
    """Measure and print; returns what the file holds. InputError for options without sense."""
    curves = _curves(config)
    make_folder(config.out.parent)
    found = {
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "environment": environment(),
        "curves": {},
    }
    for quantity, points in curves.items():
        rows = [asdict(point) | _measure(point, config) for point in points]
        if quantity == "examples":
            _add_bytes_per_token(rows)
        found["curves"][quantity] = rows
        write_text(config.out, json.dumps(found, indent=1) + "\n")
        print("\n".join(_table(quantity, rows)), "\n", flush=True)
    return found


def _curves(config: Config) -> dict[str, list[Point]]:
    """The points of each curve: one quantity grows, the others stay as they are."""
    check_bounds(vars(config))
    grow = {"length": config.lengths, "batch": config.batches, "examples": config.examples}
    for name, values in grow.items():
        if not values:
            raise InputError(f"there are no values of {name}; expected one or more")
    for name in (config.model, *config.models):
        if shape(name).n_positions < max(config.lengths) - 1:
            raise InputError(
                f"--lengths has {max(config.lengths)}; expected at most "
                f"{shape(name).n_positions + 1} for {name}"
            )
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, and PyTorch finds none; expected cpu")
    middle = Point(config.model, length=50, batch=8, examples=1_000)
    return {
        quantity: [replace(middle, **{quantity: value}) for value in values]
        for quantity, values in {**grow, "model": config.models}.items()
    }


def _measure(point: Point, config: Config) -> dict:
    settings = {"precision": config.precision, "device": config.device, "steps": config.steps}
    arguments = [json.dumps(asdict(point)), json.dumps(settings)]
    try:
        return measured([sys.executable, "-m", "benchmarks.growth", "--point", *arguments])
    except RuntimeError as error:
        raise InputError(f"{point} cannot be measured: {error}") from error


@dataclass(frozen=True)
class RandomTokens:
    """In a tokenizer's place: a "text" is a number, and that many tokens are drawn for it."""

    vocab_size: int
    draw: np.random.Generator

    def encode(self, length: int) -> list[int]:
        return self.draw.integers(0, self.vocab_size, length).tolist()


def train_point(point: Point, *, precision: str, device: str, steps: int) -> dict:
    """Median seconds of a step, parameters, and peak memory of this process."""
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
    batches = [sequence_batch(sequences, indices[i % len(indices)]) for i in range(WARM_UP + steps)]
    found = train_steps(model, batches, SFT(), precision=precision, device=device)
    return {
        "seconds": median(found["seconds"]),
        "peak_memory_mib": peak_memory_mib(device),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def _add_bytes_per_token(rows: list[dict]) -> None:
    """What a token more in the data set costs: memory above the smallest set's, in bytes."""
    first = rows[0]
    for row in rows[1:]:
        tokens = (row["examples"] - first["examples"]) * row["length"]
        memory = row["peak_memory_mib"] - first["peak_memory_mib"]
        row["bytes_per_token"] = memory * 2**20 / tokens


def _table(quantity: str, rows: list[dict]) -> list[str]:
    headings = [quantity, "s a step", "peak MiB", "parameters"]
    cells = [
        [
            f"{row[quantity]:,}" if quantity != "model" else row[quantity],
            f"{row['seconds']:.4g}",
            f"{row['peak_memory_mib']:,.0f}",
            f"{row['parameters']:,}",
        ]
        for row in rows
    ]
    if quantity == "examples":
        headings.append("bytes a token more")
        for line, row in zip(cells, rows):
            line.append(f"{row['bytes_per_token']:.2f}" if "bytes_per_token" in row else "-")
    return align([headings, *cells])


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(Config, run, argv)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--point"]:
        keep_freed_memory()  # as every command of ours does
        point, settings = map(json.loads, sys.argv[2:4])
        print(json.dumps(train_point(Point(**point), **settings)))
    else:
        main()
