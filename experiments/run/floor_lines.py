"""Floors in a figure: dashed lines, each named beside the panel."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes

from minigpt.palette import GREY

GAP = 0.085  # of a panel's height, between names
WIDTH = 22  # characters of a name


def draw_floors(ax: Axes, heights: Mapping[str, float]) -> None:
    """Draw floors into a panel that shows the scores already, and name each at its right.

    One far off the scores, whose line would flatten them, is named with its height and an arrow.
    """
    low, high = room_for(heights.values(), *ax.get_ylim())
    ax.set_ylim(low, high)
    names = sorted(heights, key=heights.__getitem__)
    wanted = [_share(heights[name], low, high) for name in names]
    beside = {"transform": ax.transAxes, "clip_on": False, "color": GREY}
    for name, place in zip(names, spread(wanted, GAP)):
        height, text = heights[name], shorten(name, WIDTH, placeholder="...")
        if low < height < high:
            ax.axhline(height, color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
            ax.plot((1, 1.035), (_share(height, low, high), place), **beside, linewidth=0.7)
        else:
            text = f"{'↓' if height <= low else '↑'} {text} {height:.1f}"
        ax.text(1.04, place, text, **beside, va="center", fontsize=7)


def room_for(heights: Iterable[float], bottom: float, top: float) -> tuple[float, float]:
    """Return the ends of a panel from `bottom` to `top`, made to hold floors that are near it."""
    reach = 2 * (top - bottom)
    near = [height for height in heights if bottom - reach < height < top + reach]
    low, high = min([bottom, *near]), max([top, *near])
    margin = 0.04 * (high - low)
    return low - margin * (low < bottom), high + margin * (high > top)


def _share(height: float, low: float, high: float) -> float:
    """Return where a height stands between a panel's bottom, 0, and its top, 1."""
    return min(max((height - low) / (high - low), 0.0), 1.0)


def spread(places: Sequence[float], gap: float) -> np.ndarray:
    """Return ascending places pushed apart to `gap`, upwards, and from 1 back down again."""
    moved = np.array(places, dtype=float)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    if len(moved):
        moved[-1] = min(moved[-1], 1.0)
    for i in reversed(range(len(moved) - 1)):
        moved[i] = min(moved[i], moved[i + 1] - gap)
    return moved
