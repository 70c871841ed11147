"""What a run will do, worked out from its options once: all that carries it out takes the plan."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from experiments.run.bounds import check_bounds, flag
from experiments.run.config import Config, flat_options, full_name
from experiments.run.flags import LORA_FLAGS
from experiments.run.observers import check_log
from experiments.run.option_types import typed
from experiments.run.schedule import Phase, handoff_phases
from experiments.run.source import Source, find_source
from lora import LoRAConfig
from minigpt import parallel, pretrained_config
from minigpt.errors import InputError
from objectives import PreferenceConfig
from tasks import Task
from tasks.base import TUNED_WIDTH
from tasks.registry import task_class


@dataclass(frozen=True)
class RunPlan:
    """A run's options, checked and complete, and what follows from them."""

    config: Config  # every None that has a default is filled in
    source: Source  # the weights that it starts from
    lora: LoRAConfig | None  # the adapters' shape; None where all weights are trained
    preference: PreferenceConfig  # the loss after the handoff
    phases: tuple[Phase, ...]

    def phase_of(self, epoch: int) -> Phase:
        """Return the phase that an epoch, from 1 on, belongs to."""
        return next(phase for phase in self.phases if phase.first <= epoch <= phase.last)

    def is_evaluated(self, epoch: int) -> bool:
        """Return whether an epoch ends in an evaluation: 0, every so many, a phase's last."""
        ends = {phase.last for phase in self.phases}
        return epoch % self.config.evaluate_every == 0 or epoch in ends


def resolve(config: Config, task: type[Task] | None = None) -> RunPlan:
    """The plan of a run; no weights are loaded for it, and nothing is fetched.

    `task` stands for the one that `config` names, and need not be registered. Raises InputError for
    an option that makes no sense, a model that is not there and a device that cannot be used.
    """
    config = typed(config)
    task = task or task_class(config.task)
    config = replace(config, task=task.name)
    check_log(config.log)
    _check_pairs(config, task)
    check_bounds(flat_options(config))
    config.dev_fold()
    _check_adapters(config)
    source = find_source(config.model, config.base)
    config = _fill_in(config, task, source)
    phases = handoff_phases(
        config.epochs,
        config.switch_epoch,
        sft_learning_rate=config.sft_learning_rate,
        dpo_learning_rate=config.dpo_learning_rate,
    )
    lora = config.lora if config.parameterization == "lora" else None
    return RunPlan(config, source, lora, config.preference, phases)


def with_defaults(config: Config) -> Config:
    """The same config, checked, with every None that has a default filled in."""
    return resolve(config).config


def _fill_in(config: Config, task: type[Task], source: Source) -> Config:
    device = chosen_device(config.device)
    rates = task.learning_rates[config.parameterization]
    # In inverse proportion to the width (Yang et al., 2022, arXiv 2203.03466).
    scale = TUNED_WIDTH / pretrained_config(source.weights).n_embd
    scale /= config.lora_plus**0.5  # so that A's rate and B's keep their geometric mean
    defaults = {
        "batch_size": task.batch_size,
        "sft_learning_rate": rates.sft * scale,
        "dpo_learning_rate": rates.dpo * scale,
        "pairs": next(iter(task.preferences)),
        "device": device,
        "precision": "bf16" if device.startswith("cuda") else "fp32",
        "out": Path("runs", full_name(config)),
    }
    missing = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    return replace(config, **missing)


def _check_pairs(config: Config, task: type[Task]) -> None:
    offered = task.preferences
    if config.pairs is not None and config.pairs not in offered:
        raise InputError(
            f"unknown pairs {config.pairs!r} for {config.task}; expected {' or '.join(offered)}"
        )


def _check_adapters(config: Config) -> None:
    """Refuse options of adapters where there are none."""
    if config.parameterization == "lora":
        return
    given, default = flat_options(config), flat_options(Config())
    for name in (*LORA_FLAGS, "lora_plus"):
        if given[name] != default[name]:
            raise InputError(
                f"--parameterization full does not use {flag(name)}, got {given[name]}; "
                "expected it with --parameterization lora only"
            )


def chosen_device(device: str | None) -> str:
    """Return a device by its name, for None cuda where there is one; errors as `check_device`."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    return device


def check_device(device: str) -> None:
    """Raise InputError for a device that cannot be used, or that processes do not share.

    Apple's GPUs have no fp64, in which sums are taken, and "meta" computes nothing.
    """
    if device != "cpu" and parallel.place().size > 1:
        _check_own_device(device)
    try:
        kind = torch.empty(0, device=device).device.type
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--device {device!r} cannot be used ({reason}); expected cpu or cuda"
        ) from error
    if kind not in ("cpu", "cuda"):
        raise InputError(f"--device {device!r} cannot be used; expected cpu or cuda")


def _check_own_device(device: str) -> None:
    """Raise InputError unless each process of a machine has a GPU of its own."""
    if device != "cuda":
        raise InputError(
            f"--device is {device!r} for several processes; expected cuda, of which each takes the "
            "GPU of its own number, or cpu"
        )
    if parallel.local_rank() >= torch.cuda.device_count():
        raise InputError(
            f"torchrun has started more processes on this machine than its "
            f"{torch.cuda.device_count()} GPUs; expected one for each, or --device cpu"
        )
