"""What training does in a run is what the run's options say, and not only its parts alone."""

import json
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch

from experiments import handoff
from experiments.run import training_run
from experiments.run.config import make_config
from experiments.run.schedule import warmup_cosine
from minigpt import load_pretrained
from objectives import PreferenceConfig
from tasks import Evaluation
from tests.test_own_task import OppositeTask

pytestmark = pytest.mark.slow


class Call(NamedTuple):
    """What an epoch of a run asked of `train`."""

    optimizer: torch.optim.Optimizer
    objective: object
    rates: list[float]
    options: dict
    steps: list[dict]  # what came of it


@pytest.fixture
def calls(monkeypatch) -> list[Call]:
    """The epochs that runs train from here on."""
    found, real = [], training_run.train

    def spied(model, optimizer, steps, objective, *, learning_rates, **options) -> Iterator[dict]:
        found.append(call := Call(optimizer, objective, learning_rates, options, []))
        rates = {"learning_rates": learning_rates}
        for metrics in real(model, optimizer, steps, objective, **rates, **options):
            call.steps.append({name: float(value) for name, value in metrics.items()})
            yield metrics

    monkeypatch.setattr(training_run, "train", spied)
    return found


def run(model, out, **options):
    """Two epochs of SFT and two of DPO on six words with an opposite, three words a step."""
    small = {"epochs": 4, "switch_epoch": 2, "batch_size": 3, "device": "cpu", "model": str(model)}
    config = make_config(**{**small, "task": OppositeTask.name, "out": out, **options})
    return handoff.run(config, OppositeTask())


LORA = {"parameterization": "lora", "rank": 2, "sft_learning_rate": 0.5, "lora_plus": 4.0}
LOSS = {"loss": "ipo", "beta": 0.2, "weight_decay": 0.3, "dropout": 0.5}


@pytest.mark.parametrize("method", [{}, LORA], ids=["full", "lora"])
def test_the_options_of_training_reach_it(small_model, tmp_path, calls, method):
    run(small_model, tmp_path, precision="bf16", dpo_learning_rate=1e-3, **LOSS, **method)
    sft, dpo = calls[:2], calls[2:]
    assert [call.options["dropout"] for call in calls] == [True, True, False, False]
    assert {call.options["precision"] for call in calls} == {"bf16"}
    assert (
        len({id(call.optimizer) for call in sft}) == len({id(call.optimizer) for call in dpo}) == 1
    )
    assert sft[0].optimizer is not dpo[0].optimizer  # fresh
    for call in calls:
        groups = {(g["weight_decay"], g["ratio"]) for g in call.optimizer.param_groups}
        assert groups == ({(0.3, 1.0), (0.3, 4.0)} if method else {(0.3, 1.0), (0.0, 1.0)})
    assert dpo[0].objective.config == PreferenceConfig("ipo", beta=0.2)


def test_each_phase_warms_up_and_ends_at_0(small_model, tmp_path, calls):
    run(small_model, tmp_path, sft_learning_rate=0.03, dpo_learning_rate=0.01)
    for phase, peak in ((calls[:2], 0.03), (calls[2:], 0.01)):
        rates = [step["learning_rate"] for call in phase for step in call.steps]
        assert rates == [warmup_cosine(step, 4, peak=peak, warmup=0) for step in range(4)]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    logged = [line["learning_rate"] for line in map(json.loads, lines) if line["kind"] == "step"]
    assert logged == [step["learning_rate"] for call in calls for step in call.steps]


@pytest.mark.parametrize("method", [{}, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(
    "loss, first", [("sigmoid", math.log(2)), ("ipo", 1 / (2 * 0.2) ** 2)], ids=["sigmoid", "ipo"]
)
def test_dpo_starts_at_its_reference_the_policy_as_it_stands(
    small_model, tmp_path, calls, method, loss, first
):
    """With LoRA its adapters are part of it; with dropout, or another beta, no loss is there."""
    run(small_model, tmp_path, loss=loss, beta=0.2, dropout=0.5, **method)
    assert calls[2].steps[0]["loss"] == pytest.approx(first, abs=1e-5)
    assert calls[1].steps[-1]["loss"] < calls[0].steps[0]["loss"] - 0.01, "SFT has changed it"


@pytest.mark.parametrize("method", [{}, LORA], ids=["full", "lora"])
def test_dropout_is_at_work_in_sft(small_model, tmp_path, calls, method):
    short = {"epochs": 1, "switch_epoch": 1, **method}
    run(small_model, tmp_path / "plain", **short)
    run(small_model, tmp_path / "dropped", dropout=0.5, **short)
    plain, dropped = ([step["loss"] for step in call.steps] for call in calls)
    assert abs(plain[0] - dropped[0]) > 1e-3


def test_dropout_is_at_work_in_adapters(small_model, tmp_path, calls):
    short = {"epochs": 1, "switch_epoch": 1, **LORA}
    run(small_model, tmp_path / "plain", **short)
    run(small_model, tmp_path / "dropped", lora_dropout=0.5, **short)
    plain, dropped = ([step["loss"] for step in call.steps] for call in calls)
    assert plain[0] == dropped[0], "B is 0 at first, whatever it is given"
    assert abs(plain[1] - dropped[1]) > 1e-3


class Scored(OppositeTask):
    """It scores what it is told, on test too, and notes the weights that it scored."""

    name = "scored"
    scored_splits = ("train", "dev", "test")

    def __init__(self, *bits: float):
        self.bits = iter(bits)
        self.scored: list[tuple[str, torch.Tensor]] = []

    def evaluate(self, model, tokenizer, split, *, generator):
        self.scored.append((split, model.ln_f.bias.detach().clone()))
        return Evaluation({"bits": self.metrics["bits"].of(np.array([[next(self.bits), 1.0]]))})


def test_the_best_epochs_weights_are_scored_on_test_once(small_model, tmp_path):
    task = Scored(9, 2, 1, 3, 4, 7)  # untuned, four epochs of which the second is the best, test
    options = {"epochs": 4, "switch_epoch": 2, "batch_size": 3, "device": "cpu"}
    config = make_config(task=task.name, model=str(small_model), out=tmp_path, **options)
    result = handoff.run(config, task)
    assert [split for split, _ in task.scored] == ["dev"] * 5 + ["test"]
    weights = [bias for _, bias in task.scored]
    assert torch.equal(weights[-1], weights[2]) and not torch.equal(weights[-1], weights[4])
    assert result.best["epoch"] == 2 and result.test["scores"]["bits"]["value"] == 7
    assert torch.equal(load_pretrained(tmp_path / "best").ln_f.bias, weights[2])
