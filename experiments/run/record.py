"""run.json: what a run is and how it went, under a SHA-256 of its own.

Runs of before there were hashes are read too. Theirs are known by their form alone.
"""

import hashlib
import json
from pathlib import Path

from minigpt.errors import InputError
from minigpt.files import read_bytes, read_json, reading, write_json

KEY = "sha256"  # in run.json, of all the rest; in its "log", of metrics.jsonl
NUMBER = (int, float)
# The forms of what may be there. In them, `...` stands for any name, or for any number of items.
SCORES = {...: {"value": NUMBER, "interval": [NUMBER, NUMBER], "larger_is_better": bool}}
RECORD = {
    "config": dict,
    "contents": {...: str},
    "task_options": dict,
    "status": str,
    "seconds": NUMBER,
    "peak_memory_mib": NUMBER,
    "parameters": {"trained": int, "total": int},
    "reference": {"epoch": int, "weights": str},
    "floors": {...: {...: NUMBER}},
    "best": {"epoch": int, "phase": str, "scores": SCORES},
    "test": {"scores": SCORES},
    "log": {"bytes": int, KEY: str},
}


def write_record(path: Path, record: dict) -> None:
    """Write run.json, or what else is read back, with its hash, whole or not at all."""
    record = json.loads(json.dumps(record))  # as it will be read
    write_json(path, {**record, KEY: _hash(record)})


def read_run(folder: Path) -> dict:
    """Return the record of the run in a folder; errors as `read_record`, or where there is none."""
    if not (folder / "run.json").is_file():
        raise InputError(f"there is no run in {folder}; expected a folder with a run.json")
    return read_record(folder / "run.json")


def read_record(path: Path) -> dict:
    """Return what run.json holds, but for the hash; raises InputError if it is damaged."""
    with reading(path, "the record of a run"):
        record = dict(json.loads(read_bytes(path)))
    told = record.pop(KEY, None)
    there = {name: v for name, v in record.items() if v is not None}  # a test may be null
    wrong = misfits({"config": None, **there}, RECORD)
    # Where the log's hash is recorded the record's own was too; runs of before have neither.
    changed = "log" in record if told is None else told != _hash(record)
    if wrong or changed:
        where = f"at {wrong[0]}" if wrong else "or was changed: its own SHA-256 does not fit"
        raise InputError(
            f"{path} is damaged {where}; expected the record of a run as the run wrote it"
        )
    return record


def read_hashed(path: Path) -> dict:
    """Return what `write_record` wrote that is no run's record; InputError if it was changed."""
    values = read_json(path)
    if values.pop(KEY, None) != _hash(values):
        raise InputError(
            f"{path} was changed: its own SHA-256 does not fit; expected it as it was written"
        )
    return values


def _hash(record: dict) -> str:
    """Return a SHA-256 of a record, however it is laid out in its file."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def misfits(values: dict, forms: dict) -> list[str]:
    """Return the names of the values that are not of the form given for them."""
    by_name = {name: forms.get(name, forms.get(...)) for name in values}
    return [name for name, form in by_name.items() if form and not _fits(values[name], form)]


def _fits(value: object, form: object) -> bool:
    """Return whether a value has a form; all names of a nested form have to be there."""
    if isinstance(form, dict):
        named = form.keys() - {...}
        return isinstance(value, dict) and named <= value.keys() and not misfits(value, form)
    if isinstance(form, list):
        items = value if isinstance(value, list) else [None]
        forms = [form[1]] * len(items) if form[0] is ... else form
        return len(items) == len(forms) and all(map(_fits, items, forms))
    return isinstance(value, form) and (form is bool or not isinstance(value, bool))
