"""The speed table of several hosts side by side, each beside its ceilings.

    python -m benchmarks.hosts "EPYC=records/speed/a.json,records/speed/b.json" "Xeon=more/c.json"

A host is a name and the records that `benchmarks.run` wrote on it. A ratio to the usual stack says
as much of the host as of us, since the two sides meet different ceilings; so these stand above it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro

from benchmarks.table import summarise
from experiments.run.command import command_line
from minigpt.errors import InputError
from minigpt.files import reading

PRECISIONS = ("fp32", "bf16")
UNMEASURED = "-"


@dataclass(frozen=True)
class Config:
    """Print the measurements of several hosts as one table in Markdown."""

    hosts: tyro.conf.Positional[tuple[str, ...]]
    """NAME=FILE,FILE,...: a host, and the records of it."""


@dataclass(frozen=True)
class Host:
    """What was measured on a machine."""

    name: str
    ceilings: dict[str, float]  # "fp32", "bf16": operations a second; "bandwidth": bytes a second
    rows: dict[tuple[str, str], dict]  # row and precision -> what `summarise` makes of it


def run(config: Config) -> str:
    """Print the table and return it; InputError for what is no record."""
    if not config.hosts:
        raise InputError("there are no hosts; expected NAME=FILE,FILE,... for each")
    text = "\n".join(hosts_table([read_host(told) for told in config.hosts]))
    print(text)
    return text


def read_host(told: str) -> Host:
    """Return the host that NAME=FILE,FILE,... tells; ceilings are medians over its records."""
    name, equals, paths = told.partition("=")
    if not (name and equals and paths):
        raise InputError(f"there is a host {told!r}; expected NAME=FILE,FILE,...")
    records = [_read(Path(path)) for path in paths.split(",")]
    ceilings = {"bandwidth": median(record["ceilings"]["bandwidth"] for record in records)}
    for precision in PRECISIONS:
        speeds = [record["ceilings"]["flops"].get(precision) for record in records]
        if known := [speed for speed in speeds if speed is not None]:
            ceilings[precision] = median(known)
    rows = {}
    for record in records:
        least = record.get("least_work") or record["floors"]  # as older records call it
        for row in summarise(record["measurements"], least):
            key = row["row"], row["precision"]
            if key in rows:
                raise InputError(
                    f"{name} has {' '.join(key)} in two records; expected each row once"
                )
            rows[key] = row
    return Host(name, ceilings, rows)


def _read(path: Path) -> dict:
    """Return a record of `benchmarks.run`."""
    with reading(path, "a record of benchmarks.run"):
        record = json.loads(path.read_text())
        missing = [name for name in ("measurements", "ceilings") if name not in record]
    if missing:
        raise InputError(f"{path} has no {missing[0]}; expected a record of benchmarks.run")
    return record


def hosts_table(hosts: list[Host]) -> list[str]:
    """Return the lines of a table in Markdown: ceilings, then each row's ratio and gap by host.

    A cell is how many times as long the peers take, and in parentheses how many times the least
    time ours takes.
    """
    columns = [(host, precision) for host in hosts for precision in PRECISIONS]
    lines = [
        ("", *(f"{host.name}, {precision}" for host, precision in columns)),
        ("---",) * (1 + len(columns)),
        ("ceiling, GFLOP/s", *(_ceiling(host, precision) for host, precision in columns)),
        ("ceiling, GB/s", *(_ceiling(host, "bandwidth") for host, _ in columns)),
    ]
    names = dict.fromkeys(row for host in hosts for row, _ in host.rows)
    lines += [(row, *(_cell(host.rows.get((row, p))) for host, p in columns)) for row in names]
    return [f"| {' | '.join(line)} |" for line in lines]


def _ceiling(host: Host, name: str) -> str:
    return f"{host.ceilings[name] / 1e9:,.0f}" if name in host.ceilings else UNMEASURED


def _cell(row: dict | None) -> str:
    """Return "4.27 (1.39)": the peers' time over ours, and ours over the least."""
    if row is None or row["ours"] is None:
        return UNMEASURED
    ratio = f"{row['ratio']:.2f}" if "ratio" in row else UNMEASURED
    return f"{ratio} ({row['gap']:.2f})"


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(Config, run, argv)


if __name__ == "__main__":
    main()
