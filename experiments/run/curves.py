"""The figure of a run, by optimizer step: losses and scores, and what DPO does with its pairs."""

import math
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.run.floor_lines import draw_floors
from experiments.run.metrics_log import EVALUATION, STEP
from minigpt.files import replacing
from minigpt.palette import BLUE, GREY, PURPLE, VERMILLION
from tasks import Task

PHASES = {"sft": (BLUE, "o", "-"), "dpo": (VERMILLION, "s", "--")}
PAIRS = {"training": VERMILLION, "held out": PURPLE}
SIDES = {"chosen": "-", "rejected": "--"}
POINTS = 60  # of a line by steps, at most: more steps are drawn as means of neighbours
PANEL = (4.6, 2.7)  # inches; two side by side are legible when shown 900 pixels wide


def draw_curves(path: Path, records: list[dict], floors: dict, task: Task | type[Task]) -> None:
    """Draw the records of a run into a PNG file, as `curves` does."""
    with replacing(path) as temporary:
        curves(records, floors, task).savefig(temporary, dpi=120, format="png")


def curves(records: list[dict], floors: dict, task: Task | type[Task]) -> Figure:
    """Return the figure of a run's records (lines of metrics.jsonl), which may end anywhere.

    It has a panel for what there is: the loss of each phase, up to two of the scores that claims
    are judged by, and for DPO the rewards, the weights of the pairs and the KL to the reference.
    """
    steps = [record for record in records if record["kind"] == STEP]
    evaluations = [record for record in records if record["kind"] == EVALUATION]
    sft, dpo = ([r for r in steps if r["phase"] == phase] for phase in PHASES)
    panels = [
        partial(_draw_score, evaluations=evaluations, floors=floors, name=name, task=task)
        for name in task.judged[:2]
        if evaluations and name in evaluations[0]["scores"]
    ]
    held_out = [record for record in evaluations if "eval_loss" in record]
    if sft:
        panels.append(partial(_draw_loss, phase="sft", steps=sft, held_out=[]))
    if dpo:
        panels.append(partial(_draw_loss, phase="dpo", steps=dpo, held_out=held_out))
        panels.append(partial(_draw_rewards, dpo=dpo, held_out=held_out))
    if dpo and "weights" in dpo[0]:
        panels.append(partial(_draw_weights, dpo=dpo, held_out=held_out))
    if dpo and held_out:
        panels.append(partial(_draw_kl, handoff=dpo[0]["step"] - 1, held_out=held_out))
    rows = max(math.ceil(len(panels) / 2), 1)
    figure = Figure(figsize=(2 * PANEL[0], rows * PANEL[1]), layout="constrained")  # no pyplot:
    axes = figure.subplots(rows, 2).flatten()  # it keeps global state
    for ax, draw in zip(axes, panels):
        draw(ax)
        _finish(ax, dpo[0]["step"] - 1 if dpo else None)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return figure


def _finish(ax: Axes, handoff: int | None) -> None:
    """Mark the handoff, where the panel goes on after it, and name all that is drawn."""
    if handoff is not None and ax.dataLim.x0 <= handoff < ax.dataLim.x1:
        ax.axvline(handoff, color=GREY, linestyle=":", linewidth=1.2, zorder=0, label="handoff")
    ax.grid(alpha=0.25)
    ax.set_xlabel("step", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.tick_params(labelsize=8)
    ax.title.set_fontsize(9)
    ax.legend(fontsize=7)


def _means(steps: list[dict], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of a metric; of more than POINTS, means of as many as `_block`."""
    size = _block(steps)
    cuts = range(0, len(steps), size)
    table = np.array([(record["step"], record[name]) for record in steps])
    x, y = np.array([table[cut : cut + size].mean(axis=0) for cut in cuts]).T
    return x, y


def _block(steps: list[dict]) -> int:
    """Return how many steps one point of a line stands for."""
    return math.ceil(len(steps) / POINTS)


def _spacing(steps: list[dict]) -> str:
    """Return what is to be said of a line of `_means`."""
    size = _block(steps)
    return "each step" if size == 1 else f"means of {size} steps"


def _points(evaluations: list[dict], name: str) -> tuple[list[int], list[float]]:
    return [record["step"] for record in evaluations], [record[name] for record in evaluations]


def _draw_loss(ax: Axes, phase: str, steps: list[dict], held_out: list[dict]) -> None:
    """Draw the loss of a phase; SFT's and DPO's are of different units, so each has a panel."""
    unit = {"sft": "nats per token", "dpo": "per pair"}[phase]
    ax.plot(*_means(steps, "loss"), color=PHASES[phase][0], label=f"training, {_spacing(steps)}")
    if held_out:
        x, y = _points(held_out, "eval_loss")
        ax.plot(x, y, "^-", color=PAIRS["held out"], markersize=4, label="held out")
    ax.set_title(f"{phase.upper()} loss, {unit}")


def _draw_score(
    ax: Axes, evaluations: list[dict], floors: dict, name: str, task: Task | type[Task]
) -> None:
    """Draw a dev score with its interval; a phase's line begins where the one before ended."""
    score = task.metrics[name]
    followed = list(zip(evaluations, [*evaluations[1:], evaluations[-1]]))
    for phase, (colour, marker, line) in PHASES.items():
        part = [now for now, after in followed if phase in (now["phase"], after["phase"])]
        if not part:
            continue
        x = [record["step"] for record in part]
        recorded = [record["scores"][name] for record in part]
        values = [score.factor * each["value"] for each in recorded]
        low, high = score.factor * np.array([each["interval"] for each in recorded]).T
        looks = {"color": colour, "marker": marker, "linestyle": line}
        ax.plot(x, values, **looks, markersize=4, label=phase.upper())
        ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    first = evaluations[0]
    value = score.factor * first["scores"][name]["value"]
    ax.plot(first["step"], value, "D", color=GREY, markersize=6, label="untuned")
    _name_band(ax, f"95 % interval over {score.unit or task.unit}")
    draw_floors(ax, {title: score.factor * f[name] for title, f in floors.items() if name in f})
    ax.set_title(f"dev: {score.title}")


def _name_band(ax: Axes, label: str) -> None:
    """Give the panel's shaded bands, whatever their colour, one line in its legend."""
    ax.fill_between([], [], color=GREY, alpha=0.3, label=label)


def _draw_rewards(ax: Axes, dpo: list[dict], held_out: list[dict]) -> None:
    """Draw the implicit rewards of both sides; a margin is the distance of two lines.

    With a reference they are 0 at the handoff, where the policy is its own reference.
    """
    from_zero = all(abs(dpo[0][f"rewards/{side}"]) < 0.01 for side in SIDES)
    for side, line in SIDES.items():
        colour = PAIRS["training"]
        means = _means(dpo, f"rewards/{side}")
        ax.plot(*means, color=colour, linestyle=line, label=f"{side}, training")
    for side, line in SIDES.items() if held_out else ():
        x, y = _points(held_out, f"eval_rewards/{side}")
        if from_zero:
            x, y = [dpo[0]["step"] - 1, *x], [0.0, *y]
        looks = {"color": PAIRS["held out"], "marker": "^", "linestyle": line}
        ax.plot(x, y, **looks, markersize=4, label=f"{side}, held out")
    ax.set_title(f"reward (beta x log-ratio, nats), {_spacing(dpo)}")


def _draw_weights(ax: Axes, dpo: list[dict], held_out: list[dict]) -> None:
    """Draw how the pairs' weights in the gradient are spread: the median, and 10 to 90 %."""
    colour = PAIRS["training"]
    x, median = _means(dpo, "weights/q50")
    bounds = (_means(dpo, f"weights/{q}")[1] for q in ("q10", "q90"))
    ax.plot(x, median, color=colour, label="training")
    ax.fill_between(x, *bounds, color=colour, alpha=0.15, linewidth=0)
    if held_out:
        x, low, median, high = np.array(
            [
                (r["step"], *(r[f"eval_weights/{q}"] for q in ("q10", "q50", "q90")))
                for r in held_out
            ]
        ).T
        looks = {"color": PAIRS["held out"], "fmt": "^-", "markersize": 4, "capsize": 3}
        ax.errorbar(x, median, (median - low, high - median), **looks, label="held out")
    _name_band(ax, "10 to 90 % of pairs")
    ax.set_title(f"weight of a pair, sigmoid(-margin), {_spacing(dpo)}")


def _draw_kl(ax: Axes, handoff: int, held_out: list[dict]) -> None:
    """Draw how far the policy has gone from its reference, where it began."""
    for side, line in SIDES.items():
        x, y = _points(held_out, f"eval_kl/{side}")
        looks = {"color": PAIRS["held out"], "marker": "^", "linestyle": line}
        ax.plot([handoff, *x], [0.0, *y], **looks, markersize=4, label=f"{side}, held out")
    ax.set_title("KL(policy || reference), nats per token")
