"""How a cost grows with a quantity: y = a x^b, fitted to measured points."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.study.student import t_quantile


class PowerLaw(NamedTuple):
    """y = factor x^exponent, with the exponent's 95 % interval; None with fewer than 3 points."""

    factor: float
    exponent: float
    interval: tuple[float, float] | None

    def __call__(self, x: float) -> float:
        return self.factor * x**self.exponent

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.exponent:.2f}"
        low, high = self.interval
        return f"{self.exponent:.2f} [{low:.2f}, {high:.2f}]"


def fit_power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw | None:
    """Return the least-squares line of log y over log x; None without two different x.

    The interval is Student's for a slope: t(n - 2) standard errors to both sides. It holds what the
    points scatter about one power law, and not that a cost has a fixed part too, which bends it.
    """
    if len(set(x)) < 2:
        return None
    log_x, log_y = np.log(x), np.log(y)
    centred = log_x - log_x.mean()
    spread = (centred**2).sum()
    exponent = float(centred @ log_y / spread)
    constant = float(log_y.mean() - exponent * log_x.mean())
    interval, degrees = None, len(log_x) - 2
    if degrees:
        residual = log_y - constant - exponent * log_x
        error = math.sqrt(float(residual @ residual) / degrees / spread)
        margin = t_quantile(degrees) * error
        interval = (exponent - margin, exponent + margin)
    return PowerLaw(math.exp(constant), exponent, interval)
