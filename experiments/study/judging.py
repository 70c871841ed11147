"""The claims of studies, and what their runs say of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.study.claims import Claim, scores_of
from experiments.study.handoff_table import own_change
from experiments.study.results import ArmResult, recorded
from experiments.study.sizes import compare_sizes
from experiments.study.statistics import Difference, compare
from experiments.study.stopping import metrics_at
from experiments.study.verdict import ALPHA, Verdict, decision_p, holm_levels, judge
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

    Those on a metric that its runs do not record are left out: `not_scored`.
    """
    arms = {result.name: result for result in results}
    floors = results[0].runs[0].record["floors"]
    cases = []
    there = recorded(results)
    for claim in claims:
        if claim.metric not in there:
            continue
        score = scores_of(task)[claim.metric]
        difference = _difference(claim, arms)
        margin = score.margin * (difference.scores[1] if score.relative else 1.0)
        its_floors = {name: f[claim.metric] for name, f in floors.items() if claim.metric in f}
        reaching = _reaching(
            its_floors, [metrics_at(arms[n], claim.metric, claim.at) for n in _named(claim)]
        )
        cases.append(Case(claim, difference, margin, reaching, score, score.unit or task.unit))
    return cases


def not_scored(claims: Sequence[Claim], results: Sequence[ArmResult]) -> list[str]:
    """Return the metrics of claims that the runs do not record, each once."""
    return sorted({claim.metric for claim in claims} - recorded(results))


def _named(claim: Claim) -> list[str]:
    return [claim.a, claim.b, *(claim.beyond or ())]


def _reaching(floors: Mapping[str, float], arms: Sequence[Sequence[Metric]]) -> dict[str, float]:
    """Return the floors that reach the best arm's mean score over its seeds, the best floor first.

    `arms` are the metrics of each arm's seeds.
    """
    sign = 1 if arms[0][0].larger_is_better else -1
    best = max(sign * np.mean([metric.value for metric in metrics]) for metrics in arms)
    names = sorted(floors, key=lambda name: -sign * floors[name])
    return {name: floors[name] for name in names if sign * floors[name] >= best}


def _difference(claim: Claim, arms: Mapping[str, ArmResult]) -> Difference:
    """Return the difference that a claim is about."""

    def metrics(name: str) -> list[Metric]:
        return metrics_at(arms[name], claim.metric, claim.at)

    if claim.own:
        return own_change(arms[claim.a], claim.metric)
    if not claim.beyond:
        return compare(metrics(claim.a), metrics(claim.b))
    named = {name: metrics(name) for name in _named(claim)}
    return compare_sizes(named, (claim.a, claim.b), tuple(claim.beyond))


def verdicts_on(cases: Sequence[Case]) -> list[Verdict]:
    """Return the verdict on each claim, the primary ones corrected for their number by Holm."""
    primary = [i for i, case in enumerate(cases) if case.claim.primary]
    levels = dict(zip(primary, holm_levels([_decision_p(cases[i]) for i in primary])))
    return [verdict_at(case, levels.get(i, ALPHA)) for i, case in enumerate(cases)]


def _decision_p(case: Case) -> float:
    """Return the least alpha that decides a claim; 1 where nothing would."""
    if verdict_at(case, 1.0).word == "cannot be told":
        return 1.0
    return decision_p(case.difference, expects=case.claim.expects, margin=case.margin)


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
