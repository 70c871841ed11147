"""Options from a notebook are as good as the command line's, or refused before anything is done."""

from pathlib import Path

import numpy as np
import pytest

from experiments import compare, export, floors, generate, predict, pretrain, publish, reproduce
from experiments.data_scale import DataScaleStudy
from experiments.parameterization import ParameterizationStudy
from experiments.run.config import Config
from experiments.run.flags import RowsConfig
from experiments.run.option_types import checked, typed
from experiments.run.plan import resolve
from minigpt.errors import InputError


@pytest.mark.parametrize(
    "option, value, expected",
    [
        ("parameterization", "adapter", "full or lora"),
        ("precision", "fp16", "fp32 or bf16"),
        ("keep", "all", "checkpoint or weights or nothing"),
        ("compile", "triton", "minigpt or inductor or eager"),
        ("log", "wandb", "tensorboard or trackio"),
        ("folds_of", "dev", "all or train"),
        ("epochs", "3", "a whole number"),
        ("epochs", 2.5, "a whole number"),
        ("seed", np.int64(3), "a whole number"),  # which JSON would keep as text
        ("seed", True, "a whole number"),
        ("temperature", "1.2", "a number"),
        ("headline_only", "no", "true or false"),
        ("held_back", 3, "a list of a whole number"),
        ("lora", {"rank": 4}, "LoRAConfig"),
    ],
)
def test_a_value_of_another_type_is_refused_before_anything_is_done(option, value, expected):
    flag = option.replace("_", "-")
    with pytest.raises(InputError, match=f"^--{flag} is .*; expected {expected}$"):
        resolve(Config(**{option: value}))


@pytest.mark.parametrize(
    "run, config",
    [
        (compare.run, compare.CompareConfig(runs="runs/a", out=Path("out"))),
        (export.run, export.ExportConfig(Path("runs/a"), Path("out"), format="onnx")),
        (floors.run, floors.FloorsConfig(split=3)),
        (generate.run, generate.GenerateConfig(which="first")),
        (predict.run, predict.PredictConfig(Path("runs/a"), Path("a"), Path("b"), format="json")),
        (pretrain.run, pretrain.PretrainConfig(corpus=Path("c"), precision="fp16")),
        (publish.run, publish.PublishConfig(study=3, out=Path("out"))),
        (reproduce.run, reproduce.ReproduceConfig(tasks="sonnet")),
        (reproduce.run, reproduce.ReproduceConfig(plans={"sonnet": reproduce.Plan(seeds=3)})),
        (ParameterizationStudy.check, ParameterizationStudy(precision="fp16")),
    ],
)
def test_so_it_is_by_every_command(run, config):
    with pytest.raises(InputError, match="^--[a-z.-]+ is .*; expected"):
        run(config)


def test_so_it_is_where_options_are_nested():
    with pytest.raises(InputError, match="--train is 3; expected text$"):
        resolve(Config(rows=RowsConfig(train=3)))


def test_texts_are_as_good_as_paths_and_lists_as_tuples():
    assert resolve(Config(held_back=[1], folds=7, fold=0)).config.held_back == (1,)
    assert resolve(Config(out="runs/mine", data="mine")).config.data == Path("mine")
    config = checked(publish.PublishConfig("runs/a", "records/b"))
    assert (config.study, config.out) == (Path("runs/a"), Path("records/b"))


def test_what_a_study_has_worked_out_is_no_option_of_it():
    study = DataScaleStudy(train_examples=8, dev_examples=4)
    assert study.sizes == [2, 4, 8]  # kept beside its options
    assert typed(study) == study


def test_the_defaults_fit_and_stay_as_they_are():
    for config in (Config(), reproduce.ReproduceConfig(), ParameterizationStudy()):
        assert typed(config) == config
