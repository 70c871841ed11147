"""What a reader sees of a study: figures, a table per experiment, a verdict per claim."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from experiments.run.display import show_floor
from experiments.run.seeds import numpy_generator
from experiments.study.arms import Study
from experiments.study.claims import PAPER, SECONDS, Claim, scores_of
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
from tasks import Metric, Score, Task

HOW_TO_READ = (
    "Scores are those on the dev split after the last epoch, the mean over seeds ± their standard "
    "deviation, with a 95 % interval over examples and seeds in brackets: a bootstrap over the "
    "examples, and a t draw for the seeds whose spread is pooled over the arms of a task. Floors "
    "need no learning; ± is their standard deviation over draws. A claim is judged by the interval "
    f"of the difference of its two arms, paired by example. The claims are those of {PAPER}."
)


def seed_noise(results: Collection[ArmResult], task: Task) -> dict[str, SeedNoise]:
    """Return what another seed does to each metric, pooled over all arms."""
    return {
        name: pooled_seed_noise(result.metrics(name) for result in results)
        for name in scores_of(task)
    }


def report_study(
    study: Study,
    results: Sequence[ArmResult],
    task: Task,
    folder: Path,
    *,
    noise: dict[str, SeedNoise],
) -> tuple[list[Block], list[Block]]:
    """Return the claims' table (none without claims), and the experiment's part of the report."""
    folder.mkdir(parents=True, exist_ok=True)
    record = results[0].runs[0].record
    figures = draw_study(study, results, task, record["floors"], folder)
    section = [
        Heading(f"{study.title}: {study.task}, {study.model}"),
        Paragraph(study.question),
        *(Picture(path, caption) for path, caption in figures),
        arms_table(results, task, noise, record),
        *pair_blocks(results),
    ]
    judged = [
        (claim, *judge_claim(claim, results, noise[claim.metric], task, floors=record["floors"]))
        for claim in study.claims()
    ]
    return ([claims_table(judged, results, task)] if judged else []), section


def judge_claim(
    claim: Claim,
    results: Sequence[ArmResult],
    noise: SeedNoise,
    task: Task,
    *,
    floors: dict[str, dict[str, float]],
) -> tuple[Difference, Verdict]:
    """Return what our runs say of a claim; the resamples are the same every time."""
    score = scores_of(task)[claim.metric]
    arms = {result.name: result for result in results}
    a, b = (arms[name].metrics(claim.metric) for name in (claim.a, claim.b))
    difference = compare(a, b, noise, numpy_generator(0, "claims"))
    verdict = judge(
        difference,
        expects=claim.expects,
        margin=score.margin * (difference.scores[1] if score.relative else 1.0),
        floors={
            name: scores[claim.metric] for name, scores in floors.items() if claim.metric in scores
        },
        unit=score.unit or task.unit,
        show=score.show,
    )
    return difference, verdict


def claims_table(
    judged: Sequence[tuple[Claim, Difference, Verdict]], results: Sequence[ArmResult], task: Task
) -> Table:
    """Return a row per claim: the paper's figure, ours, the difference, the verdict in words."""
    arms = {result.name: result for result in results}
    rows = []
    for claim, difference, verdict in judged:
        score = scores_of(task)[claim.metric]
        a, b = map(score.show, difference.scores)
        low, high = score.show(difference.low), score.show(difference.high)
        rows.append(
            [
                claim.text,
                claim.paper,
                score.short,
                a,
                b,
                f"{score.show(difference.value)} [{low}, {high}]",
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
    """Return a row per arm, then the untuned model, the floors, and what the gold text scores."""
    names = [*task.judged, *(name for name in task.metrics if name not in task.judged)]
    shown = {name: task.metrics[name] for name in names}
    rows = []
    for result in results:
        cells = [
            _show_arm(result.metrics(name), score, noise[name]) for name, score in shown.items()
        ]
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


def _show_arm(metrics: Sequence[Metric], score: Score, noise: SeedNoise) -> str:
    values = [metric.value for metric in metrics]
    low, high = arm_interval(metrics, noise, numpy_generator(0, "arm"))
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
