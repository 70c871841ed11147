"""Being told to stop: by Ctrl-C, by a cluster that takes its machine back, by a closed terminal."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = [s for s in signal.Signals if s.name in ("SIGTERM", "SIGHUP")]  # Windows has no SIGHUP


class Interruption(KeyboardInterrupt):
    """A run was told to stop by a signal; `resumable` once there is a record to go on from."""

    def __init__(self, number: int, *, resumable: bool = False):
        super().__init__(number)
        self.number = number
        self.resumable = resumable

    def __str__(self) -> str:
        return f"interrupted{'; resume=True goes on' if self.resumable else ''}"


def signal_of(stop: KeyboardInterrupt) -> int:
    """Return the number of the signal behind an interruption; a plain one is Ctrl-C."""
    return stop.number if isinstance(stop, Interruption) else signal.SIGINT


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP interrupt as Ctrl-C does; afterwards they do what they did.

    A signal that the process ignores, as SIGHUP under nohup, stays ignored. Only the main thread
    can handle signals; in another one nothing is changed.
    """
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            if signal.getsignal(number) == signal.SIG_DFL:
                previous[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def signals_wait() -> Iterator[list[int]]:
    """Only note the first signal that would interrupt, for the caller to stop when it can.

    Those are Ctrl-C, a notebook's stop button too, and within `signals_interrupt` its signals.
    Yields the list that the signal's number is put in. A second one interrupts at once. Only the
    main thread can handle signals; in another one nothing is changed.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    previous = {n: signal.getsignal(n) for n in (signal.SIGINT, *STOPPING)}

    def note(number: int, frame) -> None:
        if noted:
            _interrupt(number, frame)
        noted.append(number)

    for number, handler in previous.items():
        if handler in (_interrupt, signal.default_int_handler):
            signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is note:
                signal.signal(number, handler)


def _interrupt(number: int, frame) -> None:
    raise Interruption(number)
