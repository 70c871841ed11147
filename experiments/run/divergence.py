"""When training has diverged: numbers are no longer finite, or the loss rose on the way."""

from collections.abc import Sequence

import numpy as np

from minigpt.errors import NotFinite

PARTS = 10  # of a phase's steps; the first is its warm-up
PART_STEPS = 10  # in a part, or more: one batch near a loss of 0 can be many times another
RISE = 1.25  # times the mean loss of the first part


def has_stopped(record: dict) -> bool:
    """Return whether a run, by its run.json, ended because numbers were not finite."""
    return record.get("error", "").startswith(f"{NotFinite.__name__}: ")


def loss_rose(losses: Sequence[float]) -> bool:
    """Return whether the loss of a phase's steps was higher later on than in its first tenth.

    That is by a quarter, on average over another tenth; of a phase of few steps larger parts are
    compared, and two halves at the least. Had the run recovered since, that was luck, which another
    seed need not have.
    """
    parts = min(PARTS, max(2, len(losses) // PART_STEPS))
    means = [part.mean() for part in np.array_split(np.array(losses), parts) if len(part)]
    return bool(max(means) > RISE * means[0])
