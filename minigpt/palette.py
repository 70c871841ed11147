"""How the lines of every figure look: told apart by colour-blind eyes, in grey, on dark and light.

The colours are Okabe and Ito's (2008, "Color Universal Design"), in an order in which the first
four also stand out from white and from black. Colour never tells alone: each comes with a marker
and a line of its own.
"""

from typing import NamedTuple

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY = "#E69F00", "#56B4E9"
GREY = "#767676"  # of floors, guides and whatever is there to compare with
HEAT = "cividis"  # from 0 to the most; Nuñez, Anderton and Renslow (2018), arXiv 1712.01662

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":", (0, (5, 1)))


class Style(NamedTuple):
    """A line's looks, by matplotlib's own names: `ax.plot(x, y, **look._asdict())`."""

    color: str
    marker: str
    linestyle: str | tuple


def style(i: int) -> Style:
    """Return the looks of line number `i`; no two of the first 210 are the same."""
    return Style(*(looks[i % len(looks)] for looks in (COLOURS, _MARKERS, _LINES)))


def rgb(colour: str) -> tuple[float, float, float]:
    """Return "#0072B2" as red, green and blue from 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def luminance(colour: tuple[float, float, float]) -> float:
    """Return the relative luminance of red, green and blue, 0 (black) to 1 (white).

    WCAG 2.1's, by which the contrast of two colours is (L1 + 0.05) / (L2 + 0.05).
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear))
