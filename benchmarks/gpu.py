"""Everything that needs a GPU, in one command, within a time.

    python -m benchmarks.gpu --minutes 20 --out runs/gpu

The parts come in the order of what they tell. Each is a process of its own that can fail alone,
begins only if it is expected to fit into the time that is left, and is stopped when that is over.
Every part's rows are in a JSON file of its own as soon as they are measured, and `table.md` has
them all, the goals beside what was reached. Nothing is fetched: weights are random, texts made up.
`--device cpu --tiny` goes through all of it in small, to show that it works.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from benchmarks.gpu_parts.goals import GOALS, Found
from benchmarks.gpu_parts.page import page
from benchmarks.gpu_parts.part import (
    FAILED,
    FINISHED,
    SKIPPED,
    STOPPED,
    TINY,
    Part,
    Settings,
    read_rows,
    write_part,
)
from benchmarks.gpu_parts.plan import make_plan
from benchmarks.gpu_parts.steps import write_gpu_inputs
from benchmarks.job import ROOT
from experiments.run.command import command_line
from experiments.run.display import align, show_duration
from experiments.run.option_types import checked
from minigpt.errors import InputError
from minigpt.files import make_folder, write_text

TINY_SECONDS = 5.0  # that a part is expected to take where all is tiny


@dataclass(frozen=True)
class Config:
    """Measure everything that needs a GPU, what tells most first."""

    minutes: float = 20.0
    """Time for all of it."""
    out: Path = Path("runs/gpu")
    """Folder that gets a JSON file a part, and table.md; a new or empty one."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Where it runs; cpu with --tiny alone."""
    tiny: bool = False
    """Everything in small, to show that it works."""
    parts: tuple[str, ...] = ("*",)
    """Globs of parts, such as kernels or sft/*."""
    corpus: Path | None = None
    """Folder with the corpus of experiments.pretrain; None: verse is not pretrained."""
    pretrain_minutes: float = 5.0
    """How long verse is pretrained, if there is a corpus."""


def run(config: Config) -> Found:
    """Measure and print; returns every part's record. InputError for options without sense."""
    config = checked(config)
    settings, parts = _prepare(config)
    deadline = time.monotonic() + 60 * config.minutes
    make_folder(config.out)
    found: Found = {}
    with tempfile.TemporaryDirectory() as inputs:
        settings = replace(settings, inputs=inputs, out=str(config.out.absolute()))
        write_gpu_inputs(settings)
        for part in parts:
            record = run_part(part, replace(settings, seconds=deadline - time.monotonic()))
            found[part.name] = record
            write_text(config.out / "table.md", page(found, config.device, config.tiny))
            why = f" ({record['error']})" if record["error"] else ""
            took = show_duration(record["seconds"])
            print(f"{part.name}: {record['status']} in {took}{why}", flush=True)
    if not config.tiny:
        print("\n".join(["", *align([goal.judge(found) for goal in GOALS])]))
    print(f"\nall of it: {config.out / 'table.md'}")
    return found


def _prepare(config: Config) -> tuple[Settings, list[Part]]:
    """Return what the parts are given, and those that are asked for; InputError for bad options."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is cuda, and PyTorch finds none; expected cpu, with --tiny")
    if config.device == "cpu" and not config.tiny:
        raise InputError("--device is cpu without --tiny; expected cuda for the whole of it")
    if config.corpus is not None and not config.corpus.is_dir():
        raise InputError(f"--corpus is {config.corpus}; expected a folder")
    if list(config.out.glob("*.json")):
        raise InputError(f"{config.out} holds records already; expected a new or empty --out")
    precision = "bf16" if config.device == "cuda" else "fp32"
    settings = replace(
        TINY if config.tiny else Settings(),
        device=config.device,
        precision=precision,
        corpus=None if config.corpus is None else str(config.corpus.absolute()),
        pretrain_seconds=60 * config.pretrain_minutes,
    )
    return settings, list(_chosen(make_plan(settings), config.parts))


def _chosen(plan: list[Part], globs: tuple[str, ...]) -> Iterator[Part]:
    for glob in globs:
        if not any(fnmatchcase(part.name, glob) for part in plan):
            names = ", ".join(part.name for part in plan)
            raise InputError(f"--parts has {glob!r}, which matches none; expected some of {names}")
    yield from (part for part in plan if any(fnmatchcase(part.name, glob) for glob in globs))


def run_part(part: Part, settings: Settings) -> dict:
    """Run a part in a process of its own, if it fits, and return its record."""
    if why := _obstacle(part, settings):
        record = {"status": SKIPPED, "error": why, "seconds": 0.0, "rows": []}
    else:
        begun = time.monotonic()
        status, error = launch(part, settings)
        seconds = time.monotonic() - begun
        rows = read_rows(settings.out, part.name)
        record = {"status": status, "error": error, "seconds": round(seconds, 1), "rows": rows}
    write_part(settings.out, part.name, **record)
    return record


def _obstacle(part: Part, settings: Settings) -> str | None:
    """Return why a part is not begun; None if nothing stands against it."""
    if missing := [name for name in part.needs if find_spec(name) is None]:
        return f"{', '.join(missing)} cannot be imported"
    expected = TINY_SECONDS if settings.tiny else part.seconds
    if expected > settings.seconds:
        left = show_duration(max(0.0, settings.seconds))
        return f"it takes about {show_duration(expected)}, and {left} are left"
    return None


def launch(part: Part, settings: Settings) -> tuple[str, str | None]:
    """Return a part's status, and what went wrong, once its process or the time has ended."""
    told = json.dumps(asdict(settings))
    command = [sys.executable, "-m", "benchmarks.gpu_parts.worker", part.name, told]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=settings.seconds,
        )
    except subprocess.TimeoutExpired:
        return STOPPED, "the time is over"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return FAILED, f"exit code {done.returncode}: {last}"
    return FINISHED, None


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(Config, run, argv)


if __name__ == "__main__":
    main()
