"""When training has diverged: numbers are no longer finite, or the loss rose on the way."""

from collections.abc import Sequence

import numpy as np

from minigpt.errors import NotFinite

PARTS = 10  # of a phase's steps; the first is its warm-up
RISE = 1.25  # times the mean loss of the first part


def has_stopped(record: dict) -> bool:
    """Return whether a run, by its run.json, ended because numbers were not finite."""
    return record.get("error", "").startswith(f"{NotFinite.__name__}: ")


def loss_rose(losses: Sequence[float]) -> bool:
    """Return whether the loss of a phase's steps was higher later on than in its first tenth.

    That is by a quarter, on average over another tenth. Had the run recovered since, that was luck,
    which another seed need not have.
    """
    means = [part.mean() for part in np.array_split(np.array(losses), PARTS) if len(part)]
    return bool(max(means) > RISE * means[0])
