"""What DPO does on pairs that it does not learn from, as a table of a study's report."""

from collections.abc import Sequence

import numpy as np

from experiments.run.tables import Table
from experiments.study.document import Block, Paragraph
from experiments.study.results import ArmResult
from experiments.study.runs import Run

LOSS, MARGINS = "eval_loss", "eval_rewards/margins"
COLUMNS = {  # of `diagnose`: heading, factor to the shown value, decimals
    LOSS: ("loss", 1, 3),
    "eval_rewards/accuracies": ("reward accuracy %", 100, 1),
    MARGINS: ("margin, nats", 1, 3),
    "eval_kl/chosen": ("KL, chosen", 1, 4),
    "eval_kl/rejected": ("KL, rejected", 1, 4),
}
MEANING = (
    "After the last epoch, on pairs made of dev examples at each run's handoff: the loss, which "
    "for DPO's own begins at ln 2 = 0.693, so that what ends above it has learnt nothing that "
    "carries over, how often the chosen side has the larger reward, by how many nats on average "
    "(the margin of rewards over the run's beta, which may be tuned for each fold), and the KL "
    "from the policy to the reference in nats per token of either side. Means over seeds ± their "
    "standard deviation; every run has pairs of its own, made by its own policy, so that the "
    "pairs of a late handoff are harder. The accuracy saturates long before the policy has moved."
)


def held_out_blocks(results: Sequence[ArmResult]) -> list[Block]:
    """Return a table of the arms with held-out pairs; nothing where no run recorded any."""
    rows = [
        [result.name, *(_show(name, result) for name in COLUMNS)]
        for result in results
        if all(COLUMNS.keys() <= part.epochs[-1].keys() for part in result.parts)
    ]
    if not rows:
        return []
    header = ["arm", *(heading for heading, _, _ in COLUMNS.values())]
    return [Paragraph(MEANING), Table(header, rows)]


def _show(name: str, result: ArmResult) -> str:
    _, factor, decimals = COLUMNS[name]
    values = factor * np.array([np.mean([_of(p, name) for p in run.parts]) for run in result.runs])
    spread = f" ± {values.std(ddof=1):.{decimals}f}" if len(values) > 1 else ""
    worst = max(_of(part, LOSS) for part in result.parts)
    told = f", worst run {worst:.{decimals}f}" if name == LOSS else ""
    return f"{values.mean():.{decimals}f}{spread}{told}"


def _of(run: Run, name: str) -> float:
    value = run.epochs[-1][name]
    return value / run.record["config"]["beta"] if name == MARGINS else value
