"""What a model thinks of texts that it did not write: how surprising are they?"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from minigpt import parallel
from minigpt.errors import InputError
from minigpt.model import GPT
from minigpt.sampling import evaluating
from minigpt.tokenizer import Tokenizer
from objectives import sequence_logps
from objectives.sequences import Sequences, sequence_batch, tokenise
from tasks.base import Example
from tasks.metric import Metric, Score, ratio

SCORING_BATCH = 8  # texts scored together; their logits take 0.2 GB in GPT-2's vocabulary
BITS_PER_CHAR = Score(
    ratio,
    short="bits/char",
    long="held-out bits per character",
    larger_is_better=False,
    margin=0.01,  # a matter of taste, better stated than hidden
)
BITS_PER_CHAR_TEXT = Score(
    ratio,
    short="bits/char, text",
    long="bits per character without end-of-text",
    larger_is_better=False,
)


def bits_per_char(
    model: GPT, tokenizer: Tokenizer, examples: list[Example], *, end_of_text: bool = True
) -> Metric:
    """Return how surprising the completions are, in bits (end-of-text's included) per character.

    Unlike a loss per token it compares models with different vocabularies. Raises InputError when
    an example is longer than the model's context.
    """
    bits = completion_bits(model, tokenizer, examples, end_of_text=end_of_text)
    characters = [len(example.completion) for example in examples]
    score = BITS_PER_CHAR if end_of_text else BITS_PER_CHAR_TEXT
    return score.of(np.stack([bits, characters], axis=1))


def completion_bits(
    model: GPT, tokenizer: Tokenizer, examples: list[Example], *, end_of_text: bool = True
) -> np.ndarray:
    """Return -log2 p(completion and end-of-text | prompt) of each example: (N,).

    Raises InputError when an example is longer than the model's context.
    """
    n_positions = model.config.n_positions
    sequences = whole_sequences(examples, tokenizer, n_positions, end_of_text=end_of_text)
    return sequence_bits(model, sequences)


def sequence_bits(model: GPT, sequences: Sequences) -> np.ndarray:
    """Return -log2 p(completion | prompt) of each sequence: (N,). Several processes divide them."""
    device = model.wte.weight.device

    def nats(start: int) -> np.ndarray:
        index = np.arange(start, min(start + SCORING_BATCH, len(sequences)))
        batch = sequence_batch(sequences, index).to(device)
        return -sequence_logps(model, batch).double().cpu().numpy()

    with torch.no_grad(), evaluating(model):
        found = parallel.mapped(nats, range(0, len(sequences), SCORING_BATCH))
    return np.concatenate(found) / math.log(2)


def scored_characters(
    examples: Sequence[Example], sequences: Sequences, tokenizer: Tokenizer, n_positions: int
) -> np.ndarray:
    """Return the characters of the completions, less what was cut to fit a context: (N,)."""
    full = n_positions + 1  # tokens of a sequence that may have been cut
    return np.array(
        [
            len(e.completion)
            if length < full
            else len(tokenizer.decode([t for t in sequences.split(i)[1] if t != tokenizer.eot]))
            for i, (e, length) in enumerate(zip(examples, sequences.lengths))
        ]
    )


def whole_sequences(
    examples: list[Example], tokenizer: Tokenizer, n_positions: int, *, end_of_text: bool = True
) -> Sequences:
    """Return the examples as tokens; InputError when one is longer than `n_positions`."""
    sequences = tokenise(examples, tokenizer, n_positions=n_positions, end_of_text=end_of_text)
    if sequences.truncated:
        raise InputError(
            f"{sequences.lengths.max()} tokens or more of an example do not fit into a context of "
            f"{n_positions}; expected a model with a longer one"
        )
    return sequences


def preferred(
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    corruptions: list[list[str]],
    gold_bits: np.ndarray,
) -> np.ndarray:
    """Return how often each completion is likelier than its n corruptions, and n: (N, 2).

    `gold_bits` (N,) are the completions' own, which `completion_bits` found.
    """
    corrupted = [
        Example(e.prompt, text) for e, texts in zip(examples, corruptions) for text in texts
    ]
    bits = completion_bits(model, tokenizer, corrupted).reshape(len(examples), -1)  # (N, n)
    wins = (gold_bits[:, None] < bits).sum(axis=1)
    return np.stack([wins, np.full(len(wins), bits.shape[1])], axis=1)
