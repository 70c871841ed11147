"""Sonnets: given the first three lines, write the rest.

The task, its split and its chrF protocol are those of Stanford CS224N's GPT-2 default project.
chrF hardly tells a trained model from a random sonnet (`SonnetTask.floors`), so epochs are compared
by held-out bits per character, which does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minigpt.errors import InputError
from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from tasks.base import SPLITS, Example, Predictions, Task, Written, check_split
from tasks.likelihood import bits_per_char, preferred, whole_sequences
from tasks.metric import Evaluation
from tasks.preferences import best_vs_worst, gold_vs_corrupted, gold_vs_sample
from tasks.sampling import Sampling, sample_texts
from tasks.sonnet.continuations import set_statistics, text_statistics
from tasks.sonnet.copying import Source, copying_source
from tasks.sonnet.corruption import corrupt, swap_two_lines
from tasks.sonnet.floors import sonnet_ceilings, sonnet_floors
from tasks.sonnet.folds import fold_sonnets, share_lines, sonnet_groups
from tasks.sonnet.judge import LineJudge, fit_judge
from tasks.sonnet.scores import SONNET_SCORES
from tasks.sonnet.shakespeare import (
    GIVEN_LINES,
    HELD_OUT_NUMBERS,
    LINES,
    Sonnet,
    expected_in,
    read_prompts,
    split_sonnets,
)
from tasks.sonnet.verses import show_sonnet, text_of, verses
from tasks.splits import Fold

MAX_NEW_TOKENS = 192  # the longest of Shakespeare's eleven lines are 164 in the verse vocabulary
CORRUPTIONS = 3  # of each sonnet, for the preference accuracy


class SonnetTask(Task):
    """Continue a sonnet from its first three lines.

    `data` is a folder with the course's files; without it the sonnets in the package are read
    (`split_sonnets` says which are whose, and `fold_sonnets` where dev is a `fold` of them all).
    `limits` keeps only the first so many sonnets of a split. Evaluation draws `n_samples`
    continuations of each sonnet at `temperature` and `top_p`; the defaults are the course's.
    Raises InputError for a value out of range.
    """

    name = "sonnet"
    unit = "sonnets"
    headline = "bits_per_char"
    judged = ("bits_per_char", "chrf")
    predictions = ("csv", "course")
    metrics = SONNET_SCORES
    preferences = {
        "gold-vs-sample": gold_vs_sample,
        "gold-vs-corrupted": gold_vs_corrupted(corrupt),
        "best-vs-worst": best_vs_worst,
    }

    def __init__(
        self,
        data: str | Path | None = None,
        *,
        limits: dict[str, int | None] | None = None,
        n_samples: int = 4,
        temperature: float = 1.2,
        top_p: float = 0.9,
        fold: Fold | None = None,
    ):
        self.sampling = Sampling(n_samples, float(temperature), float(top_p))
        found = fold_sonnets(data, fold) if fold else split_sonnets(data)
        self.fold, self.accounts, self.drawn = fold, found.accounts, found.drawn
        self._sonnets = found.splits
        self._unlimited = _lines(found.splits)
        for split, limit in (limits or {}).items():
            self._limit(found.splits[split], limit, split)
        self.sonnets = _lines(found.splits)
        self.scored_splits = tuple(split for split in SPLITS if self.sonnets[split])

    def options(self) -> dict[str, Any]:
        """Return how continuations are sampled."""
        return asdict(self.sampling)

    def examples(self, split: str) -> list[Example]:
        """Return three lines and those that follow, each line with the newline that ends it."""
        check_split(split)
        if not self.sonnets[split]:
            expected = expected_in(split, self.fold)
            raise InputError(f"there are no sonnets for the split {split!r}; expected {expected}")
        return [
            Example(text_of(lines[:GIVEN_LINES]), text_of(lines[GIVEN_LINES:]))
            for lines in self.sonnets[split]
        ]

    def check_fit(self, tokenizer: Tokenizer, n_positions: int) -> None:
        """Raise InputError if a held-out sonnet, or one of its corruptions, cannot be scored."""
        for split in HELD_OUT_NUMBERS:
            if self.sonnets[split]:
                examples = self.examples(split)
                whole_sequences(examples, tokenizer, n_positions)
                self.corruptions(examples)

    def groups(self, split: str) -> np.ndarray | None:
        """Return the group of each sonnet, (N,), where two say the same (`sonnet_groups`)."""
        groups = sonnet_groups(self._sonnets[split])
        return groups if len(set(groups.tolist())) < len(groups) else None

    def why_not_scored(self, split: str) -> str:
        """Return why a split has no sonnets."""
        return f"there are none; expected {expected_in(split, self.fold)}"

    def _limit(self, sonnets: list[Sonnet], limit: int | None, split: str) -> None:
        """Keep only the first sonnets of a split."""
        if limit is not None:
            for sonnet in sonnets[limit:]:
                reason = f"over the limit of {limit} for {split}"
                self.accounts[sonnet.file].leave_out(1, reason)
            del sonnets[limit:]

    def evaluate(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Return what the model thinks of the gold lines, and what its continuations are worth.

        Of the gold: "bits_per_char", without end-of-text's "bits_per_char_text", and
        "preference_accuracy", how often the model finds it likelier than with two lines swapped. Of
        the samples: chrF (`text_statistics` says of what), chrF of one of them chosen without the
        gold ("chrf_mbr"), the share of their word 5-grams that a training sonnet has ("copy_rate"),
        the words of their longest run from one ("longest_copy"), the shares that fit the form:
        samples that do not end before the fourteenth line, where all are cut ("lines"), pairs of
        lines that rhyme ("rhyme"), lines of 9 to 11 syllables ("syllables"); how varied those of a
        prompt are ("distinct_1", ...), and lines that look like a poet's ("judged_gold").
        """
        examples = self.examples(split)
        prompts = [example.prompt for example in examples for _ in range(self.sampling.n_samples)]
        samples = self.sample(model, tokenizer, prompts, generator=generator)
        written = [text for text, _ in samples]
        bits, text_bits = (
            bits_per_char(model, tokenizer, examples, end_of_text=end).statistics
            for end in (True, False)
        )
        found = {
            "bits_per_char": bits,
            "bits_per_char_text": text_bits,
            "preference_accuracy": preferred(
                model, tokenizer, examples, self.corruptions(examples), gold_bits=bits[:, 0]
            ),
            **text_statistics(examples, written, self._training, self._judge),
            **set_statistics(examples, written),
        }
        first = written[:: self.sampling.n_samples]
        return Evaluation(
            metrics={n: score.of(found[n]) for n, score in self.metrics.items() if n in found},
            samples=tuple(show_sonnet(e.prompt, text) for e, text in zip(examples[:2], first)),
        )

    def evaluate_headline(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Return bits per character; nothing is sampled."""
        return Evaluation({self.headline: bits_per_char(model, tokenizer, self.examples(split))})

    def corruptions(self, examples: list[Example]) -> list[list[str]]:
        """Return each completion with two of its lines swapped, CORRUPTIONS times.

        They are part of the task as its sonnets are: the same for every model and seed. They are
        milder than the pairs "gold-vs-corrupted", which the untuned model gets right every time.
        Raises InputError for a completion without two different lines.
        """
        generator = torch.Generator().manual_seed(0)
        return [
            [swap_two_lines(e.completion, generator) for _ in range(CORRUPTIONS)] for e in examples
        ]

    @cached_property
    def _training(self) -> Source:
        return copying_source("".join(example) for example in self.examples("train"))

    @cached_property
    def _judge(self) -> LineJudge:
        return fit_judge(self._unlimited)  # the same, whatever share of the sonnets is trained on

    def sample(
        self, model: GPT, tokenizer: Tokenizer, prompts: list[str], *, generator: torch.Generator
    ) -> list[Written]:
        """Return a continuation of each prompt, up to end-of-text or the fourteenth line."""

        def finished(new: list[int]) -> bool:
            complete, _, _ = tokenizer.decode(new).rpartition("\n")
            return len(verses(complete)) >= LINES - GIVEN_LINES

        written = sample_texts(
            model,
            tokenizer,
            [tokenizer.encode(prompt) for prompt in prompts],
            sampling=self.sampling,
            max_new_tokens=MAX_NEW_TOKENS,
            generator=generator,
            finished=finished,
        )
        return [
            Written(text_of(verses(text)[: LINES - GIVEN_LINES]), ends) for text, ends in written
        ]

    def predict(
        self, model: GPT, tokenizer: Tokenizer, path: Path, *, generator: torch.Generator
    ) -> Predictions:
        """Return one whole sonnet for the first lines of each in a file, by its number."""
        prompts, told = read_prompts(path)
        texts = [text_of(lines) for lines in prompts.values()]
        asked = [text for text in texts if text]
        written = iter(self.sample(model, tokenizer, asked, generator=generator))
        rows = [(n, text + next(written).text if text else "") for n, text in zip(prompts, texts)]
        whole = "".join(f"\n{number}\n{text.rstrip()}\n\n" for number, text in rows if text)
        return Predictions(("id", "text"), rows, told, "--Generated Sonnets-- \n\n" + whole)

    def leak(self, split: str) -> str:
        """Return how many sonnets share a line with one of training."""
        seen = share_lines(self.sonnets[split], self.sonnets["train"])
        share = 100 * np.mean(seen)
        return f"of {len(seen)} sonnets {share:.1f} % share a line with one of training ({split})"

    def floors(self, split: str, *, generator: np.random.Generator) -> dict[str, dict[str, float]]:
        """Return what texts score that no model wrote (`sonnet_floors`), and a toss ("coin")."""
        gold, known = self.examples(split), self.examples("train")
        draws = {"n_samples": self.sampling.n_samples, "generator": generator}
        texts = sonnet_floors(gold, known, self._training, self._judge, **draws)
        return texts | {"coin": {"preference_accuracy": 0.5}}

    def ceilings(self, split: str) -> dict[str, dict[str, float]]:
        """Return what Shakespeare's own lines score in place of samples ("gold").

        "judge's accuracy" is how often the judge of "judged_gold" is right of held-out lines.
        """
        examples, lines = self.examples(split), self._unlimited[split]
        return sonnet_ceilings(examples, self._training, self._judge, lines)


def _lines(splits: Mapping[str, Sequence[Sonnet]]) -> dict[str, list[list[str]]]:
    return {split: [sonnet.lines for sonnet in sonnets] for split, sonnets in splits.items()}
