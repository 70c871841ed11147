"""An experiment's part of the report: figures, a table of claims, and all numbers below."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.run.display import show_floor
from experiments.run.tables import Link, Mark, Table
from experiments.study.claims import MEMORY, SECONDS
from experiments.study.document import Block, Figures, Folded, Heading, Paragraph
from experiments.study.figures import draw_epochs, draw_heat_map
from experiments.study.fold_units import fold_blocks
from experiments.study.forest import TONES, Judged
from experiments.study.handoff_table import handoff_blocks, show_lead
from experiments.study.judging import Case, not_scored
from experiments.study.pair_table import pair_blocks
from experiments.study.protocol import Protocol
from experiments.study.results import ArmResult, judged_metrics, recorded
from experiments.study.runs import Run
from experiments.study.statistics import arm_estimate
from experiments.study.verdict import Verdict, smallest_told
from tasks import Metric, Score, Task

UNSCORED = (
    "Not judged: the claims on {}, which these runs do not tell; of what training has not seen it "
    "cannot be told where it has seen something of every example, or the arms of other ones."
)


def study_blocks(
    protocol: Protocol,
    results: Sequence[ArmResult],
    task: type[Task],
    judged: Sequence[Judged],
    folder: Path,
) -> list[Block]:
    """Return the experiment's part of the report in `folder`: its figures and its tables."""
    figures = folder / protocol.slug
    record = results[0].runs[0].record
    pictures = draw_epochs(results, task, record["floors"], figures)
    if protocol.heat_map:
        pictures += draw_heat_map(protocol.heat_map, results, task, figures)
    pairs = pair_blocks(results)
    return [
        Heading(protocol.heading),
        Paragraph(protocol.question),
        Figures(pictures),
        *([claims_table(judged)] if judged else []),
        *fold_blocks(judged, results, task),
        *(Paragraph(UNSCORED.format(name)) for name in not_scored(protocol.claims, results)),
        Folded("Every arm: scores, floors, costs, and its runs", [arms_table(results, task)]),
        *test_blocks(results, task),
        *handoff_blocks(results, task),
        *([Folded("The preference pairs", pairs)] if pairs else []),
    ]


def claims_table(judged: Sequence[Judged]) -> Table:
    """Return a row per claim: the paper's figure, ours, the lead, the verdict and why."""
    rows = []
    for case, verdict in judged:
        claim, difference, show = case.claim, case.difference, case.score.show
        rows.append(
            [
                claim.text,
                "primary" if claim.primary else "exploratory",
                claim.paper,
                case.score.short,
                *map(show, difference.scores),
                show_lead(difference, case.score),
                show(case.margin),
                show(_would_be_found(case, verdict)),
                f"{difference.p:.2g}",
                Mark(verdict.word, TONES[verdict.word]),
                verdict.reason,
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
        "margin",
        "would be found",
        "p",
        "verdict",
        "why",
    ]
    return Table(header, rows)


def _would_be_found(case: Case, verdict: Verdict) -> float:
    expects, margin = case.claim.expects, case.margin
    return smallest_told(case.difference, verdict.interval, expects=expects, margin=margin)


def arms_table(results: Sequence[ArmResult], task: type[Task]) -> Table:
    """Return a row per arm, then the untuned model, the floors, and what the gold text scores."""
    judged, there = judged_metrics(results, task), recorded(results)
    names = [*judged, *(name for name in task.metrics if name not in judged)]
    shown = {name: task.metrics[name] for name in names if name in there}
    rows = []
    for result in results:
        cells = [_show_arm(result.metrics(name), score) for name, score in shown.items()]
        rows.append([result.name, *cells, *_costs(result), _links(result)])
    arms = len(rows)
    blank = ["", "", "", ""]
    untuned = [score.show(results[0].values(name)[:, 0].mean()) for name, score in shown.items()]
    rows.append(["untuned", *untuned, *blank])
    record = results[0].runs[0].record
    for kind in ("floors", "ceilings"):
        for title, floor in record[kind].items():
            cells = [show_floor(score, name, floor, missing="") for name, score in shown.items()]
            rows.append([f"{kind.removesuffix('s')}: {title}", *cells, *blank])
    headings = [score.short for score in shown.values()]
    header = ["arm", *headings, "trained parameters", "s/epoch", "peak MiB", "runs, by seed"]
    return Table(header, rows, rules=frozenset({arms}))


def test_blocks(results: Sequence[ArmResult], task: type[Task]) -> list[Block]:
    """Return a row per arm with its scores on test; nothing where a run has none."""
    on_test = set.intersection(*(set(run.on_test) for each in results for run in each.runs))
    shown = {name: score for name, score in task.metrics.items() if name in on_test}
    if not shown:
        return []
    rows = [
        [
            result.name,
            *(
                _show_arm([run.on_test[name] for run in result.runs], score)
                for name, score in shown.items()
            ),
        ]
        for result in results
    ]
    table = Table(["arm", *(score.short for score in shown.values())], rows)
    return [Folded("On test: every run once, after the epoch that was best on dev", [table])]


def _show_arm(metrics: Sequence[Metric], score: Score) -> str:
    values = [metric.value for metric in metrics]
    low, high = arm_estimate(metrics).interval()
    if score.is_share:  # the seeds' noise must not carry it beyond its ends
        low, high = np.clip((low, high), 0, 1)
    spread = f" ± {score.show(np.std(values, ddof=1))}" if len(values) > 1 else ""
    return f"{score.show(np.mean(values))}{spread} [{score.show(low)}, {score.show(high)}]"


def _costs(result: ArmResult) -> list[str]:
    seconds = np.mean([metric.value for metric in result.metrics(SECONDS)])
    memory = np.mean([metric.value for metric in result.metrics(MEMORY)])
    return [
        f"{result.runs[0].record['parameters']['trained']:,}",
        f"{seconds:.1f}",
        f"{memory:,.0f}",
    ]


def _links(result: ArmResult) -> list[Link]:
    return [Link(_seed_and_fold(run), run.folder / "run.json") for run in result.parts]


def _seed_and_fold(run: Run) -> str:
    options = run.record["config"]
    return "/".join(str(options[name]) for name in ("seed", "fold") if name in options)
