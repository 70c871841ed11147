"""A batch of sequences, laid out so that only what a loss scores costs anything.

    prompt      What is the capital of France ?        not scored
    completion  Paris <|endoftext|>                    scored: one log-prob per token

Two completions of one long prompt may share its row, so that the model reads it once:

    prompt | chosen | rejected             the rejected side sees the prompt, and not the chosen one

A language model predicts token t from the tokens before it, so the input rows drop the last token
and every scored token is read one position earlier: the "shift" of a causal loss, done once, here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """N sequences over R distinct input rows, of which P tokens are scored.

    R is less than N where sequences read the same input: the chosen " yes" and the rejected " no"
    of a paraphrase pair are two targets at one position, and the model runs once for both.
    """

    inputs: Tensor  # (R, T) token numbers, padded on the right with zeros
    row: Tensor  # (P,) the input row that predicts each scored token
    position: Tensor  # (P,) where in that row the prediction is read
    target: Tensor  # (P,) the scored token
    sequence: Tensor  # (P,) the sequence it belongs to, 0..N-1
    counts: Tensor  # (N,) scored tokens of each sequence
    index: Tensor  # (N,) the sequence's number in its data set
    shared: "Shared | None" = None  # who sees whom, where rows hold two completions; None: causal

    def __len__(self) -> int:
        return len(self.counts)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return _moved(self, device)


@dataclass(frozen=True)
class Shared:
    """Rows [prompt][chosen][rejected]: positions that go on from the prompt on both sides.

    `GPT.hidden` takes it in the place of a key/value cache, whose questions it answers: where do
    the tokens stand, and whom do they see?
    """

    positions: Tensor  # (R, T)
    mask: Tensor  # (R, 1, T, T), true where a token may look

    def advance(self, T: int) -> Tensor:
        """Return the positions of the T tokens of each row: (R, T)."""
        return self.positions

    def layer(self, i: int) -> "Shared":
        """Return what the block `i` is told: the same as all others."""
        return self

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys and values as they are, (R, H, T, D) each, and who sees them."""
        return k, v, self.mask

    def to(self, device: torch.device | str) -> "Shared":
        """The same on another device."""
        return _moved(self, device)


def make_batch(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    index: Sequence[int] | None = None,
) -> Batch:
    """Lay out N prompts and their completions, given as token numbers; `index` is 0..N-1 if absent.

    Causal attention hides the padding from every scored position, so no attention mask is needed.

    Two completions of one prompt that differ in their last token read the same input, 5 6 7, which
    is there once. In it the 6 at position 1 predicts the 7, and the 7 at position 2 the 8 or the 9:

    >>> batch = make_batch([[5, 6], [5, 6], [4]], [[7, 8], [7, 9], [7]])
    >>> batch.inputs.tolist()
    [[5, 6, 7], [4, 0, 0]]
    >>> batch.row.tolist(), batch.position.tolist()
    ([0, 0, 0, 0, 1], [1, 2, 1, 2, 0])
    >>> batch.target.tolist(), batch.sequence.tolist()
    ([7, 8, 7, 9, 7], [0, 0, 1, 1, 2])
    >>> batch.counts.tolist()
    [2, 2, 1]

    Raises ValueError for an empty prompt (the first scored token would have no input to be
    predicted from) or an empty completion, and for tokens that are no whole numbers.
    """
    rows: dict[bytes, int] = {}
    row, position, target, sequence = [], [], [], []
    for n, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        if not len(prompt) or not len(completion):
            raise ValueError(f"sequence {n} has an empty prompt or completion; both need a token")
        tokens = _whole(np.concatenate([prompt, completion]), n)
        row_number = rows.setdefault(tokens[:-1].tobytes(), len(rows))
        row.append(np.full(len(completion), row_number))
        position.append(np.arange(len(prompt) - 1, len(tokens) - 1))
        target.append(tokens[len(prompt) :])
        sequence.append(np.full(len(completion), n))

    def flat(pieces: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(pieces))  # (P,)

    return Batch(
        inputs=pad_rows([np.frombuffer(key, dtype=np.int64) for key in rows]),
        row=flat(row),
        position=flat(position),
        target=flat(target),
        sequence=flat(sequence),
        counts=torch.tensor([len(completion) for completion in completions]),
        index=torch.as_tensor(range(len(prompts)) if index is None else index),
    )


def _whole(tokens: np.ndarray, n: int) -> np.ndarray:
    """Return the tokens of sequence `n` as int64; floats would be cut to whole numbers."""
    if tokens.dtype.kind not in "iu":
        raise ValueError(f"sequence {n} holds {tokens.dtype}; expected whole numbers")
    return tokens.astype(np.int64)


def _moved(told, device: torch.device | str):
    """Return a dataclass of tensors on another device; None stays None."""
    values = {f.name: getattr(told, f.name) for f in fields(told)}
    return replace(told, **{name: v.to(device) for name, v in values.items() if v is not None})


def pad_rows(rows: list[np.ndarray]) -> Tensor:
    """Return rows of several lengths as one tensor (R, T), zeros on the right."""
    padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)  # (R, T)
    for padded_row, row in zip(padded, rows):
        padded_row[: len(row)] = row
    return torch.from_numpy(padded)
