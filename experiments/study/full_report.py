"""One report over the studies of several tasks and models."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.run.environment import environment
from experiments.study.arms import Study
from experiments.study.document import Block, Heading, Paragraph, write_document
from experiments.study.judging import Case, cases_of, verdicts_on
from experiments.study.report import HOW_TO_READ, claims_table, report_study
from experiments.study.results import ArmResult, load_results
from tasks import Task


def write_full_report(
    out: Path, plan: Sequence[Sequence[Study]], tuning: Sequence[Block], *, title: str
) -> None:
    """Write report.md and report.html: all claims first, then a section for each study.

    `plan` holds the studies of each task and model, whose runs must be done; `tuning` says how
    their learning rates were found, and is empty where they are the defaults.
    """
    reported = [part for studies in filter(None, plan) for part in _read(studies)]
    # All together, as the primary claims of all studies are one family.
    verdicts = iter(verdicts_on([case for part in reported for case in part.cases]))
    claims: list[Block] = []
    sections: list[Block] = []
    for study, task, results, cases in reported:
        heading = Heading(f"{study.title}: {study.task}, {study.model}", 3)
        folder = out / f"{study.name}-{study.task}-{Path(study.model).name}"
        sections += report_study(study, results, task, folder)
        if cases:
            its_verdicts = [next(verdicts) for _ in cases]
            claims += [heading, claims_table(cases, its_verdicts, results)]
    blocks = [
        Paragraph(HOW_TO_READ),
        Heading("The paper's claims"),
        *claims,
        *sections,
        Heading("Learning rates"),
        *(tuning or [Paragraph("Not tuned here: the defaults of `experiments.handoff`.")]),
        Heading("Where this was run"),
        Paragraph(_where()),
    ]
    write_document(out, title, blocks)
    print(f"report: {out}/report.md and report.html")


class _Part(NamedTuple):
    """A study that is done."""

    study: Study
    task: Task
    results: list[ArmResult]
    cases: list[Case]


def _read(studies: Sequence[Study]) -> list[_Part]:
    """Return what studies of one task and model found."""
    task = studies[0].read_task()
    found = [load_results(study, task) for study in studies]
    return [
        _Part(study, task, results, cases_of(study, results, task))
        for study, results in zip(studies, found)
    ]


def _where() -> str:
    machine = environment()
    where = machine["cuda"] or f"{machine['platform']}, {machine['threads']} threads"
    return (
        f"Commit {machine['commit']}, Python {machine['python']}, "
        f"torch {machine['versions']['torch']}, {where}."
    )
