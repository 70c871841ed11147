"""Made-up question pairs as long as Quora's, and the real command's run on them.

What they say changes no time, and neither does it that the weights are random.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.data import LONGEST, SHORTEST, WORDS
from benchmarks.gpu_parts.part import Settings
from experiments import handoff
from minigpt import get_tokenizer
from minigpt.files import make_folder, write_text
from tasks.paraphrase.task import TEMPLATE


def train_on_questions(
    settings: Settings,
    pairs: int,
    dev_pairs: int,
    observer: Callable[[dict], None],
    **options,
) -> None:
    """Run a handoff on so many pairs; the observer is told every step and evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        handoff.run(
            handoff.Config(
                task="paraphrase",
                data=write_questions(Path(folder) / "data", pairs, dev_pairs),
                model=str(Path(settings.inputs) / "model"),
                batch_size=settings.batch("paraphrase"),
                device=settings.device,
                keep="nothing",
                out=Path(folder) / "run",
                **options,
            ),
            observer=observer,
        )


def write_questions(folder: Path, pairs: int, dev_pairs: int) -> Path:
    """Write pairs in the course's form into a folder, and return the folder."""
    make_folder(folder)
    draw = np.random.default_rng(0)
    frame = len(get_tokenizer("gpt2").encode(TEMPLATE.format(first="?", second="?")))
    for split, n in {"train": pairs, "dev": dev_pairs}.items():
        lengths = draw.integers(SHORTEST, LONGEST + 1, n) - frame  # words of a pair
        words = draw.choice(WORDS, (n, LONGEST - frame)).tolist()
        labels = draw.integers(0, 2, n)
        lines = ["id\tsentence1\tsentence2\tis_duplicate"]
        for i, (row, length, label) in enumerate(zip(words, lengths, labels)):
            first, second = row[: length // 2], row[length // 2 : length]
            lines.append(f"{split}{i}\t{' '.join(first)}?\t{' '.join(second)}?\t{label}")
        write_text(folder / f"quora-{split}.csv", "\n".join([*lines, ""]))
    return folder
