"""Many rows of texts without an object per row: their bytes lie in a file, to be read by number."""

import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar, overload

import numpy as np

T = TypeVar("T")


class TextStore:
    """N rows of K texts each, in a file that the system deletes with the store.

    What stays in memory is 8 bytes a text. Only whole Unicode can be kept: UnicodeEncodeError for a
    text with half a surrogate pair.
    """

    def __init__(self, width: int):
        self.width = width  # K
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # open for the store's life
        self._ends = array("Q", [0])  # where each text ends, in bytes; first where the first begins

    def __len__(self) -> int:
        return (len(self._ends) - 1) // self.width

    def append(self, texts: Sequence[str]) -> None:
        """Keep a row, behind all others."""
        encoded = [text.encode() for text in texts]
        self._file.seek(self._ends[-1])
        self._file.write(b"".join(encoded))
        for piece in encoded:
            self._ends.append(self._ends[-1] + len(piece))

    def row(self, number: int) -> tuple[str, ...]:
        """Return the texts of a row."""
        first = number * self.width
        ends = self._ends[first : first + self.width + 1]
        self._file.seek(ends[0])
        data = self._file.read(ends[-1] - ends[0])
        places = pairwise(end - ends[0] for end in ends)
        return tuple(data[start:end].decode() for start, end in places)


class StoredRows(Sequence[T]):
    """Some rows of a store as objects, each made when it is asked for."""

    def __init__(self, store: TextStore, numbers: np.ndarray, make: Callable[..., T]):
        self.store = store
        self.numbers = numbers  # (N,) of the rows, in their order here
        self.make = make  # from a row's K texts

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[T]:
        return (self.make(*self.store.row(number)) for number in self.numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self.make(*self.store.row(number)) for number in self.numbers[index]]
        return self.make(*self.store.row(self.numbers[index]))
