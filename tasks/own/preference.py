"""Preferences that somebody gave: of two completions of a prompt, which is better?

The columns are TRL's: `prompt`, `chosen` and `rejected`, as texts or as conversations. Without the
column of the prompt, it is what chosen and rejected begin with in common. SFT learns the chosen
completion, DPO the pairs of the file.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from objectives import precompute
from objectives.sequences import Sequences, length_buckets, pair_batch, tokenise
from tasks.base import Draws, Example, PreferencePair
from tasks.likelihood import BITS_PER_CHAR, SCORING_BATCH, scored_characters
from tasks.metric import Evaluation, Score, ratio
from tasks.own.conversation import is_conversation, render, shared_messages, shared_prompt
from tasks.own.rows import BadRow, RowsTask, text_in

SHOWN = 2  # pairs among the samples


class PairedExample(Example):
    """A prompt and the chosen completion, with the one that was rejected."""

    rejected: str

    def __new__(cls, prompt: str, chosen: str, rejected: str):
        example = super().__new__(cls, prompt, chosen)
        example.rejected = rejected
        return example


def given(examples: Sequence[PairedExample], draws: Draws) -> list[PreferencePair]:
    """Return the pairs that the rows are; nothing is drawn and no model is asked."""
    return [PreferencePair(*example, example.rejected) for example in examples]


class PreferenceTask(RowsTask):
    """Learn which of two completions is preferred, from rows of prompt, chosen and rejected.

    A row without two different, not empty sides, or without a prompt, is left out and counted.
    Rows with the same prompt are in the same split.
    """

    name = "preference"
    unit = "prompts"  # as pairs of one prompt are not independent of each other
    headline = "bits_per_char"
    judged = ("bits_per_char", "preference_accuracy")
    metrics = {
        "bits_per_char": BITS_PER_CHAR,
        "preference_accuracy": Score(
            ratio,
            short="preferred %",
            long="pairs whose chosen side is likelier, %",
            margin=0.01,  # a matter of taste, better stated than hidden
            factor=100,
            decimals=2,
        ),
        "preference_accuracy_per_token": Score(
            ratio,
            short="preferred/token %",
            long="pairs whose chosen side is likelier per token, %",
            factor=100,
            decimals=2,
        ),
    }
    preferences = {"given": given}
    free_text = False  # of a pair there is no gold text that chrF could grade both sides by
    columns = ("chosen", "rejected")
    width = 3

    def texts(self, values: dict[str, Any]) -> tuple[str, str, str]:
        """Return the prompt, the chosen and the rejected completion of a row."""
        chosen, rejected = values.get("chosen"), values.get("rejected")
        if is_conversation(chosen) and is_conversation(rejected):
            prompt, chosen, rejected = _of_conversations(values.get("prompt"), chosen, rejected)
        else:
            chosen, rejected = text_in(values, "chosen"), text_in(values, "rejected")
            if "prompt" in values:
                prompt = text_in(values, "prompt")
            else:
                shared = shared_prompt(chosen, rejected)
                prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        for side, text in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)):
            if not text.strip():
                raise BadRow(f"empty {side}")
        if chosen == rejected:
            raise BadRow("chosen and rejected are equal")
        return prompt, chosen, rejected

    def example(self, prompt: str, chosen: str, rejected: str) -> PairedExample:
        """Return the prompt and the chosen completion, with the rejected one beside."""
        return PairedExample(prompt, chosen, rejected)

    def evaluate(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Return what the model thinks of both sides of each pair.

        "bits_per_char" is that of the chosen completions, end-of-text's bits included.
        "preference_accuracy" is the share of pairs whose chosen side has the higher log-prob,
        summed over its tokens; "preference_accuracy_per_token" compares means per token. Ties do
        not win. What does not fit into the model's context is cut as in training, and characters
        that were cut do not count. Nothing is drawn from `generator`.
        """
        examples = self.examples(split)
        sides = _tokenise_sides(examples, tokenizer, model.config.n_positions)
        logps, counts = _side_logps(model, *sides), _completion_tokens(*sides)
        won, won_per_token = logps[:, 0] > logps[:, 1], np.greater(*(logps / counts).T)
        ones = np.ones(len(won))
        characters = scored_characters(examples, sides[0], tokenizer, model.config.n_positions)
        addends = {
            "bits_per_char": (-logps[:, 0] / np.log(2), characters),
            "preference_accuracy": (won, ones),
            "preference_accuracy_per_token": (won_per_token, ones),
        }
        return Evaluation(
            {name: self.metrics[name].of(np.stack(a, axis=1)) for name, a in addends.items()},
            tuple(_show(e, two) for e, two in zip(examples[:SHOWN], logps)),
        )

    def floors(self, split: str, *, generator: np.random.Generator) -> dict[str, dict[str, float]]:
        """Return the accuracies of preferring by length in characters; ties count one half.

        A third floor, preferring what the base model finds likelier, needs a model: it is the
        untuned row of a run.
        """
        longer = float((1 + np.sign(-np.diff(self._lengths(split))).mean()) / 2)
        return {
            "longer wins": {"preference_accuracy": longer},
            "shorter wins": {"preference_accuracy": 1 - longer},
        }

    def check_fit(self, tokenizer: Tokenizer, n_positions: int) -> None:
        """Note how the sides differ in length, and how many of them are cut to fit."""
        for split in self.scored_splits:
            lengths = self._lengths(split)
            longer = 100 * (lengths[:, 0] > lengths[:, 1]).mean()
            chosen, rejected = lengths.mean(axis=0)
            self.note(
                split,
                f"chosen is longer in {longer:.1f} % of {split} "
                f"(means: {chosen:.0f} and {rejected:.0f} characters)",
            )
            sides = _tokenise_sides(self.examples(split), tokenizer, n_positions)
            chosen, rejected = (side.truncated for side in sides)
            if chosen or rejected:
                self.note(
                    split,
                    f"{chosen:,} chosen and {rejected:,} rejected sides for {split} are cut to fit "
                    f"{n_positions:,} tokens",
                )

    def _lengths(self, split: str) -> np.ndarray:
        """Return the characters of the chosen and of the rejected sides: (N, 2)."""
        examples = self.examples(split)
        lengths = (len(text) for e in examples for text in (e.completion, e.rejected))
        return np.fromiter(lengths, np.int64, 2 * len(examples)).reshape(-1, 2)


def _of_conversations(prompt: Any, chosen: list, rejected: list) -> tuple[str, str, str]:
    """Return the texts of a row of conversations; a prompt that is none is found in both sides."""
    if not is_conversation(prompt):
        shared = shared_messages(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    if not prompt:
        raise BadRow("empty prompt")
    if not chosen or not rejected:
        raise BadRow("nothing but a prompt")
    asked, better = render(prompt, chosen)
    asked_too, worse = render(prompt, rejected)
    if asked != asked_too:
        raise BadRow("the sides begin with different roles", malformed=True)
    return asked, better, worse


def _tokenise_sides(
    examples: Sequence[PairedExample], tokenizer: Tokenizer, n_positions: int
) -> tuple[Sequences, Sequences]:
    """Return the chosen and the rejected sequences."""
    options = {"n_positions": n_positions, "end_of_text": True}
    rejected = ((e.prompt, e.rejected) for e in examples)
    return tokenise(examples, tokenizer, **options), tokenise(rejected, tokenizer, **options)


def _side_logps(model: GPT, chosen: Sequences, rejected: Sequences) -> np.ndarray:
    """Return the summed log-probs of both sides, in nats: (N, 2)."""
    device = model.wte.weight.device
    longest = np.maximum(chosen.lengths, rejected.lengths)
    batches = (
        pair_batch(chosen, rejected, index).to(device)
        for index in length_buckets(longest, SCORING_BATCH)
    )
    return precompute(model, batches, len(chosen)).double().cpu().numpy()


def _completion_tokens(chosen: Sequences, rejected: Sequences) -> np.ndarray:
    """Return the scored tokens of both sides, end-of-text's among them: (N, 2)."""
    return np.stack([side.lengths - side.prompt_lengths for side in (chosen, rejected)], axis=1)


def _show(example: PairedExample, logps: np.ndarray) -> str:
    """Return a pair to look at."""
    chosen, rejected = logps
    return (
        f"> {example.prompt.strip()}\n  chosen, log p {chosen:.1f}: {example.completion.strip()}\n"
        f"  rejected, log p {rejected:.1f}: {example.rejected.strip()}"
    )
