"""The figures of a study: scores by epoch, one line an arm; a heat map of two options."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.run.floor_lines import draw_floors
from experiments.study.arms import Study
from experiments.study.results import ArmResult
from minigpt.files import replacing
from minigpt.palette import HEAT, Style, style
from tasks import Score, Task


def draw_study(
    study: Study, results: Sequence[ArmResult], task: Task, floors: dict, folder: Path
) -> list[tuple[Path, str]]:
    """Draw into the folder, and return every figure's file and caption."""
    figures = [
        (
            draw_epochs(results, task, floors, folder / "epochs.png"),
            f"{study.title}: scores by epoch, mean over seeds and their range, handoffs starred",
        )
    ]
    if cells := study.heat_map():
        figures.append(
            (
                draw_heat_map(cells, results, task, folder / "heat-map.png"),
                f"{study.title}: beta against learning rate",
            )
        )
    return figures


def draw_epochs(results: Sequence[ArmResult], task: Task, floors: dict, path: Path) -> Path:
    """Draw a panel per judged metric, floors dashed, the handoff marked on each line."""
    figure = Figure(figsize=(5.5 * len(task.judged), 4.8), layout="constrained")
    for ax, name in zip(_panels(figure, task), task.judged):
        score = task.metrics[name]
        for i, result in enumerate(results):
            _draw_arm(ax, result, name, score, style(i))
        draw_floors(
            ax,
            {title: score.factor * floor[name] for title, floor in floors.items() if name in floor},
        )
        ax.set_title(f"dev: {score.title}", fontsize=10)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.25)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return _save(figure, path)


def _panels(figure: Figure, task: Task) -> Sequence[Axes]:
    return figure.subplots(1, len(task.judged), squeeze=False)[0]


def _draw_arm(ax: Axes, result: ArmResult, name: str, score: Score, looks: Style) -> None:
    epochs = [record["epoch"] for record in result.runs[0].epochs]
    values = score.factor * result.values(name)  # (S, E + 1)
    mean = values.mean(axis=0)
    ax.plot(epochs, mean, **looks._asdict(), markersize=4, label=result.name)
    ax.fill_between(
        epochs, values.min(axis=0), values.max(axis=0), color=looks.color, alpha=0.12, linewidth=0
    )
    switch = result.arm.config.switch_epoch
    if 0 < switch < epochs[-1] and switch in epochs:
        ax.plot(switch, mean[epochs.index(switch)], "*", color=looks.color, markersize=11)


def draw_heat_map(
    cells: Sequence[tuple[float, float, str]],
    results: Sequence[ArmResult],
    task: Task,
    path: Path,
) -> Path:
    """Draw each judged metric over beta and DPO's learning rate, mean over seeds."""
    arms = {result.name: result for result in results}
    betas, rates = sorted({cell[0] for cell in cells}), sorted({cell[1] for cell in cells})
    figure = Figure(figsize=(4.8 * len(task.judged), 3.6), layout="constrained")
    for ax, name in zip(_panels(figure, task), task.judged):
        score = task.metrics[name]
        grid = np.full((len(betas), len(rates)), np.nan)
        for beta, rate, arm in cells:
            value = score.factor * arms[arm].values(name)[:, -1].mean()
            grid[betas.index(beta), rates.index(rate)] = value
        image = ax.imshow(grid, cmap=HEAT, aspect="auto")
        _write_values(ax, grid, score.decimals)
        ax.set_xticks(range(len(rates)), [f"{rate:.2g}" for rate in rates])
        ax.set_yticks(range(len(betas)), [f"{beta:g}" for beta in betas])
        ax.set_xlabel("learning rate of DPO")
        ax.set_ylabel("beta")
        ax.set_title(f"dev: {score.title}", fontsize=9)
        figure.colorbar(image, ax=ax)
    return _save(figure, path)


def _write_values(ax: Axes, grid: np.ndarray, decimals: int) -> None:
    for (i, j), value in np.ndenumerate(grid):
        ax.text(
            j,
            i,
            f"{value:.{decimals}f}",
            ha="center",
            va="center",
            color="white",
            bbox={"facecolor": "black", "alpha": 0.45, "lw": 0, "pad": 2},
        )


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return path
