"""What a handoff does, in two parts: the SFT that it does not give, and DPO itself."""

from collections.abc import Sequence
from dataclasses import replace

from experiments.run.tables import Table
from experiments.study.document import Block, Folded, Heading, Paragraph
from experiments.study.held_out_table import held_out_blocks
from experiments.study.results import ArmResult, judged_metrics, recorded
from experiments.study.statistics import Difference, compare, compare_by_seed
from tasks import Metric, Score, Task

MEANING = (
    "A handoff after epoch k differs from SFT to the end in two ways: SFT stops after k epochs, "
    "and DPO follows. Its reference, the policy at the handoff, is SFT stopped there, as each "
    "phase has a schedule of its own: a run of SFT for k epochs ends with the same weights. So the "
    "whole lead over SFT alone is the lead of the reference over SFT alone (SFT not given) and "
    "that of the end over its own reference (DPO itself), which add up. What the seed did to both "
    "cancels in the latter. A lead above 0 is better, whatever the metric; in brackets, 95 % "
    "intervals over examples and seeds; with one seed, over examples alone."
)
# What an arm may have to itself and be held against SFT alone: DPO's options, and a run's own.
ITS_OWN = (
    "switch_epoch",
    "pairs",
    "pair_samples",
    "preference",
    "dpo_learning_rate",
    "seed",
    "out",
)
HEADER = [
    "arm",
    "metric",
    "SFT alone",
    "SFT stopped at the handoff",
    "end",
    "SFT not given: lead [95 %]",
    "DPO itself: lead [95 %]",
    "both: lead over SFT alone [95 %]",
]


def handoff_blocks(results: Sequence[ArmResult], task: Task) -> list[Block]:
    """Return tables of the arms with DPO; nothing where there are none."""
    handoffs = [result for result in results if "reference" in result.runs[0].record]
    if not handoffs:
        return []
    judged, there = judged_metrics(results, task), recorded(results)
    others = [name for name in task.metrics if name in there and name not in judged]

    def table(names: Sequence[str]) -> Table:
        rows = [
            [one.name, task.metrics[n].short, *_cells(one, results, n, task.metrics[n])]
            for one in handoffs
            for n in names
        ]
        return Table(HEADER, rows)

    return [
        Heading("What DPO did", 3),
        Paragraph(MEANING),
        table(judged),
        *([Folded("By every other score, exploratory", [table(others)])] if others else []),
        *held_out_blocks(results),
    ]


def own_change(result: ArmResult, metric: str) -> Difference:
    """Return the score at the end of an arm's runs minus that of their own references."""
    return compare_by_seed(result.metrics(metric), stopped(result, metric))


def not_given(result: ArmResult, alone: ArmResult, metric: str) -> Difference:
    """Return the score of an arm's references minus that of SFT to the end."""
    return compare(stopped(result, metric), alone.metrics(metric))


def stopped(result: ArmResult, metric: str) -> list[Metric]:
    """Return one metric of the policy at the handoff, of each seed's run."""
    return [run.metrics_after(run.record["reference"]["epoch"])[metric] for run in result.runs]


def sft_alone(result: ArmResult, results: Sequence[ArmResult]) -> ArmResult | None:
    """Return the arm that differs from this one in nothing but SFT to the end, if there is one."""
    handoff = result.arm.config
    names = ITS_OWN if handoff.switch_epoch else (*ITS_OWN, "sft_learning_rate")
    options = {name: getattr(handoff, name) for name in names}
    for other in results:
        config = other.arm.config
        if config.switch_epoch == config.epochs and replace(config, **options) == handoff:
            return other
    return None


def _cells(result: ArmResult, results: Sequence[ArmResult], metric: str, score: Score) -> list[str]:
    itself = own_change(result, metric)
    end, reference = map(score.show, itself.scores)
    alone = sft_alone(result, results)
    if alone is None:
        return ["", reference, end, "", show_lead(itself, score), ""]
    whole = compare(result.metrics(metric), alone.metrics(metric))
    missing = not_given(result, alone, metric)
    leads = [show_lead(each, score) for each in (missing, itself, whole)]
    return [score.show(whole.scores[1]), reference, end, *leads]


def show_lead(difference: Difference, score: Score) -> str:
    """Return a lead with its 95 % interval, as tables show it."""
    low, high = difference.lead.interval()
    return f"{score.show(difference.lead.value)} [{score.show(low)}, {score.show(high)}]"
