"""A finished study as a record to commit: `python -m experiments.publish --study DIR --out DIR`.

What is copied is small and quotes no data: of each run its run.json, the evaluations and every
tenth step of its metrics.jsonl, both without samples, and the addends of the scores that the report
is made from. The report is made again from the copies, and is the study's own, byte for byte;
`python -m experiments.reproduce --records DIR` makes it at any time.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.run.command import command_line
from experiments.run.evaluation import PACKED, read_addends, statistics_path
from experiments.run.metrics_log import STEP, extent, read_finished
from experiments.run.option_types import checked
from experiments.run.packed import save_packed
from experiments.run.record import read_run, write_record
from experiments.run.tables import Link, Table
from experiments.study.document import Block
from experiments.study.full_report import write_report
from experiments.study.protocol import read_plan, write_plan
from experiments.study.runs import Run
from experiments.study.tuning_table import tried_runs
from minigpt.errors import InputError
from minigpt.files import make_folder, write_text

EVERY = 10  # steps, of which one is kept


@dataclass(frozen=True)
class PublishConfig:
    """Make a record to commit of a study that is finished, without weights, data or samples."""

    study: Path
    """Folder of the study, with its study.json."""
    out: Path
    """Folder of the record, a new one or an empty one."""


def run(config: PublishConfig) -> Path:
    """Copy what the report is made from, and make it there; return the record's folder.

    Raises InputError for a study that is not finished, and for a folder that is not empty.
    """
    config = checked(config)
    if config.out.exists() and any(config.out.iterdir()):
        raise InputError(f"{config.out} is not empty; expected a new folder for the record")
    plan = read_plan(config.study)
    studies = write_report(config.study)  # which reads what has to be copied
    runs = [run for arms in studies for arm in arms for run in arm.parts]  # some in two studies
    folders = {run.folder for run in runs}
    tried = {*tried_runs(plan.tuning)}
    for folder in folders | tried:
        copy_records(folder, config.out / _place(folder))
    for run in runs:
        copy_statistics(run, config.out / _place(run.folder))
    copied = [
        replace(one, arms={arm: [*map(_place, folders)] for arm, folders in one.arms.items()})
        for one in plan.protocols
    ]
    tuning = [_moved(block, config.out) for block in plan.tuning]
    write_plan(config.out, plan._replace(protocols=copied, tuning=tuning))
    write_report(config.out)
    size = sum(path.stat().st_size for path in config.out.rglob("*") if path.is_file())
    print(f"record: {config.out}, {len(folders | tried)} runs, {size / 1e6:.1f} MB")
    return config.out


def _place(run: str | Path) -> str:
    """Return where a run lies in the record."""
    return f"runs/{Path(run).name}"


def _moved(block: Block, out: Path) -> Block:
    """Return a part of the report whose links lead to the runs of the record in `out`."""
    if not isinstance(block, Table):
        return block
    rows = [
        [
            replace(cell, target=out / _place(cell.target.parent) / cell.target.name)
            if isinstance(cell, Link)
            else cell
            for cell in row
        ]
        for row in block.rows
    ]
    return replace(block, rows=rows)


def copy_records(source: Path, target: Path) -> None:
    """Copy a finished run's run.json and metrics.jsonl without samples, and few of its steps.

    The copy of run.json has the hash of the copied log, and under "log_of_run" that of the whole.
    """
    record = read_run(source)
    lines = [
        _without_samples(line)
        for line in read_finished(source, record)
        if line["kind"] != STEP or line["step"] % EVERY == 0
    ]
    log = make_folder(target) / "metrics.jsonl"
    write_text(log, "".join(json.dumps(line) + "\n" for line in lines))
    kept = {name: _without_samples(value) for name, value in record.items()}
    write_record(target / "run.json", {**kept, "log_of_run": record.get("log"), "log": extent(log)})


def copy_statistics(run: Run, target: Path) -> None:
    """Copy the addends of the scores that were read of a run, packed."""
    for split, epoch in run.read:
        path = statistics_path(target, split, epoch).with_suffix(PACKED)
        make_folder(path.parent)
        save_packed(path, read_addends(statistics_path(run.folder, split, epoch)))


def _without_samples(value):
    """Return an evaluation without the texts, which may quote data; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return {name: inner for name, inner in value.items() if name != "samples"}


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(PublishConfig, run, argv)


if __name__ == "__main__":
    main()
