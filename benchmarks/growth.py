"""How our step's time and memory grow: with sequence length, batch, data set, processes and model.

    python -m benchmarks.growth                                       a few minutes
    python -m benchmarks.growth --minutes 60 --models 2x32 2x128 4x256 6x512 \
        gpt2 gpt2-medium gpt2-large                                   2M to 774M parameters

Each point is a process of its own that makes up its model and its tokens, trains a few steps of
SFT with all weights and two scored tokens a sequence, and reports median time and peak memory. What
would take longer than the time that is left is left out. A power law is fitted to each curve and
drawn beside the points: what every step costs, whatever its size, makes small points lie above it.
What the paper's run takes is projected, here by the measured step, on GPUs on paper.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from benchmarks.data import shape
from benchmarks.growth_point import Point
from benchmarks.growth_report import conclude, conclusion_tables, growth_table
from benchmarks.job import measured
from benchmarks.least_work import trained_numbers
from experiments.run.command import command_line
from experiments.run.environment import environment
from experiments.run.option_types import checked
from minigpt.errors import InputError
from minigpt.files import make_folder, write_text


@dataclass(frozen=True)
class Config:
    """Measure how the cost of a step grows with one quantity at a time."""

    model: str = "verse"
    """Shape of the random model where it is not what grows: a preset, or 6x256."""
    models: tuple[str, ...] = ("2x32", "2x128", "4x256", "6x512", "gpt2")
    """Shapes that the model grows through, the smallest first."""
    lengths: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Tokens of a sequence."""
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Sequences of a step."""
    examples: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    """Sequences of the tokenised data set."""
    processes: tuple[int, ...] | None = None
    """Processes that share a step and the machine's cores, or with a GPU each; None: 1 and 2, or up
    to the GPUs that there are."""
    minutes: float = 8.0
    """Time for all points; a curve ends where its next point would not fit."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass over fp32 weights."""
    steps: int = 7
    """Counted steps of a point, after two that warm up."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the steps run."""
    out: Path = Path("runs/growth.json")
    """File that gets all measurements; the figure stands beside it."""


def run(config: Config) -> dict:
    """Measure, draw and print; returns what the file holds. InputError for bad options."""
    config = checked(config)
    curves = _curves(config)
    make_folder(config.out.parent)
    deadline = time.monotonic() + 60 * config.minutes
    found = {
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "environment": environment(config.device),
        "curves": {},
        "left_out": {},
    }
    for n, (quantity, points) in enumerate(curves.items()):
        share = (deadline - time.monotonic()) / (len(curves) - n)
        rows = _measure_curve(quantity, points, config, share)
        if quantity == "examples":
            _add_bytes_per_token(rows)
        found["curves"][quantity] = rows
        found["left_out"][quantity] = [asdict(point)[quantity] for point in points[len(rows) :]]
        write_text(config.out, json.dumps(found, indent=1) + "\n")
        print("\n".join(growth_table(quantity, rows)), "\n", flush=True)
    found |= conclude(found["curves"], config.out.with_suffix(".png"))
    write_text(config.out, json.dumps(found, indent=1) + "\n")
    print("\n".join(conclusion_tables(found)))
    return found


def _measure_curve(
    quantity: str, points: list[Point], config: Config, seconds: float
) -> list[dict]:
    """Return the rows of the points, smallest first, as far as they fit into the time.

    The first is always measured. Each next one is taken to need more time as its size is larger.
    """
    rows: list[dict] = []
    deadline, took = time.monotonic() + seconds, 0.0
    for before, point in zip([points[0], *points], points):
        begun = time.monotonic()
        larger = max(1.0, _size(point, quantity) / _size(before, quantity))
        if rows and begun + took * larger > deadline:
            break
        rows.append(asdict(point) | _measure(point, config))
        took = time.monotonic() - begun
    return rows


def _size(point: Point, quantity: str) -> float:
    if quantity == "model":
        return trained_numbers(shape(point.model), None)
    return 1 if quantity == "processes" else asdict(point)[quantity]


def _curves(config: Config) -> dict[str, list[Point]]:
    """The points of each curve: one quantity grows, the others stay as they are."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, and PyTorch finds none; expected cpu")
    grow = {
        "length": config.lengths,
        "batch": config.batches,
        "examples": config.examples,
        "processes": config.processes or _default_processes(config.device),
        "model": config.models,
    }
    for name, values in grow.items():
        if not values:
            raise InputError(f"there are no values of {name}; expected one or more")
    for name in (config.model, *config.models):
        if shape(name).n_positions < max(config.lengths) - 1:
            raise InputError(
                f"--lengths has {max(config.lengths)}; expected at most "
                f"{shape(name).n_positions + 1} for {name}"
            )
    if config.device == "cuda" and max(grow["processes"]) > torch.cuda.device_count():
        raise InputError(
            f"--processes has {max(grow['processes'])}; expected at most the "
            f"{torch.cuda.device_count()} GPUs that there are"
        )
    middle = Point(config.model, length=50, batch=8, examples=1_000)
    return {
        quantity: [replace(middle, **{quantity: value}) for value in values]
        for quantity, values in grow.items()
    }


def _default_processes(device: str) -> tuple[int, ...]:
    return tuple(range(1, torch.cuda.device_count() + 1)) if device == "cuda" else (1, 2)


def _measure(point: Point, config: Config) -> dict:
    settings = {"precision": config.precision, "device": config.device, "steps": config.steps}
    threads = max(1, torch.get_num_threads() // point.processes)
    arguments = [json.dumps(asdict(point)), json.dumps(settings), str(threads)]
    together = ["-m", "torch.distributed.run", "--nproc-per-node", str(point.processes)]
    start = [sys.executable, *(together if point.processes > 1 else [])]
    try:
        return measured([*start, "-m", "benchmarks.growth_point", *arguments])
    except RuntimeError as error:
        raise InputError(f"{point} cannot be measured: {error}") from error


def _add_bytes_per_token(rows: list[dict]) -> None:
    """What a token more in the data set costs: memory above the smallest set's, in bytes."""
    first = rows[0]
    for row in rows[1:]:
        tokens = (row["examples"] - first["examples"]) * row["length"]
        memory = row["peak_memory_mib"] - first["peak_memory_mib"]
        row["bytes_per_token"] = memory * 2**20 / tokens


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(Config, run, argv)


if __name__ == "__main__":
    main()
