"""The flags of what a run's Config nests: the adapters' shape, and the preference loss.

tyro makes a flag of every parameter of these functions, so that the command line stays flat. The
adapters' dropout is called lora_dropout here, as --dropout is the model's.
"""

import inspect
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.run.bounds import check_bounds
from lora import LoRAConfig
from objectives import PREFERENCE_LOSSES, PreferenceConfig


def _help(meaning: str) -> Any:
    return tyro.conf.arg(help=meaning, help_behavior_hint="(default: {})".format)


def make_lora(
    rank: Annotated[int, _help("Rank r of the LoRA adapters.")] = LoRAConfig.rank,
    alpha: Annotated[float, _help("LoRA scale: adapters count alpha / rank.")] = LoRAConfig.alpha,
    lora_dropout: Annotated[
        float, _help("Dropout probability on the adapters' input, in SFT.")
    ] = LoRAConfig.dropout,
    targets: Annotated[
        tuple[str, ...],
        _help("Layers with adapters: attention, mlp, all, or globs over full module names."),
    ] = ("all",),
    rank_stabilised: Annotated[
        bool, _help("Adapters count alpha / sqrt(rank) instead (rsLoRA).")
    ] = LoRAConfig.rank_stabilised,
    layers: Annotated[
        tuple[int, ...] | None,
        _help("Numbers of the blocks with adapters, the first is 0; None: all of them."),
    ] = LoRAConfig.layers,
    rank_pattern: Annotated[
        tuple[tuple[str, int], ...],
        _help(
            "Ranks of their own for layers whose full name matches a glob, such as h.*.mlp.* 16."
        ),
    ] = LoRAConfig.rank_pattern,
    dora: Annotated[
        bool,
        _help("Adapters of DoRA: the weight's magnitude is trained apart from its direction."),
    ] = LoRAConfig.dora,
) -> LoRAConfig:
    """The adapters' shape from its flags; raises InputError for values without sense."""
    check_bounds({"lora_dropout": lora_dropout})  # LoRAConfig would call it dropout
    return LoRAConfig(
        rank, alpha, lora_dropout, targets, rank_stabilised, layers, rank_pattern, dora
    )


def make_preference(
    loss: Annotated[
        Literal[PREFERENCE_LOSSES],
        _help("The preference loss after the handoff; sigmoid is DPO's own."),
    ] = PreferenceConfig.loss,
    beta: Annotated[
        float | None,
        _help(
            "Scale of the rewards: the larger, the less change satisfies the loss (orpo: weight of "
            "its term); None: the loss's."
        ),
    ] = PreferenceConfig.beta,
    label_smoothing: Annotated[
        float,
        _help(
            "Probability that a preference is the wrong way round (conservative DPO), below 0.5."
        ),
    ] = PreferenceConfig.label_smoothing,
    sft_weight: Annotated[
        float, _help("Weight of an SFT term on the chosen completion within the preference loss.")
    ] = PreferenceConfig.sft_weight,
    target_margin: Annotated[
        float | None, _help("The margin that simpo asks of the rewards; None: its default.")
    ] = PreferenceConfig.target_margin,
) -> PreferenceConfig:
    """The preference loss from its flags; raises InputError for values without sense."""
    return PreferenceConfig(loss, beta, label_smoothing, sft_weight, target_margin)


@dataclass(frozen=True)
class RowsConfig:
    """What a task on rows of one's own is told of them: all None for the tasks with their data."""

    train: Path | None = None
    """File to train on, in place of --data: .jsonl, .csv, .tsv, .parquet or .txt."""
    dev: str | None = None
    """File to compare epochs on, or the share of the training rows to keep for it; None: 0.1."""
    test: str | None = None
    """File to score at last, or a share; None: 0.1 where dev is a share, else no test."""
    template: str | None = None
    """Of choice, the prompt with columns in braces: "Review: {text}\\nIt is"."""
    labels: tuple[str, ...] | None = None
    """Of choice, each label's word: 0=" no" 1=" yes"."""
    label_column: str | None = None
    """Of choice, the column with the labels; None: label."""
    group_by: tuple[str, ...] | None = None
    """Of choice, the columns of the template whose texts tie rows to one split and to one group
    of the intervals; None: all of them. One with few different texts is better left out."""


# The types of Config's fields: without a prefix, the nested options have flags of their own.
LoRAFlags = Annotated[LoRAConfig, tyro.conf.arg(name="", constructor=make_lora)]
PreferenceFlags = Annotated[PreferenceConfig, tyro.conf.arg(name="", constructor=make_preference)]
RowsFlags = Annotated[RowsConfig, tyro.conf.arg(name="")]
LORA_FLAGS = tuple(inspect.signature(make_lora).parameters)
PREFERENCE_FLAGS = tuple(inspect.signature(make_preference).parameters)
ROWS_FLAGS = tuple(field.name for field in fields(RowsConfig))
