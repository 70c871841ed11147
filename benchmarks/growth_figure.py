"""The figure of how cost grows: a panel for each quantity, time above, memory below."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.fit import PowerLaw
from minigpt.files import replacing
from minigpt.palette import GREY, style

X_LABELS = {
    "length": "tokens of a sequence",
    "batch": "sequences of a step",
    "examples": "sequences of the data set",
    "processes": "processes",
    "model": "parameters",
}
Y_LABELS = {"seconds": "s a step", "memory": "MiB above an idle process"}


def draw_growth(
    points: dict[str, dict[str, list[tuple[float, float]]]],
    fits: dict[str, dict[str, PowerLaw | None]],
    title: str,
    path: Path,
) -> Path:
    """Draw cost -> quantity -> (x, y) with the fitted lines on logarithmic axes; return `path`."""
    quantities = list(next(iter(points.values())))
    figure = Figure(figsize=(3.1 * len(quantities), 5.6), layout="constrained")
    panels = figure.subplots(len(points), len(quantities), squeeze=False)
    for row, (cost, curves) in zip(panels, points.items()):
        for i, (ax, quantity) in enumerate(zip(row, quantities)):
            _draw_curve(ax, curves[quantity], fits[cost][quantity], i)
            ax.set_xlabel(X_LABELS[quantity])
        row[0].set_ylabel(Y_LABELS[cost])
    figure.suptitle(title, fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return path


def _draw_curve(ax: Axes, points: list[tuple[float, float]], fit: PowerLaw | None, i: int) -> None:
    x, y = zip(*points)
    looks = style(i)
    ax.plot(x, y, color=looks.color, marker=looks.marker, linestyle="none")
    if fit is not None:
        ends = [min(x), max(x)]
        ax.plot(ends, [fit(end) for end in ends], color=GREY, linestyle="--", linewidth=1)
        ax.set_title(f"exponent {fit}", fontsize=9)
    ax.set_xscale("log")
    ax.set_yscale("log")
    lowest, highest = min(y), max(y)
    if highest < 4 * lowest:  # where a decade is too much to see anything in
        ax.set_ylim(lowest / 2, highest * 2)
    ax.set_xticks(sorted(set(x)))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.minorticks_off()
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    ax.tick_params(axis="x", labelrotation=45)
    ax.grid(alpha=0.25)


def _short(value: float) -> str:
    """Return a number as people say it: 0.02, 250, 7M, 124M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:g}"
