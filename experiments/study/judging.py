"""The claims of studies, and what their runs say of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.study.claims import Claim, scores_of
from experiments.study.handoff_table import own_change
from experiments.study.results import ArmResult, on_same_examples, recorded
from experiments.study.sizes import compare_sizes
from experiments.study.statistics import Difference, compare
from experiments.study.stopping import metrics_at
from experiments.study.verdict import ALPHA, Verdict, judge
from tasks import Metric, Score, Task


class Case(NamedTuple):
    """A claim with the difference that speaks to it."""

    claim: Claim
    difference: Difference
    margin: float  # in the metric's units
    floors: dict[str, float]  # those that reach the better arm's score
    score: Score
    unit: str  # what is scored one by one


def cases_of(
    claims: Sequence[Claim], results: Sequence[ArmResult], task: Task | type[Task]
) -> list[Case]:
    """Return a study's claims, each with the difference of its two arms.

    Those on a metric that its runs do not record, or of other examples, are left out: `not_scored`.
    """
    arms = {result.name: result for result in results}
    cases = []
    left_out = set(not_scored(claims, results))
    for claim in claims:
        if claim.metric in left_out:
            continue
        score = scores_of(task)[claim.metric]
        metrics = {name: metrics_at(arms[name], claim.metric, claim.at) for name in _named(claim)}
        difference = _difference(claim, arms, metrics)
        margin = score.margin * (difference.scores[1] if score.relative else 1.0)
        reaching = _reaching(claim, arms, metrics)
        cases.append(Case(claim, difference, margin, reaching, score, score.unit or task.unit))
    return cases


def not_scored(claims: Sequence[Claim], results: Sequence[ArmResult]) -> list[str]:
    """Return the metrics of claims that the runs do not record, or of other examples, each once."""
    names, there = {claim.metric for claim in claims}, recorded(results)
    alike = {n for n in names & there if on_same_examples(n, [arm.metrics(n) for arm in results])}
    return sorted(names - alike)


def _named(claim: Claim) -> list[str]:
    return [claim.a, claim.b, *(claim.beyond or ())]


def _reaching(
    claim: Claim, arms: Mapping[str, ArmResult], metrics: Mapping[str, Sequence[Metric]]
) -> dict[str, float]:
    """Return the floors that reach the best arm's mean score over its seeds, the best floor first.

    They are that arm's own: what training has not seen differs with the training examples.
    `metrics` are those of each arm's seeds.
    """
    sign = 1 if metrics[claim.a][0].larger_is_better else -1
    means = {arm: sign * np.mean([each.value for each in its]) for arm, its in metrics.items()}
    best = max(means, key=means.__getitem__)
    told = arms[best].runs[0].record["floors"]
    floors = {name: found[claim.metric] for name, found in told.items() if claim.metric in found}
    names = sorted(floors, key=lambda name: -sign * floors[name])
    return {name: floors[name] for name in names if sign * floors[name] >= means[best]}


def _difference(
    claim: Claim, arms: Mapping[str, ArmResult], metrics: Mapping[str, Sequence[Metric]]
) -> Difference:
    """Return the difference that a claim is about."""
    if claim.own:
        return own_change(arms[claim.a], claim.metric)
    if not claim.beyond:
        return compare(metrics[claim.a], metrics[claim.b])
    return compare_sizes(metrics, (claim.a, claim.b), tuple(claim.beyond))


def verdicts_on(cases: Sequence[Case]) -> list[Verdict]:
    """Return the verdict on each claim, the m primary ones by intervals that leave out ALPHA / m.

    Then all of their intervals cover the truth in a share 1 - ALPHA of studies (Bonferroni), and
    where an interval covers it no verdict that it gives is wrong. Holm's steps, which leave out
    more once other claims are decided, would not do: a claim is decided in either direction, and
    one rightly said not to hold takes a hypothesis with it that was true.
    """
    primary = sum(case.claim.primary for case in cases)
    return [verdict_at(c, ALPHA / primary if c.claim.primary else ALPHA) for c in cases]


def verdict_at(case: Case, alpha: float) -> Verdict:
    """Return the verdict on a claim by the interval that leaves out `alpha`."""
    return judge(
        case.difference,
        expects=case.claim.expects,
        margin=case.margin,
        floors=case.floors,
        unit=case.unit,
        show=case.score.show,
        alpha=alpha,
    )
