"""Paraphrase: do two questions ask the same thing? The answer is one token, " yes" or " no"."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from minigpt.errors import InputError
from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from objectives import precompute
from objectives.sequences import length_buckets, pair_batch, tokenise
from tasks.accounts import FileAccount
from tasks.base import (
    SPLITS,
    Draws,
    Evaluation,
    Example,
    PreferencePair,
    Task,
    check_split,
)
from tasks.paraphrase.lookup import leak, lookup, words
from tasks.paraphrase.quora import COURSE_FILES, QuestionPair, read_pairs, split_file
from tasks.paraphrase.scores import PARAPHRASE_SCORES, answer_statistics, calibration_gaps

# The prompt ends without a space because GPT-2's tokens begin with theirs: " yes" is one token
# after "?", but two after "? ".
TEMPLATE = "Question 1: {first}\nQuestion 2: {second}\nAre these questions asking the same thing?"
YES, NO = " yes", " no"

BATCH = 64  # pairs evaluated together
SHOWN = 3  # pairs among the samples


def right_vs_wrong(examples: list[Example], draws: Draws) -> list[PreferencePair]:
    """Prefer the right answer to the other one; nothing is drawn and no model is asked."""
    other = {YES: NO, NO: YES}
    return [PreferencePair(prompt, answer, other[answer]) for prompt, answer in examples]


class ParaphraseTask(Task):
    """Answer whether two questions are duplicates.

    `data` is the official release (quora_duplicate_questions.tsv), or a folder with it or with the
    course's files; without it the course's files are fetched when a split is first asked for.
    `limits` keeps only so many pairs of a split: the same ones in every run, and a smaller limit's
    are among a larger one's.
    """

    name = "paraphrase"
    unit = "question pairs"
    headline = "accuracy"
    judged = ("accuracy", "macro_f1")
    batch_size = 32
    tuning = {"epochs": 2, "train_examples": 4000, "dev_examples": 4000}
    metrics = PARAPHRASE_SCORES
    preferences = {"right-vs-wrong": right_vs_wrong}
    free_text = False
    end_of_text = False

    def __init__(
        self, data: str | Path | None = None, *, limits: dict[str, int | None] | None = None
    ):
        self.data = None if data is None else Path(data)
        self.limits = limits or {}
        self.accounts: dict[str, FileAccount] = {}
        self._pairs: dict[str, list[QuestionPair]] = {}

    @property
    def scored_splits(self) -> tuple[str, ...]:
        """All three of the official release; the course keeps the answers to its test set."""
        _, one_split = split_file(self.data, "train")
        return SPLITS[:2] if one_split else SPLITS

    @property
    def drawn(self) -> str | None:
        """How dev and test come out of a single file; None for the course's, which come split."""
        path, one_split = split_file(self.data, "train")
        if one_split:
            return None
        return f"all from {path.name}: each pair's text decides, 5 % are dev, 5 % test, 90 % train"

    def why_not_scored(self, split: str) -> str:
        """Return why test is not scored on the course's files."""
        return f"the course keeps the answers to its test set, {COURSE_FILES[split]}"

    def pairs(self, split: str) -> list[QuestionPair]:
        """Return the question pairs of a split; its file is read when it is first asked for."""
        check_split(split)
        if split not in self._pairs:
            self._read(*split_file(self.data, split), split)
        if not self._pairs[split]:
            read = [
                "; ".join([f"{account.used:,} pairs in {name} can be used", *account.notes])
                for name, account in self.accounts.items()
            ]
            raise InputError(
                f"{self.data} has no pairs for the split {split!r} ({'; '.join(read)}); "
                "expected more"
            )
        return self._pairs[split]

    def _read(self, path: Path, one_split: bool, split: str) -> None:
        pairs, account = read_pairs(path)
        self.accounts[path.name] = account
        for name in [split] if one_split else SPLITS:
            chosen = pairs if one_split else [pair for pair in pairs if pair.split == name]
            limit = self.limits.get(name)
            if limit is not None:
                account.leave_out(len(chosen) - limit, f"over the limit of {limit:,} for {name}")
                chosen = sorted(chosen, key=lambda pair: pair.draw)[:limit]
            self._pairs[name] = chosen

    def examples(self, split: str) -> list[Example]:
        """Return one example for each question pair, its right answer the completion."""
        return [Example(_prompt(p), YES if p.duplicate else NO) for p in self.pairs(split)]

    def evaluate(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Return accuracy, macro F1, mean nats of the right answer, and the calibration error.

        The prediction is the likelier of the two answers; should they tie, it is " no".
        "calibration_error" is how far the probability of yes, of the two answers, is from the
        share of duplicates, on average over ten bins of it (Naeini et al., 2015). Nothing is
        drawn from `generator`.
        """
        pairs = self.pairs(split)
        logps = answer_logps(model, tokenizer, [_prompt(pair) for pair in pairs])
        duplicate = np.array([pair.duplicate for pair in pairs])
        predicted = logps[:, 0] > logps[:, 1]
        right = np.where(duplicate, logps[:, 0], logps[:, 1])
        statistics = {
            **answer_statistics(duplicate, predicted),
            "answer_nll": np.stack([-right, np.ones_like(right)], axis=1),
            "calibration_error": calibration_gaps(duplicate, logps),
        }
        return Evaluation(
            metrics={name: self.metrics[name].of(s) for name, s in statistics.items()},
            samples=tuple(_show(pair, answer) for pair, answer in zip(pairs[:SHOWN], predicted)),
        )

    def floors(self, split: str, *, generator: np.random.Generator) -> dict[str, dict[str, float]]:
        """Return scores without a model, learnt on the training pairs; `generator` is not used.

        "majority class" always gives the commoner answer. "word overlap" says yes from a certain
        share of common words on, the share that classifies most training pairs rightly. "lookup"
        gives the commoner label of the training pairs that have either question.
        """
        train, pairs = self.pairs("train"), self.pairs(split)
        known = np.array([pair.duplicate for pair in train])
        duplicate = np.array([pair.duplicate for pair in pairs])
        threshold = _best_threshold(_overlaps(train), known)
        predictions = {
            "majority class": np.full(len(pairs), 2 * known.sum() > len(known)),
            "word overlap": _overlaps(pairs) >= threshold,
            "lookup": lookup(train, pairs),
        }
        return {
            name: {
                metric: self.metrics[metric].of(found).value
                for metric, found in answer_statistics(duplicate, predicted).items()
            }
            for name, predicted in predictions.items()
        }

    def leak(self, split: str) -> str:
        """Return how many pairs have questions that the training pairs have too."""
        return str(leak(self.pairs("train"), self.pairs(split)))


def answer_logps(model: GPT, tokenizer: Tokenizer, prompts: list[str]) -> np.ndarray:
    """Return log p of the answers yes and no after each prompt, in nats: (N, 2)."""
    device, n_positions = model.wte.weight.device, model.config.n_positions
    yes = tokenise(
        [(prompt, YES) for prompt in prompts], tokenizer, n_positions=n_positions, end_of_text=False
    )
    tokens = yes.tokens.copy()  # to tokenise the prompts once; only the last token differs
    tokens[yes.starts[1:] - 1] = tokenizer.encode(NO)
    no = replace(yes, tokens=tokens)
    batches = (
        pair_batch(yes, no, index).to(device) for index in length_buckets(yes.lengths, BATCH)
    )
    return precompute(model, batches, len(prompts)).cpu().numpy()


def _prompt(pair: QuestionPair) -> str:
    return TEMPLATE.format(first=pair.first, second=pair.second)


def _show(pair: QuestionPair, predicted: bool) -> str:
    """Return a pair to look at."""
    answer, prediction = YES if pair.duplicate else NO, YES if predicted else NO
    return f"{_prompt(pair)}\n  answer:{answer}, predicted:{prediction}"


def _overlaps(pairs: list[QuestionPair]) -> np.ndarray:
    """Return the share of words, of all in either question, that are in both (Jaccard): (N,)."""

    def overlap(pair: QuestionPair) -> float:
        first, second = (set(words(text)) for text in pair[:2])
        return len(first & second) / max(1, len(first | second))

    return np.array([overlap(pair) for pair in pairs])


def _best_threshold(values: np.ndarray, positive: np.ndarray) -> float:
    """Return the value from which on "positive" is right most often, the lowest such."""
    candidates, place = np.unique(values, return_inverse=True)
    positives = np.bincount(place, weights=positive)  # at each candidate
    negatives = np.bincount(place, weights=~positive)
    right = positives[::-1].cumsum()[::-1] + negatives.cumsum() - negatives
    return candidates[right.argmax()]
