"""One seed, split into independent named streams.

A stream is named by what it is for ("data order", epoch 3), so adding a draw in one place cannot
shift the draws in another, and a resumed run finds the same numbers without replaying the past.
"""

import zlib

import numpy as np
import torch


def numpy_generator(seed: int, *name: str | int) -> np.random.Generator:
    """The numpy generator of the stream `name` under `seed`."""
    return np.random.default_rng(_entropy(seed, name))


def torch_generator(seed: int, *name: str | int, device: str = "cpu") -> torch.Generator:
    """The torch generator of the stream `name` under `seed`, on `device`."""
    return torch.Generator(device).manual_seed(torch_seed(seed, *name))


def torch_seed(seed: int, *name: str | int) -> int:
    """A seed for torch's own generator, which dropout draws from."""
    return int(np.random.SeedSequence(_entropy(seed, name)).generate_state(1, np.uint64)[0] >> 1)


def _entropy(seed: int, name: tuple) -> list[int]:
    # Not hash(): Python salts the hashes of strings anew in every process.
    return [seed, *(zlib.crc32(str(part).encode()) for part in name)]
