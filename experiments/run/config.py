"""The options of a handoff, their meaning and their defaults."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from experiments.run.flags import (
    LORA_FLAGS,
    PREFERENCE_FLAGS,
    ROWS_FLAGS,
    LoRAFlags,
    PreferenceFlags,
    RowsConfig,
    RowsFlags,
    make_lora,
    make_preference,
)
from minigpt.errors import InputError
from minigpt.fast.compiling import Backend
from objectives import PREFERENCE_OPTIONS
from tasks.splits import Fold

# These do not decide what a run computes, but for rounding.
NOT_IDENTITY = ("out", "resume", "dry_run", "compile", "log", "keep")
NO_FOLDS = {"folds": None, "fold": None, "held_back": (), "folds_of": "all"}
FOLDS = tuple(NO_FOLDS)


@dataclass(frozen=True)
class Config:
    """Fine-tune a GPT-2 with SFT, hand it over to DPO after an epoch, evaluate every epoch.

    With --grid, the handoffs that the paper compares are run instead; --grid --help shows how.
    --config FILE takes options from a run's run.json, or from TOML or YAML, and flags override
    them; --print-config shows all options as TOML, and does nothing.
    Options shown as None take a default that suits the task; --dry-run shows them all.
    """

    task: str = "sonnet"
    """What to learn: sonnet (continue three lines), paraphrase (same question?), or, in rows of
    your own, preference (which of two completions is better), choice (which label fits) or
    completion (what follows a prompt, or text to go on with)."""
    data: Path | None = None
    """File or folder with the task's data; None: the sonnets in the package, Quora by download."""
    rows: RowsFlags = field(default_factory=RowsConfig)
    """Which rows of one's own are whose."""
    model: str = "verse"
    """verse (in the package), gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a file or folder: of
    weights, of a run (its best policy; RUN/last and RUN/reference are others) or of adapters."""
    base: str | None = None
    """The model that the adapters in --model belong to; None: the one that they name."""
    parameterization: Literal["full", "lora"] = "full"
    """Train all weights, or LoRA adapters beside frozen weights."""
    lora: LoRAFlags = field(default_factory=make_lora)
    """The adapters' shape."""
    lora_plus: float = 1.0
    """LoRA+: the adapters' B learns so many times as fast as their A, whose rates are given."""
    epochs: int = 10
    """Passes over the training examples, both phases together."""
    switch_epoch: int = 3
    """Epochs of SFT before DPO takes over: 0 is DPO alone, --epochs is SFT alone."""
    pairs: str | None = None
    """How preference pairs are made; None: the task's first construction."""
    pair_samples: int = 8
    """Continuations per prompt that best-vs-worst pairs are chosen from."""
    preference: PreferenceFlags = field(default_factory=make_preference)
    """The loss after the handoff, and its options."""
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
    folds: int | None = None
    """Cross-validation: all that there is to learn from in so many folds, the same for every seed,
    instead of the task's own splits."""
    fold: int | None = None
    """The fold that is dev, from 0 on; the others are trained on."""
    held_back: tuple[int, ...] = ()
    """Folds that are neither dev nor trained on, as what is tuned here will be used on them."""
    folds_of: Literal["all", "train"] = "all"
    """What folds are made of: all that there is, or what the task's own splits train on."""
    evaluate_every: int = 1
    """Epochs between evaluations; a phase's last epoch is always evaluated."""
    headline_only: bool = False
    """Score by the task's headline alone, which needs no samples, and without floors."""
    samples: int | None = None
    """Continuations per prompt and evaluation; None: 4; for the task completion 1."""
    temperature: float | None = None
    """Sampling temperature of the continuations; None: the course's 1.2; for the task
    completion 1."""
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
    keep: Literal["checkpoint", "weights", "nothing"] = "weights"
    """What stays of a finished run beside its records: checkpoint (all), weights (of the best and
    last epoch, of the reference) or nothing; --resume reports it again all the same."""
    log: Literal["tensorboard", "trackio"] | None = None
    """Show the run in another tool as well, while it trains; each is an extra to install."""
    dry_run: bool = False
    """Show what would be done, and do nothing."""

    def task_options(self) -> dict[str, Any]:
        """The options that the task itself takes, by its names for them; None is its default."""
        sampling = {"n_samples": self.samples, "temperature": self.temperature, "top_p": self.top_p}
        return sampling | vars(self.rows) | {"fold": self.dev_fold()}

    def dev_fold(self) -> Fold | None:
        """The fold that is dev; None for the task's own splits, InputError for half a choice."""
        if all(getattr(self, name) == default for name, default in NO_FOLDS.items()):
            return None
        if self.folds is None or self.fold is None:
            raise InputError(
                f"--folds is {self.folds} and --fold {self.fold}; "
                "expected both --folds and --fold, or none of them"
            )
        return Fold(self.fold, self.folds, self.held_back, self.folds_of == "train")


def make_config(**options) -> Config:
    """The Config of flat options, named as the flags are and as run.json keeps them.

    JSON's lists may stand for tuples. Raises InputError for adapters or a loss without sense.
    """
    options = {name: _tuples(value) for name, value in options.items()}
    lora = {name: options.pop(name) for name in LORA_FLAGS if name in options}
    preference = {name: options.pop(name) for name in PREFERENCE_FLAGS if name in options}
    rows = {name: options.pop(name) for name in ROWS_FLAGS if name in options}
    return Config(
        **options,
        lora=make_lora(**lora),
        preference=make_preference(**preference),
        rows=RowsConfig(**rows),
    )


def flat_options(config: Config) -> dict:
    """The options by the names of their flags: what `make_config` takes."""
    flat: dict = {}
    for name, value in vars(config).items():
        if name == "lora":
            flat |= {"lora_dropout" if f == "dropout" else f: v for f, v in vars(value).items()}
        elif name in ("preference", "rows"):
            flat |= vars(value)
        else:
            flat[name] = value
    if isinstance(flat["targets"], str):
        flat["targets"] = (flat["targets"],)
    return flat


def identity(config: Config) -> dict:
    """The options that decide what a run computes, flat and as JSON keeps them.

    Runs that were recorded are found by it, so it says of newer options only what is not default,
    and null for a target margin that is the loss's own.
    """
    values = {name: v for name, v in flat_options(config).items() if name not in NOT_IDENTITY}
    for name, default in (dict.fromkeys(ROWS_FLAGS) | NO_FOLDS).items():
        if values[name] == default:
            del values[name]
    for name in ("rank_stabilised", "headline_only"):
        if not values[name]:
            del values[name]
    if values["base"] is None:
        del values["base"]
    if values["target_margin"] == PREFERENCE_OPTIONS[values["loss"]].get("target_margin"):
        values["target_margin"] = None
    return json.loads(json.dumps(values, default=str))  # paths to text, tuples to lists


def full_name(config: Config) -> str:
    """A folder's name that tells what is not the default, but for data and names of layers."""
    default = flat_options(Config())
    told = [run_name(config)]
    for name, value in identity(config).items():
        if value == default[name] or name in ("rank", "switch_epoch", "seed"):
            continue
        if name in ("loss", "pairs"):
            told.append(value)
        elif value is True:
            told.append(name.replace("_", "-"))
        elif isinstance(value, (int, float)):
            told.append(f"{name.replace('_', '-')}{value:g}")
        elif isinstance(value, list) and value and isinstance(value[0], int):
            told.append(f"{name.replace('_', '-')}{'-'.join(map(str, value))}")
    return "-".join(told)


def run_name(config: Config) -> str:
    """A folder's name that tells the commonest differences between runs."""
    method = "full" if config.parameterization == "full" else f"lora-r{config.lora.rank}"
    model = Path(config.model).name
    return f"{config.task}-{model}-{method}-switch{config.switch_epoch}-seed{config.seed}"


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
