"""Who carries out a study's runs: processes of this machine, or the workers of a cluster.

Each run has a process of its own, so that its peak memory is its own and a crash takes nothing
else along.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import (
    active_children,
    connection,
    get_all_start_methods,
    get_context,
    parent_process,
)
from multiprocessing.context import BaseContext
from typing import NamedTuple

import torch

from experiments.run.config import Config
from experiments.run.loop import run
from experiments.run.memory import keep_freed_memory


class Workers(NamedTuple):
    """Where runs can be handed to."""

    submit: Callable[[Config], Future]  # begins a run as soon as a worker is free
    room: Callable[[], int]  # how many can be at work at once, which may change


def as_carried_out(config: Config) -> Config:
    """Return a study's run as it is done now: gone on with if it was begun, without its weights."""
    return replace(config, resume=(config.out / "run.json").exists(), keep="nothing")


def do_run(config: Config) -> None:
    """Do a run in this process; what it prints goes to output.txt in its folder."""
    config.out.mkdir(parents=True, exist_ok=True)
    with (
        open(config.out / "output.txt", "a", encoding="utf-8") as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        run(as_carried_out(config))


@contextmanager
def processes(jobs: int) -> Iterator[Workers]:
    """Within, so many runs at a time can be done on this machine, which share its cores.

    An interruption ends those at work.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    with ProcessPoolExecutor(
        jobs, _start_method(), _start_worker, (threads,), max_tasks_per_child=1
    ) as pool:
        try:
            yield Workers(partial(pool.submit, do_run), lambda: jobs)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.terminate()
            raise


def _start_method() -> BaseContext:
    """Return how to start processes that share nothing: from a server that imported torch once."""
    if "forkserver" not in get_all_start_methods():  # Windows
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([run.__module__])
    return context


def _start_worker(threads: int) -> None:
    """Take a share of the cores, and die with the study, whose restart wants the run."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    connection.wait([parent_process().sentinel])
    os._exit(1)
