"""The workers of a Dask cluster: `--scheduler ADDRESS`, with the extra `cluster`.

The machines share a file system, on which the study's working folder and its runs have the same
paths; scheduler and workers are started where this package is installed. Each worker does one run
at a time, in a process of its own, on as many threads as the worker has (`dask worker --nthreads`).
The run of a worker that dies goes to another one, which resumes it.
"""

import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, Popen

import filelock
import torch

from experiments.run.config import Config
from experiments.run.memory import keep_freed_memory
from experiments.study.workers import Workers, do_run
from minigpt.errors import InputError

ANSWER = 10  # seconds within which a scheduler has to answer
RELEASE = 60  # seconds within which a run's folder has to be free, after the run was taken away
POLL = 0.25  # seconds between two looks at a run
ONE = {"minigpt-run": 1}  # of Dask's resources: what a worker has, and a run needs


@contextmanager
def cluster(address: str) -> Iterator[Workers]:
    """Within, runs can be done by the workers of the scheduler at an address, those to come too.

    Runs at work end when their study does. Raises InputError if nobody answers there any more.
    """
    if not find_spec("distributed"):
        raise InputError(
            "--scheduler needs the package distributed, which is not installed; "
            "expected it, pip install -e '.[cluster]'"
        )
    from distributed import Client  # only where it is asked for

    try:
        client = Client(address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at --scheduler {address} within {ANSWER} seconds; "
            "expected the address that `dask scheduler` shows, such as tcp://host:8786"
        ) from error
    with client:
        client.register_worker_callbacks(one_run_at_a_time)
        pool = client.get_executor(pure=False, resources=ONE)

        def room() -> int:
            try:
                return max(1, len(client.nthreads()))
            except OSError as error:
                raise InputError(
                    f"the Dask scheduler at {address} no longer answers; what was finished is "
                    "kept, the same command goes on from there"
                ) from error

        yield Workers(partial(pool.submit, run_apart, os.getcwd()), room)


async def one_run_at_a_time(dask_worker) -> None:
    """Give a worker, of however many threads, room for one run."""
    await dask_worker.set_resources(**ONE)


def run_apart(folder: str, config: Config) -> None:
    """Do a run on a worker, in a process of its own that works in a folder, and wait for its end.

    A multiprocessing.Process cannot be used: the workers that Dask's nannies start may have none.
    Raises ChildProcessError with what was wrong.
    """
    from distributed import get_worker

    worker = get_worker()
    task = worker.get_current_task()
    command = [sys.executable, "-c", "from experiments.study.cluster import work; work()"]
    with Popen(command, stdin=PIPE, stdout=PIPE, cwd=folder) as process:
        pickle.dump((config, worker.state.nthreads), process.stdin)
        process.stdin.flush()
        while process.poll() is None:
            if worker.state.tasks[task].state == "cancelled":  # the study was ended
                process.kill()
            time.sleep(POLL)
        error = process.stdout.read().decode(errors="replace").strip()
    if process.returncode:
        raise ChildProcessError(error or f"its process ended with exit code {process.returncode}")


def work() -> None:
    """Do the run that a worker writes to standard input: all that its process is for."""
    config, threads = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(threads)
    keep_freed_memory()
    threading.Thread(target=_die_with_worker, daemon=True).start()
    _wait_for(config.out)
    try:
        do_run(config)
    except Exception as error:
        print(error)
        sys.exit(1)


def _die_with_worker() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing ever comes but the end, once the worker is gone
    os._exit(1)


def _wait_for(folder: Path) -> None:
    """Wait until whoever had the run before has let go of its folder, for the run's own check."""
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(filelock.Timeout), filelock.FileLock(folder / "lock", timeout=RELEASE):
        pass
