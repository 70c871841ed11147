"""Arrays in little room, for records that are kept: not a digit of theirs is lost."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minigpt.files import reading, replacing

NARROW = (np.uint8, np.int16, np.int32, np.float32)  # types to try, the smallest first


def save_packed(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as NumPy's compressed .npz, each in the smallest type that holds it exactly.

    The bytes are the same for the same arrays, as no time is written. Columns are kept one after
    the other, since those of a table are alike.
    """
    packed = {name: np.asfortranarray(narrowest(array)) for name, array in arrays.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **packed)


def load_packed(path: Path) -> dict[str, np.ndarray]:
    """Return what `save_packed` wrote; InputError for a file that is damaged or not there."""
    with reading(path, "arrays as NumPy keeps them"), np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def narrowest(array: np.ndarray) -> np.ndarray:
    """Return an array in the first of NARROW that has every value of it, else as it is."""
    for kind in NARROW:
        with np.errstate(invalid="ignore", over="ignore"):
            narrow = array.astype(kind)
        if narrow.nbytes < array.nbytes and np.array_equal(narrow, array):
            return narrow
    return array
