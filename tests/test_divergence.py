"""When a run counts as diverged."""

import json

import numpy as np
import pytest

from experiments.run.divergence import has_stopped, loss_rose
from experiments.run.folder import open_run
from minigpt.errors import InputError, NotFinite


def losses(*means: float, n: int = 200) -> list[float]:
    """The losses of a phase's n steps, of as many equal parts, with noise."""
    noise = 0.05 * np.random.default_rng(0).normal(size=n)
    return (np.repeat(means, n // len(means)) * (1 + noise)).tolist()


@pytest.mark.parametrize(
    "means, rose",
    [
        ((4.4, 4.2, 4.0, 3.9), False),
        ((0.7, 0.7, 0.7, 0.7), False),
        ((0.7, 0.72, 0.74, 0.73), False),  # no better than noise
        ((4.4, 4.2, 4.0, 9.0), True),
        ((4.4, 9.0, 4.0, 3.9), True),  # it recovered
        ((4.4, 4.2, 5.4, 4.2), False),  # by less than a quarter
    ],
)
def test_a_loss_that_rose_on_the_way_is_noticed(means, rose):
    assert loss_rose(losses(*means)) is rose


def test_a_batch_by_itself_is_no_divergence():
    """As in DPO for 17 steps, whose loss is near 0 but for one batch."""
    short = [0.69, 0.42, 0.1, 0.05, 0.01, 0.0, 0.0, 0.0, 1.28, *[0.0] * 8]
    assert not loss_rose(short) and loss_rose([*short[:9], *[1.28] * 8])


def test_a_run_of_few_steps_is_read_too():
    assert not loss_rose([0.7, 0.6, 0.8]) and loss_rose([0.7, 0.6, 0.9])


@pytest.mark.parametrize("error", [NotFinite, InputError])
def test_a_record_tells_whether_a_run_diverged(tmp_path, error):
    with pytest.raises(error), open_run(tmp_path / "run", {}, resume=False):
        raise error("the reason")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert has_stopped(record) is (error is NotFinite) and not has_stopped({"status": "finished"})
