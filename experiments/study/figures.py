"""The figures of a study: scores by epoch, one line an arm; a heat map of two options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.colors import to_hex

from experiments.run.floor_lines import room_for, spread
from experiments.study import svg
from experiments.study.document import Picture
from experiments.study.results import ArmResult, judged_metrics
from minigpt.palette import COLOURS, GREY, HEAT, luminance, rgb
from tasks import Score, Task

WIDTH, BELOW, FLOORS_BESIDE = 560, 50, 150  # of a figure; from a panel to the legend; of names
NOTE = (
    "means over seeds, on dev. By epoch, points are evaluations, which lines only join; full lines "
    "are full fine-tuning, dashed ones LoRA; markers tell the handoff, where arms differ in it, "
    "and a large one stands where it took place; bands reach from the lowest to the highest seed; "
    "floors, dotted, need no learning. In a heat map bright is better, whatever the metric."
)


class Frame(NamedTuple):
    """A panel: where it stands in the drawing, and the numbers at its ends."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point stands in the drawing."""
        right = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + self.width * right, self.top + self.height * (1 - up)


class Look(NamedTuple):
    """How an arm is drawn."""

    colour: str
    marker: str
    filled: bool
    dashed: bool

    def line(self) -> dict[str, str]:
        return {"stroke": self.colour, **({"stroke_dasharray": "6 4"} if self.dashed else {})}

    def dot(self, x: float, y: float, radius: float) -> str:
        fill = self.colour if self.filled else "var(--ground)"
        return svg.marker(self.marker, x, y, radius, fill=fill, stroke=self.colour)


def looks(results: Sequence[ArmResult]) -> list[Look]:
    """Return how arms are drawn: full and LoRA by the line, handoffs by the marker.

    A handoff has one colour and one marker under both methods; where all arms have the same one,
    colours and markers tell the arms apart. No two of 12 look the same.
    """
    handoffs = sorted({result.arm.config.switch_epoch for result in results})
    seen: dict[str, int] = {}
    found = []
    for i, result in enumerate(results):
        method, switch = result.arm.config.parameterization, result.arm.config.switch_epoch
        seen[method] = seen.get(method, -1) + 1
        n, marker = (seen[method], handoffs.index(switch)) if len(handoffs) > 1 else (i, i)
        found.append(
            Look(
                COLOURS[n % len(COLOURS)],
                svg.MARKERS[marker % len(svg.MARKERS)],
                n // len(COLOURS) % 2 == 0,
                method == "lora",
            )
        )
    return found


def draw_epochs(
    results: Sequence[ArmResult], task: Task, floors: Mapping[str, dict], folder: Path
) -> list[Picture]:
    """Return a picture per judged metric: a line an arm, floors dotted."""
    return [
        Picture(
            folder / f"epochs-{name}.svg",
            _epochs(results, name, task.metrics[name], floors),
            f"{task.metrics[name].title}, by epoch",
        )
        for name in judged_metrics(results, task)
    ]


def _epochs(
    results: Sequence[ArmResult], name: str, score: Score, floors: Mapping[str, dict]
) -> str:
    values = [score.factor * result.values(name) for result in results]  # each (S, E + 1)
    heights = {
        title: score.factor * floor[name] for title, floor in floors.items() if name in floor
    }
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    pad = 0.05 * (high - low) or 0.5
    last = max(result.runs[0].epochs[-1]["epoch"] for result in results)
    ends = room_for(heights.values(), low - pad, high + pad)
    beside = FLOORS_BESIDE if heights else 12
    frame = Frame(56, 34, WIDTH - 56 - beside, 260, (0, last), ends)
    drawn = looks(results)
    shapes = [svg.label(0, 16, f"dev: {score.title}", font_weight="bold"), *axes(frame, "epoch")]
    shapes += _floor_lines(frame, heights, score)
    for result, scores, look in zip(results, values, drawn):
        shapes += _arm(frame, result, scores, look)
    top = frame.top + frame.height + BELOW
    rows = -(-len(results) // 2)
    for i, (result, look) in enumerate(zip(results, drawn)):
        x, y = (i // rows) * WIDTH / 2, top + 20 * (i % rows)
        shapes += [
            svg.line(x, y, x + 32, y, **look.line(), stroke_width=2),
            look.dot(x + 16, y, 4),
            svg.label(x + 40, y + 4, shorten(result.name, 34, placeholder="...")),
        ]
    return svg.drawing(WIDTH, top + 20 * rows, shapes, title=f"{score.title} by epoch")


def axes(frame: Frame, title: str) -> list[str]:
    """Return a panel's ground: numbers at its left and bottom, and lines across."""
    (x0, x1), (y0, y1) = frame.x, frame.y
    steps = svg.ticks(y0, y1)
    decimals = max(len(f"{step:g}".partition(".")[2]) for step in steps)
    shapes = []
    for step in steps:
        x, y = frame.at(x0, step)
        shapes.append(svg.line(x, y, x + frame.width, y, opacity="0.15"))
        number = f"{step:.{decimals}f}"
        shapes.append(svg.label(x - 6, y + 4, number, text_anchor="end", font_size=11))
    for step in svg.ticks(x0, x1, 8):
        if step == round(step):
            x, y = frame.at(step, y0)
            number = f"{step:.0f}"
            shapes.append(svg.label(x, y + 16, number, text_anchor="middle", font_size=11))
    x, y = frame.at((x0 + x1) / 2, y0)
    shapes.append(svg.label(x, y + 32, title, text_anchor="middle"))
    return shapes


def _floor_lines(frame: Frame, heights: Mapping[str, float], score: Score) -> list[str]:
    """Return dotted lines with their names at the right; of one far off, the name and an arrow."""
    (_, x1), (y0, y1) = frame.x, frame.y
    names = sorted(heights, key=heights.__getitem__)
    wanted = [min(max((heights[name] - y0) / (y1 - y0), 0.0), 1.0) for name in names]
    shapes = []
    for name, place in zip(names, spread(wanted, 16 / frame.height)):
        right, beside = frame.at(x1, y0 + float(place) * (y1 - y0))
        if y0 < heights[name] < y1:
            text = shorten(name, 20, placeholder="...")
            _, y = frame.at(x1, heights[name])
            shapes += [
                svg.line(frame.left, y, right, y, stroke=GREY, stroke_dasharray="2 3"),
                svg.line(right, y, right + 12, beside, stroke=GREY, stroke_width="0.7"),
            ]
        else:
            arrow = "↓" if heights[name] <= y0 else "↑"
            text = shorten(name, 13, placeholder="...")
            text = f"{arrow} {text} {heights[name]:.{min(score.decimals, 2)}f}"
        shapes.append(svg.label(right + 15, beside + 4, text, font_size=11, opacity="0.8"))
    return shapes


def _arm(frame: Frame, result: ArmResult, values, look: Look) -> list[str]:
    """Return an arm's band and line; `values` are its scores by seed and epoch: (S, E + 1)."""
    epochs = [record["epoch"] for record in result.runs[0].epochs]
    lowest, highest, mean = values.min(axis=0), values.max(axis=0), values.mean(axis=0)
    path = [frame.at(*place) for place in zip(epochs, mean)]
    there = [frame.at(*place) for place in zip(epochs, highest)]
    back = [frame.at(*place) for place in zip(epochs, lowest)][::-1]
    band = {"fill": look.colour, "opacity": "0.13"}
    shapes = [
        svg.element("polygon", points=svg.points(there + back), **band),
        svg.element(
            "polyline", points=svg.points(path), fill="none", stroke_width=2, **look.line()
        ),
    ]
    switch = result.arm.config.switch_epoch
    for epoch, (x, y) in zip(epochs, path):
        shapes.append(look.dot(x, y, 6.5 if epoch == switch and 0 < switch < epochs[-1] else 3.5))
    return shapes


def draw_heat_map(
    cells: Sequence[tuple[float, float, str]],
    results: Sequence[ArmResult],
    task: Task,
    folder: Path,
) -> list[Picture]:
    """Return a picture per judged metric over beta and DPO's learning rate."""
    arms = {result.name: result for result in results}
    pictures = []
    for name in judged_metrics(results, task):
        score = task.metrics[name]
        values = {(b, r): float(arms[arm].values(name)[:, -1].mean()) for b, r, arm in cells}
        path = folder / f"heat-map-{name}.svg"
        pictures.append(Picture(path, _heat_map(values, score), f"{score.title}, by beta and rate"))
    return pictures


def _heat_map(values: Mapping[tuple[float, float], float], score: Score) -> str:
    betas, rates = (sorted(set(options)) for options in zip(*values))
    width, height, left, top = (WIDTH - 70) / len(rates), 44, 62, 30
    worst, best = min(values.values()), max(values.values())
    if not score.larger_is_better:
        worst, best = best, worst
    shapes = [svg.label(0, 16, f"dev: {score.title}", font_weight="bold")]
    for (beta, rate), value in values.items():
        x, y = left + width * rates.index(rate), top + height * betas.index(beta)
        colour = to_hex(colormaps[HEAT]((value - worst) / (best - worst) if best != worst else 0.5))
        ink = "#000000" if luminance(rgb(colour)) > 0.18 else "#ffffff"
        shapes += [
            svg.box(x, y, width, height, fill=colour),
            svg.label(
                x + width / 2, y + height / 2 + 5, score.show(value), fill=ink, text_anchor="middle"
            ),
        ]
    for i, beta in enumerate(betas):
        shapes.append(
            svg.label(left - 6, top + height * (i + 0.5) + 5, f"{beta:g}", text_anchor="end")
        )
    bottom = top + height * len(betas)
    for i, rate in enumerate(rates):
        x = left + width * (i + 0.5)
        shapes.append(svg.label(x, bottom + 18, f"{rate:.2g}", text_anchor="middle"))
    shapes.append(svg.label(0, bottom + 18, "beta", opacity="0.8"))
    middle = left + width * len(rates) / 2
    shapes.append(svg.label(middle, bottom + 38, "learning rate of DPO", text_anchor="middle"))
    return svg.drawing(WIDTH, bottom + 46, shapes, title=f"{score.title} by beta and rate")
