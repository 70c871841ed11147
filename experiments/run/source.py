"""Where a model's weights lie: a preset, a file or folder, a run, or adapters beside any of these.

Adapters are merged into what they were trained beside, in fp32, and the model is a plain one again.
So whatever starts from them, full or with new adapters, starts from one policy, which is also the
reference of a handoff at epoch 0.
"""

import os
from pathlib import Path
from typing import NamedTuple

from experiments.run.config import Config, make_config
from experiments.run.contents import base_hash, check_contents
from experiments.run.record import read_run
from lora import load_adapter, merge, unload
from minigpt import GPT, PRESETS, load_pretrained
from minigpt.errors import InputError
from minigpt.files import read_json
from minigpt.weights.pretrained import ADAPTER, HUB, WEIGHTS

POLICIES = {  # that a run keeps, and from when on
    "best": "one from the first evaluation after training on",
    "last": "one once the run has finished",
    "reference": "one once DPO has begun",
}
BASE = "base"  # the folder of the base in a folder of adapters that was exported


class Source(NamedTuple):
    """Weights that `load_pretrained` finds, and adapters to merge into them, in their order."""

    weights: str
    adapters: tuple[Path, ...] = ()

    def __str__(self) -> str:
        merged = "".join(f", the adapters in {folder} merged into it" for folder in self.adapters)
        return self.weights + merged


def find_source(model: str | Path, base: str | None = None) -> Source:
    """Find what `model` names: a preset, a file or folder of weights, a run's folder, adapters.

    A run's folder stands for its best policy. The base of adapters is what their
    adapter_config.json names, seen from here or from their folder, or a folder "base" among them.
    It may have adapters of its own. `base` stands in for what the innermost of them name; without
    it, below a run's adapters, the base that the run was given. Nothing but small files is read.
    Raises InputError for a policy that a run does not keep, and for a base that is not there.
    """
    weights, adapters = _policy(str(model)), []
    while _holds_adapters(weights):
        folder = Path(weights)
        if folder.resolve() in (other.resolve() for other in adapters):
            raise InputError(
                f"the adapters in {folder} name themselves as their base; expected a model that "
                "they stand beside, --base names one"
            )
        adapters.append(folder)
        if base is not None and not _name_others(adapters):
            weights, base = _policy(base), None
        else:
            weights = _policy(_base_of(folder))
        if base is None and (run := _run_of(folder)) and _holds_adapters(weights):
            base = options_of(run).base
    if base is not None:
        raise InputError(f"{model} holds no adapters; expected --base beside adapters alone")
    return Source(weights, tuple(reversed(adapters)))


def load_source(source: Source, *, dropout: float = 0.0, device: str = "cpu") -> GPT:
    """Load a model from where it was found, its adapters merged.

    Raises InputError as `load_pretrained` and `lora.load_adapter` do, and if the base of a run's
    adapters has changed.
    """
    model = load_pretrained(source.weights, dropout=dropout, device=device)
    for folder in source.adapters:
        add_adapters(model, folder)
        merge(model)
        unload(model)
    return model


def add_adapters(model: GPT, folder: Path) -> None:
    """Put the adapters in a folder beside a base; if a run wrote them, it must be that run's."""
    load_adapter(model, folder)
    if run := _run_of(folder):
        record = read_run(run)
        found = base_hash(model, options_of(run).precision)
        check_contents(run, record.get("contents", {}), {"weights": found})


def policy_folder(run: Path, which: str) -> Path:
    """Return the folder of a policy that a run keeps; InputError if it does not, or is no run."""
    if which not in POLICIES:
        raise InputError(f"unknown policy {which!r}; expected one of {', '.join(POLICIES)}")
    if not keeps(run, which):
        record = read_run(run)
        status = record.get("status")
        if status == "finished" and (which != "reference" or "reference" in record):
            status += ", its weights were removed, as --keep nothing does"
        raise InputError(
            f"the run in {run} keeps no {which} policy (its status: {status}); "
            f"expected {POLICIES[which]}"
        )
    return run / which


def keeps(run: Path, which: str) -> bool:
    """Return whether a run keeps a policy; InputError for a folder without a run."""
    options_of(run)
    return (run / which).is_dir()


def options_of(run: Path) -> Config:
    """Return the options that a run's folder records; InputError for any other folder."""
    options = read_run(run)["config"]
    try:
        return make_config(**options)
    except TypeError as error:  # an option of another command, or of another version
        raise InputError(
            f"{run / 'run.json'} records another kind of run ({error}); expected a handoff"
        ) from error


def hub_name(source: Source) -> str | None:
    """Return what the Hub calls these weights; None if it does not have them."""
    known = source.weights in PRESETS and source.weights != "verse" and not source.adapters
    return f"{Path(HUB).name}/{source.weights}" if known else None


def _policy(model: str) -> str:
    """The place that a name stands for: of a run, the folder of one of its policies."""
    path = Path(model)
    if model in PRESETS:
        return model
    if (path / "run.json").is_file():
        return str(policy_folder(path, "best"))
    if run := _run_of(path):
        return str(policy_folder(run, path.name))
    return model  # as it is: "./gpt2" is no preset


def _run_of(folder: Path) -> Path | None:
    """The folder of the run that keeps a policy in this one; None if no run does."""
    known = folder.name in POLICIES and (folder.parent / "run.json").is_file()
    return folder.parent if known else None


def _holds_adapters(model: str) -> bool:
    folder = Path(model)
    alone = (folder / ADAPTER).is_file() and not (folder / WEIGHTS).exists()
    return alone and model not in PRESETS


def _name_others(adapters: list[Path]) -> bool:
    """Whether the last of these adapters name still other adapters, which are there."""
    try:
        named = _policy(_base_of(adapters[-1]))
    except InputError:
        return False
    return _holds_adapters(named) and Path(named).resolve() not in (a.resolve() for a in adapters)


def _base_of(folder: Path) -> str:
    """The base that adapters name, or that lies beside them."""
    name = read_json(folder / ADAPTER).get("base_model_name_or_path")
    name = name if isinstance(name, str) and name else None
    if name is not None:
        preset = name.removeprefix(f"{Path(HUB).name}/")
        if preset in PRESETS:
            return preset
    for place in ([name, str(folder / name)] if name else []) + [str(folder / BASE)]:
        if os.path.exists(place):  # which is also False for what can be no path
            return place
    raise InputError(
        f"the adapters in {folder} name the base {name!r}, which is not there; "
        f"expected it there or in {folder / BASE}, or --base with its place"
    )
