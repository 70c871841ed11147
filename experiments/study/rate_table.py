"""What the rate of a preference loss does, by the runs that it was tuned with."""

from collections.abc import Sequence
from pathlib import Path

from experiments.run.config import Config
from experiments.run.evaluation import evaluations
from experiments.run.metrics_log import read_finished
from experiments.run.record import read_run
from experiments.run.source import options_of
from experiments.run.tables import Table
from experiments.study.document import Block, Folded, Paragraph
from experiments.study.trials import HELD_OUT_LOSS
from experiments.study.tuned import kind_of
from experiments.study.tuning_table import tried_runs
from tasks.registry import task_class

CHOSEN = (
    "The rate of a preference loss was chosen by that loss on held-out pairs, and not by the score "
    "that the claims are judged by. What other rates did to that score stands under “Learning "
    "rates”."
)
MEANING = (
    "What DPO itself did, in the runs of the search: the lead of the policy at the end over that "
    "at the handoff, of one run each and so without an interval; above 0 is better. With it the "
    "loss on held-out pairs, how often the chosen side has the larger reward there, and the KL to "
    "the reference in nats per token of the chosen side: how far the policy went."
)
HEADER = [
    "arms",
    "where dev is",
    "rate",
    "beta",
    "metric",
    "DPO itself: lead",
    "held-out loss",
    "reward accuracy %",
    "KL, chosen",
]


def rate_blocks(tuning: Sequence[Block]) -> list[Block]:
    """Return a row for each run of a search that handed over; nothing where none did."""
    runs = [run for run in dict.fromkeys(tried_runs(tuning)) if _handed_over(run)]
    if not runs:
        return []
    rows = [_row(run) for run in sorted(runs, key=_order)]
    return [
        Folded(
            "What other rates of preference losses did", [Paragraph(MEANING), Table(HEADER, rows)]
        )
    ]


def _handed_over(run: Path) -> bool:
    record = read_run(run)
    return record["status"] == "finished" and "reference" in record


def _order(run: Path) -> tuple:
    config = options_of(run)
    rate = config.dpo_learning_rate
    return config.task, _kind(config), config.held_back, config.preference.beta, rate


def _kind(config: Config) -> str:
    return kind_of(config, "dpo_learning_rate") or ""


def _row(run: Path) -> list[str]:
    config, record = options_of(run), read_run(run)
    task = task_class(config.task)
    score = task.metrics[task.headline]
    epochs = evaluations(read_finished(run, record))
    end, at_handoff = epochs[-1], record["reference"]["epoch"]
    reference = next(epoch for epoch in epochs if epoch["epoch"] == at_handoff)
    before, after = (each["scores"][task.headline]["value"] for each in (reference, end))
    lead = after - before if score.larger_is_better else before - after
    return [
        _kind(config),
        f"fold {', '.join(map(str, config.held_back))}" if config.held_back else "",
        f"{config.dpo_learning_rate:.4g}",
        f"{config.preference.beta:.4g}",
        score.short,
        score.show(lead),
        f"{end[HELD_OUT_LOSS]:.4f}",
        f"{100 * end['eval_rewards/accuracies']:.1f}",
        f"{end['eval_kl/chosen']:.4f}",
    ]
