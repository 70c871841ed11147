"""Runs of `experiments.handoff` as processes that start in no time: imported once, then forked.

A line of stdin is the JSON of a command line and of a file for what it prints. The run's process
id and, once it has ended, its exit code (negative for the signal that killed it) come as lines of
stdout. Checkpoints are written after every step.
"""

import json
import os
import signal
import sys

import pronouncing
import torch
from matplotlib.figure import Figure

from experiments import handoff
from experiments.run import loop
from experiments.run.interruption import signal_of, signals_interrupt
from minigpt import get_tokenizer

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve() -> None:
    torch.set_num_threads(1)  # a fork has no other threads
    get_tokenizer("verse")
    pronouncing.init_cmu()
    Figure().savefig(os.devnull, format="png")  # which finds the fonts
    sys.modules[loop.TrainingRun.__module__].CHECKPOINT_SECONDS = 0.0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started by
    for number in SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)
    for line in sys.stdin:
        with signals_interrupt():  # from the run's first moment
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            process = os.fork()
            if process == 0:
                run(*json.loads(line))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(arguments: list[str], output: str) -> None:
    """End this process with the exit code of a command line."""
    code = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        handoff.main(arguments)
        code = 0
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt as stop:  # before the command line took over
        print("interrupted; nothing was begun")
        code = 128 + signal_of(stop)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
