"""Completions that somebody gave to prompts, or running text to go on with.

The columns are TRL's: `prompt` and `completion`, or `text` for running text, which a text file or
a folder of them holds too. SFT learns completions, and running text as a whole.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from objectives.sequences import Sequences, token_blocks, tokenise
from tasks.base import Example, Written
from tasks.likelihood import scored_characters, sequence_bits
from tasks.metric import Evaluation
from tasks.own.passages import Passage, beginning, cut
from tasks.own.reading import Entry
from tasks.own.rows import BadRow, RowsTask, text_in
from tasks.own.sources import Rows
from tasks.own.writing import (
    COMPLETION_SCORES,
    shuffled,
    writing_floors,
    writing_scores,
    writing_statistics,
)
from tasks.preferences import best_vs_worst, gold_vs_corrupted, gold_vs_sample
from tasks.sampling import Sampling, sample_texts
from tasks.splits import Fold, text_hash

SAMPLED = 200  # examples of a split that completions are sampled of: writing takes far longer
SHOWN = 2  # completions among the samples


class CompletionTask(RowsTask):
    """Complete prompts as the rows do, or go on with text.

    The first row decides which: with a `prompt`, SFT learns completions that end with end-of-text,
    and rows with the same prompt are in the same split. Without, its `text` (or completion) is a
    document. SFT reads the documents in blocks that fill the context, with end-of-text behind each.
    They are evaluated in passages (`cut`), of which a quarter is the prompt (`beginning`); those of
    a document are in the same split, and none ends with end-of-text. Evaluation draws `n_samples`
    completions at `temperature` and `top_p` of the first SAMPLED examples of a split, at most as
    long as the longest in the data and as half the context. InputError for a value out of range.
    """

    name = "completion"
    unit = "examples"
    together = "by a prompt or a document that they share"
    headline = "bits_per_char"
    judged = ("bits_per_char", "chrf")
    metrics = COMPLETION_SCORES
    preferences = {
        "gold-vs-sample": gold_vs_sample,
        "gold-vs-corrupted": gold_vs_corrupted(shuffled),
        "best-vs-worst": best_vs_worst,
    }
    columns = ("prompt", "completion")
    width = 3  # prompt, completion, and the document that they stand in

    def __init__(
        self,
        data: str | Path | None = None,
        *,
        limits: dict[str, int | None] | None = None,
        train: str | Path | Rows | None = None,
        dev: str | float | Path | Rows | None = None,
        test: str | float | Path | Rows | None = None,
        n_samples: int = 1,
        temperature: float = 1.0,
        top_p: float = 0.9,
        fold: Fold | None = None,
    ):
        self.sampling = Sampling(n_samples, float(temperature), float(top_p))
        self._is_text: bool | None = None  # until the first row is read
        self._longest = ""  # of the completions
        super().__init__(data, limits=limits, train=train, dev=dev, test=test, fold=fold)
        if self._is_text:
            n = len({document for _, _, document in self.contents("train")})
            self.note(
                "train",
                f"the passages of {n:,} documents for train are read by SFT in blocks that fill "
                "the context",
            )

    def options(self) -> dict[str, Any]:
        """Return how completions are sampled."""
        return asdict(self.sampling)

    @property
    def end_of_text(self) -> bool:
        """Whether completions end with end-of-text: not where they are passages."""
        return not self._is_text

    def rows_of(self, entry: Entry) -> Iterable[Entry]:
        """Return a row of prompt and completion as it is, and the passages of a document."""
        values = entry.values
        if self._is_text is None:
            self._is_text = "prompt" not in values
        text = values.get("text", values.get("completion"))
        if "prompt" in values or not self._is_text or not isinstance(text, str) or not text.strip():
            return [entry]
        with suppress(UnicodeEncodeError):  # for which `texts` refuses the row
            document = f"{text_hash(text):x}"
            return [Entry(entry.where, Passage(p, document)) for p in cut(text)]
        return [entry]

    def texts(self, values: dict[str, Any]) -> tuple[str, str, str]:
        """Return the prompt and the completion of a row, and the document they stand in."""
        if self._is_text:
            if not isinstance(values, Passage):
                if "prompt" in values:
                    raise BadRow("a prompt, where the first row is running text", malformed=True)
                text_in(values, "text").encode()  # which fails where it is not Unicode
                raise BadRow("empty text")
            passage, document = values
            prompt = beginning(passage)
            completion = passage[len(prompt) :]
            if not prompt.strip() or not completion.strip():
                raise BadRow("too short to be cut in two")
        else:
            prompt, completion = text_in(values, "prompt"), text_in(values, "completion")
            document = ""
            for side, text in (("prompt", prompt), ("completion", completion)):
                if not text.strip():
                    raise BadRow(f"empty {side}")
        self._longest = max(self._longest, completion, key=len)
        return prompt, completion, document

    def ties(self, prompt: str, completion: str, document: str) -> tuple[str, ...]:
        """Return what rows of one split have in common: the document, or else the prompt."""
        return (document or prompt,)

    def example(self, prompt: str, completion: str, document: str) -> Example:
        """Return the prompt and the completion of a row."""
        return Example(prompt, completion)

    def training_sequences(self, tokenizer: Tokenizer, n_positions: int) -> Sequences:
        """Return the training examples as tokens, and running text in blocks."""
        if not self._is_text:
            return super().training_sequences(tokenizer, n_positions)
        return token_blocks(self._stream(tokenizer), tokenizer, n_positions=n_positions)

    def evaluate(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Return what the model thinks of the gold completions, and what its own are worth.

        "bits_per_char" is that of the gold completions, with end-of-text's bits where they end with
        it; "bits_per_char_text" is then without. What does not fit into the context is cut as in
        training, and characters that were cut do not count. "chrf" and "distinct" are those of
        samples (`writing_statistics`).
        """
        examples = self.examples(split)
        found = {"bits_per_char": self._bits(model, tokenizer, examples, self.end_of_text)}
        if self.end_of_text:
            found["bits_per_char_text"] = self._bits(model, tokenizer, examples, False)
        sampled = examples[:SAMPLED]
        prompts = [example.prompt for example in sampled for _ in range(self.sampling.n_samples)]
        samples = self.sample(model, tokenizer, prompts, generator=generator)
        written = [text for text, _ in samples]
        found |= writing_statistics(sampled, written)
        return Evaluation(
            {name: self.metrics[name].of(addends) for name, addends in found.items()},
            tuple(
                f"> {example.prompt.strip()}\n  {text.strip()}"
                for example, text in zip(sampled[:SHOWN], written[:: self.sampling.n_samples])
            ),
        )

    def evaluate_headline(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Return bits per character; nothing is sampled."""
        bits = self._bits(model, tokenizer, self.examples(split), self.end_of_text)
        return Evaluation({self.headline: self.metrics[self.headline].of(bits)})

    def groups(self, split: str) -> np.ndarray | None:
        """Return the group of each row, those with the same prompt; passages are independent."""
        return None if self._is_text else super().groups(split)

    def check_fit(self, tokenizer: Tokenizer, n_positions: int) -> None:
        """Note how many held-out examples are cut to fit the context."""
        for split in self.scored_splits[1:]:
            options = {"n_positions": n_positions, "end_of_text": self.end_of_text}
            found = tokenise(self.examples(split), tokenizer, **options)
            if found.truncated:
                self.note(
                    split,
                    f"{found.truncated:,} of {len(found):,} examples for {split} are cut to fit "
                    f"the context of {n_positions:,} tokens",
                )

    def sample(
        self, model: GPT, tokenizer: Tokenizer, prompts: list[str], *, generator: torch.Generator
    ) -> list[Written]:
        """Return a completion of each prompt, which loses its beginning where there is no room."""
        n_positions = model.config.n_positions
        most = min(len(tokenizer.encode(self._longest)) + 1, n_positions // 2)
        return sample_texts(
            model,
            tokenizer,
            [tokenizer.encode(prompt)[most - n_positions :] for prompt in prompts],
            sampling=self.sampling,
            max_new_tokens=most,
            generator=generator,
        )

    def floors(self, split: str, *, generator: np.random.Generator) -> dict[str, dict[str, float]]:
        """Return what texts score that no model wrote (`writing_floors`)."""
        examples = self.examples(split)[:SAMPLED]
        return writing_floors(examples, self.examples("train"), generator)

    def ceilings(self, split: str) -> dict[str, dict[str, float]]:
        """Return what the gold completions score in place of samples."""
        examples = self.examples(split)[:SAMPLED]
        return {"gold": writing_scores(examples, [example.completion for example in examples])}

    def _bits(
        self, model: GPT, tokenizer: Tokenizer, examples: Sequence[Example], end_of_text: bool
    ) -> np.ndarray:
        """Return the bits of each completion and its characters: (N, 2)."""
        n_positions = model.config.n_positions
        sequences = tokenise(examples, tokenizer, n_positions=n_positions, end_of_text=end_of_text)
        characters = scored_characters(examples, sequences, tokenizer, n_positions)
        return np.stack([sequence_bits(model, sequences), characters], axis=1)

    def _stream(self, tokenizer: Tokenizer) -> Iterator[list[int]]:
        """Yield the tokens of the training text, and end-of-text wherever it does not go on."""
        following = None  # what goes on with the passage before
        for number, row in zip(self._numbers["train"], self.contents("train")):
            prompt, completion, document = row
            if following not in (None, (number, document)):
                yield [tokenizer.eot]
            following = (number + 1, document)
            yield tokenizer.encode(prompt + completion)
        yield [tokenizer.eot]

    def _check_source(self, split: str, name: str, found: tuple[str, ...]) -> None:
        if self._is_text:
            self.accounts[name].unit = "passages"
        super()._check_source(split, name, found)
