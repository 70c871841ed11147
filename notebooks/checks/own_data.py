"""The checks of notebook 6."""

import math
from collections.abc import Callable

import numpy as np

from checks.verdict import check, expect, given


@check
def check_length_bias(yours: Callable[[list[dict]], float]) -> str:
    """Check the share of pairs that "the longer one wins" gets right, a tie counting half."""
    rows = [
        {"prompt": "a", "chosen": "long one", "rejected": "short"},
        {"prompt": "b", "chosen": "no", "rejected": "longer"},
        {"prompt": "c", "chosen": "same", "rejected": "size"},
        {"prompt": "d", "chosen": "longest of all", "rejected": "x"},
    ]
    for n in (4, 2, 3):
        lead = [len(row["chosen"]) - len(row["rejected"]) for row in rows[:n]]
        right = sum(0.5 + 0.5 * np.sign(difference) for difference in lead) / n
        found = float(given(yours(rows[:n]), "your function"))
        expect(
            math.isclose(found, right),
            f"of pairs with the lengths chosen - rejected {lead}, the longer one wins "
            f"{right:.3f}, a tie counting half; you say {found:.3f}",
        )
    return "0.5 is no bias, 1 is a pair that a ruler can tell"


@check
def check_biased_pairs(yours: Callable[[list[dict]], list[dict]]) -> str:
    """Check that rows came back with the same prompts and chosen, and all chosen longer."""
    rows = [{"prompt": f"{n}\n", "chosen": "a b c d\n", "rejected": "d c b a\n"} for n in range(6)]
    made = given(yours(rows), "your function")
    expect(
        [(r["prompt"], r["chosen"]) for r in made] == [(r["prompt"], r["chosen"]) for r in rows],
        "prompts and chosen completions should stay as they are, in their order",
    )
    shorter = sum(0 < len(row["rejected"]) < len(row["chosen"]) for row in made)
    expect(
        shorter == len(rows),
        f"in {shorter} of {len(rows)} pairs the rejected side is shorter, and not empty; "
        "expected all",
    )
    return "a ruler tells chosen from rejected in every pair"
