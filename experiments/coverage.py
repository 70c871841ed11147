"""How often the study's intervals cover the truth, simulated: `python -m experiments.coverage`.

Made-up arms have a known difference, seeds that spread as differently as those of real arms, and
units that one seed gets right and another wrong. 95 % intervals should cover in 93 to 97 % of the
cases, and a verdict of either kind should be wrong in at most 5 %. Of m primary claims each is
judged by an interval that leaves out 5 % / m.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from experiments.run.command import command_line
from experiments.run.display import align
from experiments.run.option_types import checked
from experiments.run.seeds import numpy_generator
from experiments.study.statistics import compare
from experiments.study.verdict import ALPHA, judge
from tasks import Metric
from tasks.metric import ratio

SPREADS = {"alike": (1.0, 1.0), "tenfold": (0.1, 1.0), "one alone": (0.0, 1.0), "none": (0.0, 0.0)}
# What moves single units, of both arms alike and of single runs, in that order.
UNITS = {"shared by seeds": (1.0, 0.3), "each seed's own": (0.3, 1.0)}
LARGEST_CLUSTER = 8  # rows that are drawn together, as question pairs with a question in common


@dataclass(frozen=True)
class CoverageConfig:
    """Simulate studies with a known truth, and count how often intervals and verdicts are right."""

    trials: int = 1000
    """Studies in each cell; 1000 tell a coverage to ± 1.4 points."""
    n_seeds: tuple[int, ...] = (2, 3, 5)
    """Seeds of an arm."""
    n_units: tuple[int, ...] = (12, 150, 2000)
    """Sonnets, or clusters of question pairs."""
    claims: int = 1
    """Primary claims of a study, that share the 5 %."""
    seed: int = 0
    """Decides the draws."""


class Cell(NamedTuple):
    """One kind of study, and the shares of its trials in which something was so."""

    seeds: int
    units: int
    spread: str
    noise: str
    covered: float
    holds: float  # "more" was said to hold where there is no lead
    does_not_hold: float  # "same" was said not to hold where the lead is just what matters


def run(config: CoverageConfig) -> list[Cell]:
    """Simulate all cells and print them as a table; InputError for options without sense."""
    config = checked(config)
    cells, alpha = [], ALPHA / config.claims
    for S, units, spread, noise in _kinds(config):
        generator = numpy_generator(config.seed, f"{S} {units} {spread} {noise}")
        found = [_trial(generator, S, units, spread, noise, alpha) for _ in range(config.trials)]
        cells.append(Cell(S, units, spread, noise, *np.mean(found, axis=0).tolist()))
    covered = f"covered ({100 * (1 - alpha):.4g} %)"
    header = ["seeds", "units", "seeds' spread", "units' noise", covered, "holds", "does not"]
    rows = [[str(v) if not isinstance(v, float) else f"{100 * v:.1f} %" for v in c] for c in cells]
    print("\n".join(align([header, *rows])))
    return cells


def made_up_arms(
    generator: np.random.Generator,
    S: int,
    units: int,
    *,
    spreads: tuple[float, float],
    noise: tuple[float, float],
) -> list[list[Metric]]:
    """Return two arms of S seeds that are equally good, on units that are clusters of rows.

    What another draw of units or of seeds does to the score is of the same size.
    """
    sizes = generator.integers(1, LARGEST_CLUSTER + 1, size=units)  # (G,) rows
    difference, own = noise
    hard = generator.normal(0, 2, size=units)
    arms = []
    for spread in spreads:
        of_arm = hard + generator.normal(0, difference, size=units)
        moves = generator.normal(0, 2 * spread / math.sqrt(units), size=S)
        values = of_arm + moves[:, None] + generator.normal(0, own, size=(S, units))
        arms.append([Metric(np.stack([v * sizes, sizes], axis=1), ratio) for v in values])
    return arms


def _kinds(config: CoverageConfig) -> Iterator[tuple[int, int, str, str]]:
    for S in config.n_seeds:
        for units in config.n_units:
            for spread in SPREADS:
                for noise in UNITS:
                    yield S, units, spread, noise


def _trial(
    generator: np.random.Generator, S: int, units: int, spread: str, noise: str, alpha: float
) -> tuple[bool, bool, bool]:
    """Return whether the interval that leaves out `alpha` covers, and which verdicts are wrong."""
    arms = made_up_arms(generator, S, units, spreads=SPREADS[spread], noise=UNITS[noise])
    difference = compare(*arms)
    low, high = difference.lead.interval(1 - alpha)
    margin = 4 / math.sqrt(units)
    rule = {"margin": margin, "floors": {}, "unit": "units", "show": str, "alpha": alpha}
    shifted = replace(difference.estimate, value=difference.value + margin)
    at_margin = replace(difference, estimate=shifted)
    return (
        low <= 0 <= high,
        judge(difference, expects="more", **rule).word == "holds",
        judge(at_margin, expects="same", **rule).word == "does not hold",
    )


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(CoverageConfig, run, argv)


if __name__ == "__main__":
    main()
