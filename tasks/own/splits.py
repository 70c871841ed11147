"""Train, dev and test out of one set of rows: rows that share a text are never on two sides.

A row's split follows from its text alone, so it depends neither on the order of a file nor on the
machine, and rows that are added later leave the others where they are, unless they tie two groups
together. Only a set with so few groups that a split would be empty is cut by rank instead.
"""

import hashlib

import numpy as np

from minigpt.errors import InputError


def text_hash(*texts: str) -> int:
    """Return a number of 64 bits that follows from the texts."""
    digest = hashlib.blake2b(digest_size=8)
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return int.from_bytes(digest.digest(), "big")


def group_key(text: str) -> int:
    """Return the hash of a text, whatever its capitals and its white space."""
    return text_hash(" ".join(text.casefold().split()))


def components(keys: np.ndarray) -> np.ndarray:
    """Return the group of each row: (N, K) keys -> (N,), the smallest key of all in the group.

    Two rows that have a key in common are in one group, and so are those that others tie together.
    """
    if keys.shape[1] == 1:
        return keys[:, 0]
    names, places = np.unique(keys, return_inverse=True)
    parents = list(range(len(names)))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    places = places.reshape(keys.shape)
    for first, *others in places.tolist():
        for other in others:
            low, high = sorted((root(first), root(other)))
            parents[high] = low
    return names[[root(place) for place in places[:, 0].tolist()]]


def draw_splits(groups: np.ndarray, *, dev: float, test: float) -> np.ndarray:
    """Return the split of each row by its group: (N,) -> (N,) of "train", "dev" and "test".

    The lowest draws are dev, the highest test, so neither share moves the rows of the other.
    Raises InputError for fewer groups than splits.
    """
    names, places = np.unique(groups, return_inverse=True)
    draws = np.array([text_hash(str(name)) / 2**64 for name in names])  # (G,) in [0, 1)
    splits = np.select([draws < dev, draws >= 1 - test], ["dev", "test"], "train")
    asked = 2 + (test > 0)
    if len(names) < asked:
        raise InputError(
            f"the rows make {len(names)} groups that share no text; expected at least {asked}, "
            "one for each split"
        )
    if len(np.unique(splits)) < asked:
        splits = _by_rank(draws.argsort().argsort(), dev=dev, test=test)
    return splits[places]


def _by_rank(ranks: np.ndarray, *, dev: float, test: float) -> np.ndarray:
    """Return the splits of G groups by the ranks of their draws, (G,), none of them empty."""
    n = len(ranks)
    n_test = min(max(1, int(test * n)), n - 2) if test else 0
    n_dev = min(max(1, int(dev * n)), n - n_test - 1)
    return np.select([ranks < n_dev, ranks >= n - n_test], ["dev", "test"], "train")
