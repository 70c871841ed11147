"""Student's t (1908): quantiles and tails, for degrees of freedom that need not be whole.

Its density is proportional to cos(angle)^(df - 1) in angle = arctan(t / sqrt(df)), which runs from
0 to a right angle, so that an integral over all t is one over a short range.
"""

import functools
import math

import numpy as np

MOST = 10_000  # degrees of freedom, where the t is the normal, to 0.0003
POINTS = 10_001


def t_quantile(degrees: float, level: float = 0.95) -> float:
    """Return the t that holds `level` between it and its negative: 12.71, 4.30, 3.18, ... 1.96."""
    degrees, angles, mass = _table(degrees)
    return math.sqrt(degrees) * math.tan(np.interp(level, mass, angles))


def t_tail(t: float, degrees: float) -> float:
    """Return the probability of a draw above t."""
    degrees, angles, mass = _table(degrees)
    half = (1 - float(np.interp(math.atan(abs(t) / math.sqrt(degrees)), angles, mass))) / 2
    return half if t > 0 else 1 - half


@functools.lru_cache(256)
def _table_of(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    angles = np.linspace(0, np.pi / 2, POINTS)
    density = np.cos(angles[:-1] + angles[1] / 2) ** (degrees - 1)  # between the points
    mass = np.concatenate([[0.0], density.cumsum()])
    return angles, mass / mass[-1]


def _table(degrees: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the degrees, to four figures and at most MOST, and |t|'s mass up to each angle."""
    degrees = float(f"{min(max(degrees, 1.0), MOST):.4g}")
    return degrees, *_table_of(degrees)
