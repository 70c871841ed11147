"""From the shell to `run(Config(...))`: the same few lines for every experiment."""

import io
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

import tyro

from experiments.run.interruption import Interruption, signal_of, signals_interrupt
from experiments.run.memory import keep_freed_memory
from experiments.run.starting import imports_are_done
from minigpt.errors import InputError
from minigpt.parallel import ProcessLost, alone, by_first, joined, let_the_first_speak

Config = TypeVar("Config")
Result = TypeVar("Result")


def command_line(
    config: type[Config],
    run: Callable[[Config], Result],
    argv: list[str] | None = None,
    *,
    parse: Callable[[list[str]], Config] | None = None,
    shared: bool = False,
) -> Result | None:
    """Make a `config` from `argv` (the process's own if None), and `run` it.

    `parse` makes it where flags are not all; else tyro does. A `shared` command can be one of
    several processes that torchrun has started; all others refuse to be.
    The process is taken to be there for this run: memory that it frees, it keeps, and what its
    streams cannot encode is printed escaped. Bad input ends in one sentence on stderr and exit code
    2, an interruption by a signal in exit code 128 and the signal's number (Ctrl-C: 130).
    --version alone prints the package's version and runs nothing.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        print(f"minigpt-lab {version('minigpt-lab')}")
        return None
    keep_freed_memory()
    _never_fail_to_print()
    try:
        imports_are_done()
        with signals_interrupt(), joined() if shared else alone():
            options = by_first(parse)(argv) if parse else by_first(tyro.cli)(config, args=argv)
            return run(options)
    except InputError as error:
        let_the_first_speak()
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except OSError as error:  # a full disk, a folder without permission
        print(
            f"error: cannot use {error.filename or 'a file'} ({error.strerror}); "
            "what was finished is kept",
            file=sys.stderr,
        )
        raise SystemExit(2) from error
    except ProcessLost as error:
        print(f"error: {error}; --resume goes on from what was kept", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt as stop:
        resumable = isinstance(stop, Interruption) and stop.resumable
        kept = (
            "the same command with --resume goes on" if resumable else "what was finished is kept"
        )
        print(f"interrupted; {kept}", file=sys.stderr)
        raise SystemExit(128 + signal_of(stop)) from None


def _never_fail_to_print() -> None:
    """Let the streams escape what their encoding lacks, such as Hindi on a terminal of cp1252."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's is another, in UTF-8
            stream.reconfigure(errors="backslashreplace")
