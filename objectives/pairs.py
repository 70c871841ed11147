"""Pairs of completions as batches, in which both sides may share the row of a long prompt."""

from collections.abc import Sequence

import numpy as np
import torch

from objectives.batch import Batch, Shared, make_batch, pad_rows

Tokens = Sequence[Sequence[int]]
WORTH_SHARING = 0.8  # of the tokens that rows for each side would have; for more, masks cost more


def make_pair_batch(
    prompts: Tokens, chosen: Tokens, rejected: Tokens, index: Sequence[int] | None = None
) -> Batch:
    """Lay out B prompts with two completions each: 2 B sequences, all chosen, then all rejected.

    The sides have rows of their own, or share one where that saves the model a good part of its
    tokens; what is scored is the same.
    """
    if _shared_share(prompts, chosen, rejected) < WORTH_SHARING:
        return make_shared_batch(prompts, chosen, rejected, index)
    index = range(len(prompts)) if index is None else index
    return make_batch([*prompts, *prompts], [*chosen, *rejected], [*index, *index])


def make_shared_batch(
    prompts: Tokens, chosen: Tokens, rejected: Tokens, index: Sequence[int] | None = None
) -> Batch:
    """Lay out B prompts with two completions each, in B rows: N = 2 B sequences, chosen ones first.

    It says what `make_batch` says of all chosen and then all rejected completions, in fewer tokens
    where prompts are long. The 9 and the 8 are read where the 6 stands, the 7 where the 9 does:

    >>> batch = make_shared_batch([[5, 6]], [[9, 7]], [[8, 4, 3]])
    >>> batch.inputs.tolist(), batch.shared.positions.tolist()
    ([[5, 6, 9, 8, 4]], [[0, 1, 2, 2, 3]])
    >>> batch.position.tolist(), batch.target.tolist()
    ([1, 2, 1, 3, 4], [9, 7, 8, 4, 3])
    >>> batch.shared.mask.int().tolist()[0][0][3]  # whom the 8 sees
    [1, 1, 0, 1, 0]
    """
    rows, places, sides = [], [], []  # of each row: its tokens, their positions and sides
    first, second = [], []  # where each side's targets are read
    for prompt, one, other in zip(prompts, chosen, rejected, strict=True):
        p, a, b = len(prompt), len(one) - 1, len(other) - 1  # of a side all but the last is read
        rows.append(np.concatenate([prompt, one[:-1], other[:-1]]).astype(np.int64))
        places.append(np.concatenate([np.arange(p + a), np.arange(p, p + b)]))
        sides.append(np.repeat([0, 1, 2], [p, a, b]))
        first.append(np.arange(p - 1, p + a))
        second.append(np.concatenate([[p - 1], np.arange(p + a, p + a + b)]))
    completions, lengths = [*chosen, *rejected], [len(c) for c in (*chosen, *rejected)]
    n = np.arange(len(completions))
    # What pads a row counts as prompt, and all else stands on its left.
    side = pad_rows(sides)  # (B, T)
    seen = (side[:, None, :] == 0) | (side[:, None, :] == side[:, :, None])  # (B, T, T)
    return Batch(
        inputs=pad_rows(rows),
        row=torch.from_numpy(np.repeat(n % len(prompts), lengths)),
        position=torch.from_numpy(np.concatenate([*first, *second])),
        target=torch.from_numpy(np.concatenate(completions).astype(np.int64)),
        sequence=torch.from_numpy(np.repeat(n, lengths)),
        counts=torch.tensor(lengths),
        index=torch.as_tensor(n % len(prompts) if index is None else np.tile(index, 2)),
        shared=Shared(pad_rows(places), seen.tril()[:, None]),
    )


def _shared_share(prompts: Tokens, chosen: Tokens, rejected: Tokens) -> float:
    """Return the tokens of shared rows as a share of those of a row for each side, pads included.

    Sides that read the same, as they do before answers of one token, have one row anyway.
    """
    p, a, b = (np.array([len(side) for side in sides]) for sides in (prompts, chosen, rejected))
    same = all(np.array_equal(x[:-1], y[:-1]) for x, y in zip(chosen, rejected))
    apart = (p + np.maximum(a, b) - 1).max() * (1 if same else 2)
    return (p + a + b - 2).max() / apart
