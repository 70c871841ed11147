"""What texts score that no model wrote: the sonnets' floors, and Shakespeare's own lines."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from tasks.base import Example
from tasks.chrf import chrf_between
from tasks.sonnet.continuations import set_statistics, text_statistics
from tasks.sonnet.copying import Source
from tasks.sonnet.judge import LineJudge, accuracy
from tasks.sonnet.scores import SONNET_SCORES
from tasks.sonnet.shakespeare import GIVEN_LINES, LINES

FLOOR_DRAWS = 20


def sonnet_floors(
    examples: list[Example],
    train: list[Example],
    source: Source,
    judge: LineJudge,
    *,
    n_samples: int,
    generator: np.random.Generator,
) -> dict[str, dict[str, float]]:
    """Return what continuations without a model score; where they are drawn, means over the draws.

    The standard deviation over draws is the floor's noise, "chrf_sd" for "chrf". "random sonnet"
    goes on with the rest of a training sonnet, "random lines" with eleven lines from anywhere in
    them, "prompt only" not at all, and "nearest sonnet" always with the rest of one training
    sonnet: that with the highest mean chrF with all others, either way round. `n_samples` is how
    many continuations of each sonnet a model has to choose from; `source` is the training text,
    and `judge` the judge of lines.
    """
    lines = np.array([line for e in train for line in "".join(e).splitlines(True)])

    def random_sonnet() -> str:
        return train[generator.integers(len(train))].completion

    def random_lines() -> str:
        return "".join(generator.choice(lines, LINES - GIVEN_LINES))

    def scores(written: list[str]) -> dict[str, float]:
        return text_scores(examples, written, source, judge)

    likeness = chrf_between([e.completion for e in train])
    nearest = train[(likeness + likeness.T).mean(axis=1).argmax()].completion
    return {
        "random sonnet": _drawn(examples, random_sonnet, scores, n_samples),
        "random lines": _drawn(examples, random_lines, scores, n_samples),
        "prompt only": scores([""] * len(examples)),
        "nearest sonnet": scores([nearest] * len(examples)),
    }


def sonnet_ceilings(
    examples: list[Example], source: Source, judge: LineJudge, held_out: list[list[str]]
) -> dict[str, dict[str, float]]:
    """Return what Shakespeare's own lines score in place of samples ("gold").

    "judge's accuracy" is how often the judge is right of the lines of the `held_out` sonnets.
    """
    gold = text_scores(examples, [example.completion for example in examples], source, judge)
    rows = {"gold": gold | {"preference_accuracy": 1.0}}
    if (right := accuracy(judge, held_out)) is not None:
        rows["judge's accuracy"] = {"judged_gold": right}
    return rows


def text_scores(
    examples: list[Example], written: list[str], source: Source, judge: LineJudge
) -> dict[str, float]:
    """Return what one continuation of each example scores, metric -> value."""
    found = text_statistics(examples, written, source, judge)
    found["chrf_mbr"] = found["chrf"]  # there is nothing to choose from
    return _values(found)


def _values(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the scores that addends make."""
    return {name: SONNET_SCORES[name].of(addends).value for name, addends in found.items()}


def _drawn(
    examples: list[Example],
    draw: Callable[[], str],
    scores: Callable[[list[str]], dict[str, float]],
    n_samples: int,
) -> dict[str, float]:
    """Return the means over draws of a continuation for each example, and standard deviations."""
    n_draws = max(FLOOR_DRAWS, n_samples)
    drawn = [draw() for _ in range(n_draws * len(examples))]
    draws = np.array(drawn, dtype=object).reshape(len(examples), n_draws)
    values = defaultdict(list)
    for written in draws.T:
        for name, value in scores(list(written)).items():
            values[name].append(value)
    sets = [  # as many as a model writes, and chooses among
        _values(set_statistics(examples, [*draws[:, i : i + n_samples].flat]))
        for i in range(0, n_draws - n_samples + 1, n_samples)
    ]
    values |= {name: [each[name] for each in sets] for name in sets[0]}
    floor = {name: float(np.mean(v)) for name, v in values.items()}
    return floor | {f"{name}_sd": float(np.std(v)) for name, v in values.items() if len(v) > 1}
