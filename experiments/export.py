"""A run's model for others to use: `python -m experiments.export --run RUN --merge --out DIR`.

The folder holds weights, configuration, tokenizer and a model card made from the run's record.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.run.command import command_line
from experiments.run.loading import load_run
from experiments.run.model_card import model_card
from experiments.run.option_types import checked
from experiments.run.source import (
    BASE,
    Source,
    find_source,
    hub_name,
    load_source,
    options_of,
    policy_folder,
)
from lora import merge, save_adapter, unload
from minigpt import GPT, save_pretrained
from minigpt.errors import InputError
from minigpt.files import make_folder, write_text
from minigpt.weights.hugging_face import save_tokenizer
from tasks import Task
from tasks.registry import task_class


@dataclass(frozen=True)
class ExportConfig:
    """Write a policy of a run as a folder for transformers, for PEFT or for minigpt."""

    run: Path
    """Folder of the run."""
    out: Path
    """Folder to write, new or empty."""
    which: Literal["best", "last", "reference"] = "best"
    """The policy of the best epoch on dev, of the last, or the one that DPO started from."""
    format: Literal["hugging_face", "peft", "native"] = "hugging_face"
    """hugging_face for transformers, peft for adapters alone, native for minigpt."""
    merge: bool = False
    """Add the adapters of a LoRA run into the weights, as all formats but peft need it."""
    base: str | None = None
    """Where the base of the adapters lies; None: where the run found it."""


def run(config: ExportConfig, task: Task | None = None) -> Path:
    """Write the folder and return it; InputError for options that do not fit the run.

    `task` is needed for a task of one's own alone, which no name leads to.
    """
    config = checked(config)
    source = _check(config)
    known = task or task_class(options_of(config.run).task)
    model = load_run(config.run, config.which, base=config.base).model
    out = make_folder(config.out)
    base = None
    if config.format == "peft":
        base = _save_adapters(model, source, out)
    else:
        if config.merge:
            merge(model)
            unload(model)
        save_pretrained(model, out, config.format)
    card = model_card(config.run, config.which, config.format, known, base=base)
    write_text(out / "README.md", card)
    print(f"{out}: the {config.which} policy of {config.run}, {config.format}")
    return out


def _check(config: ExportConfig) -> Source:
    """Return where the policy lies; InputError unless the run has it in the format asked for."""
    adapted = options_of(config.run).parameterization == "lora"
    if config.format == "peft" and not adapted:
        raise InputError(
            f"the run in {config.run} trained all weights, so there are no adapters for peft; "
            "expected --format hugging_face or native"
        )
    if config.format == "peft" and config.merge:
        raise InputError("--merge leaves no adapters for --format peft; expected one of the two")
    if config.format != "peft" and adapted and not config.merge:
        raise InputError(
            f"the run in {config.run} trained LoRA adapters, and {config.format} holds one model; "
            "expected --merge or --format peft"
        )
    if config.merge and not adapted:
        raise InputError(
            f"the run in {config.run} trained all weights, so there is nothing to merge; "
            "expected it without --merge"
        )
    if config.out.exists() and not (config.out.is_dir() and not any(config.out.iterdir())):
        raise InputError(f"{config.out} is there already; expected a new or an empty folder")
    return find_source(policy_folder(config.run, config.which), config.base)


def _save_adapters(model: GPT, source: Source, out: Path) -> str:
    """Write adapters that name a base which transformers can load; return its name.

    That is the Hub's, if the base is there, or else it is written beside them.
    """
    under = Source(source.weights, source.adapters[:-1])
    base = hub_name(under)
    if base is None:
        save_pretrained(load_source(under), out / BASE, "hugging_face")
    save_adapter(model, out, base_model_name=base or str((out / BASE).absolute()))
    save_tokenizer(model, out)
    return base or BASE


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(ExportConfig, run, argv)


if __name__ == "__main__":
    main()
