"""What the measurements of a GPU should reach, beside what they reached."""

from collections.abc import Callable
from typing import NamedTuple

STEP = ("sft", "dpo")  # what the names of the parts that measure steps begin with
OURS = ("eager", "minigpt")  # which need no Triton
Found = dict[str, dict]  # a part's name -> its record


class Goal(NamedTuple):
    """A number that has to be at least, or at most, a target."""

    what: str
    target: float
    largest: bool  # whether the target is the most that the number may be
    measure: Callable[[Found], float | None]  # None where it was not measured
    form: str = ".2f"

    def judge(self, found: Found) -> tuple[str, str, str, str]:
        """Return the goal, its target, what was measured, and whether that reaches it."""
        value, bound = self.measure(found), "at most" if self.largest else "at least"
        target = f"{bound} {self.target:{self.form}}"
        if value is None:
            return self.what, target, "-", "not measured"
        reached = value <= self.target if self.largest else value >= self.target
        return self.what, target, f"{value:{self.form}}", "reached" if reached else "not reached"


def step_rows(found: Found) -> list[dict]:
    """Return the rows of all parts that measure steps."""
    parts = [record for name, record in found.items() if name.startswith(STEP)]
    return [row for record in parts for row in record["rows"]]


def _fastest(found: Found, row: str, sides: tuple[str, ...]) -> dict | None:
    rows = [r for r in step_rows(found) if r["row"] == row and r["side"] in sides]
    return max(rows, key=lambda r: r["examples_per_second"], default=None)


def _mfu(row: str) -> Callable[[Found], float | None]:
    def measure(found: Found) -> float | None:
        best = _fastest(found, row, OURS)
        return best and best["mfu"]

    return measure


def _times(
    row: str, sides: tuple[str, ...], other: str, others: tuple[str, ...]
) -> Callable[[Found], float | None]:
    """How many times as long a row's step takes, per example, as another one's."""

    def measure(found: Found) -> float | None:
        one, two = _fastest(found, row, sides), _fastest(found, other, others)
        return two["examples_per_second"] / one["examples_per_second"] if one and two else None

    return measure


def _minutes(part: str) -> Callable[[Found], float | None]:
    """The whole run's minutes, measured in the part "headline" or estimated in "projection"."""

    def measure(found: Found) -> float | None:
        rows = found.get(part, {}).get("rows", ())
        return min((row["minutes"] for row in rows if "minutes" in row), default=None)

    return measure


FULL, LORA = "sft/full/paraphrase", "sft/lora-r8/paraphrase"
GOALS = (
    Goal("MFU of SFT, questions", 0.40, False, _mfu(FULL)),
    Goal("MFU of SFT, long rows", 0.40, False, _mfu("sft/full/preferences")),
    Goal("minigpt's step over inductor's", 1.05, True, _times(FULL, OURS[1:], FULL, ("inductor",))),
    Goal("LoRA's step over the full one", 0.70, True, _times(LORA, OURS, FULL, OURS)),
    Goal(
        "transformers' and PEFT's step over ours", 3.0, False, _times(LORA, ("peers",), LORA, OURS)
    ),
    Goal("minutes of the headline run", 5.0, True, _minutes("headline"), ".1f"),
    Goal("the same, projected from single steps", 5.0, True, _minutes("projection"), ".1f"),
)
