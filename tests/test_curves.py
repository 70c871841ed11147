"""The figure of a run: a panel for what there is, by step, floors named and none over another."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.run.curves import POINTS, curves
from experiments.run.floor_lines import GAP, draw_floors, spread
from tasks.registry import task_class

SONNET = task_class("sonnet")
FLOORS = {"random sonnet": {"chrf": 41.5}, "random lines": {"chrf": 41.6}, "none": {"chrf": 2.0}}
SCORES = ["dev: held-out bits per character (lower is better)", "dev: chrF, whole sonnet"]
LOSSES = ["SFT loss, nats per token", "DPO loss, per pair"]
REWARDS, WEIGHTS = "reward (beta x log-ratio, nats)", "weight of a pair, sigmoid(-margin)"
KL = "KL(policy || reference), nats per token"


def step(number: int, phase: str, reward: float = 0.0) -> dict:
    record = {"kind": "step", "step": number, "epoch": 1, "phase": phase, "loss": float(number)}
    if phase == "dpo":
        weights = {"weights": 0.5, "weights/q10": 0.4, "weights/q50": 0.5, "weights/q90": 0.6}
        record |= {"rewards/chosen": reward, "rewards/rejected": -reward, **weights}
    return record


def evaluation(number: int, phase: str) -> dict:
    scores = {
        name: {"value": value, "interval": [value - 1, value + 1]}
        for name, value in (("bits_per_char", 1.9), ("chrf", 40.0))
    }
    record = {"kind": "evaluation", "step": number, "phase": phase, "split": "dev"}
    held_out = {
        "eval_loss": 0.6,
        "eval_rewards/chosen": 0.1,
        "eval_rewards/rejected": -0.3,
        "eval_kl/chosen": 0.01,
        "eval_kl/rejected": 0.02,
        **{f"eval_weights/{q}": w for q, w in (("q10", 0.3), ("q50", 0.4), ("q90", 0.5))},
    }
    return {**record, "scores": scores, **(held_out if phase == "dpo" else {})}


def a_run(sft: int, dpo: int, reward: float = 0.0) -> list[dict]:
    """SFT and DPO of so many steps, an epoch each."""
    records = [evaluation(0, "untuned")]
    records += [step(i, "sft") for i in range(1, sft + 1)]
    records += [evaluation(sft, "sft")] if sft else []
    records += [step(i, "dpo", reward) for i in range(sft + 1, sft + dpo + 1)]
    return [*records, *([evaluation(sft + dpo, "dpo")] if dpo else [])]


def panels(figure: Figure) -> dict[str, Axes]:
    return {ax.get_title(): ax for ax in figure.axes if ax.get_title()}


def lines(ax: Axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def test_a_handoff_of_an_epoch_is_a_curve_by_steps():
    figure = curves(a_run(5, 7), FLOORS, SONNET)
    figure.canvas.draw()
    found = panels(figure)
    of_pairs = [f"{REWARDS}, each step", f"{WEIGHTS}, each step", KL]
    assert list(found) == [*SCORES, *LOSSES, *of_pairs]
    np.testing.assert_allclose(
        lines(found[LOSSES[1]])["training, each step"], [(i, i) for i in range(6, 13)]
    )
    assert lines(found[SCORES[1]])["DPO"].tolist() == [[5, 40], [12, 40]]
    assert lines(found[SCORES[1]])["handoff"][0][0] == 5
    kl = lines(found[KL])
    assert kl["rejected, held out"].tolist() == [[5, 0], [12, 0.02]]


@pytest.mark.parametrize(("sft", "dpo", "expected"), [(4, 0, 3), (0, 4, 6), (4, 4, 7)])
def test_there_is_a_panel_for_what_there_is(sft, dpo, expected):
    assert len(panels(curves(a_run(sft, dpo), FLOORS, SONNET))) == expected


def test_it_can_be_drawn_at_any_moment():
    records = a_run(2, 2)
    counts = [len(panels(curves(records[:n], {}, SONNET))) for n in (0, 1, 2, 5, 7)]
    assert counts == [0, 2, 3, 6, 7]
    assert len(panels(curves(records[-1:], {}, SONNET))) == 2  # resumed before an evaluation


def test_sides_differ_in_style_and_begin_at_zero_only_under_a_reference():
    for reward, first in ((0.0, 4), (-8.0, 8)):
        figure = curves(a_run(4, 4, reward), FLOORS, SONNET)
        rewards = panels(figure)[f"{REWARDS}, each step"]
        shown = {line.get_label(): line for line in rewards.lines}
        assert shown["chosen, held out"].get_linestyle() == "-"
        assert shown["rejected, held out"].get_linestyle() == "--"
        assert shown["chosen, held out"].get_xdata()[0] == first


def test_many_steps_are_shown_as_means_and_said_to_be():
    found = panels(curves(a_run(4 * POINTS + 2, 0), FLOORS, SONNET))
    drawn = lines(found[LOSSES[0]])["training, means of 5 steps"]
    assert len(drawn) == 49 and drawn[0].tolist() == [3, 3]
    np.testing.assert_allclose(drawn[-1], [241.5, 241.5])  # the last two alone


def test_bands_are_named_and_floors_are_beside_the_panel_apart_from_each_other():
    ax = panels(curves(a_run(4, 4), FLOORS, SONNET))[SCORES[1]]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "95 % interval over sonnets" in legend
    texts = {text.get_text(): text.get_position() for text in ax.texts}
    assert texts.keys() == {"random sonnet", "random lines", "↓ none 2.0"}
    assert all(x > 1 for x, _ in texts.values())
    heights = sorted(y for _, y in texts.values())
    assert min(np.diff(heights)) >= GAP - 1e-9
    assert ax.get_ylim()[0] > 10  # the one far off does not flatten the scores


def test_names_are_spread():
    assert spread([], 0.1).tolist() == []
    np.testing.assert_allclose(spread([0.1, 0.5], 0.1), [0.1, 0.5])
    np.testing.assert_allclose(spread([0.5, 0.5, 0.52], 0.1), [0.5, 0.6, 0.7])
    np.testing.assert_allclose(spread([0.2, 0.99, 1.0], 0.1), [0.2, 0.9, 1.0])


def test_a_panel_without_floors_stays_as_it_is():
    ax = Figure().subplots()
    ax.plot([0, 1], [3, 5])
    before = ax.get_ylim()
    draw_floors(ax, {})
    assert ax.get_ylim() == before and not ax.texts
