"""The figure of a run: loss and scores by epoch, the handoff marked, rewards and margins."""

from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.run.metrics_log import EVALUATION, STEP
from minigpt.files import replacing
from tasks import Score, Task

COLOURS = {"untuned": "#555555", "sft": "#1b6ca8", "dpo": "#c8553d"}
REWARDS = {"chosen": "#2a7f4f", "rejected": "#b0413e", "margins": "#333333"}


def draw_curves(path: Path, records: list[dict], floors: dict, task: Task | type[Task]) -> None:
    """Draw the records of a run into a PNG file, as `curves` does."""
    with replacing(path) as temporary:
        curves(records, floors, task).savefig(temporary, dpi=120, format="png")


def curves(records: list[dict], floors: dict, task: Task | type[Task]) -> Figure:
    """Return the figure of a run's records (lines of metrics.jsonl).

    Of the scores, the two that claims are judged by first are drawn.
    """
    steps = [record for record in records if record["kind"] == STEP]
    epochs = [record for record in records if record["kind"] == EVALUATION]
    figure = Figure(figsize=(10, 7), layout="constrained")  # no pyplot: it keeps global state
    axes = figure.subplots(2, 2, sharex=True).flatten()
    _draw_loss(axes[0], steps)
    _draw_rewards(axes[2], steps)
    for ax, name in zip((axes[1], axes[3]), task.judged):
        _draw_score(ax, epochs, floors, name, task.metrics[name])
    if len(task.judged) == 1:
        figure.delaxes(axes[3])
    handoff = next((r["epoch"] - 1 for r in epochs if r["phase"] == "dpo"), None)
    for ax in axes[: 2 + len(task.judged)]:
        _finish(ax, handoff)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _finish(ax: Axes, handoff: int | None) -> None:
    """Mark the handoff, the grid and whole epochs."""
    if handoff is not None:
        ax.axvline(handoff, color="black", linestyle=":", linewidth=1)
        ax.annotate(
            "handoff",
            (handoff, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -10),
            textcoords="offset points",
            fontsize=8,
        )
    ax.grid(alpha=0.25)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.tick_params(labelbottom=True)


def _means(steps: list[dict], name: str, phase: str) -> tuple[list[int], list[float]]:
    """Return the mean of a step metric over each epoch of a phase."""
    values = defaultdict(list)
    for record in steps:
        if record["phase"] == phase and name in record:
            values[record["epoch"]].append(record[name])
    return list(values), [sum(v) / len(v) for v in values.values()]


def _draw_loss(ax: Axes, steps: list[dict]) -> None:
    """Draw SFT's and DPO's losses, each on an axis of its own as their units differ."""
    right = ax.twinx()
    for side, phase, unit in ((ax, "sft", "nats per token"), (right, "dpo", "nats per pair")):
        side.plot(*_means(steps, "loss", phase), "o-", color=COLOURS[phase], markersize=3)
        side.set_ylabel(f"{phase.upper()} loss, {unit}", color=COLOURS[phase])
    ax.set_title("training loss, mean of each epoch")


def _draw_score(ax: Axes, epochs: list[dict], floors: dict, name: str, score: Score) -> None:
    """Draw a dev score with its 95 % interval; the untuned model is epoch 0."""
    factor = score.factor
    for phase in ("sft", "dpo"):
        # The line of a phase begins where the phase before it ended.
        part = [
            record
            for record, after in zip(epochs, [*epochs[1:], epochs[-1]])
            if phase in (record["phase"], after["phase"])
        ]
        if not part:
            continue
        x = [record["epoch"] for record in part]
        recorded = [record["scores"][name] for record in part]
        values = [factor * each["value"] for each in recorded]
        low, high = zip(*([factor * bound for bound in each["interval"]] for each in recorded))
        ax.plot(x, values, "o-", color=COLOURS[phase], markersize=3, label=phase.upper())
        ax.fill_between(x, low, high, color=COLOURS[phase], alpha=0.15, linewidth=0)
    ax.plot(
        0,
        factor * epochs[0]["scores"][name]["value"],
        "s",
        color=COLOURS["untuned"],
        markersize=6,
        label="untuned",
    )
    heights = {floor: factor * scores[name] for floor, scores in floors.items() if name in scores}
    draw_floors(ax, heights)
    ax.set_title(f"dev: {score.title}")


def draw_floors(ax: Axes, heights: dict[str, float]) -> None:
    """Draw floors as dashed lines, and only name one far off, which would flatten the scores."""
    bottom, top = ax.get_ylim()
    reach = 2 * (top - bottom)
    for title, height in heights.items():
        if bottom - reach < height < top + reach:
            ax.axhline(height, color="#888888", linestyle="--", linewidth=1)
            ax.annotate(
                f"floor: {title}",
                (1, height),
                xycoords=("axes fraction", "data"),
                xytext=(-3, 2),
                textcoords="offset points",
                ha="right",
                fontsize=7,
            )
    far = [
        f"{title} {height:.1f}"
        for title, height in heights.items()
        if not bottom - reach < height < top + reach
    ]
    if far:
        ax.annotate(
            f"floors off the scale: {', '.join(far)}",
            (0.02, 0.02),
            xycoords="axes fraction",
            fontsize=7,
        )


def _draw_rewards(ax: Axes, steps: list[dict]) -> None:
    """Draw DPO's implicit rewards and their margin, means over each epoch's pairs."""
    for name, colour in REWARDS.items():
        means = _means(steps, f"rewards/{name}", "dpo")
        ax.plot(*means, "o-", markersize=3, color=colour, label=name)
    ax.set_title("DPO rewards on training pairs")
    ax.set_ylabel("nats times beta")
    ax.legend(fontsize=8)
