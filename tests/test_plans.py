"""Pretraining and the studies: options without sense are refused before anything is made."""

import pytest

from experiments import (
    data_scale,
    dpo_hyperparameters,
    handoff,
    handoff_grid,
    pair_construction,
    parameterization,
    pretrain,
    reproduce,
)
from experiments.study.smoke import made_up_questions
from minigpt.files import make_folder


def refused(command, arguments, folder, capsys) -> str:
    """The sentence with which a command refuses its options."""
    with pytest.raises(SystemExit) as exit:
        command.main([*arguments, "--out", str(folder)])
    assert exit.value.code == 2 and not folder.exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "command, arguments, sentence",
    [
        (pretrain, ["--corpus", ".", "--model", "nope"], "expected one of gpt2"),
        (pretrain, ["--corpus", ".", "--precision", "fp64"], "fp32"),
        (pretrain, ["--corpus", ".", "--tokens", "4096"], "--batch-tokens is 8,192 of 4,096"),
        (pretrain, ["--corpus", ".", "--device", "abacus"], "cannot be used"),
        (pretrain, ["--corpus", ".", "--device", "meta"], "'meta' cannot be used; expected"),
        (handoff, ["--device", "meta"], "'meta' cannot be used; expected cpu or cuda"),
        (data_scale, ["--shares", "nan", "1"], "--shares is nan; expected at least 0.001"),
        (data_scale, ["--shares", "1"], "expected two or more"),
        (data_scale, ["--shares", "0.4", "1"], "expected one over a whole number, 0.5 or 0.25"),
        (data_scale, ["--shares", "2", "1"], "--shares is 2.0; expected at least 0.001, at most 1"),
        (pair_construction, ["--epochs", "1"], "an epoch left for DPO"),
        (pair_construction, ["--pair-samples", "1"], "--pair-samples is 1"),
        (dpo_hyperparameters, ["--switch-epoch", "10"], "after 10 of 10 epochs"),
        (dpo_hyperparameters, ["--betas", "nan"], "--betas is nan"),
        (handoff_grid, ["--switch-epochs", "11"], "--switch-epochs is 11"),
        (parameterization, ["--ranks", "0"], "--ranks is 0"),
        (parameterization, ["--epochs", "1"], "--epochs is 1, evaluated every 1; expected 2"),
        (handoff_grid, ["--dev-examples", "1"], "--dev-examples is 1; expected 2 or more"),
    ],
)
def test_what_does_not_fit_together(command, arguments, sentence, tmp_path, capsys):
    assert sentence in refused(command, arguments, tmp_path / "out", capsys)


@pytest.mark.parametrize(
    "command, task, folder",
    [(handoff_grid, "--task", "--data"), (reproduce, "--tasks", "--paraphrase.data")],
)
def test_a_dev_of_one_group_is_refused_before_any_run(command, task, folder, tmp_path, capsys):
    data = made_up_questions(make_folder(tmp_path / "data"))
    dev = data / "quora-dev.csv"
    head, first, *others = dev.read_text().splitlines()
    asked = first.split("\t")[1]  # by every pair, which ties them all together
    rows = [line.replace(line.split("\t")[1], asked) for line in others]
    dev.write_text("\n".join([head, first, *rows, ""]))
    arguments = [task, "paraphrase", folder, str(data)]
    found = refused(command, arguments, tmp_path / "out", capsys)
    assert "the 4 dev examples are tied together" in found
