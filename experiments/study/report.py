"""What a reader sees of a study: figures, a table per experiment, a verdict per claim."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.run.display import show_floor
from experiments.study.arms import Study
from experiments.study.claims import PAPER, SECONDS
from experiments.study.document import Block, Heading, Link, Paragraph, Picture, Table
from experiments.study.figures import draw_study
from experiments.study.handoff_table import handoff_blocks
from experiments.study.judging import Case
from experiments.study.pair_table import pair_blocks
from experiments.study.results import ArmResult
from experiments.study.statistics import arm_estimate
from experiments.study.verdict import Verdict, smallest_told
from tasks import Metric, Score, Task

HOW_TO_READ = (
    "Scores are those on the dev split after the last epoch, the mean over seeds ± their standard "
    "deviation, with a 95 % interval over examples and seeds in brackets; with one seed it speaks "
    "of the examples alone. Each arm keeps its own spread over seeds. Floors need no learning; ± "
    "is their standard deviation over draws. A claim is judged by the interval of a lead, the "
    "first arm's over the second in the metric's good direction: a lead above 0 is better, "
    "whatever the metric. The primary claims were fixed before the runs and are judged together "
    "(Holm, 1979): in 95 % of such studies none of their verdicts is wrong. All others are "
    f"exploratory, and of many of those some are wrong. The claims are those of {PAPER}."
)


def report_study(
    study: Study, results: Sequence[ArmResult], task: Task, folder: Path
) -> list[Block]:
    """Return the experiment's part of the report: its figures and its tables."""
    folder.mkdir(parents=True, exist_ok=True)
    record = results[0].runs[0].record
    figures = draw_study(study, results, task, record["floors"], folder)
    return [
        Heading(f"{study.title}: {study.task}, {study.model}"),
        Paragraph(study.question),
        *(Picture(path, caption) for path, caption in figures),
        arms_table(results, task, record),
        *handoff_blocks(results, task),
        *pair_blocks(results),
    ]


def claims_table(
    cases: Sequence[Case], verdicts: Sequence[Verdict], results: Sequence[ArmResult]
) -> Table:
    """Return a row per claim: the paper's figure, ours, the lead, the verdict in words."""
    arms = {result.name: result for result in results}
    rows = []
    for case, verdict in zip(cases, verdicts):
        claim, difference, show = case.claim, case.difference, case.score.show
        low, high = difference.lead.interval()
        rows.append(
            [
                claim.text,
                "primary" if claim.primary else "exploratory",
                claim.paper,
                case.score.short,
                *map(show, difference.scores),
                f"{show(difference.lead.value)} [{show(low)}, {show(high)}]",
                f"{show(case.margin)}; {show(smallest_told(difference))}",
                f"{difference.p:.2g}",
                verdict.sentence,
                _links(arms[claim.a]) + _links(arms[claim.b]),
            ]
        )
    header = [
        "claim",
        "kind",
        "paper",
        "metric",
        "first arm",
        "second arm",
        "lead [95 %]",
        "what matters; what would be found",
        "p",
        "verdict",
        "runs",
    ]
    return Table(header, rows)


def arms_table(results: Sequence[ArmResult], task: Task, record: dict) -> Table:
    """Return a row per arm, then the untuned model, the floors, and what the gold text scores."""
    names = [*task.judged, *(name for name in task.metrics if name not in task.judged)]
    shown = {name: task.metrics[name] for name in names}
    rows = []
    for result in results:
        cells = [_show_arm(result.metrics(name), score) for name, score in shown.items()]
        rows.append([result.name, *cells, *_costs(result), _links(result)])
    arms = len(rows)
    blank = ["", "", "", ""]
    untuned = [score.show(results[0].values(name)[:, 0].mean()) for name, score in shown.items()]
    rows.append(["untuned", *untuned, *blank])
    for kind in ("floors", "ceilings"):
        for title, floor in record[kind].items():
            cells = [show_floor(score, name, floor, missing="") for name, score in shown.items()]
            rows.append([f"{kind.removesuffix('s')}: {title}", *cells, *blank])
    headings = [score.short for score in shown.values()]
    header = ["arm", *headings, "trained parameters", "s/epoch", "peak MiB", "runs"]
    return Table(header, rows, rules=frozenset({arms}))


def _show_arm(metrics: Sequence[Metric], score: Score) -> str:
    values = [metric.value for metric in metrics]
    low, high = arm_estimate(metrics).interval()
    if score.is_share:  # the seeds' noise must not carry it beyond its ends
        low, high = np.clip((low, high), 0, 1)
    spread = f" ± {score.show(np.std(values, ddof=1))}" if len(values) > 1 else ""
    return f"{score.show(np.mean(values))}{spread} [{score.show(low)}, {score.show(high)}]"


def _costs(result: ArmResult) -> list[str]:
    seconds = np.mean([metric.value for metric in result.metrics(SECONDS)])
    memory = max(run.record["peak_memory_mib"] for run in result.runs)
    return [
        f"{result.runs[0].record['parameters']['trained']:,}",
        f"{seconds:.1f}",
        f"{memory:,.0f}",
    ]


def _links(result: ArmResult) -> list[Link]:
    return [Link(f"{run.record['config']['seed']}", run.folder / "run.json") for run in result.runs]
