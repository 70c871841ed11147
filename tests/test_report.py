"""What people read of a study: the answer first, drawings that tell arms apart, one way up."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from experiments.run.config import make_config
from experiments.run.tables import Link, Mark, Table
from experiments.study import svg
from experiments.study.answer import answer_blocks
from experiments.study.arms import Arm
from experiments.study.claims import Claim
from experiments.study.document import (
    Figures,
    Folded,
    Heading,
    Items,
    Paragraph,
    Picture,
    write_document,
)
from experiments.study.figures import draw_heat_map, looks
from experiments.study.forest import draw_forest
from experiments.study.judging import Case, verdicts_on
from experiments.study.results import ArmResult
from experiments.study.statistics import Difference, Estimate, Part
from minigpt.palette import luminance, rgb
from tasks.sonnet.task import SonnetTask

BITS, CHRF = SonnetTask.metrics["bits_per_char"], SonnetTask.metrics["chrf"]


def case(text: str, value: float, error: float, *, score=CHRF, expects="more", primary=True):
    """A claim whose difference has so large an error, over many examples and three seeds."""
    lead = Estimate(value, Part(error**2, 1000), (Part(0.0, 2), Part(0.0, 2)))
    difference = Difference((40 + value, 40.0), lead, 1000, (3, 3), score.larger_is_better)
    claim = Claim(text, "better", "a", "b", "chrf", expects, primary)
    return Case(claim, difference, score.margin, {}, score, "sonnets")


CASES = [
    case("it helps", 1.0, 0.1),
    case("it hurts", -1.0, 0.1),
    case("nobody knows", 0.1, 3.0),
    case("it helps a lot", 40.0, 0.01),
    case("it is the same", 0.0, 0.01, expects="same"),
    case("fewer bits are better", -0.1, 0.001, score=BITS),
    case("looked at afterwards", 1.0, 0.1, primary=False),
]


@pytest.fixture(scope="module")
def judged():
    return list(zip(CASES, verdicts_on(CASES)))


def parsed(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing)


def test_the_answer_comes_first_and_says_each_primary_claim_once(judged, tmp_path):
    blocks = answer_blocks([("A study: sonnet", judged)], tmp_path)
    assert [type(block) for block in blocks] == [Heading, Paragraph, Figures, Heading, Items]
    assert blocks[1].text == "Primary claims: 6 (holds: 4, does not hold: 1, cannot be told: 1)."
    marks = [mark.text for mark, _ in blocks[-1].items]
    assert marks == [verdict.word for _, verdict in judged[:6]]
    assert blocks[-1].items[0][1].startswith("“it helps”, by chrF. Better by 1.00 (")
    only_later = answer_blocks([("A study: sonnet", judged[6:])], tmp_path)
    assert only_later[1].text.startswith("Exploratory claims: 1 (holds: 1")
    assert answer_blocks([("A study: sonnet", [])], tmp_path) == []


def test_a_lead_lies_to_the_right_whatever_the_metric(judged):
    """In units of the margin: 1.0 of 0.5 chrF is 2, 0.1 fewer of 0.01 bits is 10."""
    drawing = draw_forest([("A study", judged)])
    root = parsed(drawing)
    words = [text.text for text in root.iter("text")]
    for case, verdict in judged:
        assert f"{case.claim.text}, {case.score.short}" in words and verdict.word in words
    dots = [float(dot.get("cx")) for dot in root.iter("circle")]
    bands = list(root.iter("rect"))
    assert len(bands) == len(judged)
    left = float(bands[0].get("x"))
    right = left + float(bands[0].get("width"))
    middle, margin = (left + right) / 2, (right - left) / 2
    # it helps, nobody knows, it is the same, fewer bits, looked at afterwards; one is an arrow.
    assert [(x - middle) / margin for x in dots] == pytest.approx([2, 0.2, 0, 10, 2], abs=0.02)
    assert "80 to 80" in words
    hollow = [dot for dot in root.iter("circle") if dot.get("fill") == "var(--ground)"]
    assert len(hollow) == 1


def test_primary_claims_are_judged_together_and_others_alone():
    """Three with a lead of 2.1 standard errors, p = 0.036: two primary ones are held against half.

    With their number it is the level that changes, and with it the interval and the sentence.
    """
    three = [case(str(i), 1.05, 0.5, primary=i < 2) for i in range(3)]
    *primary, alone = verdicts_on(three)
    assert [verdict.word for verdict in primary] == ["cannot be told"] * 2
    assert alone.word == "holds" and "95 % interval" in alone.sentence
    for verdict in primary:
        assert "97.5 % interval" in verdict.sentence
        assert verdict.interval[0] < 0 < alone.interval[0]
        assert verdict.interval[1] > alone.interval[1]


@pytest.mark.parametrize("error", [0.13, 0.5])
@pytest.mark.parametrize("expects, truth, wrong", [("more", 0.0, "holds"), ("same", 0.5, "holds")])
def test_of_a_family_that_is_wrong_in_all_its_claims_few_studies_say_that_one_holds(
    error, expects, truth, wrong
):
    """Six arms that are no better, or a margin apart: one by one, 1 - 0.975^6 = 14 % would.

    With the smaller error the others are rightly said not to hold, which must not make it easier.
    """
    rng, studies = np.random.default_rng(0), 200
    leads = rng.normal(truth, error, (studies, 6)).tolist()
    families = [[case("it helps", lead, error, expects=expects) for lead in six] for six in leads]
    found = [[verdict.word for verdict in verdicts_on(family)] for family in families]
    assert sum(wrong in words for words in found) <= 0.05 * studies


def arm(name: str, method: str = "full", switch: int = 4) -> ArmResult:
    config = make_config(parameterization=method, switch_epoch=switch, epochs=4)
    return ArmResult(Arm(name, config), [])


def test_methods_are_told_by_the_line_and_handoffs_by_the_marker():
    grid = [arm(f"{m} {k}", m, k) for m in ("full", "lora") for k in (4, 0, 1, 3)]
    found = looks(grid)
    assert len(set(found)) == len(grid)
    for result, look in zip(grid, found):
        config = result.arm.config
        assert look.dashed == (config.parameterization == "lora")
        alike = {
            other.marker
            for its, other in zip(grid, found)
            if its.arm.config.switch_epoch == config.switch_epoch
        }
        assert alike == {look.marker}
    assert len({look.marker for look in found}) == 4
    ranks = looks([arm("full"), *(arm(f"r = {r}", "lora") for r in range(11))])
    assert len(set(ranks)) == 12


class FakeRun:
    """An arm of one seed that ends at a score, and the seed's run."""

    metrics = SonnetTask.metrics  # by their names, which is all that is asked

    def __init__(self, name: str, score: float):
        self.name, self.score, self.runs = name, score, [self]

    def values(self, name: str):
        return np.array([[0.0, self.score]])


@pytest.mark.parametrize(("name", "best"), [("bits_per_char", "a"), ("chrf", "b")])
def test_better_is_bright_in_every_heat_map(name, best):
    cells = [(0.1, 1e-5, "a"), (0.1, 1e-4, "b")]
    pictures = draw_heat_map(cells, [FakeRun("a", 1.0), FakeRun("b", 2.0)], SonnetTask, Path())
    (drawn,) = [picture.drawing for picture in pictures if name in picture.path.name]
    light = [luminance(rgb(box.get("fill"))) for box in parsed(drawn).iter("rect")]
    assert ("a", "b")[light.index(max(light))] == best


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-8, 8), (1.83, 1.8504), (0, 40), (3e-5, 7e-5), (-120, 3)]
)
def test_ticks_are_few_round_and_within(low, high):
    found = svg.ticks(low, high)
    assert 2 <= len(found) <= 7 and low <= min(found) <= max(found) <= high
    steps = {round((b - a) / (found[1] - found[0]), 6) for a, b in pairwise(found)}
    assert steps == {1.0} and f"{found[1] - found[0]:.0e}"[0] in "125"


def test_a_drawing_is_a_file_of_its_own_and_a_part_of_the_page(tmp_path):
    title = "a < b & c"
    drawn = svg.drawing(10, 20, [svg.label(1, 2, title), svg.line(0, -0.04, 1, 1)], title=title)
    root = parsed(svg.as_file(drawn))
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and "prefers-color-scheme" in root[0].text
    assert 'y1="0"' in drawn and "http" not in drawn
    blocks = [
        Heading("One: first"),
        Figures([Picture(tmp_path / "figures" / "a.svg", drawn, title)], "A note."),
        Heading("Two"),
        Items([(Mark("holds", "holds"), title)]),
        Heading("Three"),
        Folded("More", [Table(["x"], [[Link("0", tmp_path / "run.json")]])]),
    ]
    write_document(tmp_path, "T", blocks)
    text, page = ((tmp_path / name).read_text() for name in ("report.md", "report.html"))
    assert (tmp_path / "figures" / "a.svg").read_text() == svg.as_file(drawn)
    assert "[One: first](#one-first) · [Two](#two) · [Three](#three)" in text
    assert "](figures/a.svg)" in text and drawn in page and "- **holds**: a &lt; b" in text
    assert "<details><summary>More</summary>" in text and "[0](run.json)" in text
    assert 'id="one-first"' in page and '<a href="#one-first">' in page
    assert '<b class="holds">holds</b>: a &lt; b &amp; c' in page
    assert "@media print" in page and "prefers-color-scheme: dark" in page
