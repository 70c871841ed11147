"""What a study compares, in a file beside its runs: written before they begin, read by the report.

study.json names the arms with the folders of their runs, and the claims. It is written before the
runs begin, and keeps how many were finished when the primary claims first stood as they do: where
that is none, they were fixed before anything was known. The report is made from it and from what
the runs recorded, and needs no data and no model: whoever has the folder can make it again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from experiments.run.record import read_hashed, read_run, write_record
from experiments.run.tables import Link, Table, relative
from experiments.study.arms import Study
from experiments.study.claims import Claim
from experiments.study.document import Block, Paragraph
from minigpt.errors import InputError
from minigpt.files import make_folder, reading

FILE = "study.json"


@dataclass(frozen=True)
class Protocol:
    """One experiment on one task and model."""

    name: str
    title: str
    question: str
    task: str
    model: str  # its name, without the folders of this machine
    arms: dict[str, list[str]]  # name -> folders of its runs, seen from the study's
    claims: list[Claim]
    heat_map: list[list]  # beta, learning rate, arm

    @property
    def heading(self) -> str:
        return f"{self.title}: {self.task}, {self.model}"

    @property
    def slug(self) -> str:
        """The name of what belongs to it alone."""
        return f"{self.name}-{self.task}-{self.model}"


def protocol_of(study: Study, folder: Path) -> Protocol:
    """Return what a study compares, its runs seen from `folder`."""
    return Protocol(
        study.name,
        study.title,
        study.design,
        study.task,
        Path(study.model).name,
        {
            arm.name: [relative(config.out, folder) for config in study.configs(arm)]
            for arm in study.arms()
        },
        study.claims(),
        [list(cell) for cell in study.heat_map()],
    )


class Planned(NamedTuple):
    """What study.json holds."""

    title: str
    protocols: list[Protocol]
    tuning: list[Block]  # how learning rates were found
    known: int = 0  # runs that were finished when the primary claims first stood as they do


def plan_study(
    folder: Path, title: str, protocols: Sequence[Protocol], tuning: Sequence[Block] = ()
) -> None:
    """Write the plan of a study whose runs are about to be done, those that are missing.

    Raises InputError where another study.json is there, and damaged.
    """
    before = read_plan(folder) if (folder / FILE).is_file() else Planned(title, [], [])
    changed = not _primary(protocols) <= _primary(before.protocols)
    known = _finished(folder, protocols) if changed else before.known
    write_plan(folder, Planned(title, [*protocols], [*tuning], known))


def write_plan(folder: Path, plan: Planned) -> None:
    """Write study.json, under a SHA-256 of its own."""
    values = {
        "title": plan.title,
        "studies": [asdict(protocol) for protocol in plan.protocols],
        "tuning": [_as_json(block, folder) for block in plan.tuning],
        "known": plan.known,
    }
    write_record(make_folder(folder) / FILE, values)


def _primary(protocols: Sequence[Protocol]) -> set[str]:
    """Return the primary claims as JSON has them, for which lists and tuples are the same."""
    claims = [claim for one in protocols for claim in one.claims if claim.primary]
    return {json.dumps(asdict(claim)) for claim in claims}


def _finished(folder: Path, protocols: Sequence[Protocol]) -> int:
    """Return how many of the studies' runs are finished."""
    runs = {folder / run for one in protocols for arm in one.arms.values() for run in arm}
    there = [run for run in runs if (run / "run.json").is_file()]
    return sum(read_run(run)["status"] == "finished" for run in there)


def read_plan(folder: Path) -> Planned:
    """Return what a study compares and how it was tuned.

    Raises InputError where there is no study.json or it was changed.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"there is no study in {folder}; expected a folder with a {FILE}")
    with reading(path, "the plan of a study"):
        values = read_hashed(path)
        protocols = [
            Protocol(**{**study, "claims": [Claim(**claim) for claim in study["claims"]]})
            for study in values["studies"]
        ]
        tuning = [_from_json(one, folder) for one in values["tuning"]]
        return Planned(values["title"], protocols, tuning, values.get("known", 0))


def _as_json(block: Paragraph | Table, folder: Path) -> dict:
    if isinstance(block, Paragraph):
        return asdict(block)
    rows = [
        [
            [cell.text, relative(cell.target, folder)] if isinstance(cell, Link) else cell
            for cell in row
        ]
        for row in block.rows
    ]
    return {"header": [*block.header], "rows": rows, "rules": sorted(block.rules)}


def _from_json(values: dict, folder: Path) -> Paragraph | Table:
    if "text" in values:
        return Paragraph(**values)
    rows = [
        [cell if isinstance(cell, str) else Link(cell[0], folder / cell[1]) for cell in row]
        for row in values["rows"]
    ]
    return Table(values["header"], rows, frozenset(values["rules"]))
