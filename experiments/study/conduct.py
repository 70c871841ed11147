"""Carry a study out, from its plan to its report."""

from experiments.study.arms import Study
from experiments.study.document import Paragraph, write_document
from experiments.study.estimate import print_plan
from experiments.study.judging import cases_of, verdicts_on
from experiments.study.report import HOW_TO_READ, claims_table, report_study
from experiments.study.results import ArmResult, load_results
from experiments.study.runner import run_all


def run_study(study: Study) -> list[ArmResult] | None:
    """Do the runs that are missing and write the report; None for a dry run.

    Raises InputError for a plan without sense and for a run that cannot be done.
    """
    if study.dry_run:
        print_plan([study], study.jobs)
        return None
    study.check()
    run_all(study.all_configs(), study.jobs)
    task = study.read_task()
    results = load_results(study, task)
    folder = study.out / f"{study.name}-{study.task}"
    section = report_study(study, results, task, folder)
    cases = cases_of(study, results, task)
    claims = [claims_table(cases, verdicts_on(cases), results)] if cases else []
    write_document(folder, study.title, [Paragraph(HOW_TO_READ), *claims, *section])
    print(f"report: {folder}/report.md and report.html")
    return results
