"""What is tuned, and for which arms: SFT's rate by method, DPO's by method and loss, and beta."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from experiments.run.config import Config, flat_options, make_config
from experiments.run.flags import LORA_FLAGS

# In the order in which they are tuned: DPO begins where SFT has ended.
OPTIONS = ("sft_learning_rate", "dpo_learning_rate", "beta")


class Tuned(NamedTuple):
    """A value that was chosen for an option of all arms of a kind."""

    option: str
    kind: str
    value: float
    folds: tuple[int, ...] | None  # it is used where one of these is dev; None: without folds


def kind_of(config: Config, option: str) -> str | None:
    """Return the name of all arms that share a tuned value; None where the option has no part.

    SFT's rate is shared by the arms of a method, such as full, lora-r8 or lora-r8-dora. DPO's rate
    is shared by those of a method and loss, at every handoff and for all ways to make pairs. Beta
    is tuned for DPO's own loss alone: what it means differs among its relatives.
    """
    if option == "sft_learning_rate":
        return method_of(config) if config.switch_epoch > 0 else None
    loss = config.preference.loss
    if config.switch_epoch >= config.epochs or (option == "beta" and loss != "sigmoid"):
        return None
    return f"{method_of(config)} {loss}"


def method_of(config: Config) -> str:
    """Return full, or the adapters' rank and all else that makes them others: lora-r8-dora."""
    if config.parameterization == "full":
        return "full"
    given, default = flat_options(config), flat_options(Config())
    parts = [f"lora-r{config.lora.rank}"]
    for name in (*LORA_FLAGS, "lora_plus"):
        if name != "rank" and given[name] != default[name]:
            shown = name.replace("_", "-")
            parts.append(shown if given[name] is True else f"{shown}-{given[name]}")
    return "-".join(parts)


def with_tuned(config: Config, tuned: Iterable[Tuned], *, fixed: Collection[str] = ()) -> Config:
    """Return a run with the tuned values that it has a use for; the options in `fixed` stay."""
    chosen = {
        one.option: one.value
        for one in tuned
        if one.option not in fixed and kind_of(config, one.option) == one.kind
    }
    return make_config(**flat_options(config) | chosen)
