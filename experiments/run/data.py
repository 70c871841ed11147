"""What each phase trains on: its objective, and its examples as batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.run.reference_cache import reference_logps
from minigpt import GPT, parallel
from minigpt.tokenizer import Tokenizer
from objectives import (
    SFT,
    Batch,
    CachedReference,
    Objective,
    PreferenceConfig,
    PreferenceObjective,
)
from objectives.sequences import Sequences, length_buckets, pair_batch, sequence_batch, tokenise
from tasks import PreferencePair, Task


def microbatches(examples: np.ndarray, accumulation: int) -> list[np.ndarray]:
    """Return this process's share of a step's examples, cut into `accumulation` parts at most.

    It may be none where an epoch's last examples are few.
    """
    own = parallel.share(examples)
    return np.array_split(own, min(accumulation, len(own))) if len(own) else []


@dataclass(frozen=True)
class PhaseData:
    """An objective and the N examples (or pairs) that it trains on."""

    objective: Objective
    lengths: np.ndarray  # (N,) tokens, by which batches are made
    batch: Callable[[np.ndarray], Batch]  # from examples' numbers to their batch

    def steps_per_epoch(self, batch_size: int) -> int:
        return -(-len(self.lengths) // batch_size)

    def steps(
        self, batch_size: int, accumulation: int, generator: np.random.Generator
    ) -> Iterator[list[Batch]]:
        """One epoch: this process's `microbatches` of each step."""
        for index in length_buckets(self.lengths, batch_size, generator):
            yield [self.batch(part) for part in microbatches(index, accumulation)]


def sft_data(task: Task, tokenizer: Tokenizer, n_positions: int) -> tuple[PhaseData, Sequences]:
    """The task's training examples for SFT, and the sequences behind them."""
    sequences = task.training_sequences(tokenizer, n_positions)
    data = PhaseData(SFT(), sequences.lengths, lambda index: sequence_batch(sequences, index))
    return data, sequences


def dpo_data(
    pairs: list[PreferencePair],
    task: Task,
    tokenizer: Tokenizer,
    policy: GPT,
    *,
    preference: PreferenceConfig,
    reference: str,
    precision: str,
    folder: Path,
    share_prompts: bool,
) -> PhaseData:
    """Preference pairs for a loss, with the reference's log-probs from `folder` or computed now.

    `reference` is the fingerprint of the reference's weights. Where the log-probs must be computed,
    `policy` has to be the reference still; InputError if it has moved on. `share_prompts` lets a
    pair's sides share a row, which a compiled model does not know.
    """
    chosen, rejected = (
        tokenise(
            texts,
            tokenizer,
            n_positions=policy.config.n_positions,
            end_of_text=[task.end_of_text and ends for ends in whole],
        )
        for texts, whole in (
            ([(p.prompt, p.chosen) for p in pairs], [p.chosen_ends for p in pairs]),
            ([(p.prompt, p.rejected) for p in pairs], [p.rejected_ends for p in pairs]),
        )
    )
    cached = None
    if preference.uses_reference:
        cached = CachedReference(
            reference_logps(
                policy, chosen, rejected, reference=reference, precision=precision, folder=folder
            )
        )
    return PhaseData(
        PreferenceObjective(preference, cached),
        np.maximum(chosen.lengths, rejected.lengths),
        lambda index: pair_batch(chosen, rejected, index, share=share_prompts),
    )
