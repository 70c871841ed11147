"""What is measured, and how both sides measure it: imports nothing that either side would not.

A side is a module (`benchmarks.ours`, `benchmarks.peers`) that is run with a job as JSON and
prints its measurement as JSON, on the last line of its output. Each measurement has a process of
its own, because peak memory and start-up time would otherwise be those of whatever ran before.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import torch

from experiments.run.memory import peak_memory_mib

WARM_UP = 2  # steps that are not counted: caches fill, kernels are chosen, the optimizer allocates
BATCH = 8  # examples, or pairs, of a step, where a job does not say
ALPHA = 16  # of LoRA
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LEARNING_RATE = 1e-5
MAX_GRAD_NORM = 1.0
BETA = 0.1  # of DPO
PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 12, 36, 128  # of generation
SAMPLING = {  # as the two ways to sample are called: temperature and top_p
    "plain": (1.0, None),
    "nucleus": (1.2, 0.9),
}

ROOT = Path(__file__).parents[1]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Job:
    """One measurement of one side."""

    objective: str  # sft, dpo or generate
    rank: int | None  # of the LoRA adapters; None: all weights are trained
    data: str  # paraphrase, sonnets or preferences; for generate the way to sample
    precision: str  # fp32 or bf16
    device: str  # cpu or cuda
    steps: int  # that are counted, after WARM_UP
    compile: str  # how our side runs its model: a backend of minigpt.compile
    folder: str  # with model/ in Hugging Face's format, and the examples
    batch: int = BATCH  # examples, or pairs, of a step

    @property
    def row(self) -> str:
        """The row's name, such as dpo/lora-r8/sonnets."""
        method = "full" if self.rank is None else f"lora-r{self.rank}"
        middle = () if self.objective == "generate" else (method,)
        return "/".join((self.objective, *middle, self.data))

    @property
    def scored(self) -> tuple[str, ...]:
        """The completions of an example that training scores."""
        return ("chosen",) if self.objective == "sft" else ("chosen", "rejected")

    @property
    def model(self) -> Path:
        return Path(self.folder, "model")

    def examples(self) -> list[dict[str, list[int]]]:
        """Prompt, chosen and rejected of each example, as token numbers."""
        name = "sonnets" if self.objective == "generate" else self.data
        return json.loads(Path(self.folder, f"{name}.json").read_text())

    def prompts(self) -> list[list[int]]:
        """What generation continues: PROMPTS of PROMPT_TOKENS each."""
        examples = self.examples()[:PROMPTS]
        return [(e["prompt"] + e["chosen"])[:PROMPT_TOKENS] for e in examples]

    def command(self, side: str) -> list[str]:
        """The command line that measures this on a side, to be run at once.

        What has its default is not told, so that earlier commits understand.
        """
        values = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        told = {name: value for name, (value, default) in values.items() if value != default}
        launched = str(time.time())
        return [sys.executable, "-m", f"benchmarks.{side}", json.dumps(told), launched]


def measured(command: list[str], root: Path = ROOT) -> dict:
    """The measurement that a command prints last; RuntimeError with its complaint if it fails.

    `root` is the source tree that it runs.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}  # the model and the data are at hand
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"failed with exit code {done.returncode} ({last})")
    return json.loads(done.stdout.strip().splitlines()[-1])


def worker(train: Callable[[Job, float], dict], generate: Callable[[Job, float], dict]) -> None:
    """The main of a side: measure the job on the command line, print what was found.

    Both functions take the job and the time at which the process was launched.
    """
    job, launched = Job(**json.loads(sys.argv[1])), float(sys.argv[2])
    found = (generate if job.objective == "generate" else train)(job, launched)
    print(json.dumps({**found, "peak_memory_mib": peak_memory_mib(job.device)}))


def clock(device: str) -> float:
    """Seconds, once the device has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def time_each(values: Iterator[Value], device: str) -> Iterator[tuple[float, Value]]:
    """Every value of an iterator, and the seconds that it took to make."""
    while True:
        begun = clock(device)
        try:
            value = next(values)
        except StopIteration:
            return
        yield clock(device) - begun, value
