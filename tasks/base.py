"""What a task is: examples to learn from, and an evaluation of what was learnt."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from minigpt.errors import InputError
from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from objectives.sequences import Sequences, tokenise
from tasks.accounts import FileAccount
from tasks.metric import Evaluation, Score

SPLITS = ("train", "dev", "test")
UNSEEN = "_unseen"  # ends the name of a metric on what training has seen nothing of


class Example(NamedTuple):
    """A prompt and the completion to learn, as text: tokenised apart, then joined."""

    prompt: str
    completion: str


class PreferencePair(NamedTuple):
    """Two completions of one prompt, of which the first is preferred.

    A side that was cut does not end where its text does, so that no end-of-text follows it: the
    model that wrote it did not write that.
    """

    prompt: str
    chosen: str
    rejected: str
    chosen_ends: bool = True
    rejected_ends: bool = True


class Written(NamedTuple):
    """A completion that a model wrote, and whether it ended it or was cut off."""

    text: str
    ends: bool


TUNED_WIDTH = 256  # channels of the model that learning rates are tuned for, "verse"


class Rates(NamedTuple):
    """Peaks of the learning rate for a model of TUNED_WIDTH channels; wider models take less."""

    sft: float
    dpo: float


@dataclass(frozen=True)
class Draws:
    """What the maker of preference pairs may draw from: the policy at the handoff, and chance."""

    task: "Task"
    model: GPT
    tokenizer: Tokenizer
    generator: torch.Generator
    n_samples: int  # completions of each prompt, for makers that choose among several

    def sample(self, prompts: list[str]) -> list[Written]:
        """Return the policy's completion of each prompt, sampled as for the evaluation."""
        return self.task.sample(self.model, self.tokenizer, prompts, generator=self.generator)


@dataclass(frozen=True)
class Predictions:
    """What a model says of the rows of a file, in their order."""

    columns: tuple[str, ...]  # the first is "id"
    rows: list[tuple]  # one for every id; empty cells where its row cannot be read
    told: list[str]  # what cannot be read, in sentences
    course: str | None = None  # the same as Stanford's CS224N takes it in, where it does


# Makes one pair of each example, in their order.
PairMaker = Callable[[Sequence[Example], Draws], list[PreferencePair]]


class Task:
    """Everything that the experiments know about a task.

    A task says what is not given here and writes `examples` and `evaluate`. It is made from `data`
    (a file or folder, None for its own data) and `limits` (split -> examples to keep, None for
    all), and may take options of its own, see `get_task`.
    """

    name: str
    unit: str  # what is scored one by one, in the plural: "sonnets"
    headline: str  # the metric by which epochs are compared
    judged: tuple[str, ...]  # the metrics that claims are judged by, the headline first
    metrics: dict[str, Score]  # every metric that `evaluate` can return
    preferences: dict[str, PairMaker]  # how preference pairs can be made; the first is the default
    free_text: bool = True  # whether completions are texts, which chrF grades, or else answers
    end_of_text: bool = True  # whether completions end with the end-of-text token
    batch_size: int = 8  # examples of an optimizer step, unless told otherwise
    # By parameterization, "full" and "lora"; SFT's are what both tasks were tuned to (LOG.md).
    learning_rates: dict[str, Rates] = {"full": Rates(1.7e-4, 2e-5), "lora": Rates(1.7e-3, 2e-4)}
    # What a tuning run is cut down to where there are many: train_examples and dev_examples.
    tuning: dict[str, int] = {}
    scored_splits: tuple[str, ...] = SPLITS  # the splits whose right answers are known
    accounts: dict[str, FileAccount] = {}  # what became of the rows of each file, by its name
    needs_data: bool = False  # whether there is none without `data`
    predictions: tuple[str, ...] = ()  # the formats of what `predict` finds: csv, course
    drawn: str | None = None  # how the splits were drawn, where one file holds several

    @classmethod
    def for_predictions(cls, **options: Any) -> "Task":
        """Return the task with its own `options` and not a run's rows: `predict` needs none."""
        return cls(**options)

    def options(self) -> dict[str, Any]:
        """Return the task's own options, which say what it makes of its rows, as JSON has them."""
        return {}

    def examples(self, split: str) -> Sequence[Example]:
        """Return the examples of "train", "dev" or "test"."""
        raise NotImplementedError

    def training_sequences(self, tokenizer: Tokenizer, n_positions: int) -> Sequences:
        """Return what SFT reads of the training examples, as tokens."""
        return tokenise(
            self.examples("train"),
            tokenizer,
            n_positions=n_positions,
            end_of_text=self.end_of_text,
        )

    def groups(self, split: str) -> np.ndarray | None:
        """Return the group of each unit of a split, (units,); None where all are independent.

        Units of one group have something in common, a question say, so that they are not as much
        evidence as others; intervals are over groups.
        """
        return None

    def contents(self, split: str) -> Iterable[tuple[str, ...]]:
        """Return all texts that a run takes from a split, by which its data are known again."""
        return self.examples(split)

    def evaluate(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Return the metrics of `model` on a split; sampling draws from `generator`."""
        raise NotImplementedError

    def evaluate_headline(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Return the headline alone, as `evaluate` does; for tasks where that saves most of it."""
        metrics = self.evaluate(model, tokenizer, split, generator=generator).metrics
        return Evaluation({self.headline: metrics[self.headline]})

    def sample(
        self, model: GPT, tokenizer: Tokenizer, prompts: list[str], *, generator: torch.Generator
    ) -> list[Written]:
        """Return a completion of each prompt; only pairs made of samples ask for it."""
        raise NotImplementedError

    def predict(
        self, model: GPT, tokenizer: Tokenizer, path: Path, *, generator: torch.Generator
    ) -> Predictions:
        """Return what `model` says of the rows of a file whose right answers nobody knows.

        Only a task with formats of `predictions` does. Raises InputError for a file that cannot be
        read.
        """
        raise NotImplementedError

    def floors(self, split: str, *, generator: np.random.Generator) -> dict[str, dict[str, float]]:
        """Return what no learning at all scores: name of the floor -> metric -> value."""
        return {}

    def check_fit(self, tokenizer: Tokenizer, n_positions: int) -> None:
        """Note what is cut to fit a context of `n_positions` tokens.

        Raises InputError if it is too short for the evaluation.
        """

    def why_not_scored(self, split: str) -> str:
        """Return why a split is not among the scored ones."""
        return "its right answers are not known"

    def leak(self, split: str) -> str | None:
        """Return, in a sentence, what of a split training has seen; None where it cannot."""
        return None

    def ceilings(self, split: str) -> dict[str, dict[str, float]]:
        """Return what the right text itself scores: name of the ceiling -> metric -> value."""
        return {}


def check_split(split: str) -> None:
    """Raise InputError unless `split` is the name of a split."""
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
