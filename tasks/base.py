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


@dataclass(frozen=True)
class Metric:
    """A score that is a function of sums over units (a sonnet, a question pair).

    Accuracy is sum(correct) / sum(1); bits per character sum(bits) / sum(characters); F1 and chrF
    are functions of summed counts. Keeping the addends, not only the score, is what lets a
    bootstrap resample the units without evaluating the model again.
    """

    statistics: np.ndarray  # (units, K), K addends of each unit
    score: Callable[[np.ndarray], np.ndarray]  # (..., K) sums -> (...) scores
    larger_is_better: bool = True

    @property
    def value(self) -> float:
        return float(self.score(self.statistics.sum(axis=0)))


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
    headline: str  # the metric by which epochs are compared
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


def ratio(sums: np.ndarray) -> np.ndarray:
    """The score of a plain mean: the first addend over the second, (..., 2) -> (...)."""
    return sums[..., 0] / sums[..., 1]


def check_split(split: str) -> None:
    """Raise InputError unless `split` is the name of a split."""
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
