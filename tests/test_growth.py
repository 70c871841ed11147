"""How cost grows: what is measured, the power law, the projection on paper."""

import json

import numpy as np
import pytest

from benchmarks import growth
from benchmarks.fit import fit_power_law
from benchmarks.growth_point import Point, train_point
from benchmarks.projection import H100, PAIRS, UTILISATION, on_paper

TINY = "2x32"


@pytest.fixture
def at_once(monkeypatch):
    """Measure in this process, where a process for each point would take longer to start."""

    def measure(point, config):
        return train_point(
            point, precision=config.precision, device=config.device, steps=config.steps
        )

    monkeypatch.setattr(growth, "_measure", measure)


def tiny_config(folder, **options):
    sizes = {"lengths": (4, 8), "batches": (1, 2), "examples": (4, 8), "processes": (1,)}
    given = {"model": TINY, "models": (TINY,), "steps": 1, "minutes": 1000.0}
    out = folder / "growth.json"
    return growth.Config(**{**given, **sizes, "out": out, **options})


def test_growth_measures_one_quantity_at_a_time(tmp_path, at_once, capsys):
    found = growth.run(tiny_config(tmp_path))
    curves = found["curves"]
    assert {name: len(rows) for name, rows in curves.items()} == {
        "length": 2,
        "batch": 2,
        "examples": 2,
        "processes": 1,
        "model": 1,
    }
    assert [(row["length"], row["batch"]) for row in curves["batch"]] == [(50, 1), (50, 2)]
    assert np.isfinite(curves["examples"][1]["bytes_per_token"])
    assert json.loads((tmp_path / "growth.json").read_text())["curves"] == curves
    assert (tmp_path / "growth.png").read_bytes()[:4] == b"\x89PNG"
    fits = found["fits"]["seconds"]
    assert fits["length"]["interval"] is None and fits["processes"] is None
    assert found["projection"]["here"] is None  # one model says nothing of another
    printed = capsys.readouterr().out
    assert "bytes a token more" in printed and "by the data sheet" in printed


def test_what_does_not_fit_into_the_time_is_left_out_and_told(tmp_path, at_once, capsys):
    found = growth.run(tiny_config(tmp_path, minutes=1e-6))
    assert found["left_out"] == {
        "length": [8],
        "batch": [2],
        "examples": [8],
        "processes": [],
        "model": [],
    }
    assert all(len(rows) == 1 for rows in found["curves"].values())
    assert "left out" in capsys.readouterr().out


@pytest.mark.slow
def test_a_point_is_shared_by_processes(tmp_path):
    found = growth._measure(Point(TINY, 8, 4, 8, processes=2), tiny_config(tmp_path))
    assert found["seconds"] > 0 and found["peak_memory_mib"] > found["idle_memory_mib"] > 50


def test_a_power_law_is_found_with_its_interval():
    x = [1.0, 2.0, 4.0, 8.0]
    law = fit_power_law(x, [3 * each**1.5 for each in x])
    assert law.exponent == pytest.approx(1.5) and law.factor == pytest.approx(3)
    assert law(16) == pytest.approx(3 * 64) and law.interval == pytest.approx((1.5, 1.5))
    # Slope, residuals and t(2) = 4.303 by hand: log2 y is 0, 1, 1, 2.
    law = fit_power_law(x, [1.0, 2.0, 2.0, 4.0])
    error = np.sqrt((0.1**2 + 0.3**2 + 0.3**2 + 0.1**2) / 2 / 5)
    low, high = law.interval
    assert law.exponent == pytest.approx(0.6)
    assert (high - low) / 2 == pytest.approx(4.303 * error, rel=1e-3)
    assert fit_power_law(x[:2], x[:2]).interval is None and fit_power_law([2.0], [1.0]) is None


def test_the_projection_is_arithmetic():
    one, eight = on_paper("gpt2", 1), on_paper("gpt2", 8)
    # 85 million parameters of the blocks, six operations each and token; attention and head on top.
    seconds = 10 * PAIRS * 47 * 6 * 84_934_656 / (UTILISATION * H100.flops)
    assert one["products_minutes"] * 60 == pytest.approx(seconds, rel=0.05)
    assert eight["products_minutes"] == pytest.approx(one["products_minutes"] / 8)
    assert one["gradients_minutes"] == 0 < eight["gradients_minutes"]
    assert eight["minutes"] > one["minutes"] / 8 and one["microbatches"] == 1
    large = on_paper("gpt2-xl", 1)
    assert large["microbatches"] == 2 and large["gb"] < 0.9 * H100.memory / 1e9
