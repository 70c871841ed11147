"""From the shell to `run(Config(...))`: the same few lines for every experiment."""

import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from experiments.run.memory import keep_freed_memory
from minigpt.errors import InputError

Config = TypeVar("Config")
Result = TypeVar("Result")


def command_line(
    config: type[Config], run: Callable[[Config], Result], argv: list[str] | None = None
) -> Result:
    """Make a `config` from `argv` (the process's own if None), and `run` it.

    The process is taken to be there for this run: memory that it frees, it keeps.
    Bad input ends in one sentence on stderr and exit code 2, an interruption in exit code 130.
    """
    keep_freed_memory()
    try:
        return run(tyro.cli(config, args=argv))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except OSError as error:  # a full disk, a folder without permission
        print(
            f"error: cannot use {error.filename or 'a file'} ({error.strerror}); "
            "what was finished is kept",
            file=sys.stderr,
        )
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        raise SystemExit(130) from None
