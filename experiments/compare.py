"""Runs beside each other: `python -m experiments.compare --runs A B --out DIR`.

Each run is compared with the first, at its best epoch, on the very same examples: the lead by
every metric with its interval, the samples beside each other, the curves in one figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.run.command import command_line
from experiments.run.display import align
from experiments.run.option_types import checked
from experiments.run.tables import Table
from experiments.study.document import Block, Figures, Heading, Paragraph, write_document
from experiments.study.figures import NOTE, draw_epochs
from experiments.study.results import ArmResult
from experiments.study.side_by_side import (
    best_of,
    common_floors,
    difference_rows,
    differences,
    have_test,
    read_runs,
    samples_beside,
)
from experiments.study.statistics import Difference
from minigpt.files import make_folder, write_text

HOW_TO_READ = (
    "A lead is that of the second run over the first: above 0 it is better, whatever the metric. "
    "Each is scored after the epoch that was best on dev. Brackets are 95 % intervals, paired by "
    "example: they cover the choice of examples. With one seed a run they say nothing of seeds, "
    "which can move a score by more; and where many metrics are looked at, one in twenty intervals "
    "leaves out 0 by chance."
)


@dataclass(frozen=True)
class CompareConfig:
    """Compare finished runs of one task on the same examples, each with the first of them."""

    runs: tuple[Path, ...]
    """Folders of two runs or more."""
    out: Path
    """Folder for report.md, report.html, samples.txt and the figures."""


def run(config: CompareConfig) -> dict[tuple[str, str], dict[str, Difference]]:
    """Print and write the comparison; return the differences by run, split and metric.

    Raises InputError for runs that are not finished, and for those of other tasks or other data.
    """
    config = checked(config)
    arms = read_runs([Path(folder) for folder in config.runs])
    out = make_folder(config.out)
    found, blocks = {}, [Paragraph(HOW_TO_READ)]
    print(f"{HOW_TO_READ}\n")
    for arm in arms[1:]:
        for split in ("dev", "test") if have_test(arms[0], arm) else ("dev",):
            found[arm.name, split] = differences(arms[0], arm, split)
            blocks += _section(arms[0], arm, split, found[arm.name, split])
    task = arms[0].runs[0].task
    blocks.append(Figures(draw_epochs(arms, task, common_floors(arms), out), f"Figures: {NOTE}"))
    samples = samples_beside(arms)
    write_text(out / "samples.txt", "\n\n\n".join(samples) + "\n")
    title = f"{', '.join(arm.name for arm in arms[1:])} against {arms[0].name}"
    write_document(out, title, blocks)
    for sample in samples[:1]:
        print(sample + "\n")
    print(f"report: {out}/report.md, report.html, samples.txt")
    return found


def _section(
    baseline: ArmResult, arm: ArmResult, split: str, found: dict[str, Difference]
) -> Sequence[Block]:
    """Print the differences of two runs on a split, and return them as parts of the report."""
    names = [f"{each.name}, epoch {best_of(each)['epoch']}" for each in (baseline, arm)]
    units = next(iter(found.values())).units
    title = f"{split}, {units:,} {baseline.runs[0].task.unit}: {names[1]} against {names[0]}"
    rows = difference_rows(baseline.runs[0].task, found)
    header = ["", "better", baseline.name, arm.name, "lead"]
    lines = align([["", "better", "first", "second", "lead"], *rows])
    print("\n".join([title, *lines, ""]))
    return [Heading(title), Table(header, rows)]


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(CompareConfig, run, argv)


if __name__ == "__main__":
    main()
