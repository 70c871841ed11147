"""How long a run will still take, estimated from what it has done."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from experiments.run.schedule import Phase


def seconds_left(
    records: Sequence[dict],
    phases: Sequence[Phase],
    to_train: Mapping[int, float],
    evaluations: int,
) -> float | None:
    """Return about how many seconds remain; None before any training.

    `records` tell of epochs done, each its phase and the "seconds" that it took, and some their
    "evaluation_seconds". `to_train` has the epochs to come and what share of each, `evaluations` is
    how many evaluations are to come. Until an epoch of DPO is done it is taken to last twice as
    long as one of SFT, as a pair has two completions.
    """
    spent = {
        phase: fmean(record["seconds"] for record in records if record["phase"] == phase)
        for phase in {record["phase"] for record in records}
    }
    if not spent.keys() & {"sft", "dpo"}:
        return None
    spent = {"dpo": 2 * spent.get("sft", 0.0), **spent}
    evaluated = [r["evaluation_seconds"] for r in records if "evaluation_seconds" in r]
    training = sum(
        share * spent[phase.objective]
        for epoch, share in to_train.items()
        for phase in phases
        if phase.first <= epoch <= phase.last
    )
    return training + evaluations * fmean(evaluated or [0.0])
