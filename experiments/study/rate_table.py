"""What the rate of a preference loss does, by the runs that it was tuned with."""

from collections.abc import Mapping
from pathlib import Path

from experiments.run.config import Config, make_config
from experiments.run.evaluation import evaluations
from experiments.run.metrics_log import read_finished
from experiments.run.tables import Table
from experiments.study.document import Block, Folded, Paragraph
from experiments.study.trials import HELD_OUT_LOSS
from experiments.study.tuned import kind_of
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


def rate_blocks(tried: Mapping[Path, dict]) -> list[Block]:
    """Return a row for each run of a search that handed over; nothing where none did.

    `tried` are the records of the search's runs by their folders.
    """
    runs = [
        (make_config(**record["config"]), folder, record)
        for folder, record in tried.items()
        if record["status"] == "finished" and "reference" in record
    ]
    if not runs:
        return []
    rows = [_row(*run) for run in sorted(runs, key=lambda run: _order(run[0]))]
    blocks = [Paragraph(MEANING), Table(HEADER, rows)]
    return [Folded("What other rates of preference losses did", blocks)]


def _order(config: Config) -> tuple:
    rate, beta = config.dpo_learning_rate, config.preference.beta
    return config.task, kind_of(config, "dpo_learning_rate"), config.held_back, beta, rate


def _row(config: Config, folder: Path, record: dict) -> list[str]:
    task = task_class(config.task)
    score = task.metrics[task.headline]
    epochs = evaluations(read_finished(folder, record))
    end, at_handoff = epochs[-1], record["reference"]["epoch"]
    reference = next(epoch for epoch in epochs if epoch["epoch"] == at_handoff)
    before, after = (each["scores"][task.headline]["value"] for each in (reference, end))
    return [
        kind_of(config, "dpo_learning_rate"),
        f"fold {', '.join(map(str, config.held_back))}" if config.held_back else "",
        f"{config.dpo_learning_rate:.4g}",
        f"{config.preference.beta:.4g}",
        score.short,
        score.show(after - before if score.larger_is_better else before - after),
        f"{end[HELD_OUT_LOSS]:.4f}",
        f"{100 * end['eval_rewards/accuracies']:.1f}",
        f"{end['eval_kl/chosen']:.4f}",
    ]
