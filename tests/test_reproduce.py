"""The plans of `reproduce`: the paper's own, what it will take, and tasks on one's own rows."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import reproduce
from experiments.reproduce import Plan, ReproduceConfig, run
from experiments.run.flags import RowsConfig
from experiments.study import estimate
from minigpt import GPTConfig, download, load_pretrained
from minigpt.errors import InputError
from tests.conftest import CASES

REVIEWS = CASES / "own-data" / "sentiment.csv"
TEMPLATE = "Review: {sentence}\nSentiment:"


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """No weights but verse's, no data but the sonnets, and nobody to fetch them."""
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_download", lambda *_: pytest.fail("it fetches"))


def test_the_papers_plan_where_its_weights_and_data_are_not(nothing_here, monkeypatch, capsys):
    """The kinds of its runs are measured with random weights of the same shape."""
    shape = GPTConfig(vocab_size=50257, n_positions=256, n_layer=1, n_head=2, n_embd=8)
    measured = []

    def measure(config):
        measured.append(load_pretrained(config.model).config)  # which of gpt2's raises Absent
        return {"sft": 60.0, "dpo": 120.0, "dev": 0.0}

    monkeypatch.setattr(estimate, "pretrained_config", {"gpt2": shape}.get)
    monkeypatch.setattr(estimate, "_measure", measure)
    seeds = {task: Plan(seeds=(0,)) for task in ("sonnet", "paraphrase")}
    assert run(ReproduceConfig(paper=True, plans=seeds, tune=False, dry_run=True)) is None
    printed = capsys.readouterr().out
    minutes = {
        (method, int(switch)): float(time)
        for time, method, switch in re.findall(
            r"([\d.]+) min .*/runs/sonnet-gpt2-(full|lora-r\d+)-switch(\d+)-seed0-", printed
        )
    }
    steps = 17  # of eight of the 131 sonnets
    expected = {(m, s): steps * (s + 2 * (10 - s)) for m in ("full", "lora-r8") for s in (0, 3, 9)}
    alone = {(m, 10): steps * 10 for m in ("full", "lora-r4", "lora-r8", "lora-r16")}
    assert minutes == expected | alone
    assert measured == [shape] * 4
    assert len(re.findall(r"     \? min .*/runs/paraphrase-gpt2-", printed)) == len(minutes)
    assert re.search(r"not here   .*gpt2.*measured with random weights of the same shape", printed)
    assert re.search(r"not here   .*quora-train.csv", printed)
    assert "in all     20 runs" in printed and "without those marked ?" in printed


def test_two_plans_are_refused(tmp_path):
    with pytest.raises(InputError, match="--paper and --smoke are two plans"):
        run(ReproduceConfig(paper=True, smoke=True, out=tmp_path / "out"))


def test_flags_of_ones_own_rows(monkeypatch):
    seen = []
    monkeypatch.setattr(reproduce, "run", seen.append)
    reproduce.main(
        ["--tasks", "choice", "--choice.data", "a.csv", "--choice.labels", "0= bad", "1= good"]
    )
    plan = seen[0].plan("choice")
    assert plan.data == Path("a.csv") and plan.rows == RowsConfig(labels=("0= bad", "1= good"))


@pytest.mark.slow
def test_a_study_of_ones_own_choices(model, tmp_path):
    small = {"epochs": 2, "train_examples": 8, "batch_size": 4}
    rows = RowsConfig(template=TEMPLATE, labels=("0= bad", "1= good"), dev="0.3")
    plan = Plan(REVIEWS, rows, ("parameterization",), seeds=(0,), **small)
    config = ReproduceConfig(
        ("choice",), (str(model),), {"choice": plan}, tune=False, device="cpu", out=tmp_path
    )
    with pytest.raises(InputError, match="template"):
        run(replace(config, plans={"choice": replace(plan, rows=RowsConfig())}))
    assert "Full fine-tuning against LoRA: choice" in (run(config) / "report.md").read_text()
