"""The figure of a run: loss and scores by epoch, the handoff marked, rewards and margins."""

from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minigpt.files import replacing

COLOURS = {"sft": "#1b6ca8", "dpo": "#c8553d", "untuned": "#555555"}
LABELS = {
    "bits_per_char": "held-out bits per character",
    "chrf": "chrF, whole sonnet",
    "chrf_generated": "chrF, generated lines",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "answer_nll": "nats per answer",
}


def draw_curves(path: Path, records: list[dict], floors: dict, headline: str) -> None:
    """Draw the records of a run (lines of metrics.jsonl) into a PNG file."""
    steps = [record for record in records if "loss" in record]
    epochs = [record for record in records if "scores" in record]
    other = next(name for name in epochs[0]["scores"] if name != headline)
    figure = Figure(figsize=(10, 7), layout="constrained")  # no pyplot: it keeps global state
    axes = figure.subplots(2, 2, sharex=True).flat
    _draw_loss(axes[0], steps)
    _draw_score(axes[1], epochs, floors, headline)
    _draw_rewards(axes[2], steps)
    _draw_score(axes[3], epochs, floors, other)
    handoff = next((r["epoch"] - 1 for r in epochs if r["phase"] == "dpo"), None)
    for ax in axes:
        if handoff is not None:
            ax.axvline(handoff, color="black", linestyle=":", linewidth=1)
            ax.annotate("handoff", (handoff, 1), xycoords=("data", "axes fraction"),
                        xytext=(3, -10), textcoords="offset points", fontsize=8)
        ax.grid(alpha=0.25)
        ax.set_xlabel("epoch")
        ax.tick_params(labelbottom=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _means(steps: list[dict], name: str, phase: str) -> tuple[list[int], list[float]]:
    """The mean of a step metric over each epoch of a phase."""
    values = defaultdict(list)
    for record in steps:
        if record["phase"] == phase and name in record:
            values[record["epoch"]].append(record[name])
    return list(values), [sum(v) / len(v) for v in values.values()]


def _draw_loss(ax: Axes, steps: list[dict]) -> None:
    """SFT's and DPO's losses have different units, so each has an axis of its own."""
    right = ax.twinx()
    for side, phase, unit in ((ax, "sft", "nats per token"), (right, "dpo", "nats per pair")):
        side.plot(*_means(steps, "loss", phase), "o-", color=COLOURS[phase], markersize=3)
        side.set_ylabel(f"{phase.upper()} loss, {unit}", color=COLOURS[phase])
    ax.set_title("training loss, mean of each epoch")


def _draw_score(ax: Axes, epochs: list[dict], floors: dict, name: str) -> None:
    """A dev score with its 95 % interval; untuned at epoch 0, floors as dashed lines."""
    for phase in ("untuned", "sft", "dpo"):
        # The line of a phase begins where the phase before it ended.
        part = [r for i, r in enumerate(epochs)
                if r["phase"] == phase or epochs[min(i + 1, len(epochs) - 1)]["phase"] == phase]
        if not any(record["phase"] == phase for record in epochs):
            continue
        x = [record["epoch"] for record in part]
        scores = [record["scores"][name] for record in part]
        ax.plot(x, [score["value"] for score in scores], "o-", color=COLOURS[phase],
                markersize=3, label=phase if phase == "untuned" else phase.upper())
        ax.fill_between(x, *zip(*(score["interval"] for score in scores)),
                        color=COLOURS[phase], alpha=0.15, linewidth=0)
    for floor, scores in floors.items():
        if name in scores:
            ax.axhline(scores[name], color="#888888", linestyle="--", linewidth=1)
            ax.annotate(f"floor: {floor}", (1, scores[name]), xycoords=("axes fraction", "data"),
                        xytext=(-3, 2), textcoords="offset points", ha="right", fontsize=7)
    ax.set_title(f"dev: {LABELS[name]}")
    ax.legend(fontsize=8)


def _draw_rewards(ax: Axes, steps: list[dict]) -> None:
    """DPO's implicit rewards and their margin, means over each epoch's pairs."""
    for name, style in (("chosen", "-"), ("rejected", "--"), ("margins", "-.")):
        ax.plot(*_means(steps, f"rewards/{name}", "dpo"), style, marker="o", markersize=3,
                color=COLOURS["dpo"], label=name)
    ax.set_title("DPO rewards on training pairs")
    ax.set_ylabel("nats times beta")
    ax.legend(fontsize=8)
