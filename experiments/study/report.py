"""What a reader sees of a study: figures, a table per experiment, a verdict per claim."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from experiments.run.display import METRICS, show_floor
from experiments.run.seeds import numpy_generator
from experiments.study.arms import Study
from experiments.study.claims import PAPER_METRICS, SECONDS, UNITS, Claim, show_value
from experiments.study.document import (
    Block,
    Heading,
    Link,
    Paragraph,
    Picture,
    Table,
)
from experiments.study.figures import draw_study
from experiments.study.pair_table import pair_blocks
from experiments.study.results import ArmResult
from experiments.study.statistics import (
    Difference,
    SeedNoise,
    arm_interval,
    compare,
    pooled_seed_noise,
)
from experiments.study.verdict import Verdict, judge
from tasks import Task

HOW_TO_READ = (
    "Scores are those on the dev split after the last epoch, the mean over seeds ± their standard "
    "deviation, with a 95 % interval over examples and seeds in brackets: a bootstrap over the "
    "examples, and a t draw for the seeds whose spread is pooled over the arms of a task. Floors "
    "need no learning; ± is their standard deviation over draws. A claim is judged by the interval "
    "of the difference of its two arms, paired by example."
)


def seed_noise(results: Collection[ArmResult], task: Task) -> dict[str, SeedNoise]:
    """What another seed does to each metric, pooled over all arms."""
    return {
        name: pooled_seed_noise(result.metrics(name) for result in results)
        for name in (*task.metrics, SECONDS)
    }


def report_study(
    study: Study,
    results: Sequence[ArmResult],
    task: Task,
    folder: Path,
    *,
    noise: dict[str, SeedNoise],
) -> tuple[list[Block], list[Block]]:
    """The claims' table (none without claims), and the experiment's own part of the report."""
    folder.mkdir(parents=True, exist_ok=True)
    record = results[0].runs[0].record
    figures = draw_study(study, results, record["floors"], folder)
    section = [
        Heading(f"{study.title}: {study.task}, {study.model}"),
        Paragraph(study.question),
        *(Picture(path, caption) for path, caption in figures),
        arms_table(results, task, noise, record),
        *pair_blocks(results),
    ]
    judged = [
        (
            claim,
            *judge_claim(
                claim, results, noise[claim.metric], task=study.task, floors=record["floors"]
            ),
        )
        for claim in study.claims()
    ]
    return ([claims_table(judged, results)] if judged else []), section


def judge_claim(
    claim: Claim,
    results: Sequence[ArmResult],
    noise: SeedNoise,
    *,
    task: str,
    floors: dict[str, dict[str, float]],
) -> tuple[Difference, Verdict]:
    """What our runs say of a claim; the resamples are the same every time."""
    arms = {result.name: result for result in results}
    a, b = (arms[name].metrics(claim.metric) for name in (claim.a, claim.b))
    difference = compare(a, b, noise, numpy_generator(0, "claims"))
    seconds = claim.metric == SECONDS
    verdict = judge(
        difference,
        expects=claim.expects,
        margin=claim.margin * (difference.scores[1] if seconds else 1.0),
        floors={
            name: scores[claim.metric] for name, scores in floors.items() if claim.metric in scores
        },
        unit="epochs" if seconds else UNITS[task],
        show=lambda value: show_value(claim.metric, value),
    )
    return difference, verdict


def claims_table(
    judged: Sequence[tuple[Claim, Difference, Verdict]], results: Sequence[ArmResult]
) -> Table:
    """A row per claim: the paper's figure, ours, the difference, the verdict in words."""
    arms = {result.name: result for result in results}
    rows = []
    for claim, difference, verdict in judged:
        shown = [
            show_value(claim.metric, value)
            for value in (*difference.scores, difference.value, difference.low, difference.high)
        ]
        rows.append(
            [
                claim.text,
                claim.paper,
                _heading(claim.metric),
                shown[0],
                shown[1],
                f"{shown[2]} [{shown[3]}, {shown[4]}]",
                f"{difference.p:.3f}",
                verdict.sentence,
                _links(arms[claim.a]) + _links(arms[claim.b]),
            ]
        )
    header = [
        "claim",
        "paper",
        "metric",
        "first arm",
        "second arm",
        "difference [95 %]",
        "p",
        "verdict",
        "runs",
    ]
    return Table(header, rows)


def arms_table(
    results: Sequence[ArmResult], task: Task, noise: dict[str, SeedNoise], record: dict
) -> Table:
    """A row per arm, then the untuned model, the floors, and what the gold text scores."""
    first = [*PAPER_METRICS[task.name]]
    names = first + [name for name in task.metrics if name not in first]
    rows = []
    for result in results:
        cells = [_show_arm(result, name, noise[name]) for name in names]
        rows.append([result.name, *cells, *_costs(result), _links(result)])
    arms = len(rows)
    untuned = {name: results[0].values(name)[:, 0].mean() for name in names}
    blank = ["", "", "", ""]
    rows.append(["untuned", *(show_value(name, untuned[name]) for name in names), *blank])
    for kind in ("floors", "ceilings"):
        for title, scores in record[kind].items():
            shown = [show_floor(name, scores) if name in scores else "" for name in names]
            rows.append([f"{kind.removesuffix('s')}: {title}", *shown, *blank])
    header = ["arm", *map(_heading, names), "trained parameters", "s/epoch", "peak MiB", "runs"]
    return Table(header, rows, rules=frozenset({arms}))


def _show_arm(result: ArmResult, name: str, noise: SeedNoise) -> str:
    metrics = result.metrics(name)
    values = [metric.value for metric in metrics]
    low, high = arm_interval(metrics, noise, numpy_generator(0, "arm"))
    if METRICS[name].is_share:  # the seeds' noise must not carry it beyond its ends
        low, high = np.clip((low, high), 0, 1)
    spread = f" ± {show_value(name, np.std(values, ddof=1))}" if len(values) > 1 else ""
    interval = f"[{show_value(name, low)}, {show_value(name, high)}]"
    return f"{show_value(name, np.mean(values))}{spread} {interval}"


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


def _heading(name: str) -> str:
    return "s/epoch" if name == SECONDS else METRICS[name].short
