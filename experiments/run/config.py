"""The options of a handoff, their meaning and their defaults."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from experiments.run.schedule import handoff_phases
from lora import LoRAConfig
from minigpt.config import PRESETS
from minigpt.errors import InputError
from minigpt.fast.compiling import Backend
from objectives import PreferenceConfig
from tasks.base import TUNED_WIDTH
from tasks.registry import TASKS

# These do not decide what a run computes, but for rounding.
NOT_IDENTITY = ("out", "resume", "dry_run", "compile")


@dataclass(frozen=True)
class Config:
    """Fine-tune a GPT-2 with SFT, hand it over to DPO after an epoch, evaluate every epoch.

    Options shown as None take a default that suits the task; --dry-run shows them all.
    """

    task: str = "sonnet"
    """What to learn: sonnet (continue three lines) or paraphrase (same question?)."""
    data: Path | None = None
    """File or folder with the task's data; None: the sonnets in the package, Quora by download."""
    model: str = "verse"
    """verse (in the package), gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a file or folder."""
    parameterization: Literal["full", "lora"] = "full"
    """Train all weights, or LoRA adapters beside frozen weights."""
    rank: int = 8
    """Rank r of the LoRA adapters."""
    alpha: float = 16.0
    """LoRA scale: adapters count alpha / rank."""
    lora_dropout: float = 0.0
    """Dropout probability on the adapters' input, in SFT."""
    targets: tuple[str, ...] = ("all",)
    """Layers with adapters: attention, mlp, all, or globs over full module names."""
    layers: tuple[int, ...] | None = None
    """Numbers of the blocks with adapters, the first is 0; None: all of them."""
    rank_pattern: tuple[tuple[str, int], ...] = ()
    """Ranks of their own for layers whose full name matches a glob, such as h.*.mlp.* 16."""
    dora: bool = False
    """Adapters of DoRA: the weight's magnitude is trained apart from its direction."""
    lora_plus: float = 1.0
    """LoRA+: the adapters' B learns so many times as fast as their A."""
    epochs: int = 10
    """Passes over the training examples, both phases together."""
    switch_epoch: int = 3
    """Epochs of SFT before DPO takes over: 0 is DPO alone, --epochs is SFT alone."""
    pairs: str | None = None
    """How preference pairs are made; None: the task's first construction."""
    pair_samples: int = 8
    """Continuations per sonnet that best-vs-worst pairs are chosen from."""
    loss: Literal["sigmoid", "ipo", "ipo-mean", "hinge", "simpo", "orpo"] = "sigmoid"
    """The preference loss after the handoff; sigmoid is DPO's own."""
    beta: float | None = None
    """Price of leaving the reference, per nat (simpo: scale; orpo: weight); None: the loss's."""
    label_smoothing: float = 0.0
    """Probability that a preference is the wrong way round (conservative DPO), below 0.5."""
    sft_weight: float = 0.0
    """Weight of an SFT term on the chosen completion within the preference loss."""
    target_margin: float | None = None
    """The margin that simpo asks of the rewards; None: its default."""
    sft_learning_rate: float | None = None
    """Peak of SFT's schedule: linear warm-up over a tenth, then half a cosine to 0."""
    dpo_learning_rate: float | None = None
    """Peak of DPO's schedule, of the same form; DPO starts with a fresh optimizer."""
    weight_decay: float = 0.0
    """AdamW's decay of matrices, per unit of learning rate."""
    batch_size: int | None = None
    """Examples (or pairs) of one optimizer step."""
    accumulation: int = 1
    """Microbatches that a step is cut into, to save memory; the step stays the same."""
    dropout: float = 0.0
    """Dropout probability inside the model, in SFT; DPO runs without."""
    train_examples: int | None = None
    """Keep only so many training examples."""
    dev_examples: int | None = None
    """Keep only so many examples of dev and of test."""
    evaluate_every: int = 1
    """Epochs between evaluations; a phase's last epoch is always evaluated."""
    samples: int | None = None
    """Continuations per sonnet and evaluation; None: 4."""
    temperature: float | None = None
    """Sampling temperature of the continuations; None: the course's 1.2."""
    top_p: float | None = None
    """Probability mass that continuations are sampled from; None: the course's 0.9."""
    precision: Literal["fp32", "bf16"] | None = None
    """Arithmetic of the forward pass over fp32 weights; None: bf16 on CUDA, else fp32."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; None: cuda where there is one."""
    compile: Backend = "eager"
    """How the model runs: as it is written, or compiled (minigpt: without Triton, for CUDA)."""
    seed: int = 0
    """Decides adapters, data order, dropout, samples and pairs."""
    out: Path | None = None
    """Folder of the run; None: runs/ and a name made from the options."""
    resume: bool = False
    """Go on with the interrupted run in --out, under the same options."""
    dry_run: bool = False
    """Show what would be done, and do nothing."""

    def check(self) -> None:
        """Raise InputError for an option that makes no sense, before anything is loaded."""
        if self.task not in TASKS:
            raise InputError(f"unknown task {self.task!r}; expected one of {', '.join(TASKS)}")
        offered = TASKS[self.task].preferences
        if self.pairs is not None and self.pairs not in offered:
            raise InputError(
                f"unknown pairs {self.pairs!r} for {self.task}; expected {' or '.join(offered)}"
            )
        handoff_phases(self.epochs, self.switch_epoch)
        self.preference_loss()
        self.lora()
        for name in (
            "batch_size",
            "accumulation",
            "train_examples",
            "dev_examples",
            "pair_samples",
            "evaluate_every",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{_flag(name)} is {value}; expected at least 1")
        for name in ("sft_learning_rate", "dpo_learning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{_flag(name)} is {value}; expected a number above 0")
        if self.weight_decay < 0:
            raise InputError(f"--weight-decay is {self.weight_decay}; expected 0 or more")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}; expected 0 or more")

    def lora(self) -> LoRAConfig | None:
        """The adapters' shape; None where all weights are trained."""
        adapters = LoRAConfig(
            self.rank,
            self.alpha,
            self.lora_dropout,
            self.targets,
            layers=self.layers,
            rank_pattern=self.rank_pattern,
            dora=self.dora,
        )
        return adapters if self.parameterization == "lora" else None

    def preference_loss(self) -> PreferenceConfig:
        """What trains after the handoff."""
        return PreferenceConfig(
            self.loss, self.beta, self.label_smoothing, self.sft_weight, self.target_margin
        )

    def sampling(self) -> dict[str, float | None]:
        """How a task that generates text samples it."""
        return {"n_samples": self.samples, "temperature": self.temperature, "top_p": self.top_p}


def with_defaults(config: Config) -> Config:
    """The same config, checked, with every None that has a default filled in."""
    config.check()
    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(device)
    # A model of the user's own is most often one of the smallest released size.
    width = PRESETS.get(config.model, PRESETS["gpt2"]).n_embd
    task = TASKS[config.task]
    rates = task.learning_rates[config.parameterization]
    defaults = {
        "batch_size": task.batch_size,
        # In inverse proportion to the width (Yang et al., 2022, arXiv 2203.03466).
        "sft_learning_rate": rates.sft * TUNED_WIDTH / width,
        "dpo_learning_rate": rates.dpo * TUNED_WIDTH / width,
        "pairs": task.preferences[0],
        "beta": config.preference_loss().beta,
        "device": device,
        "precision": "bf16" if device.startswith("cuda") else "fp32",
        "out": Path("runs", run_name(config)),
    }
    missing = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    config = replace(config, **missing)
    return replace(config, out=Path(config.out))  # a notebook may well give a string


def run_name(config: Config) -> str:
    """A folder's name that tells the commonest differences between runs."""
    method = "full" if config.parameterization == "full" else f"lora-r{config.rank}"
    model = Path(config.model).name
    return f"{config.task}-{model}-{method}-switch{config.switch_epoch}-seed{config.seed}"


def identity(config: Config) -> dict:
    """The fields that decide what a run computes, as JSON keeps them."""
    values = {name: v for name, v in asdict(config).items() if name not in NOT_IDENTITY}
    return json.loads(json.dumps(values, default=str))  # paths to text, tuples to lists


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--device {device!r} cannot be used ({reason}); expected cpu or cuda"
        ) from error


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
