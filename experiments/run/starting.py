"""Imported before everything else, so that a command told to stop meanwhile ends in one line.

There is nothing to tidy up yet. In a process that is no command, such as a notebook's, importing
this changes nothing.
"""

import os
import signal
import sys
from pathlib import Path

from experiments.run.interruption import STOPPING


def imports_are_done() -> None:
    """Let the signals do what they do in any Python process again."""
    for number in (signal.SIGINT, *STOPPING):
        if signal.getsignal(number) is _end:
            normal = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, normal)


def _end(number: int, frame) -> None:
    os.write(2, b"interrupted; nothing was begun\n")
    os._exit(128 + number)


# Python says "-m" while it looks for the module to run; the others are the installed commands.
_program = Path([*sys.argv, ""][0]).name
if _program == "-m" or _program.startswith("minigpt-"):
    for _number in (signal.SIGINT, *STOPPING):
        if signal.getsignal(_number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(_number, _end)  # not where it is ignored, as SIGHUP under nohup
