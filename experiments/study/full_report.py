"""One report over the studies of several tasks and models."""

from collections.abc import Sequence
from pathlib import Path

from experiments.run.environment import environment
from experiments.study.arms import Study
from experiments.study.document import Block, Heading, Paragraph, write_document
from experiments.study.report import HOW_TO_READ, report_study, seed_noise
from experiments.study.results import load_results


def write_full_report(
    out: Path, plan: Sequence[Sequence[Study]], tuning: Sequence[Block], *, title: str
) -> None:
    """Write report.md and report.html: all claims first, then a section for each study.

    `plan` holds the studies of each task and model, whose runs must be done; `tuning` says how
    their learning rates were found, and is empty where they are the defaults.
    """
    claims: list[Block] = []
    sections: list[Block] = []
    for studies in filter(None, plan):
        its_claims, its_sections = _report(studies, out)
        claims += its_claims
        sections += its_sections
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


def _report(studies: Sequence[Study], out: Path) -> tuple[list[Block], list[Block]]:
    """Return the claims and the sections of studies of one task and model."""
    task = studies[0].read_task()
    results = [load_results(study, task) for study in studies]
    arms = {
        tuple(run.folder for run in arm.runs): arm  # an arm that two studies share, once
        for of_study in results
        for arm in of_study
    }
    noise = seed_noise(arms.values(), task)
    claims: list[Block] = []
    sections: list[Block] = []
    for study, of_study in zip(studies, results):
        folder = out / f"{study.name}-{study.task}-{Path(study.model).name}"
        table, section = report_study(study, of_study, task, folder, noise=noise)
        if table:
            claims += [Heading(f"{study.title}: {study.task}, {study.model}", 3), *table]
        sections += section
    return claims, sections


def _where() -> str:
    machine = environment()
    where = machine["cuda"] or f"{machine['platform']}, {machine['threads']} threads"
    return (
        f"Commit {machine['commit']}, Python {machine['python']}, "
        f"torch {machine['versions']['torch']}, {where}."
    )
