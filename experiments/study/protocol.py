"""What a study compares, in a file beside its runs: written before they begin, read by the report.

study.json names the arms with the folders of their runs, and the claims, which are thereby fixed
before anything is known. The report is made from it and from what the runs recorded, and needs no
data, no model and no plan: whoever has the folder can make it again.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.run.record import read_hashed, write_record
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


def write_plan(
    folder: Path, title: str, protocols: Sequence[Protocol], tuning: Sequence[Block] = ()
) -> None:
    """Write study.json, under a SHA-256 of its own; `tuning` says how learning rates were found."""
    values = {
        "title": title,
        "studies": [asdict(protocol) for protocol in protocols],
        "tuning": [_as_json(block, folder) for block in tuning],
    }
    write_record(make_folder(folder) / FILE, values)


def read_plan(folder: Path) -> tuple[str, list[Protocol], list[Block]]:
    """Return a study's title, what it compares and how it was tuned.

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
        return values["title"], protocols, [_from_json(one, folder) for one in values["tuning"]]


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
