"""Many runs as one study: arms that differ in one thing, each with several seeds.

An experiment (`parameterization`, `pair_construction`, ...) is a `Study` that says which arms it
compares and which of the paper's claims they speak to. Runs lie under `--out` by what they compute,
so an arm that two experiments share is trained once, and what is finished is never repeated.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.run.config import Config, identity, make_config, run_name
from experiments.run.contents import read_task
from experiments.run.flags import RowsConfig, RowsFlags
from experiments.run.option_types import checked
from experiments.run.plan import with_defaults
from experiments.study.claims import SECONDS, Claim, judged_by
from experiments.study.tuned import Tuned, with_tuned
from minigpt.errors import InputError
from tasks import Task
from tasks.registry import task_class

SFT_ALONE = "SFT alone"  # the arm that handoffs are held against, where a study has no other name


@dataclass(frozen=True)
class Arm:
    """One method: a name for tables, and the run's options; seed and folder are the study's."""

    name: str
    config: Config
    fixed: frozenset[str] = frozenset()  # the options that make it what it is: tuning leaves them


@dataclass(frozen=True)
class Study:
    """Options that every experiment shares."""

    task: str = "sonnet"
    """What to learn: sonnet (continue three lines), paraphrase (same question?), or, in rows of
    your own, preference, choice or completion."""
    data: Path | None = None
    """File or folder with the task's data; None: the sonnets in the package, Quora by download."""
    rows: RowsFlags = field(default_factory=RowsConfig)
    """Which rows of one's own are whose."""
    model: str = "verse"
    """verse (in the package), gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a file or folder: of
    weights, of a run or of adapters."""
    epochs: int = 10
    """Passes over the training examples in every arm."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every arm is run once with each."""
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
    sft_learning_rates: tuple[tuple[Literal["full", "lora"], float], ...] = ()
    """Peaks of SFT by parameterization, such as full 1e-4 lora 1e-3; others: the defaults."""
    precision: Literal["fp32", "bf16"] | None = None
    """Arithmetic of the forward pass over fp32 weights; None: bf16 on CUDA, else fp32."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; None: cuda where there is one."""
    jobs: int = 1
    """Runs at a time, each in a process of its own; the CPU's cores are divided among them."""
    scheduler: str | None = None
    """Address of a Dask scheduler: its workers do the runs, one at a time each, in place of --jobs;
    they share this folder and --out, and are of the kind of --device."""
    tuned: Annotated[tuple[Tuned, ...], tyro.conf.Fixed, tyro.conf.Suppress] = ()
    """What was tuned: of use in the arms that have no value of their own."""
    out: Path = Path("runs/study")
    """Folder of all runs and of the report; finished runs in it are not repeated."""
    dry_run: bool = False
    """Show the plan and an estimate of its time, measured in a moment; do nothing."""

    @property
    def name(self) -> str:
        """The experiment's name, as in its folder."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Heading of the experiment's part of the report."""
        raise NotImplementedError

    @property
    def question(self) -> str:
        """What is compared, and what is held equal."""
        raise NotImplementedError

    @property
    def design(self) -> str:
        """What is compared, and on which examples."""
        if self.folds is None:
            return self.question
        return (
            f"{self.question} Cross-validation over {self.folds} folds: every arm is trained once "
            "for each seed and fold, and each example is scored by the run that did not learn from "
            "its fold."
        )

    @property
    def early_switch(self) -> int:
        """The early handoff: after three tenths of the epochs, as the paper's after 3 of 10."""
        return max(1, round(0.3 * self.epochs))

    @property
    def judged(self) -> tuple[str, ...]:
        """The metrics that claims are judged by, the headline's first."""
        return judged_by(task_class(self.task))

    def handoff(self, switch_epoch: int | None) -> int:
        """Return the epochs of SFT before DPO, the early handoff for None.

        Raises InputError where no epoch is left for DPO.
        """
        switch = self.early_switch if switch_epoch is None else switch_epoch
        if not 0 <= switch < self.epochs:
            raise InputError(
                f"the handoff is after {switch} of {self.epochs} epochs; expected 0 or more, and "
                "an epoch left for DPO (--switch-epoch, --epochs)"
            )
        return switch

    def arms(self) -> list[Arm]:
        """Return the methods that the experiment compares."""
        raise NotImplementedError

    def claims(self) -> list[Claim]:
        """Return what the paper says of them."""
        return []

    def heat_map(self) -> list[tuple[float, float, str]]:
        """Return beta, learning rate and arm of every cell; most experiments have no heat map."""
        return []

    def arm(self, name: str, **options) -> Arm:
        """Return an arm under the study's own options; `options` are those in which it differs."""
        shared = (
            "task",
            "data",
            "model",
            "epochs",
            "train_examples",
            "dev_examples",
            "batch_size",
            "evaluate_every",
            "samples",
            "precision",
            "device",
        )
        values = {name: getattr(self, name) for name in shared} | vars(self.rows) | options
        rates = dict(self.sft_learning_rates)
        method = values.get("parameterization", "full")
        values.setdefault("sft_learning_rate", rates.get(method))
        values.setdefault("switch_epoch", values["epochs"])  # SFT alone
        return Arm(name, make_config(**values), frozenset(options))

    def check(self) -> None:
        """Raise InputError for a plan that makes no sense, before anything runs."""
        checked(self)
        for name in self.judged:
            if task_class(self.task).metrics[name].margin is None:
                raise InputError(
                    f"the score {name!r} of the task {self.task!r} has no margin; "
                    "expected one where claims are judged"
                )
        if not self.seeds:
            raise InputError("--seeds names no seed; expected at least one")
        for what, values in (("seed", self.seeds), ("arm", [arm.name for arm in self.arms()])):
            twice = sorted({str(value) for value in values if list(values).count(value) > 1})
            if twice:
                raise InputError(
                    f"the plan names the {what} {', '.join(twice)} twice; "
                    f"expected every {what} once"
                )
        self._check_intervals()

    def _check_intervals(self) -> None:
        """Refuse what would leave a report without intervals: two units at least make one."""
        if self.dev_examples == 1:
            raise InputError("--dev-examples is 1; expected 2 or more, which intervals are over")
        timed = self.epochs // self.evaluate_every * (self.folds or 1)
        if timed < 2 and SECONDS in {claim.metric for claim in self.claims()}:
            raise InputError(
                f"--epochs is {self.epochs}, evaluated every {self.evaluate_every}; expected 2 "
                "evaluated epochs or more, which intervals of seconds an epoch are over"
            )

    def check_dev(self) -> None:
        """Raise InputError where all of dev is one group of examples; its data are read for it."""
        groups = None if self.folds else self.read_task().groups("dev")
        if groups is not None and len(set(groups.tolist())) < 2:
            raise InputError(
                f"the {len(groups)} dev examples are tied together, as each shares a text with "
                "another; expected two groups of them or more, which intervals are over"
            )

    def read_task(self) -> Task:
        """Return the task on the study's data, as its runs read it."""
        return read_task(self.arm("").config)

    def configs(self, arm: Arm) -> list[Config]:
        """Return the arm's runs, one per seed and fold, each with its folder."""
        folds = [{"folds": self.folds, "fold": k} for k in range(self.folds or 0)] or [{}]
        return [
            place(self._with_tuned(arm, replace(arm.config, seed=seed, **fold)), self.out)
            for seed in self.seeds
            for fold in folds
        ]

    def _with_tuned(self, arm: Arm, config: Config) -> Config:
        """Return a run of the arm at the values that were tuned for it, on its fold."""
        its_own = [one for one in self.tuned if one.folds is None or config.fold in one.folds]
        return with_tuned(config, its_own, fixed=arm.fixed)

    def all_configs(self) -> list[Config]:
        """Return every run of every arm."""
        return [config for arm in self.arms() for config in self.configs(arm)]


def place(config: Config, root: Path) -> Config:
    """Return the same run, complete, in a folder under `root` that is named by what it computes."""
    config = with_defaults(config)
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()
    return replace(config, out=Path(root) / "runs" / f"{run_name(config)}-{digest[:8]}")
