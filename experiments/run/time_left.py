"""How long a run will still take, estimated from what it has done."""

from collections.abc import Sequence
from statistics import fmean

from experiments.run.plan import RunPlan


def seconds_left(
    plan: RunPlan, records: Sequence[dict], at_work: dict, share: float, *, tests: int
) -> float | None:
    """Return about how many seconds a run still takes; None before any training.

    `records` are its evaluations so far. `at_work` tells of the epoch at work: its "epoch",
    "phase", and the "seconds" that the `share` of it took that is done. `tests` is how often test
    is scored after the last epoch. Until an epoch of DPO is done it is taken to last twice as long
    as one of SFT, as a pair has two completions.
    """
    epochs = [*records, {**at_work, "seconds": at_work["seconds"] / share}]
    spent = {
        phase: fmean(record["seconds"] for record in epochs if record["phase"] == phase)
        for phase in {record["phase"] for record in epochs}
    }
    if not spent.keys() & {"sft", "dpo"}:
        return None
    spent = {"dpo": 2 * spent.get("sft", 0.0), **spent}
    to_come = range(at_work["epoch"] + 1, plan.config.epochs + 1)
    training = (1 - share) * spent[at_work["phase"]]
    training += sum(spent[plan.phase_of(epoch).objective] for epoch in to_come)
    evaluated = {record["epoch"] for record in records}
    expected = {n for n in (at_work["epoch"], *to_come) if plan.is_evaluated(n)} - evaluated
    each = fmean([record["evaluation_seconds"] for record in records] or [0.0])
    return training + (len(expected) + tests) * each
