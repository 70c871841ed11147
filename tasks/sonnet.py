"""Sonnets: given the first three lines, write the rest.

The task, its split and its chrF protocol are those of Stanford CS224N's GPT-2 default project.
chrF hardly tells a trained model from a random sonnet (`SonnetTask.floors`), so epochs are compared
by held-out bits per character, which does.
"""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from minigpt.errors import InputError
from minigpt.generate import evaluating, generate
from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from objectives import sequence_logps
from tasks.base import Evaluation, Example, Metric, check_split, ratio
from tasks.batching import sequence_batch, tokenise
from tasks.chrf import COUNTS, chrf_counts, chrf_score, mean_chrf_score
from tasks.text import read_text

NUMBERS = {"train": range(1, 132), "dev": range(132, 144), "test": range(144, 155)}
GIVEN_LINES = 3
LINES = 14
# The course's prompts, sonnets_held_out_dev.txt, are the first lines of its whole dev sonnets.
COURSE_FILES = ("sonnets.txt", "TRUE_sonnets_held_out_dev.txt", "TRUE_sonnets_held_out.txt")
PACKAGED = Path(__file__).parent / "data" / "sonnets.txt"

MAX_NEW_TOKENS = 192  # the longest of Shakespeare's eleven lines are 164 in the verse vocabulary
SAMPLING_BATCH = 64  # rows generated together; GPT-2's cache for as many takes 1 GB
SCORING_BATCH = 8  # sonnets scored together; their logits take 0.2 GB in GPT-2's vocabulary
FLOOR_DRAWS = 20


class SonnetTask:
    """Continue a sonnet from its first three lines.

    `data` is a folder with the course's files; without it the sonnets in the package are read.
    `limits` keeps only the first so many sonnets of a split. Evaluation draws `n_samples`
    continuations of each sonnet at `temperature` and `top_p`; the defaults are the course's.
    """

    name = "sonnet"
    headline = "bits_per_char"
    end_of_text = True
    preferences = ("gold-vs-sample", "gold-vs-corrupted")

    def __init__(
        self,
        data: str | Path | None = None,
        *,
        limits: dict[str, int | None] | None = None,
        n_samples: int = 4,
        temperature: float = 1.2,
        top_p: float = 0.9,
    ):
        self.sonnets = read_sonnets(data)
        self.scored_splits = tuple(s for s in NUMBERS if any(n in self.sonnets for n in NUMBERS[s]))
        self.skipped: dict[str, Counter[str]] = {}  # every line of a sonnet is used
        self.limits = limits or {}
        self.n_samples = n_samples
        self.temperature = temperature
        self.top_p = top_p

    def examples(self, split: str) -> list[Example]:
        """Three lines and the lines that follow, each line with the newline that ends it."""
        check_split(split)
        numbers = NUMBERS[split]
        sonnets = [self.sonnets[number] for number in numbers if number in self.sonnets]
        if not sonnets:
            raise InputError(
                f"there are no sonnets for the split {split!r}; "
                f"expected some of the numbers {numbers[0]} to {numbers[-1]}"
            )
        return [
            Example(_text(lines[:GIVEN_LINES]), _text(lines[GIVEN_LINES:]))
            for lines in sonnets[: self.limits.get(split)]
        ]

    def evaluate(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Bits per character of the gold lines, and chrF of sampled ones in two forms.

        "chrf" compares whole sonnets, the given lines included, as the course does;
        "chrf_generated" only what was generated. Both are means over the samples.
        """
        examples = self.examples(split)
        bits = bits_per_char(model, tokenizer, examples)
        prompts = [example.prompt for example in examples for _ in range(self.n_samples)]
        written = self.sample(model, tokenizer, prompts, generator=generator)
        first = written[:: self.n_samples]
        return Evaluation(
            metrics={"bits_per_char": bits, **_chrf_metrics(examples, written)},
            samples=tuple(_show(e.prompt, text) for e, text in zip(examples[:2], first)),
        )

    def sample(
        self, model: GPT, tokenizer: Tokenizer, prompts: list[str], *, generator: torch.Generator
    ) -> list[str]:
        """A sampled continuation of each prompt, up to end-of-text or the fourteenth line."""

        def finished(new: list[int]) -> bool:
            complete, _, _ = tokenizer.decode(new).rpartition("\n")
            return new[-1] == tokenizer.eot or len(_verses(complete)) >= LINES - GIVEN_LINES

        encoded = [tokenizer.encode(prompt) for prompt in prompts]
        tokens = []
        for start in range(0, len(encoded), SAMPLING_BATCH):
            tokens += generate(
                model,
                encoded[start : start + SAMPLING_BATCH],
                max_new_tokens=MAX_NEW_TOKENS,
                temperature=self.temperature,
                top_p=self.top_p,
                generator=generator,
                stop=finished,
            )
        texts = [tokenizer.decode([t for t in new if t != tokenizer.eot]) for new in tokens]
        return [_text(_verses(text)[: LINES - GIVEN_LINES]) for text in texts]

    def floors(self, split: str, *, generator: np.random.Generator) -> dict[str, dict[str, float]]:
        """chrF without a model: the mean over draws and, as "chrf_sd", their standard deviation.

        "random sonnet" goes on with the rest of a training sonnet, "random lines" with eleven
        lines from anywhere in them, "prompt only" not at all.
        """
        examples, train = self.examples(split), self.examples("train")
        lines = [line for e in train for line in (e.prompt + e.completion).splitlines(True)]

        def random_sonnet() -> str:
            return train[generator.integers(len(train))].completion

        def random_lines() -> str:
            return "".join(generator.choice(lines, LINES - GIVEN_LINES))

        return {
            "random sonnet": _floor(examples, random_sonnet, FLOOR_DRAWS),
            "random lines": _floor(examples, random_lines, FLOOR_DRAWS),
            "prompt only": _floor(examples, str, 1),
        }


def read_sonnets(data: str | Path | None = None) -> dict[int, list[str]]:
    """Number -> lines, without indentation, of the sonnets in the package or in a folder.

    Raises InputError for a folder without the course's files and for files without sonnets.
    """
    paths = [PACKAGED] if data is None else [Path(data) / name for name in COURSE_FILES]
    sonnets = {}
    for path in filter(Path.is_file, paths):
        sonnets |= _parse(path)
    if not sonnets:
        raise InputError(
            f"{data} is not a folder with sonnets; expected one that holds {COURSE_FILES[0]} "
            f"(and {COURSE_FILES[1]} where that ends at 131)"
        )
    return sonnets


def _parse(path: Path) -> dict[int, list[str]]:
    """Sonnets as the course writes them: a title, then each one's number above its lines."""
    sonnets: dict[int, list[str]] = {}
    for line_number, line in enumerate(read_text(path).splitlines(), start=1):
        line = line.strip()
        if line.isdecimal():
            number = int(line)
            if number in sonnets:
                raise InputError(f"{path}, line {line_number}: sonnet {number} stands here again")
            sonnets[number] = []
        elif line and sonnets:  # what stands above the first number is the title
            sonnets[number].append(line)
    for number, lines in sonnets.items():
        if len(lines) <= GIVEN_LINES:
            raise InputError(
                f"{path}: sonnet {number} has {len(lines)} lines; expected more than {GIVEN_LINES}"
            )
    return sonnets


def bits_per_char(model: GPT, tokenizer: Tokenizer, examples: list[Example]) -> Metric:
    """How surprising the gold continuations are: bits (end-of-text's included) per character.

    Unlike a loss per token it compares models with different vocabularies. Raises InputError when
    a sonnet is longer than the model's context.
    """
    n_positions, device = model.config.n_positions, model.wte.weight.device
    sequences = tokenise(examples, tokenizer, n_positions=n_positions, end_of_text=True)
    if sequences.truncated:
        raise InputError(
            f"a sonnet of {sequences.lengths.max()} tokens or more does not fit into a context of "
            f"{n_positions}; expected a model with a longer one"
        )
    nats = []
    with torch.no_grad(), evaluating(model):
        for start in range(0, len(examples), SCORING_BATCH):
            index = np.arange(start, min(start + SCORING_BATCH, len(examples)))
            batch = sequence_batch(sequences, index).to(device)
            nats.append(-sequence_logps(model, batch).double().cpu().numpy())
    bits = np.concatenate(nats) / math.log(2)
    characters = [len(example.completion) for example in examples]
    return Metric(np.stack([bits, characters], axis=1), ratio, larger_is_better=False)


def _chrf_metrics(examples: list[Example], written: list[str]) -> dict[str, Metric]:
    """chrF of n continuations of each example, those of one example side by side."""
    n = len(written) // len(examples)
    prompts = [example.prompt for example in examples for _ in range(n)]
    gold = [example.completion for example in examples for _ in range(n)]
    whole = chrf_counts(_joined(prompts, written), _joined(prompts, gold))
    generated = chrf_counts(written, gold)
    return {
        "chrf": Metric(whole.reshape(len(examples), -1), mean_chrf_score),
        "chrf_generated": Metric(generated.reshape(len(examples), -1), mean_chrf_score),
    }


def _floor(examples: list[Example], draw: Callable[[], str], n_draws: int) -> dict[str, float]:
    written = [draw() for _ in range(n_draws * len(examples))]
    floor = {}
    for name, metric in _chrf_metrics(examples, written).items():
        scores = chrf_score(metric.statistics.sum(axis=0).reshape(n_draws, COUNTS))
        floor |= {name: float(scores.mean()), f"{name}_sd": float(scores.std())}
    return floor


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _verses(text: str) -> list[str]:
    """The lines of a text that are not blank."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def _joined(heads: list[str], tails: list[str]) -> list[str]:
    return [head + tail for head, tail in zip(heads, tails, strict=True)]


def _show(prompt: str, continuation: str) -> str:
    """A sonnet to look at, the given lines marked."""
    given = [f"> {line}" for line in _verses(prompt)]
    return "\n".join(given + [f"  {line}" for line in _verses(continuation)])
