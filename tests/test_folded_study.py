"""A study over folds: every arm once for each seed and fold, read as one run for each seed."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from experiments import handoff, publish
from experiments.parameterization import ParameterizationStudy
from experiments.study.arms import Arm, Study
from experiments.study.claims import SECONDS
from experiments.study.conduct import run_study
from experiments.study.handoff_table import own_change
from experiments.study.report import _links
from experiments.study.results import ArmResult, load_results
from experiments.study.runs import by_seed
from experiments.study.statistics import compare
from minigpt.errors import InputError
from tasks.base import Task
from tests.conftest import CASES

FOLDS, SEEDS = 2, (0, 1)


@dataclass(frozen=True)
class Small(Study):
    """One arm, whose last epoch is DPO."""

    name = "small"
    title = "Small"
    question = "What does DPO do?"

    def arms(self) -> list[Arm]:
        return [self.arm("handoff", switch_epoch=1)]


def small(**options) -> Small:
    return Small(
        task="paraphrase",
        data=CASES / "quora-unlabelled-test",
        epochs=2,
        seeds=SEEDS,
        folds=FOLDS,
        train_examples=8,
        batch_size=8,
        device="cpu",
        **options,
    )


@pytest.fixture(scope="module")
def study(model, tmp_path_factory) -> Small:
    """The study, all of whose runs are done. Not to be changed."""
    study = small(model=str(model), out=tmp_path_factory.mktemp("folded"))
    for config in study.all_configs():
        handoff.run(replace(config, keep="nothing"))
    return study


def results(study: Small, task: Task) -> list[ArmResult]:
    folders = {arm.name: [config.out for config in study.configs(arm)] for arm in study.arms()}
    return load_results(folders, task)


@pytest.fixture(scope="module")
def task(study) -> Task:
    return study.read_task()


def test_every_arm_is_run_once_for_each_seed_and_fold():
    study = small()
    placed = [(c.seed, c.folds, c.fold) for c in study.configs(study.arms()[0])]
    assert placed == [(seed, FOLDS, fold) for seed in SEEDS for fold in range(FOLDS)]
    assert len({config.out for config in study.all_configs()}) == 4
    whole = replace(study, folds=None)
    assert [config.folds for config in whole.configs(whole.arms()[0])] == [None, None]
    with pytest.raises(InputError, match="--folds is 1; expected at least 2"):
        ParameterizationStudy(folds=1).check()


@pytest.mark.slow
def test_units_are_those_of_all_folds_scored_by_who_did_not_learn_them(study, task):
    (result,) = results(study, task)
    (first, second), runs = result.runs, result.runs[0].parts
    assert result.parts == [*first.parts, *second.parts]
    assert [run.folder for run in result.parts] == [config.out for config in study.all_configs()]
    for name in ("accuracy", "macro_f1", "answer_nll", "accuracy_unseen"):
        by_seed = result.metrics(name)
        addends = np.concatenate([run.metrics[name].statistics for run in runs])
        assert (by_seed[0].statistics == addends).all() and len(by_seed) == len(SEEDS)
        assert by_seed[0].value == by_seed[0].score(addends.sum(axis=0))
    assert result.metrics("accuracy")[0].statistics.sum(axis=0)[1] == 80  # all pairs, once
    assert result.values("accuracy").shape == (2, 3)
    assert result.values("accuracy")[:, -1].tolist() == [
        metric.value for metric in result.metrics("accuracy")
    ]
    seconds = [r["seconds"] for run in runs for r in run.epochs if r["epoch"] > 0]
    assert result.metrics(SECONDS)[0].value == pytest.approx(np.mean(seconds))
    assert len(seconds) == FOLDS * 2


@pytest.mark.slow
def test_statistics_and_tables_take_folds_as_one_run(study, task):
    (result,) = results(study, task)
    untuned = [run.metrics_after(0)["accuracy"] for run in result.runs]
    difference = compare(result.metrics("accuracy"), untuned)
    assert difference.seeds == (2, 2)
    assert difference.units == len(result.metrics("accuracy")[0].statistics) > 10
    assert own_change(result, "accuracy").units == difference.units
    assert [link.text for link in _links(result)] == ["0/0", "0/1", "1/0", "1/1"]
    floors = [run.record["floors"]["majority class"] for run in result.runs[0].parts]
    mean = result.runs[0].record["floors"]["majority class"]
    assert mean["accuracy"] == pytest.approx(np.mean([floor["accuracy"] for floor in floors]))
    told = [run.epochs[-1]["eval_rewards/margins"] for run in result.runs[0].parts]
    assert result.runs[0].epochs[-1]["eval_rewards/margins"] == pytest.approx(np.mean(told))


@pytest.mark.slow
def test_the_report_is_made_of_finished_runs_and_again_of_their_record(study, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in study.out.glob("runs/*/run.json")}
    run_study(study)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    report = (study.out / "small-paraphrase" / "report.md").read_text()
    assert "What does DPO do? Cross-validation over 2 folds: every arm is trained" in report
    assert re.findall(r"\[(\d/\d)\]", report) == ["0/0", "0/1", "1/0", "1/1"]
    publish.run(publish.PublishConfig(study.out / "small-paraphrase", tmp_path / "record"))
    again = (tmp_path / "record" / "report.md").read_text()
    assert re.sub(r"\([^)]*runs/", "(runs/", report) == re.sub(r"\([^)]*runs/", "(runs/", again)


@pytest.mark.slow
def test_a_fold_that_is_missing_is_told(study, task):
    runs = results(study, task)[0].runs[0].parts
    with pytest.raises(InputError, match=r"seed 0 has the folds \[1\]; expected 0 to 1"):
        by_seed(runs[1:])
