"""What each phase trains on: its objective, and its examples as batches."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from experiments.config import Config
from experiments.policy import save_policy
from experiments.runs import RunFolder
from experiments.seeds import torch_generator
from experiments.training import autocast
from minigpt import GPT
from minigpt.errors import InputError
from minigpt.files import write_text
from minigpt.tokenizer import Tokenizer
from objectives import (
    SFT,
    Batch,
    CachedReference,
    Objective,
    PreferenceLoss,
    PreferenceObjective,
    load_or_compute,
    precompute,
    weights_fingerprint,
)
from tasks import PreferencePair, Task, build_pairs, describe_pairs
from tasks.batching import Sequences, length_buckets, pair_batch, sequence_batch, tokenise

REFERENCE_BATCH = 32  # pairs; a forward alone takes larger batches than a training step


@dataclass(frozen=True)
class PhaseData:
    """An objective and the N examples (or pairs) that it trains on."""

    objective: Objective
    lengths: np.ndarray  # (N,) tokens, by which batches are made
    batch: Callable[[np.ndarray], Batch]  # from examples' numbers to their batch
    dropout: bool

    def steps_per_epoch(self, batch_size: int) -> int:
        return -(-len(self.lengths) // batch_size)

    def steps(
        self, batch_size: int, accumulation: int, generator: np.random.Generator
    ) -> Iterator[list[Batch]]:
        """One epoch: the microbatches of each step, at most `accumulation` of them."""
        for index in length_buckets(self.lengths, batch_size, generator):
            parts = np.array_split(index, min(accumulation, len(index)))
            yield [self.batch(part) for part in parts]


def sft_data(task: Task, tokenizer: Tokenizer, n_positions: int) -> tuple[PhaseData, Sequences]:
    """The task's training examples for SFT, and the sequences behind them."""
    sequences = tokenise(
        task.examples("train"), tokenizer, n_positions=n_positions, end_of_text=task.end_of_text
    )
    data = PhaseData(
        SFT(), sequences.lengths, lambda index: sequence_batch(sequences, index), dropout=True
    )
    return data, sequences


def hand_over(
    config: Config, task: Task, policy: GPT, tokenizer: Tokenizer, folder: RunFolder, *, epoch: int
) -> None:
    """Make the preference pairs and keep the reference: the policy as it stands after `epoch`."""
    print(f"handoff: the reference is the policy after epoch {epoch}; "
          f"making {config.pairs} pairs", flush=True)
    examples = task.examples("train")
    with autocast(policy.wte.weight.device, config.precision):
        pairs = build_pairs(
            config.pairs, task, policy, tokenizer, examples,
            generator=torch_generator(config.seed, "pairs", device=config.device),
            n_samples=config.pair_samples,
        )
    if not pairs:
        raise InputError(f"no {config.pairs} pair has two different sides; expected some")
    save_pairs(folder.path / "pairs.jsonl", pairs)
    save_policy(policy, folder.path / "reference", base_model_name=config.model)
    folder.update(reference={
        "epoch": epoch,
        "weights": weights_fingerprint(policy),
        "pairs": describe_pairs(pairs, examples),
    })


def dpo_data(
    pairs: list[PreferencePair],
    task: Task,
    tokenizer: Tokenizer,
    policy: GPT,
    *,
    loss: PreferenceLoss,
    reference: str,
    precision: str,
    folder: Path,
) -> PhaseData:
    """Preference pairs for a loss, with the reference's log-probs from `folder` or computed now.

    `reference` is the fingerprint of the reference's weights. Where the log-probs must be computed,
    `policy` has to be the reference still; InputError if it has moved on.
    """
    chosen, rejected = (
        tokenise(side, tokenizer, n_positions=policy.config.n_positions,
                 end_of_text=task.end_of_text)
        for side in ([(p.prompt, p.chosen) for p in pairs], [(p.prompt, p.rejected) for p in pairs])
    )
    cached = None
    if loss.uses_reference:
        cached = CachedReference(_reference_logps(
            policy, chosen, rejected, reference=reference, precision=precision, folder=folder
        ))
    return PhaseData(
        PreferenceObjective(loss, cached),
        np.maximum(chosen.lengths, rejected.lengths),
        lambda index: pair_batch(chosen, rejected, index),
        dropout=False,  # the reference was read without, and noise would drown the margins
    )


def _reference_logps(
    policy: GPT, chosen: Sequences, rejected: Sequences, *, reference: str, precision: str,
    folder: Path,
) -> torch.Tensor:
    device = policy.wte.weight.device
    lengths = np.maximum(chosen.lengths, rejected.lengths)

    def compute() -> torch.Tensor:
        if weights_fingerprint(policy) != reference:
            raise InputError(f"the reference log-probs are missing from {folder} and the policy "
                             "has moved on; expected them there, start the run anew")
        batches = (pair_batch(chosen, rejected, index).to(device)
                   for index in length_buckets(lengths, REFERENCE_BATCH))
        with autocast(device, precision):
            return precompute(policy, batches, len(lengths))

    key = {
        "weights": reference,
        "pairs": _fingerprint(chosen, rejected),  # as tokens: tokenizer and truncation included
        "precision": precision,
        "device": device.type,
        "torch": torch.__version__,
    }
    return load_or_compute(folder, key, compute).to(device)


def _fingerprint(*sides: Sequences) -> str:
    digest = hashlib.sha256()
    for side in sides:
        for array in (side.tokens, side.starts, side.prompt_lengths):
            digest.update(array.tobytes())
    return digest.hexdigest()


def save_pairs(path: Path, pairs: list[PreferencePair]) -> None:
    """Write pairs as JSON, one a line."""
    write_text(path, "".join(json.dumps(pair._asdict()) + "\n" for pair in pairs))


def load_pairs(path: Path) -> list[PreferencePair]:
    """Read what `save_pairs` wrote; raises InputError if it is damaged."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [PreferencePair(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot read the preference pairs in {path} ({error}); "
                         "expected what the run wrote there, start it anew") from error
