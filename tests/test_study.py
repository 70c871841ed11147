"""The study: plans, runs that are never repeated, kill -9, one report."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

from experiments import floors, parameterization, reproduce
from experiments.adapters import AdaptersStudy
from experiments.data_scale import DataScaleStudy
from experiments.dpo_hyperparameters import DPOHyperparametersStudy
from experiments.handoff_grid import HandoffGridStudy
from experiments.pair_construction import PairConstructionStudy
from experiments.parameterization import ParameterizationStudy
from experiments.reproduce import ReproduceConfig, run
from experiments.run.config import make_config
from experiments.run.plan import resolve
from experiments.study import estimate
from experiments.study.search import FIRST
from minigpt import GPT, GPTConfig, download, save_pretrained
from minigpt.errors import InputError

ROOT = Path(__file__).parent.parent
PATIENCE = 300  # seconds, on a machine with much else to do
SMALL = {"epochs": 2, "train_examples": 8, "dev_examples": 2, "batch_size": 4, "device": "cpu"}


def comparison(model: Path, out: Path, **options) -> ParameterizationStudy:
    return ParameterizationStudy(
        **{**SMALL, "model": str(model), "out": out, "ranks": (4,), "seeds": (0, 1), **options}
    )


def assert_links_lead_somewhere(folder: Path, text: str, page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert f'id="{target[1:]}"' in page and f'href="{target}"' in page
        else:
            assert (folder / target).is_file(), target


def scores(report: str) -> list[str]:
    """The lines of a report that time and memory do not touch, cut after the scores."""
    report, _, _ = report.partition("## Where this was run")
    lines = [line for line in report.splitlines() if "s/epoch" not in line.split("|")[1:4]]
    return [
        re.sub(r"\| [\d,]+ \| [\d.]+ \| [\d,]+ \|.*", "", line)
        for line in lines
        if "faster" not in line and "less memory" not in line
    ]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_free(folder: Path) -> bool:
    """Whether no run is at work in a folder."""
    try:
        with filelock.FileLock(folder / "lock", blocking=False):
            return True
    except filelock.Timeout:
        return False


@pytest.mark.slow
def test_a_comparison_reports_every_arm_and_claim(model, tmp_path):
    results = parameterization.run(comparison(model, tmp_path))
    assert [result.name for result in results] == ["full", "LoRA r = 4"]
    assert all(len(result.runs) == 2 for result in results)
    text = (tmp_path / "parameterization-sonnet" / "report.md").read_text()
    page = (tmp_path / "parameterization-sonnet" / "report.html").read_text()
    for claim in comparison(model, tmp_path).claims():
        assert claim.text in text and claim.text in page
    assert "Feng and Yang" in text and "arxiv.org/abs/2603.20100" in page
    for floor in ("random sonnet", "random lines", "nearest sonnet", "prompt only", "gold"):
        assert floor in text
    assert_links_lead_somewhere(tmp_path / "parameterization-sonnet", text, page)
    assert "<svg" in page and "http" not in page
    assert not list(tmp_path.glob("runs/*/best")), "weights of finished runs are dropped"


@pytest.mark.slow
def test_finished_runs_are_not_repeated(model, tmp_path):
    parameterization.run(comparison(model, tmp_path, seeds=(0,)))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/run.json")}
    parameterization.run(comparison(model, tmp_path, seeds=(0, 1)))
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/run.json")}
    assert len(before) == 2 and len(after) == 4 and before.items() <= after.items()


def test_the_default_folder_tells_what_is_not_the_default():
    names = {
        resolve(make_config(device="cpu", **options)).config.out.name
        for options in (
            {},
            {"beta": 0.03},
            {"beta": 0.3},
            {"dpo_learning_rate": 1e-5},
            {"loss": "ipo"},
            {"pairs": "best-vs-worst", "pair_samples": 4},
            {"parameterization": "lora", "dora": True, "layers": (4, 5)},
            {"folds": 7, "fold": 2, "held_back": (0, 1)},
        )
    }
    assert names >= {
        "sonnet-verse-full-switch3-seed0",
        "sonnet-verse-full-switch3-seed0-beta0.03",
        "sonnet-verse-full-switch3-seed0-dpo-learning-rate1e-05",
        "sonnet-verse-lora-r8-switch3-seed0-layers4-5-dora",
        "sonnet-verse-full-switch3-seed0-folds7-fold2-held-back0-1",
    }
    assert len(names) == 8


def test_arms_that_two_experiments_share_are_one_run(model, tmp_path):
    shared = {**SMALL, "model": str(model), "out": tmp_path, "seeds": (0,)}
    full = ParameterizationStudy(**shared).arms()[0]
    grid = HandoffGridStudy(**shared)
    alone = grid.arms()[0]
    assert alone.name == "full, switch 2"
    assert grid.configs(alone)[0].out == grid.configs(full)[0].out


@pytest.mark.slow
def test_kill_9_and_start_again_give_the_report_of_an_unbroken_run(model, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    parameterization.run(comparison(model, whole))
    command = [
        sys.executable,
        "-m",
        "experiments.parameterization",
        "--model",
        str(model),
        "--out",
        str(broken),
        "--ranks",
        "4",
        "--seeds",
        "0",
        "1",
        "--epochs",
        "2",
        "--train-examples",
        "8",
        "--dev-examples",
        "2",
        "--batch-size",
        "4",
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    )
    wait_until(lambda: len(list(broken.glob("runs/*/run.json"))) >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {
        path: path.stat().st_mtime_ns
        for path in broken.glob("runs/*/run.json")
        if '"finished"' in path.read_text()
    }
    # The run that was at work notices that nobody waits for it.
    wait_until(lambda: all(map(is_free, broken.glob("runs/*"))))
    parameterization.run(comparison(model, broken))
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in finished.items())
    reports = [
        (folder / "parameterization-sonnet" / "report.md").read_text() for folder in (whole, broken)
    ]
    assert scores(reports[0]) == scores(reports[1])


def test_bad_plans_are_refused_before_anything_runs(model, tmp_path):
    for options, message in (
        ({"seeds": (0, 0)}, "seed 0 twice"),
        ({"ranks": (4, 4)}, "arm LoRA r = 4 twice"),
        ({"seeds": ()}, "names no seed"),
        ({"jobs": 0}, "--jobs is 0"),
    ):
        with pytest.raises(InputError, match=message):
            parameterization.run(comparison(model, tmp_path, **options))
    with pytest.raises(InputError, match="each once"):
        run(ReproduceConfig(tasks=("sonnet", "sonnet"), out=tmp_path))
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_finished_work_stays(model, tmp_path):
    parameterization.run(comparison(model, tmp_path, seeds=(0,)))
    kept = sorted(tmp_path.glob("runs/*/run.json"))
    short = GPT(GPTConfig(vocab_size=16384, n_positions=64, n_layer=1, n_head=1, n_embd=8))
    save_pretrained(short, tmp_path / "short")  # sonnets are longer
    with pytest.raises(InputError, match="failed .*finished is kept"):
        parameterization.run(comparison(tmp_path / "short", tmp_path, seeds=(0,)))
    assert sorted(tmp_path.glob("runs/*/run.json")) == kept
    kept[0].write_text("{")
    with pytest.raises(InputError, match="it is not the record of a run"):
        parameterization.run(comparison(model, tmp_path, seeds=(0,)))


def test_equal_budgets_of_steps(tmp_path):
    small = {**SMALL, "train_examples": 8}
    for shares in ((0.25, 0.5, 1.0), (1.0, 0.25, 0.5)):
        study = DataScaleStudy(**small, shares=shares)
        steps = [arm.config.epochs * arm.config.train_examples for arm in study.arms()]
        assert steps == [16, 16, 16]
        assert {(c.a[:10], c.b[:10]) for c in study.claims()} == {("8 examples", "2 examples")}


def test_every_experiment_names_its_arms_once():
    for study in (
        ParameterizationStudy(),
        AdaptersStudy(),
        HandoffGridStudy(),
        PairConstructionStudy(),
        DPOHyperparametersStudy(),
        DataScaleStudy(),
    ):
        study.check()
        names = {arm.name for arm in study.arms()}
        for claim in study.claims():
            assert {claim.a, claim.b, *(claim.beyond or ())} <= names


@pytest.mark.parametrize("study", [PairConstructionStudy, DPOHyperparametersStudy])
def test_a_handoff_at_0_is_dpo_alone(study):
    for given, expected in ((0, 0), (2, 2), (None, 3)):
        arms = study(epochs=10, switch_epoch=given).arms()
        alone, *handoffs = sorted(arms, key=lambda arm: arm.name != "SFT alone")
        assert {arm.config.switch_epoch for arm in handoffs} == {expected}
        assert alone.name == "SFT alone" and alone.config.switch_epoch == 10


def test_the_constructions_are_told_as_before():
    assert PairConstructionStudy().question == (
        "One handoff, one loss; only the construction differs. V1 gold-vs-sample, "
        "V2 gold-vs-corrupted, V3 best-vs-worst of several samples by chrF."
    )


def test_every_task_has_a_plan_of_its_own_and_the_flags_are_flat(monkeypatch):
    seen = []
    monkeypatch.setattr(reproduce, "run", seen.append)
    reproduce.main(["--sonnet.epochs", "3", "--paraphrase.experiments", "data_scale"])
    (config,) = seen
    assert config.plan("sonnet").epochs == 3 and config.plan("paraphrase").epochs == 10
    assert config.plan("paraphrase").experiments == ("data_scale",)
    assert config.plan("sonnet").experiments == tuple(reproduce.EXPERIMENTS)


@pytest.mark.slow
def test_a_dry_run_estimates_and_does_nothing(model, tmp_path, capsys):
    assert parameterization.run(comparison(model, tmp_path, dry_run=True)) is None
    assert re.search(r"4 runs, about \d+ minutes", capsys.readouterr().out)
    assert not (tmp_path / "runs").exists()


def measured_at_once(monkeypatch):
    """Let every run be as fast as another, so that a plan is printed without measuring."""
    speed = {"sft": 1.0, "dpo": 1.0, "dev": 1.0}
    monkeypatch.setattr(estimate, "_measure", lambda config: speed)


@pytest.mark.parametrize("smoke", [True, False])
def test_a_dry_run_without_the_data_plans_the_rest(smoke, model, tmp_path, monkeypatch, capsys):
    measured_at_once(monkeypatch)
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_download", lambda *_: pytest.fail("it fetches"))
    out = tmp_path / "out"
    assert run(ReproduceConfig(models=(str(model),), out=out, smoke=smoke, dry_run=True)) is None
    printed = capsys.readouterr().out
    assert re.search(r"\d\.\d min .*/runs/sonnet-", printed)
    assert not list(tmp_path.iterdir())
    if smoke:
        assert "not here" not in printed and re.search(r"\d min .*/runs/paraphrase-", printed)
    else:
        assert re.search(r"     \? min .*/runs/paraphrase-", printed)
        assert re.search(r"not here   .*quora-train.csv .*will be fetched from https", printed)
        assert "the runs of data-scale depend on it" in printed


def test_without_tuning_every_run_is_listed_at_the_default_rates(model, tmp_path, capsys):
    small = {"epochs": 2, "seeds": (0,), "train_examples": 8, "dev_examples": 2}
    plans = {"sonnet": reproduce.Plan(experiments=("handoff_grid",), **small)}
    asked = {"tasks": ("sonnet",), "plans": plans, "models": (str(model),), "out": tmp_path}
    run(ReproduceConfig(**asked, tune=False, listed=True))
    assert len(capsys.readouterr().out.splitlines()) == 6  # three handoffs of two methods


@pytest.mark.slow
def test_the_floors_stand_in_a_table(capsys):
    rows = floors.run(floors.FloorsConfig())
    shown = capsys.readouterr().out
    assert 24.5 < rows["prompt only"]["chrf"] < 25.0 and "prompt only" in shown
    assert "read       sonnets.txt: 154 of 154 sonnets are used" in shown


@pytest.mark.slow
def test_smoke(tmp_path, model):
    """Every experiment of both tasks, and a report that has it all."""
    out = run(ReproduceConfig(smoke=True, models=(str(model),), out=tmp_path, jobs=2))
    text, page = ((out / name).read_text() for name in ("report.md", "report.html"))
    for title in (
        "Full fine-tuning against LoRA",
        "LoRA's family",
        "SFT, DPO, and the handoff between them",
        "How preference pairs are made",
        "DPO's options and relatives",
        "More data against more epochs",
        "Learning rates",
        "Preference pairs",
    ):
        assert title in text and title.replace("'", "&#x27;") in page
    assert page.count("<svg") == text.count(".svg)") == 21
    assert_links_lead_somewhere(out, text, page)
    assert "nan" not in text
    for tuned in ("full | SFT's rate", "lora-r8 | SFT's rate"):
        assert text.count(f"| {tuned} |") == 2 * FIRST  # of each task
    assert text.count("| full ipo | DPO's rate |") == FIRST  # of the sonnets alone
    assert text.count("| chosen") == 8 + 4
