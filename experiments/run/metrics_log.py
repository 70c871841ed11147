"""metrics.jsonl: its lines as they are written, and as they are read back, none missing."""

import hashlib
import json
import math
from itertools import count, takewhile
from pathlib import Path

import torch

from experiments.run.contents import SHOWN
from experiments.run.record import KEY, NUMBER, SCORES, misfits
from minigpt.errors import InputError
from minigpt.files import reading

STEP, EVALUATION = "step", "evaluation"  # kinds of lines
LINE = {
    "step": int,
    "epoch": int,
    "phase": str,
    "split": str,
    "loss": NUMBER,
    "seconds": NUMBER,
    "evaluation_seconds": NUMBER,
    "samples": [..., str],
    "scores": SCORES,
}
SCORED = ("step", "epoch", "phase", "split", "seconds")  # what stands where scores stand
MUST_BE_FINITE = ("loss", "grad_norm")
ANEW = "put the file back or start the run anew in another folder"


def read_lines(path: Path) -> list[dict]:
    """Return all lines; a last line that was cut short by a crash is left out.

    Lines of before kinds were written get theirs. Raises InputError for any other line that is not
    as it was written.
    """
    records = []
    for number, line in enumerate(_content(path).split(b"\n")[:-1], 1):
        try:
            record = _checked(dict(json.loads(line)))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"line {number} of {path} is damaged; expected what the run wrote there, "
                "start the run anew in another folder"
            ) from error
        records.append(record)
    return records


def _checked(line: dict) -> dict:
    """Return a line with its kind; raises ValueError unless it has the form of one."""
    line = {"kind": STEP if "loss" in line else EVALUATION, **line}
    needed = SCORED if "scores" in line else ("step",)
    if wrong := misfits({**dict.fromkeys(needed), **line}, LINE):
        raise ValueError(f"it is damaged at {wrong[0]}")
    return line


def read_finished(folder: Path, record: dict) -> list[dict]:
    """Return all lines of a finished run's log; `record` is its run.json.

    Raises InputError for a log that was changed since.
    """
    path = folder / "metrics.jsonl"
    if told := record.get("log"):  # records of before logs were hashed have none
        check_extent(path, told)
    return read_lines(path)


def extent(path: Path) -> dict:
    """Return how long the log is by now, and its SHA-256: what `check_extent` looks for."""
    content = _content(path)
    return {"bytes": len(content), KEY: hashlib.sha256(content).hexdigest()}


def check_extent(path: Path, then: dict) -> bytes:
    """Return the log up to the extent that it had then; InputError if it was changed since."""
    content = _content(path)[: then["bytes"]]
    before, now = then[KEY], hashlib.sha256(content).hexdigest()
    if now != before:
        raise InputError(
            f"{path} was changed since the run wrote its first {then['bytes']:,} bytes (SHA-256 "
            f"{before[:SHOWN]} then, {now[:SHOWN]} now); expected them as they were, {ANEW}"
        )
    return content


def check_steps(path: Path, last: int) -> None:
    """Raise InputError unless the log has every step up to the `last`."""
    steps = {record["step"] for record in read_lines(path) if record["kind"] == STEP}
    lacking = last - sum(1 <= step <= last for step in steps)
    if lacking:
        first = next(step for step in count(1) if step not in steps)
        end = next(step for step in count(last, -1) if step not in steps)
        raise InputError(
            f"{path} lacks {lacking} of the {last} steps before the checkpoint, from {first} to "
            f"{end}; expected all of them, {ANEW}"
        )


def _content(path: Path) -> bytes:
    with reading(path, "the log of a run"):
        return path.read_bytes() if path.exists() else b""


def numbers(lines: list[dict]) -> tuple[list[dict], str | None]:
    """Return lines with numbers for their scalar tensors, which waits for their device.

    The lines end before the first whose loss or gradient is not finite; what is to be said of that
    one comes with them, else None.
    """
    fetched = [
        {name: v.item() if isinstance(v, torch.Tensor) else v for name, v in line.items()}
        for line in lines
    ]
    finite = list(takewhile(_is_finite, fetched))
    return finite, _divergence(fetched[len(finite)]) if len(finite) < len(lines) else None


def _is_finite(line: dict) -> bool:
    return all(math.isfinite(line.get(name, 0.0)) for name in MUST_BE_FINITE)


def _divergence(line: dict) -> str:
    """Return what is said of a step whose loss or gradient is not finite."""
    rate = f"--{line['phase']}-learning-rate" if "phase" in line else "--learning-rate"
    found = ", ".join(f"{name} {line[name]}" for name in MUST_BE_FINITE if name in line)
    return (
        f"training diverged at step {line['step']} with the learning rate "
        f"{line.get('learning_rate', math.nan):g} ({found}); expected finite numbers, so start "
        f"anew with a lower {rate}; the checkpoint before it is kept"
    )
