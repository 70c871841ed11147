"""Ours beside transformers, PEFT and TRL, row by row: time, memory, and the gap to the least time.

    python -m benchmarks.run                              all rows: hours on a few cores
    python -m benchmarks.run --rows 'sft/*' --model 6x256 a part of them, on a small model
    python -m benchmarks.run --against HEAD~3             beside an earlier commit of ours instead

Both sides have the same random weights, tokens and precision, and take turns, each measurement in
a process of its own. The JSON is written after each, so that an interruption loses none.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from benchmarks.data import shape, write_inputs
from benchmarks.earlier import unpack
from benchmarks.job import BATCH, ROOT, SAMPLING, WARM_UP, Job, measured
from benchmarks.least_work import Ceilings, least_generation, least_training, measure_ceilings
from benchmarks.table import lora_table, main_table, summarise
from experiments.run.command import command_line
from experiments.run.environment import environment
from experiments.run.option_types import checked
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.fast.compiling import Backend
from minigpt.files import make_folder, write_text

PEERS = ("transformers", "peft", "trl")
METHODS = (None, 4, 8, 16)  # all weights, and ranks of LoRA


@dataclass(frozen=True)
class Config:
    """Measure our steps and our sampling beside those of transformers, PEFT and TRL."""

    rows: tuple[str, ...] = ("*",)
    """Globs of rows, such as sft/* or dpo/lora-r8/sonnets or generate/*."""
    model: str = "gpt2"
    """Shape of the random model: a preset's name, or layers x channels such as 6x256."""
    precision: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
    """Arithmetic of the forward over fp32 weights; in generation also the weights'."""
    steps: int = 7
    """Counted steps of a measurement, after two that warm up."""
    rounds: int = 1
    """How often all measurements are repeated, in the same order."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where both sides run."""
    compile: Backend = "eager"
    """How our training steps run: as they are written, or compiled; the peers' always as is."""
    against: str | None = None
    """Commit of ours, in this repository, that is measured in the place of the peers."""
    out: Path = Path("runs/benchmark.json")
    """File that gets all measurements."""


def run(config: Config) -> dict:
    """Measure and print; returns what the file holds. InputError for options without sense."""
    config = checked(config)
    rows = _rows(config)
    gpt = shape(config.model)
    found = {
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "environment": environment(config.device)
        | {"peers": {p: version(p) for p in PEERS if find_spec(p)}},
        "measurements": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        sides = _sides(config, Path(folder))
        make_folder(config.out.parent)
        write_inputs(Path(folder), gpt, BATCH * (WARM_UP + config.steps))
        ceilings = measure_ceilings(gpt, config.device, config.precision)
        jobs = [job for row in rows for job in _jobs(row, config, folder)]
        found["ceilings"] = asdict(ceilings)
        found["least_work"] = [_least(gpt, job, ceilings) for job in jobs]
        for measurement in _measure_all(jobs, sides, config.rounds):
            found["measurements"].append(measurement)
            write_text(config.out, json.dumps(found, indent=1) + "\n")
    show(found)
    return found


def show(found: dict) -> None:
    """Print what was measured, as tables."""
    ceilings = found["ceilings"]
    speeds = ", ".join(
        f"{flops / 1e9:,.0f} GFLOP/s in {name}" for name, flops in ceilings["flops"].items()
    )
    print(f"\nceilings: {speeds}; {ceilings['bandwidth'] / 1e9:.1f} GB/s\n")
    other = "before" if found["config"].get("against") else "peers"
    rows = summarise(found["measurements"], found["least_work"], other)
    print("\n".join(main_table(rows, other)))
    if lines := lora_table(rows, other):
        print("\nLoRA's step as a share of the full step\n")
        print("\n".join(lines))


def _rows(config: Config) -> list[tuple[str, int | None, str]]:
    """The rows that are asked for, as objective, rank and data; InputError for bad options."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, and PyTorch finds none; expected cpu")
    if not config.precision:
        raise InputError("--precision is empty; expected fp32, bf16 or both")
    rows = [
        (objective, rank, data)
        for data in ("paraphrase", "sonnets")
        for objective in ("sft", "dpo")
        for rank in METHODS
    ]
    rows += [("dpo", rank, "preferences") for rank in METHODS]
    rows += [("generate", None, sampling) for sampling in SAMPLING]
    names = [Job(*row, "fp32", config.device, config.steps, config.compile, "").row for row in rows]
    for glob in config.rows:
        if not any(fnmatchcase(name, glob) for name in names):
            raise InputError(
                f"--rows has {glob!r}, which matches no row; expected globs over {', '.join(names)}"
            )
    return [
        row
        for row, name in zip(rows, names)
        if any(fnmatchcase(name, glob) for glob in config.rows)
    ]


def _jobs(row: tuple[str, int | None, str], config: Config, folder: str) -> list[Job]:
    return [
        Job(*row, precision, config.device, config.steps, config.compile, folder)
        for precision in config.precision
    ]


def _sides(config: Config, folder: Path) -> dict[str, Path]:
    """The sides and the source tree of each; InputError for an unknown commit."""
    if config.against is not None:
        return {"ours": ROOT, "before": unpack(config.against, folder / "before")}
    missing = [peer for peer in PEERS if find_spec(peer) is None]
    if missing:
        print(
            f"{', '.join(missing)} cannot be imported, so that ours is measured alone; "
            "expected the extra `parity` to be installed"
        )
        return {"ours": ROOT}
    return {"ours": ROOT, "peers": ROOT}


def _least(gpt: GPTConfig, job: Job, ceilings: Ceilings) -> dict:
    least = least_generation if job.objective == "generate" else least_training
    return {"row": job.row, "precision": job.precision, **least(gpt, job, ceilings)}


def _measure_all(jobs: list[Job], sides: dict[str, Path], rounds: int) -> Iterator[dict]:
    """Every measurement that succeeds; a side that fails is named and left out."""
    for n in range(rounds):
        for job in jobs:
            for side, root in sides.items():
                print(f"{job.row} {job.precision} {side}: ", end="", flush=True)
                try:
                    command = job.command("peers" if side == "peers" else "ours")
                    found = measured(command, root)
                except RuntimeError as error:
                    print(error, flush=True)
                    continue
                print(" ".join(f"{s:.3g}" for s in found["seconds"]), "s", flush=True)
                yield {
                    "row": job.row,
                    "precision": job.precision,
                    "side": side,
                    "round": n,
                    **found,
                }


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(Config, run, argv)


if __name__ == "__main__":
    main()
