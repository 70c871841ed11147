"""What DPO does on pairs that it does not learn from, as a table of a study's report."""

from collections.abc import Sequence

import numpy as np

from experiments.run.tables import Table
from experiments.study.document import Block, Paragraph
from experiments.study.results import ArmResult

COLUMNS = {  # of `diagnose`: heading, factor to the shown value, decimals
    "eval_rewards/accuracies": ("reward accuracy %", 100, 1),
    "eval_rewards/margins": ("reward margin", 1, 3),
    "eval_kl/chosen": ("KL, chosen", 1, 4),
    "eval_kl/rejected": ("KL, rejected", 1, 4),
}
MEANING = (
    "After the last epoch, on pairs made of dev examples at each run's handoff: how often the "
    "chosen side has the larger reward, by how much on average (in units of beta, so that only "
    "arms of one beta compare), and the KL from the policy to the reference in nats per token of "
    "either side. Means over seeds ± their standard deviation; every run has pairs of its own."
)


def held_out_blocks(results: Sequence[ArmResult]) -> list[Block]:
    """Return a table of the arms with held-out pairs; nothing where no run recorded any."""
    rows = []
    for result in results:
        last = [run.epochs[-1] for run in result.runs]
        if all(COLUMNS.keys() <= record.keys() for record in last):
            rows.append([result.name, *(_show(name, last) for name in COLUMNS)])
    if not rows:
        return []
    header = ["arm", *(heading for heading, _, _ in COLUMNS.values())]
    return [Paragraph(MEANING), Table(header, rows)]


def _show(name: str, records: Sequence[dict]) -> str:
    _, factor, decimals = COLUMNS[name]
    values = factor * np.array([record[name] for record in records])
    spread = f" ± {values.std(ddof=1):.{decimals}f}" if len(values) > 1 else ""
    return f"{values.mean():.{decimals}f}{spread}"
