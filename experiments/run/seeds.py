"""One seed, split into independent named streams.

A stream is named by what it is for ("data order", epoch 3), so adding a draw in one place cannot
shift the draws in another, and a resumed run finds the same numbers without replaying the past.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch

from minigpt.parallel import place

T = TypeVar("T")


def numpy_generator(seed: int, *name: str | int) -> np.random.Generator:
    """The numpy generator of the stream `name` under `seed`."""
    return np.random.default_rng(_entropy(seed, name))


def torch_generator(seed: int, *name: str | int, device: str = "cpu") -> torch.Generator:
    """The torch generator of the stream `name` under `seed`, on `device`."""
    return torch.Generator(device).manual_seed(torch_seed(seed, *name))


def torch_seed(seed: int, *name: str | int) -> int:
    """A seed for torch's own generator, which dropout draws from."""
    return int(np.random.SeedSequence(_entropy(seed, name)).generate_state(1, np.uint64)[0] >> 1)


def own_dropout(steps: Iterable[T], seed: int, done: int) -> Iterator[T]:
    """Yield the steps after the first `done`; of several processes each drops out what it draws.

    One process by itself draws on from step to step, and its checkpoints hold the state. Of several
    each begins a stream of its own with every step, so that none has a state to be kept. Steps with
    dropout therefore depend on how many processes take them.
    """
    rank, size = place()
    for number, step in enumerate(steps, done):
        if size > 1:
            torch.manual_seed(torch_seed(seed, "dropout", number, rank))
        yield step


def _entropy(seed: int, name: tuple) -> list[int]:
    # Not hash(): Python salts the hashes of strings anew in every process.
    return [seed, *(zlib.crc32(str(part).encode()) for part in name)]
