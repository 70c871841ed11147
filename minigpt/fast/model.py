"""The parts of the whole model that have a faster form."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from minigpt.fast.fallback import Fast, ordinary, untouched
from minigpt.fast.head import log_prob, pays
from minigpt.fast.last_block import block_at, find_places, selectable
from minigpt.fast.linear import FastLinear, linear, pack
from minigpt.model import GPT


class FastGPT(GPT, Fast):
    """A GPT whose head is a `linear`, and goes in chunks for log-probs.

    While it samples, its bf16 weights are kept laid out.
    """

    plain = GPT
    packed: Tensor | None = None  # wte's weight, as in FastLinear

    def head(self, hidden: Tensor) -> Tensor:
        return linear(hidden, self.wte.weight, None, self.packed)

    def states(self, ids: Tensor, row: Tensor, position: Tensor, cache=None) -> Tensor:
        last = self.h[-1]
        # First what costs little: to find the places waits for the device, and cannot be traced.
        ours = "hidden" not in vars(self) and selectable(last) and untouched(self.ln_f)
        places = find_places(row, position, *ids.shape) if ours and ordinary(row) else None
        if places is None or not places.few:
            return super().states(ids, row, position, cache)
        x = self.embed(ids, cache)
        for i, block in enumerate(self.h[:-1]):
            x = block(x, None if cache is None else cache.layer(i))
        return self.ln_f(block_at(last, x, places, None if cache is None else cache.mask))

    def log_prob(self, hidden: Tensor, target: Tensor, *, even: bool = False) -> Tensor:
        W = self.wte.weight
        if not (pays(hidden, W, even) and ordinary(hidden, W)):
            return super().log_prob(hidden, target, even=even)
        return log_prob(hidden, W, target, even)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Keep every matrix twice, inside, the second time as `pack` lays it out."""
        unpacked = [
            (module, module.wte.weight if module is self else module.weight)
            for module in self.modules()
            if isinstance(module, (FastGPT, FastLinear)) and module.packed is None
        ]
        for module, weight in unpacked:
            module.packed = pack(weight)
        try:
            yield
        finally:
            for module, _ in unpacked:
                module.packed = None
