"""The search for a learning rate, or for beta: a geometric grid that goes on where it has to.

It knows nothing of runs. It is told how good the values were that have been tried, and answers
which to try next, until so many have been: the same number for every arm. While the best value lies
at an edge the grid is extended there by a factor of STEP; once it lies between two others, the
wider of the gaps beside it is halved.
"""

import math
from collections.abc import Mapping

STEP = 3.0  # between neighbours of the first grid
FIRST = 3  # values in it
MOST = 12  # runs of a search; more would come closer than the digits that values have
DIVERGED = -math.inf  # how good a value is whose run diverged: worse than any other


def next_values(quality: Mapping[float, float], *, default: float, runs: int) -> list[float]:
    """Return the values to try next, which do not wait for each other; none after `runs` of them.

    `quality` says how good each value is that was tried, and more is better. The first values are
    the default and its neighbours, so that `runs` is FIRST or more, and MOST at most.
    """
    if not quality:
        return [_rounded(default / STEP), default, _rounded(default * STEP)]
    if len(quality) >= runs:
        return []
    best = best_value(quality)
    below = max((value for value in quality if value < best), default=None)
    above = min((value for value in quality if value > best), default=None)
    if below is None:
        return [_rounded(best / STEP)]
    if above is None:
        return [_rounded(best * STEP)]
    # If the quality has one peak, it lies between the best value's neighbours.
    down, up = math.log(best / below), math.log(above / best)
    if math.isclose(down, up, rel_tol=0.1):  # equal but for rounding
        downwards = quality[below] >= quality[above]
    else:
        downwards = down > up
    return [_rounded(math.sqrt(best * (below if downwards else above)))]


def best_value(quality: Mapping[float, float]) -> float:
    """Return the best value, of equals the lowest: so it goes down where all have diverged."""
    return max(sorted(quality), key=quality.__getitem__)


def at_edge(quality: Mapping[float, float]) -> bool:
    """Return whether the best value is the lowest or the highest that was tried."""
    return best_value(quality) in (min(quality), max(quality))


def _rounded(value: float) -> float:
    """Return a value to four digits, for people to read."""
    return float(f"{value:.4g}")
