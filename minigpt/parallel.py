"""Several processes that share one run: what torchrun starts, each with a part of the work.

They all go through the same program with the same data and weights, and stay alike: where there is
work to divide, each does its part, and all of them get the whole result. Only the first one writes.
A process by itself is a team of one, for which nothing here costs or changes anything.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from datetime import timedelta
from functools import wraps
from itertools import islice
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from minigpt.errors import InputError, shown

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = timedelta(minutes=10)  # of a process for one that lives and does not answer
HEAD_START = 5.0  # seconds in which the first process tells what is wrong for all


class Place(NamedTuple):
    """Which one of how many a process is."""

    rank: int  # 0 is the first, the one that writes
    size: int


_place = Place(0, 1)


class ProcessLost(RuntimeError):
    """Another process of the run has ended, or does not answer, so that this one cannot go on."""


def place() -> Place:
    """Return which one of how many this process is; (0, 1) outside `joined`."""
    return _place


def is_first() -> bool:
    """Return whether this process is the one that writes, as one by itself is."""
    return _place.rank == 0


@contextmanager
def joined() -> Iterator[None]:
    """Within, the processes that torchrun has started are one team; without torchrun, nothing is.

    Tensors on GPUs travel by NCCL, and "cuda" is the GPU of the process's own number; those of the
    CPU travel by gloo. All but the first process print nothing to stdout. Within another `joined`
    it does nothing.
    """
    global _place
    if not _is_launched() or dist.is_initialized():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    with _talking():
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    _place = Place(dist.get_rank(), dist.get_world_size())
    try:
        with _silent() if _place.rank else nullcontext():
            yield
        dist.destroy_process_group()  # not after an error: it would wait for the others
    finally:
        _place = Place(0, 1)


@contextmanager
def _silent() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def local_rank() -> int:
    """Return the number of this process among those of its machine, as torchrun gives it."""
    return int(os.environ["LOCAL_RANK"])


@contextmanager
def alone() -> Iterator[None]:
    """Do nothing; raises InputError in a process that torchrun has started."""
    if _is_launched():
        raise InputError(
            "torchrun started a command that several processes cannot share; expected "
            "experiments.handoff without --grid, or experiments.pretrain"
        )
    yield


def let_the_first_speak() -> None:
    """Wait, in any other process, for torchrun to end it because the first one has failed.

    What is wrong with the input is wrong for all processes, and is to be told once. Where the first
    one goes on, the call returns, and this process has to tell it.
    """
    if _is_launched() and int(os.environ["RANK"]):
        time.sleep(HEAD_START)


def _is_launched() -> bool:
    return dist.is_available() and dist.is_torchelastic_launched()


@contextmanager
def _talking() -> Iterator[None]:
    """Raise ProcessLost, in a sentence, where a message to the others does not get through."""
    try:
        yield
    except RuntimeError as error:
        # Such as "[/pytorch/gloo/pair.cc:537] Read error: Connection reset by peer. This may be..."
        reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).split(". ")[0]
        raise ProcessLost(
            "another process of this run has ended or does not answer, so this one ends too "
            f"({shown(reason)})"
        ) from error


def _told(value: object) -> list:
    """Return what each process has given, in the order of their ranks; anything that pickles."""
    told = [None] * _place.size
    with _talking():
        dist.all_gather_object(told, value)
    return told


def share(items: Sequence[Item]) -> Sequence[Item]:
    """Return this process's part: every so-many-th, so that lengths that are sorted are alike."""
    return items[_place.rank :: _place.size]


def mapped(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return the `function` of every item, in order; each process computes its share of them.

    An item is computed as it would be in a process by itself, so that the result is the same bit
    for bit. Tensors, and those in tuples, come back on the CPU where there are several processes.
    """
    own = [function(item) for item in islice(items, _place.rank, None, _place.size)]
    if _place.size == 1:
        return own
    parts = _told([_on_cpu(result) for result in own])
    results = [None] * sum(map(len, parts))
    for rank, part in enumerate(parts):
        results[rank :: _place.size] = part
    return results


def _on_cpu(result):
    if isinstance(result, tuple):
        return tuple(map(_on_cpu, result))
    return result.cpu() if isinstance(result, Tensor) else result


def told_by_all(value: Result) -> list[Result]:
    """Return the value of every process, in the order of their ranks; tensors as in `mapped`."""
    return [value] if _place.size == 1 else _told(_on_cpu(value))


def summed(values: Tensor) -> Tensor:
    """Return the sum of the tensors of all processes, which have one shape and type, in place."""
    if _place.size > 1:
        with _talking():
            dist.all_reduce(values)
    return values


def by_first(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let the first process alone call a function, and the others wait for what it returns.

    An InputError, an OSError or an exit is raised in all of them.
    """

    @wraps(function)
    def call(*arguments, **options) -> Result:
        if _place.size == 1:
            return function(*arguments, **options)
        outcome: list = [None, None]  # what it returned, and what it raised
        if _place.rank == 0:
            try:
                outcome[0] = function(*arguments, **options)
            except (InputError, OSError, SystemExit) as error:
                outcome[1] = error
        with _talking():
            dist.broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    return call


def most(*numbers: float) -> list[float]:
    """Return the largest that any process gives of each number."""
    return [*numbers] if _place.size == 1 else [max(each) for each in zip(*_told(numbers))]
