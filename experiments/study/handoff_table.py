"""What DPO itself did: each handoff against its own reference, the policy at the handoff."""

from collections.abc import Sequence

from experiments.run.tables import Table
from experiments.study.document import Block, Heading, Paragraph
from experiments.study.results import ArmResult
from experiments.study.statistics import Difference, compare_by_seed
from tasks import Score, Task

MEANING = (
    "Against SFT to the end, a handoff is charged with the SFT that it was not given. Here the end "
    "of a run is compared with its own reference, the policy at the handoff, so that only DPO lies "
    "between the two; what the seed did to both cancels. A lead above 0 says that DPO has improved "
    "the policy, whatever the metric. In brackets, 95 % intervals over examples and seeds; with "
    "one seed, over examples alone."
)


def handoff_blocks(results: Sequence[ArmResult], task: Task) -> list[Block]:
    """Return a table of the arms with DPO; nothing where there are none."""
    rows = [
        [
            result.name,
            task.metrics[name].short,
            *_cells(own_change(result, name), task.metrics[name]),
        ]
        for result in results
        if "reference" in result.runs[0].record
        for name in task.judged
    ]
    if not rows:
        return []
    header = ["arm", "metric", "reference", "end", "lead of the end [95 %]", "p"]
    return [Heading("What DPO did", 3), Paragraph(MEANING), Table(header, rows)]


def own_change(result: ArmResult, metric: str) -> Difference:
    """Return the score at the end of an arm's runs minus that of their own references."""
    ends = result.metrics(metric)
    references = [
        run.metrics_after(run.record["reference"]["epoch"])[metric] for run in result.runs
    ]
    return compare_by_seed(ends, references)


def _cells(change: Difference, score: Score) -> list[str]:
    low, high = change.lead.interval()
    end, reference = map(score.show, change.scores)
    lead = f"{score.show(change.lead.value)} [{score.show(low)}, {score.show(high)}]"
    return [reference, end, lead, f"{change.p:.2g}"]
