"""`minigpt.show`: pictures that say what they are given, in colours that all eyes tell apart."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import lora
from minigpt import palette, show
from minigpt.errors import InputError
from objectives import dpo_weight

TOKENS = ["Sh", "all", " I", "\n", " <b>&"]
VALUES = [1.0, -2.0, 0.0, 0.5, -0.25]


class Spans(HTMLParser):
    """The spans of some HTML: their attributes, and their text as a browser shows it."""

    def __init__(self, html: str):
        super().__init__()
        self.looks, self.text, self.tags = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "span":
            self.looks.append(dict(attrs))

    def handle_data(self, data):
        self.text.append(data)


def contrast(a: str, b: str) -> float:
    """WCAG 2.1's, 1 to 21."""
    low, high = sorted(palette.luminance(palette.rgb(colour)) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


def test_tokens_are_escaped_and_their_spaces_shown():
    found = Spans(show.token_heat_html(TOKENS, VALUES))
    assert found.text == ["Sh", "all", "·I", "↵", "·<b>&"]
    assert found.tags == ["div", *["span"] * 4, "br", "span"]
    assert [each["title"] for each in found.looks] == ["1", "-2", "0", "0.5", "-0.25"]
    assert show.visible("\x1b[31m\t") == r"\x1b[31m→"  # nothing that moves a terminal


def test_the_sign_is_told_by_a_line_too_and_the_farthest_value_has_the_full_colour():
    looks = [each["style"] for each in Spans(show.token_heat_html(TOKENS, VALUES)).looks]
    assert ["underline" in each for each in looks] == [False, True, False, False, True]
    assert palette.VERMILLION.lower() in looks[1] and "background:#ffffff" in looks[2]
    limited = Spans(show.token_heat_html(["a"], [7.0], limit=5.0)).looks[0]["style"]
    assert palette.BLUE.lower() in limited
    assert "background:#ffffff" in show.token_heat_html(["a", "b"], [0.0, 0.0])


def test_every_token_is_legible_on_its_colour():
    values = torch.linspace(-1, 1, 41)
    looks = [each["style"] for each in Spans(show.token_heat_html(["x"] * 41, values)).looks]
    pairs = [re.search(r"background:(#\w+);color:(#\w+)", each).groups() for each in looks]
    assert len(set(pairs)) == 41 and all(contrast(*pair) > 4.5 for pair in pairs)


def test_a_terminal_shows_the_same_text():
    found = show.token_heat_text(TOKENS, torch.tensor(VALUES))
    assert re.sub(r"\x1b\[[\d;]*m", "", found) == "Shall·I↵\n·<b>&"
    assert found.count("\x1b[0m") == 5 and found.count(";4m") == 2


@pytest.mark.parametrize("values", [[1.0], [0.0] * 4 + [float("nan")]])
def test_values_must_fit_the_tokens(values):
    with pytest.raises(InputError, match="expected one finite number for each"):
        show.token_heat_html(TOKENS, values)


def texts(figure: Figure) -> list[str]:
    axes = figure.axes
    return [text for ax in axes for text in (ax.get_title(), ax.get_ylabel(), ax.get_xlabel())]


def drawn(figure: Figure) -> Figure:
    figure.canvas.draw()
    return figure


def test_an_attention_grid_has_a_map_for_each_block_and_head():
    weights = torch.rand(2, 3, 5, 5).tril()
    figure = drawn(show.attention_grid(weights, TOKENS))
    maps = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    assert len(maps) == 6
    np.testing.assert_allclose(maps[4].filled(-1)[4], weights[1, 1, 4])
    assert maps[0].mask[0].tolist() == [False, True, True, True, True]
    part = show.attention_grid(weights, TOKENS, blocks=[1], heads=[2, 0])
    assert {"block 1", "head 2", "head 0"} <= set(texts(part)) and "head 1" not in texts(part)
    with pytest.raises(InputError, match=r"expected \(L, H, 5, 5\) for 5 tokens"):
        show.attention_grid(weights[None], TOKENS)


def test_spectra_and_margins():
    changes = {"full": torch.diag(torch.arange(6.0)), "cut": torch.ones(4, 3)}
    figure = drawn(show.spectra({name: lora.spectrum(c) for name, c in changes.items()}))
    left, right = figure.axes
    assert [line.get_label() for line in right.lines] == ["full", "cut"]
    np.testing.assert_allclose(left.lines[0].get_ydata(), [5, 4, 3, 2, 1, np.nan])
    assert right.lines[0].get_ydata()[0] == pytest.approx(25 / 55)
    figure = drawn(show.margins({"training": torch.tensor([-1.0, 1.0, 2.0, 3.0])}, dpo_weight))
    (legend,) = figure.legends
    mean = torch.sigmoid(torch.tensor([1.0, -1.0, -2.0, -3.0])).mean()
    assert legend.get_texts()[0].get_text() == f"training: 75% ahead, mean weight {mean:.2f}"


# What dichromats see of linear RGB: Machado, Oliveira and Fernandes (2009), table 1, severity 1.
EYES = {
    "all": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}
LINES = [palette.style(i) for i in range(6)]


@pytest.mark.parametrize("eyes", EYES)
def test_colours_are_told_apart(eyes):
    """Among themselves, and from the grey of what they are compared with."""
    colours = [np.array(palette.rgb(c)) for c in (*(s.color for s in LINES), palette.GREY)]
    seen = [colour**2.2 @ np.array(EYES[eyes]).T for colour in colours]  # in linear RGB
    apart = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert len(apart) == 21 and min(apart) > 0.09


def test_lines_are_told_apart_without_colours_and_the_first_stand_out_from_any_page():
    assert len({each.marker for each in LINES}) == 6
    assert len({each.linestyle for each in LINES}) == 5
    assert len({palette.style(i) for i in range(210)}) == 210
    for each in LINES[:4]:
        assert min(contrast(each.color, page) for page in ("#ffffff", "#000000")) > 3
