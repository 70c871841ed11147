"""The record of a run: what is logged is written in time, and what went wrong is told."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from experiments.run import folder
from experiments.run.environment import environment
from experiments.run.evaluation import evaluations
from experiments.run.folder import LINES, RunFolder, open_run
from experiments.run.interruption import Interruption
from experiments.run.record import read_record
from experiments.run.result import Result
from minigpt.errors import InputError
from tasks.sonnet.task import SonnetTask

RECORDS = Path(__file__).parent.parent / "records" / "study" / "runs"


def lines_of(path):
    log = path / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_lines_wait_for_each_other_and_for_no_longer_than_the_next_update(tmp_path):
    path = tmp_path / "run"
    with open_run(path, {}, resume=False) as run:
        for step in range(LINES - 1):
            run.log(kind="step", step=step, loss=torch.tensor(0.5))  # stays where it is for now
        assert lines_of(path) == []
        run.log(kind="step", step=LINES - 1, loss=0.5)
        expected = {"kind": "step", "loss": 0.5}
        assert lines_of(path) == [{**expected, "step": step} for step in range(LINES)]
        run.log(kind="step", step=LINES)
        run.update(more=1)
        assert len(lines_of(path)) == LINES + 1
        run.log(kind="step", step=LINES + 1)
        assert len(run.logged()) == LINES + 2
    assert len(lines_of(path)) == LINES + 2


def test_numbers_that_cannot_be_had_do_not_hide_why_a_run_failed(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(RuntimeError), open_run(path, {}, resume=False) as run:
        gone = torch.empty((), device="meta")  # as on a device that is gone
        run.log(kind="step", step=1, loss=gone)
        raise ZeroDivisionError("the reason")
    record = json.loads((path / "run.json").read_text())
    assert record["status"] == "failed" and record["error"] == "ZeroDivisionError: the reason"


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_number_that_is_not_finite_ends_the_run(tmp_path, name, value):
    path = tmp_path / "run"
    sentence = r"diverged at step 3 with the learning rate 0.01 .*a lower --sft-learning-rate"
    with pytest.raises(InputError, match=sentence), open_run(path, {}, resume=False) as run:
        for step in range(6):
            numbers = {"loss": torch.tensor(0.5), "grad_norm": torch.tensor(1.0)}
            if step >= 3:
                numbers[name] = torch.tensor(value)
            run.log(kind="step", step=step, phase="sft", learning_rate=0.01, **numbers)
        run.flush()
    assert [line["step"] for line in lines_of(path)] == [0, 1, 2]
    assert json.loads((path / "run.json").read_text())["status"] == "failed"


def enter(path, *, resume=False):
    with open_run(path, {}, resume=resume):
        pass


def test_the_lock_is_free_again_however_the_run_ended(tmp_path):
    path, kept = tmp_path / "run", []
    enter(path)
    for _ in range(2):  # refused twice for the same reason, the errors kept as a notebook does
        with pytest.raises(InputError, match="already holds a run; continue it with") as refused:
            enter(path)
        kept.append(refused)
    for error in (ZeroDivisionError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error) as ended, open_run(path, {}, resume=True):
            raise error
        kept.append(ended)
    with open_run(path, {}, resume=True), pytest.raises(InputError, match="another run is at work"):
        enter(path, resume=True)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "metrics.jsonl"])
def test_what_another_run_left_is_not_adopted(tmp_path, name):
    path = tmp_path / "run"
    path.mkdir()
    (path / name).write_text("")
    with pytest.raises(InputError, match=f"no run.json but the {name} of another run"):
        enter(path)
    assert not (path / "run.json").exists()


@pytest.mark.parametrize("line", ["{", "[]", '{"loss": 1}', '{"step": null}', "[" * 100_000])
def test_a_damaged_line_of_the_log_is_named(tmp_path, line):
    path = tmp_path / "run"
    with open_run(path, {}, resume=False) as run:
        (path / "metrics.jsonl").write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
        with pytest.raises(InputError, match=r"line 2 of .* is damaged"):
            run.logged()


def test_the_kinds_of_an_older_log_are_known(tmp_path):
    """Those of the recorded study say no kind."""
    folder = sorted(RECORDS.glob("*switch1*"))[0]
    assert '"kind"' not in (folder / "metrics.jsonl").read_text()
    records = RunFolder(folder).logged()
    kinds = {record["kind"]: record for record in records}
    assert "loss" in kinds["step"] and "scores" in kinds["evaluation"]
    assert [record["epoch"] for record in evaluations(records)] == [0, 1, 2]


def test_what_a_notebook_shows_of_a_result_is_one_short_line(tmp_path):
    score = {"value": 1.23456}
    epoch = {"epoch": 3, "scores": {"bits_per_char": score}, "samples": ["x" * 9999]}
    floors = {"floor": {"chrf": 1.0}}
    shown = repr(Result(tmp_path / "run", [epoch] * 5, epoch, epoch, floors, SonnetTask))
    assert "3 epochs, best 3: bits/char 1.235" in shown and "\n" not in shown and len(shown) < 250


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    """Its `best/` may be dear to somebody; hidden files and a study's output.txt may be there."""
    path = tmp_path / "run"
    (path / "best").mkdir(parents=True)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds no run but best, notes.txt; expected an empty"):
        enter(path)
    assert not (path / "run.json").exists() and (path / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    for name in (".hidden", "output.txt"):
        (other / name).write_text("")
    enter(other)


def test_to_resume_what_is_not_there_makes_no_folder(tmp_path):
    with pytest.raises(InputError, match="there is no run to resume"):
        enter(tmp_path / "typo", resume=True)
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("change", [lambda log: log.unlink(), lambda log: log.write_text("")])
def test_a_log_that_somebody_changes_meanwhile_ends_the_run(tmp_path, change):
    """Else it would go on with a hole, under a hash that fits the hole."""
    path = tmp_path / "run"
    with (
        pytest.raises(InputError, match="where this run wrote"),
        open_run(path, {}, resume=False) as run,
    ):
        run.log(kind="step", step=1, loss=0.5)
        run.flush()
        change(path / "metrics.jsonl")
        run.log(kind="step", step=2, loss=0.5)
        run.flush()
    assert json.loads((path / "run.json").read_text())["status"] == "failed"


def test_where_a_run_was_resumed_is_recorded(tmp_path, monkeypatch):
    path = tmp_path / "run"
    with pytest.raises(ZeroDivisionError), open_run(path, {}, resume=False):
        raise ZeroDivisionError
    monkeypatch.setattr(folder, "environment", lambda _: {**environment(), "python": "4.0"})
    enter(path, resume=True)
    record = json.loads((path / "run.json").read_text())
    assert record["python"] != "4.0"
    assert [{**each, "started": ""} for each in record["resumed"]] == [
        {"started": "", "python": "4.0"}
    ]


def test_the_gpu_on_record_is_the_one_that_the_run_is_on(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"GPU of {device}")
    for device, name in (("cuda:1", "GPU of cuda:1"), ("cuda", "GPU of cuda"), ("cpu", None)):
        with open_run(tmp_path / device, {"device": device}, resume=False):
            pass
        assert json.loads((tmp_path / device / "run.json").read_text())["cuda"] == name


def test_a_second_ctrl_c_does_not_disturb_the_record_of_the_first(tmp_path, monkeypatch):
    path, write = tmp_path / "run", folder.write_record

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        write(*arguments)

    with pytest.raises(Interruption) as stop, open_run(path, {}, resume=False):
        monkeypatch.setattr(folder, "write_record", interrupted)
        raise KeyboardInterrupt
    assert stop.value.resumable
    assert json.loads((path / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize("change", ['"finished"', '"sha256"'])
def test_a_changed_record_is_refused(tmp_path, change):
    path = tmp_path / "run"
    enter(path)
    text = (path / "run.json").read_text()
    assert change in text
    before, _, after = text.rpartition(change)
    (path / "run.json").write_text(f'{before}"x"{after}')
    with pytest.raises(InputError, match="its own SHA-256 does not fit"):
        read_record(path / "run.json")


def test_all_recorded_runs_can_be_read():
    """Those of before hashes, whichever of today's fields they lack."""
    paths = list(RECORDS.parent.parent.rglob("run.json"))
    assert len(paths) >= 69
    for path in paths:
        read_record(path)
    result = Result.read(sorted(RECORDS.glob("sonnet-*"))[0])
    assert repr(result) and result.scores() and result.samples() is not None


def test_the_peak_of_memory_is_that_of_all_processes_of_a_run(tmp_path, monkeypatch):
    peaks = iter([500.0, 500.0, 200.0, 200.0, 200.0])
    monkeypatch.setattr(folder, "peak_memory_mib", lambda device: next(peaks, 200.0))
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path / "run", {}, resume=False):
        raise KeyboardInterrupt
    with open_run(tmp_path / "run", {}, resume=True) as run:
        run.update(anything=1)
    assert read_record(tmp_path / "run" / "run.json")["peak_memory_mib"] == 500.0
