"""Tokenised sequences in flat arrays, and batches of similar length cut from them."""

import tempfile
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from minigpt.errors import InputError
from minigpt.tokenizer import Tokenizer
from objectives.batch import Batch, make_batch
from objectives.pairs import make_pair_batch

# How many batches are shuffled together before they are sorted by length. Larger pools pad less;
# smaller ones mix more. At 100 the padding of Quora pairs, 32 at a time, is 2 % of all positions.
POOL = 100


@dataclass(frozen=True)
class Sequences:
    """N prompts with their completions, as one flat array of `token_dtype`, no object per row."""

    tokens: np.ndarray  # (total,) in a file that is mapped, unless it was made in memory
    starts: np.ndarray  # (N + 1,) where each sequence begins
    prompt_lengths: np.ndarray  # (N,)
    truncated: int  # sequences that were cut to fit the model's context

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sequence, prompt and completion together: (N,)."""
        return np.diff(self.starts)

    def split(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The prompt's and the completion's tokens of sequence `i`."""
        sequence = self.tokens[self.starts[i] : self.starts[i + 1]]
        return sequence[: self.prompt_lengths[i]], sequence[self.prompt_lengths[i] :]


def token_dtype(tokenizer: Tokenizer) -> np.dtype:
    """Return a type that holds a tokenizer's numbers: uint16 up to 65,536 of them, else uint32."""
    return np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)


def tokenise(
    texts: Iterable[tuple[str, str]],
    tokenizer: Tokenizer,
    *,
    n_positions: int,
    end_of_text: bool | Sequence[bool],
) -> Sequences:
    """Tokenise (prompt, completion) texts apart and join them, end-of-text last if asked for.

    `end_of_text` is for all of them, or has one for each.

    Apart, because byte-pair merges across the boundary would give the model another completion
    than the one it will be asked to generate. A sequence longer than `n_positions` loses the
    prompt's beginning first, then the completion's end, and is counted as truncated.
    """
    lengths, prompt_lengths, truncated, dtype = [], [], 0, token_dtype(tokenizer)
    with tempfile.TemporaryFile() as file:  # which the system deletes with the last map of it
        for number, (prompt_text, completion_text) in enumerate(texts):
            prompt, completion = tokenizer.encode(prompt_text), tokenizer.encode(completion_text)
            if end_of_text if isinstance(end_of_text, bool) else end_of_text[number]:
                completion.append(tokenizer.eot)
            # The last token is only ever a target, so n_positions + 1 tokens fit.
            surplus = max(0, len(prompt) + len(completion) - (n_positions + 1))
            truncated += surplus > 0
            prompt = prompt[min(surplus, len(prompt) - 1) :]  # one token must stay to predict from
            completion = completion[: n_positions + 1 - len(prompt)]
            file.write(np.array(prompt + completion, dtype).tobytes())
            lengths.append(len(prompt) + len(completion))
            prompt_lengths.append(len(prompt))
        if not any(lengths):
            raise InputError("there are no examples to tokenise; expected at least one")
        file.flush()
        tokens = np.memmap(file, dtype, mode="r")
    return Sequences(tokens, np.cumsum([0, *lengths]), np.array(prompt_lengths), truncated)


def token_blocks(
    pieces: Iterable[list[int]], tokenizer: Tokenizer, *, n_positions: int
) -> Sequences:
    """Cut a stream of tokens into sequences that fill a context, each token scored exactly once.

    The stream is that of all `pieces`, one after the other. A block's prompt is the one token that
    stands before it: end-of-text before the first. Raises InputError without any tokens.
    """
    dtype = token_dtype(tokenizer)
    stream = array(dtype.char, [tokenizer.eot])
    for piece in pieces:
        stream.extend(piece)
    tokens = np.frombuffer(stream, dtype)
    blocks = [tokens[i : i + n_positions + 1] for i in range(0, len(tokens) - 1, n_positions)]
    if not blocks:
        raise InputError("there is no text to cut into blocks; expected some")
    starts = np.cumsum([0, *map(len, blocks)])
    return Sequences(np.concatenate(blocks), starts, np.ones(len(blocks), dtype=int), truncated=0)


def length_buckets(
    lengths: np.ndarray, batch_size: int, generator: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Cut 0..N-1 into batches of similar length, in random order; every number occurs once.

    Without a generator nothing is shuffled: the whole set is sorted, longest first, so that a
    batch too large for the memory fails at once.
    """
    if generator is None:
        order = np.argsort(-lengths, kind="stable")
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    shuffled = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(shuffled), POOL * batch_size):
        pool = shuffled[start : start + POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def padding_share(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """The share of positions in `batches` that hold padding."""
    filled = sum(lengths[batch].sum() for batch in batches)
    return 1.0 - filled / sum(len(batch) * lengths[batch].max() for batch in batches)


def sequence_batch(sequences: Sequences, index: np.ndarray) -> Batch:
    """The batch of the sequences with these numbers."""
    prompts, completions = zip(*(sequences.split(i) for i in index))
    return make_batch(prompts, completions, index)


def pair_batch(
    chosen: Sequences, rejected: Sequences, index: np.ndarray, *, share: bool = True
) -> Batch:
    """The batch of the pairs with these numbers: all chosen completions, then all rejected.

    `share` lets both sides of a pair share a row, see `make_pair_batch`.
    """
    prompts, first = zip(*(chosen.split(i) for i in index))
    others, second = zip(*(rejected.split(i) for i in index))
    if share and all(map(np.array_equal, prompts, others)):  # cuts may have left them different
        return make_pair_batch(prompts, first, second, index)
    return make_batch(prompts + others, first + second, np.concatenate([index, index]))
