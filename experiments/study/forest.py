"""The forest plot of a study's claims: every lead with its interval, in units of its margin."""

from collections.abc import Sequence
from textwrap import shorten

from experiments.run.tables import Tone
from experiments.study import svg
from experiments.study.figures import Frame
from experiments.study.judging import Case
from experiments.study.verdict import Verdict

WIDTH, ROW, HEADING = 560, 50, 34
LABEL = 64  # characters of a claim and its metric
MOST = 30.0  # margins to either side; what lies beyond is an arrow
TONES: dict[str, Tone] = {"holds": "holds", "does not hold": "fails", "cannot be told": "open"}
MARKERS = {"holds": "circle", "does not hold": "diamond", "cannot be told": "circle"}
NOTE = (
    "Each claim's lead of its first arm over its second; further right is better, whatever the "
    "metric. The unit is the claim's margin, the smallest difference that matters: within the grey "
    "band it does not. Thick lines are 95 % intervals, thin ones the intervals that the claims, as "
    "many as they are, are judged by; hollow: cannot be told."
)

Judged = tuple[Case, Verdict]


def draw_forest(groups: Sequence[tuple[str, Sequence[Judged]]]) -> str:
    """Return the drawing; each group of claims has its heading."""
    judged = [pair for _, pairs in groups for pair in pairs]
    height = len(groups) * HEADING + len(judged) * ROW
    frame = Frame(12, 10, WIDTH - 24, height, _ends(judged), (height, 0))
    shapes: list[str] = []
    y = float(frame.top)
    for heading, pairs in groups:
        shapes.append(svg.label(0, y + 20, heading, font_weight="bold"))
        y += HEADING
        for pair in pairs:
            shapes += _row(frame, y, *pair)
            y += ROW
    shapes += _axis(frame)
    return svg.drawing(WIDTH, frame.top + height + 40, shapes, title="The claims' leads")


def _ends(judged: Sequence[Judged]) -> tuple[float, float]:
    """Return the ends of the axis: all intervals have room, but for what is very far off."""
    bounds = [bound / case.margin for case, verdict in judged for bound in _widest(case, verdict)]
    return max(min([-1.5, *bounds]), -MOST), min(max([1.5, *bounds]), MOST)


def _widest(case: Case, verdict: Verdict) -> tuple[float, float]:
    low, high = case.difference.lead.interval()
    return min(low, verdict.interval[0]), max(high, verdict.interval[1])


def _row(frame: Frame, y: float, case: Case, verdict: Verdict) -> list[str]:
    """Return a claim: its text and the word above its interval."""
    colour = f"var(--{TONES[verdict.word]})"
    middle = y + 34
    short = case.score.short
    text = shorten(case.claim.text, LABEL - len(short), placeholder="...")
    word = {"text_anchor": "end", "font_weight": "bold", "fill": colour}
    (left, _), (zero, _), (right, _) = (frame.at(bound, 0) for bound in (-1, 0, 1))
    shapes = [
        svg.label(0, y + 16, f"{text}, {short}"),
        svg.label(WIDTH, y + 16, verdict.word, **word),
        svg.box(left, middle - 11, right - left, 22, opacity="0.12"),
        svg.line(zero, middle - 11, zero, middle + 11, opacity="0.5"),
    ]
    lead = case.difference.lead
    for interval, width in ((verdict.interval, 1.5), (lead.interval(), 5)):
        ends = [frame.at(_within(bound / case.margin, frame), 0)[0] for bound in interval]
        shapes.append(svg.line(ends[0], middle, ends[1], middle, stroke=colour, stroke_width=width))
    widest = [bound / case.margin for bound in _widest(case, verdict)]
    shapes += _arrows(frame, middle, widest, colour)
    if (value := lead.value / case.margin) == _within(value, frame):
        fill = "var(--ground)" if verdict.word == "cannot be told" else colour
        looks = {"fill": fill, "stroke": colour, "stroke_width": 2}
        shapes.append(
            svg.marker(MARKERS[verdict.word], frame.at(value, 0)[0], middle, 5.5, **looks)
        )
    return shapes


def _within(value: float, frame: Frame) -> float:
    """Return the place on the axis that is nearest to a value."""
    return min(max(value, frame.x[0]), frame.x[1])


def _arrows(frame: Frame, y: float, ends: Sequence[float], colour: str) -> list[str]:
    """Return arrows where an interval lies beyond the picture, each with how far it goes."""
    (low, high), right = frame.x, frame.left + frame.width
    told = f"{ends[0]:.0f} to {ends[1]:.0f}"
    shapes = []
    if ends[0] < low:
        corners = [(frame.left - 9, y), (frame.left, y - 6), (frame.left, y + 6)]
        shapes += [
            svg.element("polygon", points=svg.points(corners), fill=colour),
            svg.label(frame.left, y + 16, told, font_size=11),
        ]
    if ends[1] > high:
        corners = [(right + 9, y), (right, y - 6), (right, y + 6)]
        shapes += [
            svg.element("polygon", points=svg.points(corners), fill=colour),
            svg.label(right, y + 16, told, text_anchor="end", font_size=11),
        ]
    return shapes


def _axis(frame: Frame) -> list[str]:
    bottom = frame.top + frame.height
    shapes = [svg.line(frame.left, bottom, frame.left + frame.width, bottom)]
    for tick in svg.ticks(*frame.x, 10):
        x, _ = frame.at(tick, 0)
        shapes += [
            svg.line(x, bottom, x, bottom + 4),
            svg.label(x, bottom + 18, f"{tick:g}", text_anchor="middle", font_size=11),
        ]
    shapes += [
        svg.label(0, bottom + 34, "← worse"),
        svg.label(WIDTH / 2, bottom + 34, "lead, in margins", text_anchor="middle"),
        svg.label(WIDTH, bottom + 34, "better →", text_anchor="end"),
    ]
    return shapes
