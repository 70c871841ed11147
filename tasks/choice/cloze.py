"""Classification as a cloze: the answer is what a language model writes after a prompt."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from minigpt.model import GPT
from minigpt.tokenizer import Tokenizer
from objectives.sequences import tokenise
from tasks.base import Example, Predictions, Task
from tasks.choice.answers import answer_logps, check_answers, right_vs_wrong
from tasks.choice.floors import choice_floors
from tasks.choice.rows import Choice, Unlabelled
from tasks.choice.scores import CHOICE_SCORES, calibration_gaps, prediction_statistics
from tasks.choice.template import Template
from tasks.metric import Evaluation

SHOWN = 3  # rows among the samples


class ClozeTask(Task):
    """Give one of a few answers, the likeliest of them after the prompt.

    A task has `choices`, the template of their prompts, and an answer for each label. Of two
    labels the second is the positive one: the duplicates, the praise.
    """

    headline = "accuracy"
    judged = ("accuracy", "macro_f1")
    batch_size = 32
    metrics = CHOICE_SCORES
    preferences = {"right-vs-wrong": right_vs_wrong}
    free_text = False
    end_of_text = False
    predictions = ("csv",)

    template: Template
    labels: tuple[str, ...]  # as they stand in files, in the order of their numbers
    answers: tuple[str, ...]  # of each label

    def choices(self, split: str) -> Sequence[Choice]:
        """Return the rows of "train", "dev" or "test", with the numbers of their labels."""
        raise NotImplementedError

    def examples(self, split: str) -> list[Example]:
        """Return one example for each row, its right answer the completion."""
        return [
            Example(self.template.fill(row.texts), self.answers[row.label])
            for row in self.choices(split)
        ]

    def check_fit(self, tokenizer: Tokenizer, n_positions: int) -> None:
        """Note how many prompts to score are cut to fit; what is cut of training's is told anyway.

        Raises InputError for answers that their tokens do not tell apart.
        """
        check_answers(self.answers, tokenizer, n_positions)
        for split in self.scored_splits:
            if split == "train":
                continue
            # A token has a byte at the least, so that the others fit.
            examples = self.examples(split)
            long = [e for e in examples if len("".join(e).encode()) > n_positions]
            options = {"n_positions": n_positions, "end_of_text": self.end_of_text}
            if long and (cut := tokenise(long, tokenizer, **options).truncated):
                self.note(
                    split,
                    f"{cut:,} of {len(examples):,} prompts for {split} are cut at "
                    f"their beginning, to fit the context of {n_positions:,} tokens",
                )

    def note(self, split: str, note: str) -> None:
        """Tell something of the rows of a split, beside what became of them."""
        raise NotImplementedError

    def evaluate(
        self, model: GPT, tokenizer: Tokenizer, split: str, *, generator: torch.Generator
    ) -> Evaluation:
        """Return accuracy, macro F1, mean nats of the right answer, and the calibration error.

        The prediction is the likeliest of the answers, the first of equals (`answer_logps`).
        "calibration_error" is how far a probability among the answers is from the share of rows
        that keep it, on average over ten bins of it (Naeini et al., 2015): that of the second of
        two labels, and of the predicted one of more. Nothing is drawn from `generator`.
        """
        examples = self.examples(split)
        labels = np.array([row.label for row in self.choices(split)])
        logps = answer_logps(model, tokenizer, [e.prompt for e in examples], self.answers)
        predicted = logps.argmax(axis=1)
        right = logps[np.arange(len(labels)), labels]
        statistics = {
            **prediction_statistics(labels, predicted, len(self.answers)),
            "answer_nll": np.stack([-right, np.ones_like(right)], axis=1),
            "calibration_error": calibration_gaps(labels, logps),
        }
        return Evaluation(
            metrics={name: self.metrics[name].of(s) for name, s in statistics.items()},
            samples=tuple(
                f"{e.prompt}\n  answer:{e.completion}, predicted:{self.answers[answer]}"
                for e, answer in zip(examples[:SHOWN], predicted)
            ),
        )

    def unlabelled(self, path: Path) -> tuple[list[Unlabelled], list[str]]:
        """Return the rows of a file, and what cannot be read; InputError where nothing can."""
        raise NotImplementedError

    def predict(
        self, model: GPT, tokenizer: Tokenizer, path: Path, *, generator: torch.Generator
    ) -> Predictions:
        """Return the label of each row of a file, and its probability among all labels'."""
        rows, told = self.unlabelled(path)
        known = [row for row in rows if row.texts is not None]
        prompts = [self.template.fill(row.texts) for row in known]
        logps = answer_logps(model, tokenizer, prompts, self.answers)
        shares = np.exp(logps - np.logaddexp.reduce(logps, axis=1, keepdims=True))  # (N, C)
        found = (
            (self.labels[number], f"{share[number]:.6f}")
            for number, share in zip(logps.argmax(axis=1), shares)
        )
        cells = [(row.id, *(("", "") if row.texts is None else next(found))) for row in rows]
        return Predictions(("id", "prediction", "probability"), cells, told)

    def floors(self, split: str, *, generator: np.random.Generator) -> dict[str, dict[str, float]]:
        """Return scores without a model (`choice_floors`); `generator` is not used."""
        return choice_floors(self.choices("train"), self.choices(split), len(self.answers))
