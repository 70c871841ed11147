"""Verse made worse: what changes, what stays, and that something always changes."""

from collections import Counter
from itertools import combinations

import pytest
import torch

from minigpt.errors import InputError
from tasks import get_task
from tasks.sonnet.corruption import corrupt, swap_two_lines


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_punctuation_stays_when_last_words_move():
    text = "on the sea,\nof the 'land.'\n"
    assert {corrupt(text, seeded(seed)) for seed in range(40)} == {
        text,
        "on the 'land,\nof the sea.'\n",
        "of the 'land.'\non the sea,\n",
        "of the sea.'\non the 'land,\n",
    }


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_swap_leaves_all_lines_but_two_in_place(split):
    generator = seeded(0)
    for _, text in get_task("sonnet").examples(split):
        before, after = text.splitlines(), swap_two_lines(text, generator).splitlines()
        (a, b), (c, d) = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
        assert (a, b) == (d, c)


def test_every_two_lines_that_differ_are_swapped_equally_often():
    lines, generator = ["one,", "two;", "three", "two;"], seeded(0)
    drawn = Counter(
        swap_two_lines("".join(f"{line}\n" for line in lines), generator) for _ in range(2000)
    )
    expected = set()
    for i, j in combinations(range(4), 2):
        if (i, j) != (1, 3):  # the same line twice
            order = [0, 1, 2, 3]
            order[i], order[j] = j, i
            expected.add("".join(f"{lines[k]}\n" for k in order))
    assert drawn.keys() == expected and len(expected) == 5
    assert all(abs(count - 400) < 90 for count in drawn.values())  # five standard deviations


def test_the_same_generator_state_gives_the_same_swaps():
    text = get_task("sonnet").examples("dev")[0].completion
    draws = [
        [swap_two_lines(text, generator) for _ in range(8)]
        for generator in (seeded(0), seeded(0), seeded(1))
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("text", ["", "one line\n", "the same\nthe same\n"])
def test_a_text_that_no_swap_changes_is_refused(text):
    with pytest.raises(InputError, match="expected two that differ"):
        swap_two_lines(text, seeded(0))
