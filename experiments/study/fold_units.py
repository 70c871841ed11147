"""The primary claims once more, with whole folds as the units of the intervals."""

from collections.abc import Sequence
from dataclasses import replace

from experiments.run.tables import Table
from experiments.study.claims import Claim
from experiments.study.document import Block, Folded, Paragraph
from experiments.study.judging import cases_of
from experiments.study.results import ArmResult
from experiments.study.runs import FoldedRun
from tasks import Task

MEANING = (
    "The examples of a fold are scored by the same runs, at values that were tuned together. The "
    "intervals of the claims take each example's difference for a draw of its own. Here each fold "
    "is one unit, so that what its examples have in common counts in full; of so few units the "
    "intervals are wide. Where both agree, a claim does not hang on it."
)


def fold_blocks(
    claims: Sequence[Claim], results: Sequence[ArmResult], task: Task | type[Task]
) -> list[Block]:
    """Return a table of the primary claims; nothing where there are no folds, or no such claims."""
    primary = [claim for claim in claims if claim.primary]
    if not primary or not all(isinstance(run, FoldedRun) for each in results for run in each.runs):
        return []
    by_fold = [
        replace(each, runs=[replace(run, by_fold=True) for run in each.runs]) for each in results
    ]
    rows = []
    for case in cases_of(primary, by_fold, task):
        show, lead = case.score.show, case.difference.lead
        low, high = map(show, lead.interval())
        rows.append([case.claim.text, case.score.short, f"{show(lead.value)} [{low}, {high}]"])
    table = Table(["claim", "metric", "lead [95 %], folds as units"], rows)
    return [Folded("The primary claims, with folds as units", [Paragraph(MEANING), table])]
