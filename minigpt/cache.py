"""What a model has read, kept for the tokens that follow."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from minigpt.model import GPT

SLOTS = 32  # by which a cache grows: new lengths need new kernels, and a copy of what is there


class KVCache:
    """The keys and values of what a model has read, so that it reads every token only once.

    Without them a new token would cost a pass over all tokens before it; with them it costs reading
    the keys and values, which is what limits it (Shazeer, 2019, arXiv 1911.02150, section 2.4).

    `model.hidden(ids, cache)` adds the ids to the rows and may be called again with what follows.
    Prompts of several lengths are padded on the right and `truncate` then forgets the pads, so
    that each row goes on at the very positions that it would have alone.
    """

    def __init__(self, model: GPT, n_rows: int, n_slots: int):
        """An empty cache of `n_rows` (B) rows that takes up to `n_slots` (S) tokens each."""
        self.n_slots = n_slots
        self.lengths = torch.zeros(n_rows, dtype=torch.long, device=model.wte.weight.device)  # (B,)
        self.longest = 0  # the largest of the lengths; here, so that no step waits for the device
        self.layers = [_LayerCache() for _ in range(model.config.n_layer)]

    def advance(self, T: int) -> Tensor:
        """Make room for T more tokens in every row and return their positions (B, T).

        Raises ValueError when a row has no T free slots left.
        """
        if self.longest + T > self.n_slots:
            raise ValueError(
                f"{T} tokens more than the {self.longest} already there do not fit into the cache; "
                f"expected at most {self.n_slots} together"
            )
        positions = self.lengths[:, None] + torch.arange(T, device=self.lengths.device)
        self.lengths = self.lengths + T
        self.longest += T
        seen = min(self.longest + -self.longest % SLOTS, self.n_slots)
        slots = torch.arange(seen, device=self.lengths.device)
        mask = slots <= positions[:, None, :, None]  # (B, 1, T, S): itself and what stands before
        for layer in self.layers:
            layer.positions, layer.mask = positions, mask
        return positions

    def layer(self, i: int) -> "_LayerCache":
        """Return what the block `i` keeps."""
        return self.layers[i]

    def truncate(self, lengths: Tensor) -> None:
        """Forget all but the first `lengths` (B,) tokens of each row."""
        self.lengths = lengths
        self.longest = int(lengths.max())

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these."""
        self.truncate(self.lengths[rows])
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]


class _LayerCache:
    """One layer's share of a KVCache, which tells it where the next tokens stand."""

    def __init__(self):
        self.keys: Tensor | None = None  # (B, H, S, D)
        self.values: Tensor | None = None  # (B, H, S, D)
        self.positions: Tensor | None = None  # (B, T)
        self.mask: Tensor | None = None  # (B, 1, T, S)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Store k and v (B, H, T, D); return all keys, all values and who may look at them."""
        B, H, _, D = k.shape
        seen = self.mask.size(-1)
        if self.keys is None:  # only now is the dtype known: autocast's may not be the weights'
            self.keys = self.values = k.new_zeros(B, H, 0, D)
        if self.keys.size(2) < seen:
            # With zeros, because a hidden slot still counts 0 times its value, and 0 times NaN is
            # NaN. No room is left behind them: of slices, products would make copies first.
            room = (0, 0, 0, seen - self.keys.size(2))
            self.keys, self.values = pad(self.keys, room), pad(self.values, room)
        rows = torch.arange(B, device=k.device)[:, None]  # (B, 1)
        self.keys[rows, :, self.positions] = k.transpose(1, 2)  # (B, T, H, D)
        self.values[rows, :, self.positions] = v.transpose(1, 2)
        return self.keys[:, :, :seen], self.values[:, :, :seen], self.mask
