"""Pretraining and the studies: options without sense are refused before anything is made."""

import pytest

from experiments import (
    data_scale,
    dpo_hyperparameters,
    handoff_grid,
    pair_construction,
    parameterization,
    pretrain,
)

STUDIES = [data_scale, dpo_hyperparameters, handoff_grid, pair_construction, parameterization]
SHARED = ("epochs", "seeds", "train-examples", "dev-examples", "batch-size", "jobs")
PRETRAIN = ("tokens", "batch-tokens", "learning-rate", "warmup", "weight-decay", "seed")


def refused(command, arguments, folder, capsys) -> str:
    """The sentence with which a command refuses its options."""
    with pytest.raises(SystemExit) as exit:
        command.main([*arguments, "--out", str(folder)])
    assert exit.value.code == 2 and not folder.exists()
    return capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf", "1e300", "many"])
@pytest.mark.parametrize("option", SHARED)
@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__)
def test_studies(study, option, value, tmp_path, capsys):
    if (option, value) == ("seeds", "0"):
        return  # the first seed there is
    error = refused(study, [f"--{option}", value], tmp_path / "out", capsys)
    assert value in error or "int" in error


@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf", "1e300", "many"])
@pytest.mark.parametrize("option", PRETRAIN)
def test_pretraining(option, value, tmp_path, capsys):
    if value == "0" and option in ("warmup", "weight-decay", "seed"):
        return
    arguments = ["--corpus", str(tmp_path), f"--{option}", value]
    error = refused(pretrain, arguments, tmp_path / "out", capsys)
    assert error.count("\n") == 1 or "int" in error or "float" in error


@pytest.mark.parametrize(
    "command, arguments, sentence",
    [
        (pretrain, ["--corpus", ".", "--model", "nope"], "expected one of gpt2"),
        (pretrain, ["--corpus", ".", "--precision", "fp64"], "fp32"),
        (pretrain, ["--corpus", ".", "--tokens", "4096"], "--batch-tokens is 8,192 of 4,096"),
        (pretrain, ["--corpus", ".", "--device", "abacus"], "cannot be used"),
        (data_scale, ["--shares", "nan", "1"], "--shares is nan 1.0"),
        (data_scale, ["--shares", "1"], "expected two or more"),
        (data_scale, ["--shares", "2", "1"], "from 0.001 to 1"),
        (pair_construction, ["--epochs", "1"], "an epoch left for DPO"),
        (pair_construction, ["--pair-samples", "1"], "--pair-samples is 1"),
        (dpo_hyperparameters, ["--switch-epoch", "10"], "after 10 of 10 epochs"),
        (dpo_hyperparameters, ["--betas", "nan"], "beta is nan"),
        (handoff_grid, ["--switch-epochs", "11"], "switch-epoch is 11"),
        (parameterization, ["--ranks", "0"], "rank is 0"),
    ],
)
def test_what_does_not_fit_together(command, arguments, sentence, tmp_path, capsys):
    assert sentence in refused(command, arguments, tmp_path / "out", capsys)
