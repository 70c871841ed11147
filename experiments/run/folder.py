"""The folder of a run: what was asked, what happened, and what is needed to go on.

run.json                 configuration, environment, status, times, results
metrics.jsonl            one line per step and per evaluation, each says its "kind"
checkpoint.safetensors   the latest state, for --resume, until the run has finished (--keep)
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import filelock
from torch.optim import AdamW

from experiments.run.checkpoint import load_checkpoint, read_progress
from experiments.run.contents import check_contents
from experiments.run.environment import environment
from experiments.run.interruption import Interruption, signal_of, signals_wait
from experiments.run.memory import peak_memory_mib
from experiments.run.metrics_log import check_extent, check_steps, extent, numbers, read_lines
from experiments.run.record import read_record, write_record
from minigpt.errors import InputError, NotFinite, listed
from minigpt.files import write_bytes, write_text
from minigpt.model import GPT

LINES = 20  # of metrics.jsonl that are written together
BEFORE_A_RUN = ("lock", "output.txt")  # which its folder may hold already; a study has the second


class RunFolder:
    """One run's folder, held by one process. Use `open_run` to get one."""

    def __init__(self, path: Path):
        self.path = path
        self.observers: list[Callable[[dict], None]] = []  # each gets every line once it is written
        self.checkpoint = path / "checkpoint.safetensors"
        self.metrics = path / "metrics.jsonl"
        self.record: dict = {}
        self._started = time.monotonic()
        self._lines: list[dict] = []  # of metrics.jsonl, not yet written
        self._end = 0  # bytes of metrics.jsonl that are written

    def log(self, *, kind: str, **values) -> None:
        """Append one line to metrics.jsonl, now or with the next ones: `flush` writes it for sure.

        `kind` says what the line tells of: STEP or EVALUATION.
        Numbers may be scalar tensors. They stay on their device until the line is written, since
        fetching those of every step would make every step wait for the device. With observers
        there is no waiting line: each is told at once. What one of them raises ends the run.
        """
        self._lines.append({"kind": kind, **values})
        if self.observers or len(self._lines) == LINES:
            self.flush()

    def flush(self) -> None:
        """Write all lines that wait; to be done before a checkpoint that counts on them.

        Raises NotFinite at the first line whose loss or gradient is not finite; that line and those
        after it are dropped.
        """
        waiting, self._lines = self._lines, []
        finite, problem = numbers(waiting)
        if finite:
            self._append("".join(json.dumps(line, default=float) + "\n" for line in finite))
        for line in finite:
            for observe in self.observers:
                observe(line)
        if problem:
            raise NotFinite(problem)

    def drop_waiting(self) -> None:
        """Leave the lines that wait unwritten, where their numbers may never be known."""
        self._lines = []

    def _append(self, text: str) -> None:
        """Write to metrics.jsonl, which must still end where the last writing did."""
        with open(self.metrics, "ab") as file:
            if file.tell() != self._end:
                raise InputError(
                    f"{self.metrics} has {file.tell():,} bytes where this run wrote {self._end:,}; "
                    "expected nobody else to change it, go on with --resume"
                )
            file.write(text.encode())
            self._end = file.tell()

    def logged(self) -> list[dict]:
        """All lines of metrics.jsonl; errors as in `read_lines`."""
        self.flush()
        return read_lines(self.metrics)

    def log_extent(self) -> dict:
        """Return what a checkpoint keeps of the log, so that `restore` finds any change of it."""
        self.flush()
        return extent(self.metrics)

    def restore(self, model: GPT, optimizer: AdamW) -> dict | None:
        """Go back to the latest checkpoint and return its progress; None before the first.

        What was logged after it is dropped, and will be logged again. Raises InputError if what
        was logged before it is not all there, as it was.
        """
        progress = None
        if self.checkpoint.exists():
            progress = read_progress(self.checkpoint)
            load_checkpoint(self.checkpoint, model, optimizer)  # which finds any change of progress
        self._cut_log(progress)
        return progress

    def _cut_log(self, progress: dict | None) -> None:
        """Drop what was logged after the checkpoint with this progress."""
        if progress is None:
            write_text(self.metrics, "")
            return
        check_steps(self.metrics, progress["step"])
        if told := progress.pop("log", None):
            kept = check_extent(self.metrics, told)
        else:  # a checkpoint of before logs were hashed
            lines = [line for line in self.logged() if line["step"] <= progress["step"]]
            kept = "".join(json.dumps(line) + "\n" for line in lines).encode()
        write_bytes(self.metrics, kept)
        self._end = len(kept)

    @property
    def is_finished(self) -> bool:
        return self.record.get("status") == "finished"

    def end(self, status: str, **values) -> None:
        """Record how the run ended; one that was finished before stays so, whatever came after.

        Its checkpoint may be gone, and with another status it would be taken to have none yet.
        """
        if not self.is_finished:
            self.update(status=status, **values)

    def recorded(self, name: str) -> dict:
        """Return what run.json holds under a name; InputError where the run never came so far."""
        if name not in self.record:
            raise InputError(
                f"{self.path / 'run.json'} has no {name!r}, which was recorded before the "
                "checkpoint; expected it there, start the run anew in another folder"
            )
        return self.record[name]

    def update(self, **values) -> None:
        """Set fields of run.json; seconds, peak memory and metrics.jsonl are kept up to date."""
        before, self._started = self._started, time.monotonic()
        self.record["seconds"] = round(self.record.get("seconds", 0.0) + self._started - before, 2)
        memory = peak_memory_mib(self.record["config"].get("device") or "cpu")
        so_far = self.record.get("peak_memory_mib", 0.0)  # of the processes before
        self.record |= {"peak_memory_mib": max(memory, so_far), **values}
        write_record(self.path / "run.json", self.record)
        self.flush()  # last, so that a device that fails does not hide why a run failed


@contextmanager
def open_run(
    path: Path, config: dict, *, resume: bool, contents: dict[str, str] | None = None
) -> Iterator[RunFolder]:
    """Hold the folder `path` for one run of `config`, and record how the run ended.

    A folder that holds a run is only continued with `resume`, and only under the same `config` and
    with the same `contents`, the hashes of what the run is made from.
    Raises InputError if another process holds it, or it cannot be written.
    """
    if resume and not (path / "run.json").exists():
        raise InputError(f"there is no run to resume in {path}; expected a run.json there")
    with _take_lock(path):
        run = RunFolder(path)
        _open_record(run, config, resume, contents or {})
        try:
            yield run
            log = run.log_extent()
        except KeyboardInterrupt as stop:
            with signals_wait():  # people press Ctrl-C twice
                run.end("interrupted")
            raise Interruption(signal_of(stop), resumable=True) from stop
        except BaseException as error:
            run.end("failed", error=f"{type(error).__name__}: {error}")
            raise
        run.end("finished", log=log)


def _take_lock(path: Path) -> AbstractContextManager:
    """Make the folder and take its lock; InputError if another run holds it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(path / "lock").acquire(blocking=False)
    except filelock.Timeout as error:
        raise InputError(
            f"another run is at work in {path}; expected a folder of its own, choose one with --out"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot write to the run folder {path} ({error.strerror}); "
            "expected a writable folder, choose one with --out"
        ) from error


def _open_record(run: RunFolder, config: dict, resume: bool, contents: dict[str, str]) -> None:
    if resume:
        _resume_record(run, config, contents)
        if run.is_finished:
            return
    elif (run.path / "run.json").exists():
        raise InputError(
            f"{run.path} already holds a run; continue it with --resume (in a notebook "
            "resume=True), which reports a finished one again, or choose another folder with --out"
        )
    else:
        _check_empty(run)
        run.record = {"config": config, "contents": contents, **environment(config.get("device"))}
    run.update(status="running")


def _check_empty(run: RunFolder) -> None:
    """Refuse a folder with files of somebody else's, who may want to keep a `best/` of his own."""
    left = [path for path in (run.checkpoint, run.metrics) if path.exists()]
    if left:
        raise InputError(
            f"{run.path} has no run.json but the {left[0].name} of another run; "
            "expected an empty folder, choose another one with --out"
        )
    names = sorted(path.name for path in run.path.iterdir())
    if other := [n for n in names if n not in BEFORE_A_RUN and not n.startswith(".")]:
        raise InputError(
            f"{run.path} holds no run but {listed(other, 3)}; expected an empty folder, "
            "choose another one with --out"
        )


def _resume_record(run: RunFolder, config: dict, contents: dict[str, str]) -> None:
    """Take up the record of a run that can go on; what is no longer as it began is added to it."""
    run.record = read_record(run.path / "run.json")
    before = run.record["config"]
    differing = [k for k in sorted({*config, *before}) if config.get(k) != before.get(k)]
    if differing:
        raise InputError(
            f"{run.path} holds a run of another configuration "
            f"(differing: {', '.join(differing)}); resume with the same options"
        )
    check_contents(run.path, run.record.get("contents", {}), contents)
    if run.is_finished:
        return
    for name in ("error", "log"):  # of how it ended before
        run.record.pop(name, None)
    now = environment(config.get("device"))
    other = {name: v for name, v in now.items() if name == "started" or v != run.record.get(name)}
    run.record["resumed"] = [*run.record.get("resumed", []), other]
