"""A run's model, to look at, to change and to go on with."""

from pathlib import Path
from typing import NamedTuple

from experiments.run.config import Config
from experiments.run.contents import base_hash, check_contents
from experiments.run.record import read_run
from experiments.run.source import (
    Source,
    add_adapters,
    find_source,
    load_source,
    options_of,
    policy_folder,
)
from minigpt import GPT, get_tokenizer
from minigpt.tokenizer import Tokenizer


class LoadedRun(NamedTuple):
    """A policy of a run, its tokenizer, and the options of the run."""

    model: GPT
    tokenizer: Tokenizer
    config: Config


def load_run(
    folder: str | Path, which: str = "best", *, base: str | None = None, device: str = "cpu"
) -> LoadedRun:
    """Load a policy that a run keeps: that of its "best" or "last" epoch, or DPO's "reference".

    The model is plain PyTorch, in fp32 and in eval mode. Adapters stay beside the frozen weights:
    `lora.merge` and `lora.unload` make one model of both, `lora.disabled` shows the base. `base` is
    where their base lies, if it is no longer where the run found it.

    Raises InputError for a folder without a run, a policy that the run does not keep (it has not
    come so far, or was SFT alone), and a base model that is gone or has changed.
    """
    path = policy_folder(Path(folder), which)
    weights, adapters = find_source(path, base)
    model = load_source(Source(weights, adapters[:-1]), device=device)
    if adapters:
        add_adapters(model, adapters[-1])
    return LoadedRun(model.eval(), get_tokenizer(model), options_of(Path(folder)))


def load_untuned(
    folder: Path, which: str = "best", *, base: str | None = None, device: str = "cpu"
) -> GPT:
    """Load the model that a run started from, beside a policy of it as `load_run` loads that.

    `base` is where it lies, if it is no longer where the run found it; of LoRA's run, `base` as
    `load_run` takes it. Raises InputError if it is gone, or has changed.
    """
    config = options_of(folder)
    if config.parameterization == "lora":  # `load_run` finds what has changed under the adapters
        weights, adapters = find_source(policy_folder(folder, which), base)
        return load_source(Source(weights, adapters[:-1]), device=device).eval()
    source = find_source(base) if base is not None else find_source(config.model, config.base)
    model = load_source(source, device=device).eval()
    contents = read_run(folder).get("contents", {})
    check_contents(folder, contents, {"weights": base_hash(model)})
    return model
