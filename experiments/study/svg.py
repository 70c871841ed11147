"""Drawings as text: the very same bytes everywhere, whatever draws on the machine at hand.

A drawing stands in a page, whose colours it takes, or is a file of its own. It is as wide as it has
room, on the screen and on paper.
"""

import math
from collections.abc import Sequence
from html import escape

SIZE = 13  # of text, in the drawing's own units
COLOURS = """
:root { --ink: #1a1a1a; --ground: #ffffff; --link: #1b6ca8;
  --holds: #0072B2; --fails: #B34E00; --open: #6b6b6b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --ground: #16181c; --link: #7ab8ea;
    --holds: #56B4E9; --fails: #F28B45; --open: #a8a8a8; }
}
@media print {
  :root { --ink: #1a1a1a; --ground: #ffffff; --link: #1b6ca8;
    --holds: #0072B2; --fails: #B34E00; --open: #6b6b6b; }
}
"""


def drawing(width: float, height: float, shapes: Sequence[str], *, title: str) -> str:
    """Return shapes as a drawing; `title` is what those hear who do not see it."""
    return element(
        "svg",
        element("title", escape(title)),
        *shapes,
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        role="img",
        fill="currentColor",
        font_family="system-ui, sans-serif",
        font_size=SIZE,
    )


def as_file(drawn: str) -> str:
    """Return a drawing as a file: with the colours and the ground that a page would give it."""
    style = element("style", COLOURS + "svg { color: var(--ink); background: var(--ground); }")
    head, _, rest = drawn.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{style}{rest}\n'


def element(name: str, *inside: str, **attributes) -> str:
    """Return an SVG element; numbers are rounded to a tenth, and `_` in names becomes "-"."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{told}>{''.join(inside)}</{name}>" if inside else f"<{name}{told}/>"


def label(x: float, y: float, text: str, **attributes) -> str:
    """Return a line of text; x and y are those of its start, or of its `text_anchor`."""
    return element("text", escape(text), x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes) -> str:
    """Return a line, of the text's colour unless `stroke` says another."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **{"stroke": "currentColor", **attributes})


def box(x: float, y: float, width: float, height: float, **attributes) -> str:
    """Return a rectangle; x and y are those of its upper left corner."""
    return element("rect", x=x, y=y, width=width, height=height, **attributes)


# Corners of markers around (0, 0), each about as large as a circle of radius 1.
SHAPES = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    "diamond": ((0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0)),
    "triangle down": ((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
    "bar": ((-0.45, -1.3), (0.45, -1.3), (0.45, 1.3), (-0.45, 1.3)),
}
MARKERS = ("circle", *SHAPES)


def marker(shape: str, x: float, y: float, radius: float, **attributes) -> str:
    """Return one of MARKERS around a point."""
    if shape == "circle":
        return element("circle", cx=x, cy=y, r=radius, **attributes)
    corners = [(x + radius * dx, y + radius * dy) for dx, dy in SHAPES[shape]]
    return element("polygon", points=points(corners), **attributes)


def points(places: Sequence[tuple[float, float]]) -> str:
    """Return places as the `points` of a polygon or a polyline."""
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in places)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most so many round numbers from `low` to `high`: steps of 1, 2 or 5 times 10^n."""
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10, 20) if factor * unit >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")  # never "-0"
