"""The last block where its output is wanted, and nowhere else.

Every block but the last is read by all later tokens. The last is read at the positions that a loss
scores, one of fifty in a question with a one-token answer: elsewhere keys and values are all that
it need compute.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from minigpt.fast.attention import FastAttention
from minigpt.fast.fallback import drops, untouched
from minigpt.model import Block

FEW = 0.5  # of all places; for more, picking them out costs what it saves


class Places(NamedTuple):
    """P places in R rows of T tokens, as at most S distinct ones in each row."""

    slots: Tensor  # (R, S) positions; a row with fewer ends in zeros
    index: Tensor  # (P,) the number of each place among the R S slots
    few: bool  # whether the slots are a small part of all R T places


def find_places(row: Tensor, position: Tensor, R: int, T: int) -> Places:
    """Return the places of these rows (P,) and positions (P,), in which a place may stand twice."""
    place, index = torch.unique(row * T + position, return_inverse=True)
    rows = place // T
    counts = torch.bincount(rows, minlength=R)  # (R,)
    slot = torch.arange(len(place), device=place.device) - (counts.cumsum(0) - counts)[rows]
    S = int(counts.max())
    slots = place.new_zeros(R, S)
    slots[rows, slot] = place % T
    return Places(slots, (rows * S + slot)[index], S <= FEW * T)


def selectable(block: Block) -> bool:
    """Return whether a block can run at some places alone: it is ours, on a CPU, and untouched.

    A hook on any part would see fewer tokens. Dropout, an adapter's too, would draw for fewer
    numbers, and so others. On a GPU nothing waits for the number of places.
    """
    parts = list(block.modules())
    return (
        type(block) is Block
        and type(block.attn) is FastAttention
        and untouched(*parts)
        and block.ln_1.weight.device.type == "cpu"
        and not any(isinstance(part, nn.Dropout) and drops(part) for part in parts)
    )


def block_at(block: Block, x: Tensor, places: Places, mask: Tensor | None) -> Tensor:
    """Return the block's output at the places: x (R, T, C) -> (P, C).

    `mask` (R, 1, T, T) is true where a token may look; None is causal.
    """
    attention = block.attn
    (R, T, C), slots = x.shape, places.slots
    rows = torch.arange(R)[:, None]  # (R, 1)
    qkv = attention.c_attn(block.ln_1(x)).view(R, T, 3, attention.n_head, -1)  # (R, T, 3, H, D)
    q = qkv[rows, slots, 0].transpose(1, 2)  # (R, H, S, D)
    k, v = qkv[:, :, 1:].permute(2, 0, 3, 1, 4)  # each (R, H, T, D)
    if mask is None:
        seen = (torch.arange(T) <= slots[:, :, None])[:, None]  # (R, 1, S, T)
    else:
        seen = mask[rows, 0, slots][:, None]
    y = attention.attend(q, k, v, seen).transpose(1, 2).reshape(R, -1, C)  # (R, S, C)
    x = x[rows, slots] + attention.dropout(attention.c_proj(y))
    return (x + block.mlp(block.ln_2(x))).flatten(0, 1)[places.index]
