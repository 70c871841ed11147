"""Every comparison of the paper, and one report: `python -m experiments.reproduce`.

Finished runs are skipped and broken ones resumed, so the same command goes on wherever it was
stopped. Learning rates are tuned first, by as many runs for every arm.
"""

import sys
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import tyro

from experiments.adapters import AdaptersStudy
from experiments.data_scale import DataScaleStudy
from experiments.dpo_hyperparameters import DPOHyperparametersStudy
from experiments.handoff_grid import HandoffGridStudy
from experiments.pair_construction import PairConstructionStudy
from experiments.parameterization import ParameterizationStudy
from experiments.run.command import command_line
from experiments.run.config import Config
from experiments.run.flags import RowsConfig, RowsFlags
from experiments.run.option_types import checked
from experiments.run.plan import with_defaults
from experiments.study import original, smoke
from experiments.study.arms import Study
from experiments.study.document import Block
from experiments.study.estimate import print_plan
from experiments.study.full_report import write_report
from experiments.study.listing import Listed, list_commands
from experiments.study.protocol import plan_study, protocol_of
from experiments.study.runner import CarryOut, open_workers, run_all
from experiments.study.tuning import planned_runs, tune
from experiments.study.tuning_table import tuning_blocks
from minigpt.errors import InputError
from tasks.registry import TASKS, task_class

TITLE = "What DPO and LoRA buy over supervised full fine-tuning"
EXPERIMENTS: dict[str, type[Study]] = {
    "parameterization": ParameterizationStudy,
    "adapters": AdaptersStudy,
    "handoff_grid": HandoffGridStudy,
    "pair_construction": PairConstructionStudy,
    "dpo_hyperparameters": DPOHyperparametersStudy,
    "data_scale": DataScaleStudy,
}
Experiment = Literal[tuple(EXPERIMENTS)]
Method = Literal["full", "lora"]
STUDY_OPTIONS = [option.name for option in fields(Study)]
ITS_OWN = ("ranks", "methods")  # options of single experiments, in a plan


@dataclass(frozen=True)
class Plan:
    """What is run of one task."""

    data: Path | None = None
    """File or folder with the task's data; None: the sonnets in the package, Quora by download."""
    rows: RowsFlags = field(default_factory=RowsConfig)
    """Which rows of one's own are whose."""
    experiments: tuple[Experiment, ...] = tuple(EXPERIMENTS)
    """Which comparisons; pair_construction needs a task with several constructions."""
    epochs: int = 10
    """Passes over the training examples in every arm."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every arm is run once with each."""
    one_seed: tuple[Experiment, ...] = ("dpo_hyperparameters",)
    """Experiments that make do with the first seed, which is too little for a verdict."""
    train_examples: int | None = None
    """Keep only so many training examples."""
    dev_examples: int | None = None
    """Keep only so many dev examples."""
    folds: int | None = None
    """Cross-validation: every arm is run once with each seed and each of so many folds as dev."""
    batch_size: int | None = None
    """Examples (or pairs) of one optimizer step."""
    evaluate_every: int = 1
    """Epochs between evaluations; a phase's last epoch is always evaluated."""
    samples: int | None = None
    """Continuations per prompt and evaluation; None: as many as the task's own."""
    ranks: tuple[int, ...] = ParameterizationStudy.ranks
    """Ranks r of LoRA in parameterization."""
    methods: tuple[Method, ...] = HandoffGridStudy.methods
    """What handoff_grid crosses with handoffs; SFT alone is run with both."""


@dataclass(frozen=True)
class ReproduceConfig:
    """Run the whole study, or what is missing of it, and write report.md and report.html."""

    tasks: tuple[str, ...] = ("sonnet", "paraphrase")
    """Tasks to learn."""
    models: tuple[str, ...] = ("verse",)
    """Models to fine-tune."""
    # Without a name of its own, so that the flags are --sonnet.epochs and so on.
    plans: Annotated[dict[str, Plan], tyro.conf.arg(name="")] = field(
        default_factory=lambda: {name: Plan() for name in TASKS}
    )
    """What is run of each task; of one that is not named here, the default plan."""
    tune: bool = True
    """Tune learning rates, and DPO's beta, before anything else; or take the defaults."""
    tuning_runs: int = 6
    """Runs of every search: three on a grid, the others at its edge or between its best values."""
    precision: Literal["fp32", "bf16"] | None = None
    """Arithmetic of the forward pass over fp32 weights; None: bf16 on CUDA, else fp32."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; None: cuda where there is one."""
    jobs: int = 1
    """Runs at a time, each in a process of its own; the CPU's cores are divided among them."""
    scheduler: str | None = None
    """Address of a Dask scheduler: its workers do the runs, one at a time each, not --jobs."""
    out: Path = Path("runs/reproduce")
    """Folder of all runs and of the report; finished runs in it are not repeated."""
    smoke: bool = False
    """Every experiment in a few minutes, on a handful of examples and made-up questions."""
    paper: bool = False
    """The paper's own study in place of --models and of every task's experiments and epochs: GPT-2
    124M, ten epochs, handoffs after 3 and 9, LoRA of rank 4, 8 and 16."""
    listed: Annotated[bool, tyro.conf.arg(name="list")] = False
    """Print a command for every run that is not finished, to be submitted by hand; do nothing."""
    dry_run: bool = False
    """Show the plan and an estimate of its time, measured in a moment; do nothing."""
    records: Path | None = None
    """Folder of a study or of its record: make its report again, from these files alone."""

    def plan(self, task: str) -> Plan:
        """Return what is run of a task."""
        return self.plans.get(task, Plan())


def run(config: ReproduceConfig) -> Path | None:
    """Do the runs that are missing and write the report; the folder, or None for a dry run.

    Raises InputError for a plan without sense and for a run that cannot be done.
    """
    config = checked(config)
    config = replace(config, plans={t: checked(p, group=f"{t}.") for t, p in config.plans.items()})
    if config.records is not None:
        write_report(config.records)
        return config.records
    if config.paper:
        config = original.planned(config)
    _bases(config)
    if config.dry_run:
        with TemporaryDirectory() as folder:
            _print_plan(smoke.planned(config, Path(folder)) if config.smoke else config)
        return None
    if config.smoke:
        config = smoke.planned(config, config.out)
    if config.listed:
        try:
            list_commands(_runs(_plan(config, list_commands)[0]))
        except Listed as note:
            print(note, file=sys.stderr)
        return None
    with open_workers(config.jobs, config.scheduler) as workers:
        carry_out = partial(run_all, workers=workers)
        studies, tuning = _plan(config, carry_out)
        plan_study(config.out, TITLE, [protocol_of(each, config.out) for each in studies], tuning)
        carry_out(_runs(studies))
    write_report(config.out)
    return config.out


def _check(bases: list[Study], config: ReproduceConfig) -> None:
    """Refuse a study without sense, and one whose dev makes no interval, before anything runs."""
    for base in bases:
        for study in _studies(base, config):
            study.check()
        if not config.listed:  # for which data are not read
            base.check_dev()


def _plan(config: ReproduceConfig, carry_out: CarryOut) -> tuple[list[Study], list[Block]]:
    """Return all experiments, at rates that `carry_out` tunes, and what the tuning found.

    Raises Listed if it only lists the tuning's runs.
    """
    bases, tuned, tuning = _bases(config), [], []
    _check(bases, config)
    for base in bases:
        with suppress(Listed):  # those of the next base can be listed all the same
            if config.tune:
                base, found = tune(base, _studies(base, config), config.tuning_runs, carry_out)
                tuning += tuning_blocks(base, found)
            tuned.append(base)
    if len(tuned) < len(bases):
        raise Listed("these tune the rates of all others: --list again once they are finished")
    return [study for base in tuned for study in _studies(base, config)], tuning


def _runs(studies: list[Study]) -> list[Config]:
    """Return all runs, those of one seed and fold together, so that arms share the machine."""
    runs = [run for study in studies for run in study.all_configs()]
    return sorted(runs, key=lambda run: (run.task, run.seed, run.fold or 0))


def _bases(config: ReproduceConfig) -> list[Study]:
    """Return the shared options of every task and model."""
    for name, values in (("tasks", config.tasks), ("models", config.models)):
        if len(set(values)) < len(values) or not values:
            raise InputError(f"--{name} is {' '.join(values) or 'empty'}; expected each once")
    return [_base(task, model, config) for model in config.models for task in config.tasks]


def _base(task: str, model: str, config: ReproduceConfig) -> Study:
    task_class(task)  # an unknown task is refused here
    plan = config.plan(task)
    told = {**vars(config), **vars(plan), "task": task, "model": model}
    base = Study(**{name: told[name] for name in STUDY_OPTIONS if name in told})
    with_defaults(base.arm("").config)  # refuses a model and a device that are not there
    return base


def _studies(base: Study, config: ReproduceConfig) -> list[Study]:
    """Return the experiments of a task and model, in the order of the report."""
    plan = config.plan(base.task)
    preset = smoke.OPTIONS if config.smoke else original.OPTIONS if config.paper else {}
    studies = []
    for name in plan.experiments:
        if name == "pair_construction" and len(task_class(base.task).preferences) < 2:
            continue
        study = EXPERIMENTS[name]
        options = {key: getattr(base, key) for key in STUDY_OPTIONS}
        options |= {key: getattr(plan, key) for key in ITS_OWN if hasattr(study, key)}
        if name in plan.one_seed:
            options["seeds"] = base.seeds[:1]
        studies.append(study(**options | preset.get(name, {})))
    return studies


def _print_plan(config: ReproduceConfig) -> None:
    """Print every run, at the rates before tuning, and what all take; write and fetch nothing."""
    plans = [(base, _studies(base, config)) for base in _bases(config)]
    tuning = [run for one in plans if config.tune for run in planned_runs(*one, config.tuning_runs)]
    print_plan([study for _, studies in plans for study in studies], config.jobs, before=tuning)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(ReproduceConfig, run, argv)


if __name__ == "__main__":
    main()
