"""Every comparison of the paper, and one report: `python -m experiments.reproduce`.

Finished runs are skipped and broken ones resumed, so the same command goes on wherever it was
stopped. Learning rates are tuned first, by the same small budget for full fine-tuning and LoRA.
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from experiments import (
    data_scale,
    dpo_hyperparameters,
    handoff_grid,
    pair_construction,
    parameterization,
)
from experiments.run.command import command_line
from experiments.run.folder import environment
from experiments.study import smoke
from experiments.study.arms import Study, make_task
from experiments.study.claims import PAPER_METRICS, show_value
from experiments.study.document import Block, Heading, Paragraph, Table, write_document
from experiments.study.estimate import print_plan
from experiments.study.report import HOW_TO_READ, report_study, seed_noise
from experiments.study.results import load_results
from experiments.study.runner import run_all
from experiments.study.tuning import BUDGET, tune, tuning_configs
from minigpt.errors import InputError
from minigpt.files import make_folder
from tasks.registry import TASKS

EXPERIMENTS = {
    "parameterization": parameterization.Config,
    "handoff_grid": handoff_grid.Config,
    "pair_construction": pair_construction.Config,
    "dpo_hyperparameters": dpo_hyperparameters.Config,
    "data_scale": data_scale.Config,
}
STUDY_OPTIONS = [option.name for option in fields(Study)]
Name = Literal[
    "parameterization", "handoff_grid", "pair_construction", "dpo_hyperparameters", "data_scale"
]


@dataclass(frozen=True)
class Plan:
    """What is run of one task."""

    data: Path | None = None
    """File or folder with the task's data; None: the sonnets in the package, Quora by download."""
    experiments: tuple[Name, ...] = tuple(EXPERIMENTS)
    """Which comparisons; pair_construction needs a task with several constructions."""
    epochs: int = 10
    """Passes over the training examples in every arm."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every arm is run once with each."""
    one_seed: tuple[Name, ...] = ("dpo_hyperparameters",)
    """Experiments that make do with the first seed, and with the noise that others measured."""
    train_examples: int | None = None
    """Keep only so many training examples."""
    dev_examples: int | None = None
    """Keep only so many dev examples."""
    batch_size: int | None = None
    """Examples (or pairs) of one optimizer step."""


@dataclass(frozen=True)
class Config:
    """Run the whole study, or what is missing of it, and write report.md and report.html."""

    tasks: tuple[str, ...] = ("sonnet", "paraphrase")
    """Tasks to learn."""
    models: tuple[str, ...] = ("verse",)
    """Models to fine-tune."""
    sonnet: Plan = field(default_factory=Plan)
    """What is run of the sonnets."""
    paraphrase: Plan = field(default_factory=Plan)
    """What is run of the paraphrases."""
    tune: bool = True
    """Tune SFT's learning rates first, by a small budget; else take the defaults."""
    precision: Literal["fp32", "bf16"] | None = None
    """Arithmetic of the forward pass over fp32 weights; None: bf16 on CUDA, else fp32."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; None: cuda where there is one."""
    jobs: int = 1
    """Runs at a time, each in a process of its own; the CPU's cores are divided among them."""
    out: Path = Path("runs/reproduce")
    """Folder of all runs and of the report; finished runs in it are not repeated."""
    smoke: bool = False
    """Every experiment in a few minutes, on a handful of examples and made-up questions."""
    dry_run: bool = False
    """Show the plan and an estimate of its time, measured in a moment; do nothing."""


def run(config: Config) -> Path | None:
    """Do the runs that are missing and write the report; the folder, or None for a dry run.

    Raises InputError for a plan without sense and for a run that cannot be done.
    """
    if config.smoke:
        config = _smoke(config)
    bases = _bases(config)
    for base in bases:
        for study in _studies(base, config):
            study.check()
    if config.dry_run:
        print_plan(_all_configs(bases, config), config.jobs)
        return None
    tuned = []
    blocks: list[Block] = []
    for base in bases:
        if config.tune:
            base, scores = tune(base, make_task(base))
            blocks.append(_tuning_table(base, scores))
        tuned.append(base)
    plan = [_studies(base, config) for base in tuned]
    run_all([c for studies in plan for study in studies for c in study.all_configs()], config.jobs)
    _write(config.out, plan, blocks)
    return config.out


def _smoke(config: Config) -> Config:
    """The same plan in small."""
    questions = smoke.made_up_questions(make_folder(config.out / "made-up-questions"))
    return replace(
        config,
        device="cpu",
        sonnet=replace(config.sonnet, **smoke.PLAN),
        paraphrase=replace(config.paraphrase, data=questions, **smoke.PLAN),
    )


def _bases(config: Config) -> list[Study]:
    """The shared options of every task and model."""
    for name, values in (("tasks", config.tasks), ("models", config.models)):
        if len(set(values)) < len(values) or not values:
            raise InputError(f"--{name} is {' '.join(values) or 'empty'}; expected each once")
    unknown = [task for task in config.tasks if task not in TASKS]
    if unknown:
        raise InputError(f"unknown task {unknown[0]!r}; expected one of {', '.join(TASKS)}")
    bases = []
    for model in config.models:
        for task in config.tasks:
            plan: Plan = getattr(config, task)
            bases.append(
                Study(
                    task=task,
                    data=plan.data,
                    model=model,
                    epochs=plan.epochs,
                    seeds=plan.seeds,
                    train_examples=plan.train_examples,
                    dev_examples=plan.dev_examples,
                    batch_size=plan.batch_size,
                    precision=config.precision,
                    device=config.device,
                    jobs=config.jobs,
                    out=config.out,
                )
            )
    return bases


def _studies(base: Study, config: Config) -> list[Study]:
    """The experiments of a task and model, in the order of the report."""
    studies = []
    for name in getattr(config, base.task).experiments:
        if name == "pair_construction" and len(TASKS[base.task].preferences) < 2:
            continue
        options = {key: getattr(base, key) for key in STUDY_OPTIONS}
        if name in getattr(config, base.task).one_seed:
            options["seeds"] = base.seeds[:1]
        if config.smoke:
            options |= smoke.OPTIONS.get(name, {})
        studies.append(EXPERIMENTS[name](**options))
    return studies


def _all_configs(bases: list[Study], config: Config) -> list:
    """Every run of the plan, the tuning's included, at the learning rates before tuning."""
    configs = []
    for base in bases:
        tuning = tuning_configs(base).values() if config.tune else []
        configs += [c for of_method in tuning for c in of_method]
        configs += [c for study in _studies(base, config) for c in study.all_configs()]
    return configs


def _write(out: Path, plan: list[list[Study]], tuning: list[Block]) -> None:
    """Write the report on the studies of each task and model."""
    claims: list[Block] = []
    sections: list[Block] = []
    for studies in filter(None, plan):
        task = make_task(studies[0])
        results = [load_results(study, task) for study in studies]
        arms = {
            tuple(run.folder for run in arm.runs): arm  # an arm that two studies share, once
            for of_study in results
            for arm in of_study
        }
        noise = seed_noise(arms.values(), task)
        for study, of_study in zip(studies, results):
            folder = out / f"{study.name}-{study.task}-{Path(study.model).name}"
            table, section = report_study(study, of_study, task, folder, noise=noise)
            if table:
                claims += [Heading(f"{study.title}: {study.task}, {study.model}", 3), *table]
            sections += section
    machine = environment()
    where = machine["cuda"] or f"{machine['platform']}, {machine['threads']} threads"
    blocks = [
        Paragraph(HOW_TO_READ),
        Heading("The paper's claims"),
        *claims,
        *sections,
        Heading("Learning rates"),
        *(tuning or [Paragraph("Not tuned here: the defaults of `experiments.handoff`.")]),
        Heading("Where this was run"),
        Paragraph(
            f"Commit {machine['commit']}, Python {machine['python']}, "
            f"torch {machine['versions']['torch']}, {where}."
        ),
    ]
    write_document(out, "What DPO and LoRA buy over supervised full fine-tuning", blocks)
    print(f"report: {out}/report.md and report.html")


def _tuning_table(base: Study, scores: dict[str, dict[float, float]]) -> Block:
    metric = PAPER_METRICS[base.task][0]
    budget = ", ".join(f"{name} {value:,}" for name, value in BUDGET[base.task].items())
    chosen = dict(base.sft_learning_rates)
    rows = [
        [
            method,
            f"{rate:.2g}",
            show_value(metric, score),
            "chosen" if rate == chosen[method] else "",
        ]
        for method, by_rate in scores.items()
        for rate, score in by_rate.items()
    ]
    return Table([f"{base.task}, {base.model} ({budget}, one seed)", "rate", metric, ""], rows)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(Config, run, argv)


if __name__ == "__main__":
    main()
