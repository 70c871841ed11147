"""What a task is: examples to learn from, and an evaluation of what was learnt."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from minigpt.errors import InputError
from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer

SPLITS = ("train", "dev", "test")


class Example(NamedTuple):
    """A prompt and the completion to learn, as text: tokenised apart, then joined."""

    prompt: str
    completion: str


class PreferencePair(NamedTuple):
    """Two completions of one prompt, of which the first is preferred."""

    prompt: str
    chosen: str
    rejected: str


TUNED_WIDTH = 256  # channels of the model that learning rates are tuned for, "verse"


class Rates(NamedTuple):
    """Peaks of the learning rate for a model of TUNED_WIDTH channels; wider models take less."""

    sft: float
    dpo: float


class Score(NamedTuple):
    """How a metric's addends, summed over the units, become its value."""

    function: Callable[[np.ndarray], np.ndarray]  # (..., K) sums -> (...) scores
    larger_is_better: bool = True


@dataclass(frozen=True)
class Metric:
    """A score that is a function of sums over units (a sonnet, a question pair).

    Accuracy is sum(correct) / sum(1); bits per character sum(bits) / sum(characters); F1 and chrF
    are functions of summed counts. Keeping the addends, not only the score, is what lets a
    bootstrap resample the units without evaluating the model again. Stored addends make the metric
    again: `Metric(statistics, *task.metrics[name])`.
    """

    statistics: np.ndarray  # (units, K), K addends of each unit, in any numeric dtype
    score: Callable[[np.ndarray], np.ndarray]  # (..., K) sums -> (...) scores
    larger_is_better: bool = True

    @property
    def value(self) -> float:
        # In float64 whatever the addends are stored in: thousands of float32 would lose digits.
        return float(self.score(self.statistics.sum(axis=0, dtype=np.float64)))


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on a split, by name, and texts to look at."""

    metrics: dict[str, Metric]
    samples: tuple[str, ...] = ()

    @property
    def scores(self) -> dict[str, float]:
        return {name: metric.value for name, metric in self.metrics.items()}


class Task(Protocol):
    """Everything that the experiments know about a task."""

    name: str
    unit: str  # what is scored one by one, in the plural: "sonnets"
    headline: str  # the metric by which epochs are compared
    judged: tuple[str, ...]  # the metrics that claims are judged by, the headline first
    batch_size: int  # examples of an optimizer step, unless told otherwise
    learning_rates: dict[str, Rates]  # by parameterization, "full" and "lora"
    tuning: dict[str, int]  # what a tuning run is cut down to: epochs, train_ and dev_examples
    metrics: dict[str, Score]  # every metric that `evaluate` can return
    end_of_text: bool  # whether completions end with the end-of-text token
    preferences: tuple[str, ...]  # how preference pairs can be made; the first is the default
    scored_splits: tuple[str, ...]  # the splits whose right answers are known
    skipped: dict[str, Counter[str]]  # what could not be used: file -> reason -> rows

    def examples(self, split: str) -> list[Example]:
        """The examples of "train", "dev" or "test"."""

    def evaluate(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """The metrics of `model` on a split; sampling draws from `generator`."""

    def floors(self, split: str, *, generator: np.random.Generator) -> dict[str, dict[str, float]]:
        """What no learning at all scores: name of the floor -> metric -> value."""

    def ceilings(self, split: str) -> dict[str, dict[str, float]]:
        """What the right text itself scores, where that says something: name -> metric -> value."""


def ratio(sums: np.ndarray) -> np.ndarray:
    """The score of a plain mean: the first addend over the second, (..., 2) -> (...).

    The second counts things (units, characters, lines); where there are none the mean is 0.
    """
    return sums[..., 0] / np.maximum(sums[..., 1], 1)


def check_split(split: str) -> None:
    """Raise InputError unless `split` is the name of a split."""
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
