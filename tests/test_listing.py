"""`--list`: a command for every run of a study, each the very same run."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import handoff, reproduce
from experiments.dpo_hyperparameters import DPOHyperparametersStudy
from experiments.handoff_grid import HandoffGridStudy
from experiments.reproduce import Plan, ReproduceConfig
from experiments.run.config import Config, identity, make_config
from experiments.run.flags import RowsConfig
from experiments.run.options_file import parse_options
from experiments.run.plan import with_defaults
from experiments.study import workers
from experiments.study.arms import Study, place
from experiments.study.listing import command_of
from tests.test_study import ROOT

RECORDED = sorted(ROOT.glob("records/study/runs/*/run.json"))
REVIEWS = RowsConfig(
    train=Path("my reviews/it's.csv"), template='"{text}"\nIt is', labels=('0=" bad"', "1= good")
)
STUDIES = [
    DPOHyperparametersStudy(device="cpu", out=Path("a folder")),
    HandoffGridStudy(device="cpu", precision="bf16", sft_learning_rates=(("lora", 1e-3 / 3),)),
    HandoffGridStudy(task="choice", rows=REVIEWS, device="cpu", train_examples=7),
]


def arguments(command: str) -> list[str]:
    """What stands behind the handoff's name in a shell's command."""
    *start, name = shlex.split(command)[:3]
    assert (start, name) == (["python", "-m"], "experiments.handoff")
    return shlex.split(command)[3:]


def same_run(config: Config) -> bool:
    parsed = with_defaults(parse_options(arguments(command_of(config))))
    return (identity(parsed), parsed.out) == (identity(config), config.out)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: f"{study.name}-{study.task}")
def test_every_command_is_the_run(study: Study):
    configs = study.all_configs()
    assert len(configs) >= 16 and all(map(same_run, configs))


def test_recorded_runs_as_commands():
    options = [json.loads(path.read_text(encoding="utf-8"))["config"] for path in RECORDED]
    assert len(options) >= 60
    assert all(same_run(place(make_config(**each), Path("runs"))) for each in options)


@pytest.mark.slow
def test_what_was_submitted_by_hand_is_found_finished(model, tmp_path, monkeypatch, capsys):
    """First the tuning's runs, then those that depend on it; then nothing is left to do."""
    sonnets = {"sonnet": Plan(experiments=("parameterization",))}
    plan = ReproduceConfig(("sonnet",), (str(model),), sonnets, smoke=True, out=tmp_path / "out")

    def listed() -> tuple[list[str], str]:
        assert reproduce.run(replace(plan, listed=True)) is None
        printed = capsys.readouterr()
        return printed.out.splitlines(), printed.err

    def submit(commands: list[str]) -> None:
        for command in commands:
            handoff.main(arguments(command))
        capsys.readouterr()

    tuning, note = listed()
    assert len(set(tuning)) == len(tuning) == 2 * 3 and note.count("\n") == 1
    assert "--list again once they are finished" in note
    submit(tuning[:-1])
    assert listed()[0] == tuning[-1:] and not list(tmp_path.glob("out/*.md"))
    submit(tuning[-1:])
    others, note = listed()
    assert len(others) == 2 and not set(others) & set(tuning) and note.startswith("2 runs;")
    submit(others)
    assert listed() == ([], "")
    monkeypatch.setattr(workers, "do_run", lambda config: pytest.fail("a run is repeated"))
    assert reproduce.run(plan) == tmp_path / "out" and (tmp_path / "out" / "report.md").is_file()
