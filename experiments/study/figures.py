"""The figures of a study: scores by epoch, one line an arm; a heat map of two options."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.run.display import METRICS
from experiments.study.arms import Study
from experiments.study.claims import PAPER_METRICS
from experiments.study.results import ArmResult
from minigpt.files import replacing

COLOURS = ("#1b6ca8", "#c8553d", "#2a7f4f", "#8a5fa8", "#b8860b", "#4d4d4d", "#d17aa5", "#3fa7a3")
STYLES = ("-", "--", ":")


def draw_study(
    study: Study, results: Sequence[ArmResult], floors: dict, folder: Path
) -> list[tuple[Path, str]]:
    """Draw into the folder; every figure's file and caption."""
    figures = [
        (
            draw_epochs(study, results, floors, folder / "epochs.png"),
            f"{study.title}: scores by epoch, mean over seeds and their range",
        )
    ]
    if study.heat_map():
        figures.append(
            (
                draw_heat_map(study, results, folder / "heat-map.png"),
                f"{study.title}: beta against learning rate",
            )
        )
    return figures


def draw_epochs(study: Study, results: Sequence[ArmResult], floors: dict, path: Path) -> Path:
    """A panel per metric of the paper's, floors dashed, the handoff marked on each line."""
    names = PAPER_METRICS[study.task]
    figure = Figure(figsize=(5.5 * len(names), 4.8), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(names)), names):
        for i, result in enumerate(results):
            _draw_arm(
                ax, result, name, COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
            )
        _draw_floors(
            ax,
            {
                title: METRICS[name].factor * scores[name]
                for title, scores in floors.items()
                if name in scores
            },
        )
        ax.set_title(f"dev: {METRICS[name].long}", fontsize=10)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.25)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return _save(figure, path)


def _draw_arm(ax: Axes, result: ArmResult, name: str, colour: str, style: str) -> None:
    epochs = [record["epoch"] for record in result.runs[0].epochs]
    values = METRICS[name].factor * result.values(name)  # (S, E + 1)
    mean = values.mean(axis=0)
    ax.plot(epochs, mean, style, marker=".", color=colour, label=result.name)
    ax.fill_between(
        epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.12, linewidth=0
    )
    switch = result.arm.config.switch_epoch
    if 0 < switch < epochs[-1] and switch in epochs:
        ax.plot(switch, mean[epochs.index(switch)], "D", color=colour, markersize=6)


def _draw_floors(ax: Axes, heights: dict[str, float]) -> None:
    """Floors as dashed lines; one far from the scores is only named, so as not to flatten them."""
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


def draw_heat_map(study: Study, results: Sequence[ArmResult], path: Path) -> Path:
    """Each of the paper's metrics over beta and DPO's learning rate, mean over seeds."""
    arms = {result.name: result for result in results}
    cells = study.heat_map()
    betas, rates = sorted({cell[0] for cell in cells}), sorted({cell[1] for cell in cells})
    names = PAPER_METRICS[study.task]
    figure = Figure(figsize=(4.8 * len(names), 3.6), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(names)), names):
        grid = np.full((len(betas), len(rates)), np.nan)
        for beta, rate, title in cells:
            score = METRICS[name].factor * arms[title].values(name)[:, -1].mean()
            grid[betas.index(beta), rates.index(rate)] = score
        image = ax.imshow(grid, cmap="viridis", aspect="auto")
        for (i, j), value in np.ndenumerate(grid):
            ax.text(
                j,
                i,
                f"{value:.{METRICS[name].decimals}f}",
                ha="center",
                va="center",
                color="white",
                bbox={"facecolor": "black", "alpha": 0.45, "lw": 0, "pad": 2},
            )
        ax.set_xticks(range(len(rates)), [f"{rate:.2g}" for rate in rates])
        ax.set_yticks(range(len(betas)), [f"{beta:g}" for beta in betas])
        ax.set_xlabel("learning rate of DPO")
        ax.set_ylabel("beta")
        ax.set_title(f"dev: {METRICS[name].long}", fontsize=9)
        figure.colorbar(image, ax=ax)
    return _save(figure, path)


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return path
