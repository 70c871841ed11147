"""What a part is: what it is given, how it tells what it finds, and how that is kept.

A part has a process of its own, so that a kernel that breaks the device's state, a hang or a lack
of memory ends this part alone, and so that its peak memory is its own. It reports rows, flat dicts,
and its file holds them all after each.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import ANSWER, LONGEST, PROMPT, SHORTEST
from minigpt.files import write_text

FINISHED, FAILED, STOPPED, SKIPPED = "finished", "failed", "stopped", "skipped"
LENGTHS = {  # tokens of an example that a model reads, on average
    "paraphrase": (SHORTEST + LONGEST) // 2,
    "preferences": PROMPT + ANSWER - 1,
}
Report = Callable[..., None]  # report(tokens=..., seconds=...) adds a row


@dataclass(frozen=True)
class Settings:
    """What all parts are given; the defaults are those of a GPU."""

    device: str = "cuda"
    precision: str = "bf16"
    model: str = "gpt2"  # shape of the random model
    backends: tuple[str, ...] = ("eager", "minigpt", "inductor")
    tokens: int = 32_768  # of a training step
    steps: int = 7  # different ones that are timed
    tiny: bool = False  # small shapes in the checks
    pairs: int = 283_003  # question pairs of the paper's training set
    dev_pairs: int = 40_429
    epochs: int = 10
    switch_epoch: int = 3
    sample_pairs: int = 20_480  # from which the whole run is projected
    corpus: str | None = None  # that verse is pretrained on
    pretrain_seconds: float = 300.0
    seconds: float = math.inf  # that are left for the part
    inputs: str = ""  # folder with the random model and the examples
    out: str = ""  # folder of the record

    def batch(self, data: str) -> int:
        """Return the examples of a step that has about as many tokens as it should."""
        return max(1, self.tokens // LENGTHS[data])


TINY = Settings(
    device="cpu",
    precision="fp32",
    model="2x32",
    backends=("eager",),  # to compile takes seconds; `compile` and `handoff` do
    tokens=96,
    steps=1,
    tiny=True,
    pairs=16,
    dev_pairs=4,
    epochs=2,
    switch_epoch=1,
    sample_pairs=8,
)


@dataclass(frozen=True)
class Part:
    """One thing to measure."""

    name: str
    measure: Callable[[Settings, Report], None]
    seconds: float  # what it is expected to take on an H100, its start included; a guess
    needs: tuple[str, ...] = ()  # packages, without which it is skipped


def part_file(folder: str | Path, name: str) -> Path:
    """Return where a part's record is kept."""
    return Path(folder) / f"{name.replace('/', '-')}.json"


def write_part(folder: str | Path, name: str, **record) -> None:
    """Keep a part's record: `status`, `rows`, and what else is known."""
    text = json.dumps({"part": name, **record}, indent=1)
    write_text(part_file(folder, name), text + "\n")


def read_rows(folder: str | Path, name: str) -> list[dict]:
    """Return the rows that a part has reported by now, none if it has not begun."""
    path = part_file(folder, name)
    return json.loads(path.read_text())["rows"] if path.exists() else []
