"""Carry out many runs: skip what is finished, resume what is broken, several at a time."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import AbstractContextManager
from functools import cache
from itertools import islice
from pathlib import Path

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
from experiments.run.plan import resolve
from experiments.run.policy import make_policy
from experiments.run.record import read_record
from experiments.run.source import Source
from experiments.study.cluster import cluster
from experiments.study.workers import Workers, processes
from lora import LoRAConfig
from minigpt.errors import InputError

CarryOut = Callable[[Sequence[Config]], None]  # sees to the runs that are not finished

PAUSE = 1.0  # seconds between two looks at how much room there is


def open_workers(jobs: int, scheduler: str | None) -> AbstractContextManager[Workers]:
    """Return who carries out runs: the cluster of a scheduler at an address, or this machine.

    Raises InputError, on entry, if no scheduler answers there.
    """
    return cluster(scheduler) if scheduler else processes(jobs)


def run_all(configs: Sequence[Config], workers: Workers) -> None:
    """Do every run that is not finished. Raises InputError if one of them cannot be done.

    Should one fail, those at work are finished, the rest is left, and the error names the run.
    """
    distinct = {config.out: config for config in configs}
    waiting = unfinished(configs)
    with tqdm(
        total=len(distinct), initial=len(distinct) - len(waiting), desc="runs", disable=None
    ) as progress:
        failed = _hand_out(waiting, workers, progress.update)
    for path, error in failed:
        raise InputError(
            f"the run {path} failed ({error}); what was "
            "finished is kept, the same command goes on from there"
        ) from error


def _hand_out(
    waiting: Sequence[Config], workers: Workers, on_end: Callable[[], object]
) -> list[tuple[Path, BaseException]]:
    """Give the workers as many runs as they have room for until all are done, or one has failed.

    Returns the folders and errors of those that failed.
    """
    runs = iter(waiting)
    at_work: dict[Future, Config] = {}
    failed: list[tuple[Path, BaseException]] = []
    while True:
        if not failed:
            for config in islice(runs, max(0, workers.room() - len(at_work))):
                at_work[workers.submit(config)] = config
        if not at_work:
            return failed
        for future in wait(at_work, PAUSE, FIRST_COMPLETED).done:
            config = at_work.pop(future)
            if error := _error_of(future):
                failed.append((config.out, error))
            on_end()


def _error_of(future: Future) -> BaseException | None:
    """Return why a run failed; what is cancelled, nobody does any longer."""
    return CancelledError("its workers are gone") if future.cancelled() else future.exception()


def unfinished(configs: Sequence[Config]) -> list[Config]:
    """Return the runs that are not done, each once; errors as `finished`."""
    for hashes in (_data_hash, _weights_hash):
        hashes.cache_clear()  # another call may find other files
    distinct = {config.out: config for config in configs}
    return [config for config in distinct.values() if not finished(config)]


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
