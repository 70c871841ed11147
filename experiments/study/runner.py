"""Carry out many runs: skip what is finished, resume what is broken, several at a time.

Each run has a process of its own, so that its peak memory is its own and a crash takes nothing
else along.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import cache
from multiprocessing import (
    active_children,
    connection,
    get_all_start_methods,
    get_context,
    parent_process,
)
from multiprocessing.context import BaseContext

import torch
from tqdm import tqdm

from experiments.run.config import Config, identity
from experiments.run.contents import (
    base_hash,
    check_contents,
    data_hash,
    data_options,
    read_task,
)
from experiments.run.loop import run
from experiments.run.memory import keep_freed_memory
from experiments.run.plan import resolve
from experiments.run.policy import make_policy
from experiments.run.record import read_record
from experiments.run.source import Source
from lora import LoRAConfig
from minigpt.errors import InputError


def run_all(configs: Sequence[Config], jobs: int) -> None:
    """Do every run that is not finished. Raises InputError if one of them cannot be done.

    Should one fail, those at work are finished, the rest is left, and the error names the run.
    """
    for hashes in (_data_hash, _weights_hash):
        hashes.cache_clear()  # another call may find other files
    distinct = {config.out: config for config in configs}
    waiting = [config for config in distinct.values() if not finished(config)]
    threads = max(1, torch.get_num_threads() // jobs)
    with (
        ProcessPoolExecutor(
            jobs, _start_method(), _start_worker, (threads,), max_tasks_per_child=1
        ) as pool,
        tqdm(
            total=len(distinct), initial=len(distinct) - len(waiting), desc="runs", disable=None
        ) as progress,
    ):
        futures = {pool.submit(_run, config): config for config in waiting}
        for future in futures:
            future.add_done_callback(lambda _: progress.update())
        done = _wait(pool, futures)
        failed = [future for future in done if future.exception()]
        if failed:
            pool.shutdown(cancel_futures=True)
            error = failed[0].exception()
            raise InputError(
                f"the run {futures[failed[0]].out} failed ({error}); what was "
                "finished is kept, the same command goes on from there"
            ) from error


def _wait(pool: ProcessPoolExecutor, futures: Iterable[Future]) -> set[Future]:
    """Return what is done once all is, or one has failed; an interruption ends the runs at work."""
    try:
        return wait(futures, return_when=FIRST_EXCEPTION).done
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            process.terminate()
        raise


def finished(config: Config) -> bool:
    """Return whether the run is done.

    Raises InputError if its folder holds another run or a damaged one, or one that was made from
    other data or other weights.
    """
    if not (config.out / "run.json").exists():
        return False
    record = read_record(config.out / "run.json")
    if record["config"] != identity(config):
        raise InputError(
            f"{config.out} holds a run of other options than its name says; "
            "expected the run that the study put there, remove the folder"
        )
    contents, found = record.get("contents", {}), {}
    if "data" in contents:
        found["data"] = _data_hash(data_options(config))
    if "weights" in contents:
        plan = resolve(config)
        found["weights"] = _weights_hash(plan.source, plan.lora, plan.config.precision)
    check_contents(config.out, contents, found)
    return record.get("status") == "finished"


@cache
def _data_hash(options: Config) -> str:
    """Return the hash of the data, which is read once for all runs on it."""
    return data_hash(read_task(options))


@cache
def _weights_hash(source: Source, lora: LoRAConfig | None, precision: str) -> str:
    """Return the hash of a run's base weights, which are loaded once for all runs of a kind."""
    policy, _ = make_policy(
        source,
        dropout=0.0,
        device="cpu",
        lora=lora,
        precision=precision,
        compile="eager",
        generator=torch.Generator(),  # of the adapters, which are no part of the base
    )
    return base_hash(policy)


def _run(config: Config) -> None:
    config.out.mkdir(parents=True, exist_ok=True)
    with (
        open(config.out / "output.txt", "a", encoding="utf-8") as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        resume = (config.out / "run.json").exists()
        run(replace(config, resume=resume, keep="nothing"))


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
