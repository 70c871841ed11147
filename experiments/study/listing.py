"""A study's runs as commands, for those who submit them by hand: `--list`."""

import json
import shlex
from collections.abc import Sequence

from experiments.run.config import Config, flat_options
from experiments.run.options_file import as_flags
from experiments.study.runner import unfinished
from experiments.study.workers import as_carried_out


class Listed(Exception):
    """Runs were listed, which have to be finished before anything else is done."""


def list_commands(configs: Sequence[Config]) -> None:
    """Print the command of every run that is not finished, and raise Listed if there is any."""
    waiting = unfinished(configs)
    for config in waiting:
        print(command_of(config), flush=True)
    if waiting:
        raise Listed(f"{len(waiting)} runs; the same command without --list finds what they did")


def command_of(config: Config) -> str:
    """Return the shell's command for a study's run, with the same identity and folder.

    It tells what is not the default; --resume where the run was begun.
    """
    default = flat_options(Config())
    told = flat_options(as_carried_out(config)).items()
    options = {name: value for name, value in told if value != default[name]}
    flags = as_flags(json.loads(json.dumps(options, default=str)))
    return shlex.join(["python", "-m", "experiments.handoff", *flags])
