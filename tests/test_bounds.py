"""Every command's every option that is a number: what makes no sense is refused before any work.

They are found in the dataclasses that make the command lines, so that a new one is tried too.
"""

import typing
from collections.abc import Iterator
from dataclasses import is_dataclass

import pytest

import benchmarks.gpu
import benchmarks.growth
import benchmarks.run
from experiments import (
    coverage,
    data_scale,
    dpo_hyperparameters,
    floors,
    generate,
    handoff,
    handoff_grid,
    pair_construction,
    parameterization,
    predict,
    pretrain,
    reproduce,
)
from experiments.run import loop
from experiments.run.flags import make_lora, make_preference
from lora import LoRAConfig
from minigpt import GPT
from objectives import PreferenceConfig

COMMANDS = {
    handoff: handoff.Config,
    handoff_grid: handoff_grid.HandoffGridStudy,
    parameterization: parameterization.ParameterizationStudy,
    pair_construction: pair_construction.PairConstructionStudy,
    dpo_hyperparameters: dpo_hyperparameters.DPOHyperparametersStudy,
    data_scale: data_scale.DataScaleStudy,
    reproduce: reproduce.ReproduceConfig,
    floors: floors.FloorsConfig,
    coverage: coverage.CoverageConfig,
    generate: generate.GenerateConfig,
    predict: predict.PredictConfig,
    pretrain: pretrain.PretrainConfig,
    benchmarks.run: benchmarks.run.Config,
    benchmarks.growth: benchmarks.growth.Config,
    benchmarks.gpu: benchmarks.gpu.Config,
}
NESTED = {LoRAConfig: make_lora, PreferenceConfig: make_preference}  # their flags are these'
QUICK = (
    handoff,
    floors,
    coverage,
    generate,
    predict,
    pretrain,
)  # the others refuse by the same few lines
ADAPTERS = ("rank", "alpha", "lora_dropout", "lora_plus", "layers", "rank_pattern")
NEEDED = {
    pretrain: ["--corpus", "."],
    generate: ["--model", "verse", "--prompt", "O"],
    predict: ["--run", "run", "--data", "rows.csv", "--out", "predictions.csv"],
}
BESIDE = {  # options that make sense of others
    "target_margin": ["--loss", "simpo"],
    "folds": ["--fold", "1"],
    "fold": ["--folds", "7"],
    "held_back": ["--folds", "7", "--fold", "1"],
}
BEFORE = {"sft_learning_rates": ["full"], "rank_pattern": ["mlp"]}  # the name in a pair
VALUES = ["-1", "0", "nan", "inf", "1e300", "1" + 30 * "0", "many"]
ZERO_MAKES_SENSE = {
    "switch_epoch",
    "switch_epochs",
    "fold",
    "held_back",
    "layers",
    "seed",
    "seeds",
    "weight_decay",
    "warmup",
    "dropout",
    "lora_dropout",
    "label_smoothing",
    "label_smoothings",
    "sft_weight",
    "sft_weights",
    "target_margin",
    "temperature",
}


def numbers(of) -> Iterator[str]:
    """Yield the options that are numbers or hold some, as the command line nests them."""
    hints = typing.get_type_hints(of)
    hints.pop("return", None)
    for name, kind in hints.items():
        if plans := [part for part in typing.get_args(kind) if is_dataclass(part)]:
            yield from (f"sonnet.{option}" for option in numbers(plans[0]))
        elif kind in NESTED:
            yield from numbers(NESTED[kind])
        elif {int, float} & set(parts_of(kind)):
            yield name


def parts_of(kind) -> list:
    """Return all types within a type."""
    return [kind, *(part for each in typing.get_args(kind) for part in parts_of(each))]


OPTIONS = [(command, name) for command, config in COMMANDS.items() for name in numbers(config)]


def test_all_options_are_seen():
    assert len(OPTIONS) >= 98
    assert (handoff, "rank") in OPTIONS and (reproduce, "sonnet.seeds") in OPTIONS
    assert (parameterization, "sft_learning_rates") in OPTIONS
    assert {command for command, _ in OPTIONS} == set(COMMANDS)


def arguments(command, name: str, value: str) -> list[str]:
    """Return a command line with this value of one option."""
    line = ["--" + name.replace("_", "-"), *BEFORE.get(name, []), value]
    if command is handoff and name in ADAPTERS:
        line += ["--parameterization", "lora"]
    if command is handoff or name == "target_margin":
        line += BESIDE.get(name, [])
    return line + NEEDED.get(command, [])


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    "command, name",
    [
        pytest.param(command, name, marks=[pytest.mark.slow] * (command not in QUICK))
        for command, name in OPTIONS
    ],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_a_number_makes_sense_or_is_refused(command, name, value, tmp_path, monkeypatch, capsys):
    if value == "0" and name.removeprefix("sonnet.") in ZERO_MAKES_SENSE:
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(GPT, "__init__", lambda *_, **__: pytest.fail("a model is made"))
    with pytest.raises(SystemExit) as exit:
        command.main(arguments(command, name, value))
    assert exit.value.code == 2 and not list(tmp_path.iterdir())
    error = capsys.readouterr().err
    # What is no number of the option's kind, tyro refuses in a box of its own.
    assert error.count("\n") == 1 or "--help" in error
    assert "--" + name.replace("_", "-") in error or f" {name} " in error


class LoadsTheModel(Exception):
    """All options were accepted."""


@pytest.mark.parametrize("name", [n for n in numbers(handoff.Config) if n in ZERO_MAKES_SENSE])
def test_a_zero_that_makes_sense_is_accepted(name, tmp_path, monkeypatch):
    def load(*_, **__):
        raise LoadsTheModel

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "make_policy", load)
    with pytest.raises(LoadsTheModel):
        handoff.main(arguments(handoff, name, "0"))
