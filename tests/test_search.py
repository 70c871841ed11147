"""The search for a rate, by its properties: any score may stand for the runs."""

import math
from collections.abc import Callable

import pytest

from experiments.study.search import DIVERGED, FIRST, MOST, STEP, at_edge, best_value, next_values

DEFAULTS = (3e-4, 3e-3, 2e-5, 0.1, 2.0)


def search(score: Callable[[float], float], *, default: float = 1.0, runs: int = 8) -> dict:
    """What was tried, in its order, and how good it was."""
    quality: dict[float, float] = {}
    while asked := next_values(quality, default=default, runs=runs):
        assert not quality.keys() & set(asked), "a value is tried once"
        quality |= {value: score(value) for value in asked}
    return quality


def peak_at(place: float) -> Callable[[float], float]:
    return lambda value: -abs(math.log(value / place))


@pytest.mark.parametrize("default", DEFAULTS)
@pytest.mark.parametrize("runs", [3, 4, 6, MOST])
def test_every_search_has_as_many_runs(default, runs):
    scores = [peak_at(default * factor) for factor in (1e-3, 0.2, 0.9, 1.0, 1.6, 7.0, 1e3)]
    scores += [lambda value: 0.0, lambda value: DIVERGED, lambda value: value, math.sin]
    for score in scores:
        tried = search(score, default=default, runs=runs)
        assert len(tried) == runs
        assert list(tried)[:FIRST] == pytest.approx([default / STEP, default, default * STEP], 0.01)


@pytest.mark.parametrize("default", DEFAULTS)
def test_a_peak_is_found_wherever_the_budget_reaches(default):
    for power in range(-40, 41):
        peak = default * STEP ** (power / 10)  # up to four steps away, where eight runs can be
        tried = search(peak_at(peak), default=default, runs=8)
        best = best_value(tried)
        assert not at_edge(tried)
        assert 1 / STEP < best / peak < STEP
        around = [v for v in tried if v < peak * 1.001][-1:], [v for v in tried if v > peak]
        assert around[0] and around[1], "it lies between two values"


def test_more_runs_come_closer():
    for peak in (0.4, 0.8, 1.0, 1.3, 2.1):
        off = {
            runs: abs(math.log(best_value(search(peak_at(peak), runs=runs)) / peak))
            for runs in (3, 6, 9, MOST)
        }
        assert off[3] >= off[6] >= off[9] >= off[MOST]
        assert off[MOST] < 0.15


def test_the_grid_is_extended_while_the_best_lies_at_its_edge():
    upwards, downwards = search(lambda v: v, runs=6), search(lambda v: -v, runs=6)
    assert list(upwards) == pytest.approx([1 / 3, 1, 3, 9, 27, 81], 0.01)
    assert list(downwards) == pytest.approx([1 / 3, 1, 3, 1 / 9, 1 / 27, 1 / 81], 0.01)
    assert at_edge(upwards) and at_edge(downwards)
    assert best_value(upwards) == 81 and best_value(downwards) == min(downwards)


def test_within_the_grid_the_wider_gap_is_halved_then_the_one_towards_the_better_neighbour():
    tried = search(peak_at(1.5), runs=5)
    assert list(tried)[3:] == pytest.approx([math.sqrt(3), math.sqrt(math.sqrt(3))], 0.01)


def test_what_diverges_is_never_the_best_and_sends_the_search_down():
    def breaks_above(limit):
        return lambda value: value if value <= limit else DIVERGED  # as it often is

    tried = search(breaks_above(1.2))
    assert tried[3.0] == DIVERGED and 1.0 <= best_value(tried) <= 1.2 and not at_edge(tried)
    tried = search(breaks_above(0.01))
    assert best_value(tried) <= 0.01 and not at_edge(tried)
    tried = search(lambda value: DIVERGED, runs=5)
    assert list(tried)[3:] == pytest.approx([1 / 9, 1 / 27], 0.01)


def test_of_equals_the_lowest_is_the_best():
    assert best_value({3.0: 1.0, 1.0: 1.0, 0.3: 0.5}) == 1.0
