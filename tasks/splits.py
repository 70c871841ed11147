"""Train, dev and test out of one set of rows: rows that share a text are never on two sides.

A row's split follows from its text alone, so it depends neither on the order of a file nor on the
machine, and rows that are added later leave the others where they are, unless they tie two groups
together. Only a set with so few groups that a split would be empty is cut by rank instead.

For cross-validation the rows are dealt into folds of nearly equal size, which follow from the texts
alone as well: every seed and every method meets the same ones.
"""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

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
    asked = 1 + (dev > 0) + (test > 0)
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
    n_test = min(max(1, int(test * n)), n - 1 - (dev > 0)) if test else 0
    n_dev = min(max(1, int(dev * n)), n - n_test - 1) if dev else 0
    return np.select([ranks < n_dev, ranks >= n - n_test], ["dev", "test"], "train")


@dataclass(frozen=True)
class Fold:
    """Which of K folds is dev, by its number from 0 on; the others are to train on.

    Some of them may be held back, so that neither split has them: what is tuned on this dev is then
    fit to be used where a fold held back is dev. The folds are of all rows there are, or with
    `of_train` of those that the task's own splits train on, the rest being held back. Raises
    InputError for numbers without sense.
    """

    number: int
    of: int  # K
    held_back: tuple[int, ...] = ()
    of_train: bool = False

    def __post_init__(self):
        for name, numbers in {"fold": (self.number,), "held-back": self.held_back}.items():
            for number in numbers:
                if not 0 <= number < self.of:
                    raise InputError(
                        f"--{name} is {number}; expected 0 to {self.of - 1}, as --folds is "
                        f"{self.of}"
                    )
        if self.number in self.held_back:
            raise InputError(f"--fold and --held-back are both {self.number}; expected two folds")
        if self.of < 2 + len(set(self.held_back)):
            raise InputError(f"--folds is {self.of}; expected one to train on beside the others")

    def split(self, groups: np.ndarray, own: Sequence[str]) -> np.ndarray:
        """Return the split of each row by its group: (N,) -> (N,) of "train", "dev" and "".

        `own` are the splits that the rows have without folds: (N,). The rows without one are held
        back. Raises InputError for fewer groups than folds.
        """
        splits = np.full(len(groups), "", dtype="<U5")
        pool = np.asarray(own) == "train" if self.of_train else np.ones(len(groups), bool)
        folds = draw_folds(groups[pool], self.of)
        back = np.isin(folds, self.held_back)
        splits[pool] = np.select([folds == self.number, back], ["dev", ""], "train")
        return splits

    @property
    def back(self) -> str:
        """Why a row is in neither split, as an account of the rows says it."""
        numbers = ", ".join(map(str, self.held_back))
        not_train = ["not of train"] if self.of_train else []
        return " or ".join(([f"in fold {numbers}"] if numbers else []) + not_train) + ", held back"

    def __str__(self) -> str:
        back = [f"fold {number} is held back" for number in self.held_back]
        rest = ["the rest of train's rows train" if self.of_train else "the rest train"]
        told = [f"fold {self.number} is dev", *back, *rest]
        return f"of {self.of} folds, from 0 on, {', '.join(told)}"


def draw_folds(groups: np.ndarray, n_folds: int) -> np.ndarray:
    """Return the fold of each row by its group: (N,) -> (N,) numbers below `n_folds`.

    The groups are dealt out, the largest first and equals by their draws, each to the fold that has
    fewest rows; so the sizes of folds differ by no more than the largest group's. Raises
    InputError for fewer groups than folds.
    """
    names, places, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < n_folds:
        raise InputError(
            f"the rows make {len(names)} groups that share no text; expected at least {n_folds}, "
            "one for each fold"
        )
    draws = np.array([text_hash(str(name)) for name in names], dtype=np.uint64)
    filled = [(0, fold) for fold in range(n_folds)]  # rows of each fold so far
    folds = np.empty(len(names), dtype=int)
    for group in np.lexsort((draws, -sizes)):
        rows, folds[group] = filled[0]
        heapq.heapreplace(filled, (rows + int(sizes[group]), int(folds[group])))
    return folds[places]
