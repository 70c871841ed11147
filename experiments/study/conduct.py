"""Carry a study out, from its plan to its report."""

from pathlib import Path

from experiments.study.arms import Study
from experiments.study.estimate import print_plan
from experiments.study.full_report import write_report
from experiments.study.protocol import plan_study, protocol_of
from experiments.study.results import ArmResult
from experiments.study.runner import open_workers, run_all


def run_study(study: Study) -> list[ArmResult] | None:
    """Do the runs that are missing and write the report; None for a dry run.

    Raises InputError for a plan without sense and for a run that cannot be done.
    """
    if study.dry_run:
        print_plan([study], study.jobs)
        return None
    study.check()
    folder = Path(study.out) / f"{study.name}-{study.task}"
    with open_workers(study.jobs, study.scheduler) as workers:
        study.check_dev()
        plan_study(folder, study.title, [protocol_of(study, folder)])
        run_all(study.all_configs(), workers)
    (results,) = write_report(folder)
    return results
