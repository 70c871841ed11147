"""The primary claims once more: fold by fold, and with whole folds as units of the intervals."""

from collections.abc import Sequence
from dataclasses import replace

from experiments.run.tables import Table
from experiments.study.claims import Claim
from experiments.study.document import Block, Folded, Paragraph
from experiments.study.forest import Judged
from experiments.study.handoff_table import show_lead
from experiments.study.judging import Case, cases_of, verdict_at
from experiments.study.results import ArmResult
from experiments.study.runs import FoldedRun, Run
from tasks import Task

MEANING = (
    "The intervals of the claims take each example's difference for a draw of its own, and speak "
    "of the tuned values and the training sets at hand. But the examples of a fold are scored by "
    "the same runs, folds whose values were tuned together share the luck of one search, and any "
    "two runs share most of their training examples. Here each fold is one unit, so that what its "
    "examples have in common counts in full; what folds have in common still does not. Of so few "
    "units the intervals are wide, above all at the level that a claim is judged at. A verdict "
    "that they do not give hangs on what they count and the others do not."
)
VALUES = "The values that were used where a fold is dev:"


def fold_blocks(
    judged: Sequence[Judged], results: Sequence[ArmResult], task: Task | type[Task]
) -> list[Block]:
    """Return tables of the primary claims; nothing where there are no folds, or no such claims."""
    primary = [pair for pair in judged if pair[0].claim.primary]
    if not primary or not all(isinstance(run, FoldedRun) for each in results for run in each.runs):
        return []
    claims = [case.claim for case, _ in primary]
    folds = range(len(results[0].runs[0].parts))
    leads = zip(*(_leads(claims, results, task, fold) for fold in folds))
    by_fold = [
        replace(each, runs=[replace(run, by_fold=True) for run in each.runs]) for each in results
    ]
    rows = [
        [case.claim.text, case.score.short, *its_leads, *_told(case, verdict.alpha)]
        for (_, verdict), case, its_leads in zip(primary, cases_of(claims, by_fold, task), leads)
    ]
    numbers = [f"fold {fold}" for fold in folds]
    ends = ["lead [95 %]", "as it is judged", "verdict"]
    values = [[each.name, *map(_values, each.runs[0].parts)] for each in results]
    blocks = [
        Paragraph(MEANING),
        Table(["claim", "metric", *numbers, *ends], rows),
        Paragraph(VALUES),
        Table(["arm", *numbers], values),
    ]
    return [Folded("The primary claims by fold, and with folds as units", blocks)]


def _leads(
    claims: Sequence[Claim], results: Sequence[ArmResult], task: Task | type[Task], fold: int
) -> list[str]:
    """Return the lead of each claim on one fold."""
    on_fold = [replace(each, runs=[run.parts[fold] for run in each.runs]) for each in results]
    cases = cases_of(claims, on_fold, task)
    return [case.score.show(case.difference.lead.value) for case in cases]


def _told(case: Case, alpha: float) -> list[str]:
    """Return a lead with its interval, the interval that leaves out `alpha`, and the verdict."""
    verdict = verdict_at(case, alpha)
    low, high = map(case.score.show, verdict.interval)
    level = f"[{low}, {high}], {100 * (1 - alpha):.3g} %"
    return [show_lead(case.difference, case.score), level, verdict.word]


def _values(run: Run) -> str:
    options = run.record["config"]
    told = [f"SFT {options['sft_learning_rate']:.4g}"] if options["switch_epoch"] else []
    if options["switch_epoch"] < options["epochs"]:
        told.append(f"DPO {options['dpo_learning_rate']:.4g}, beta {options['beta']:.4g}")
    return "; ".join(told)
