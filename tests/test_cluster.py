"""A study on several machines: a real Dask scheduler and two workers, of which one is killed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import parameterization, reproduce
from experiments.parameterization import ParameterizationStudy
from experiments.reproduce import ReproduceConfig
from experiments.run.config import make_config
from experiments.study import cluster
from experiments.study.arms import place
from minigpt.errors import InputError
from tests.conftest import oracle
from tests.test_study import PATIENCE, ROOT, SMALL, is_free, scores, wait_until

distributed = oracle("distributed")


@pytest.fixture
def dask(tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start parts of a cluster, which end with the test."""
    started = []

    def start(part: str, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{part}", "--no-dashboard", *options]
        with open(tmp_path / f"{part}{len(started)}.log", "w") as log:
            started.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in reversed(started):
        process.terminate()
    for process in started:
        process.wait()


def records(out: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("runs/*/run.json"))]


def at_work(out: Path, since: float) -> int:
    """How many runs have told something since a time, and not their end."""
    paths = [p for p in out.glob("runs/*/run.json") if p.stat().st_mtime > since]
    return sum(json.loads(path.read_text())["status"] == "running" for path in paths)


@pytest.mark.slow
def test_a_study_that_loses_a_worker(dask, model, tmp_path):
    """It is interrupted, which ends its runs; begun again, it loses one worker in mid-run."""
    address_file, out = tmp_path / "scheduler.json", tmp_path / "cluster"
    dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(address_file))
    worker = ("--scheduler-file", str(address_file), "--nthreads")
    dask("worker", *worker, "1")  # under a nanny, as is usual
    victim = dask("worker", *worker, "1", "--no-nanny")
    wait_until(address_file.exists)
    address = json.loads(address_file.read_text())["address"]
    options = {**SMALL, "model": str(model), "ranks": (4, 8), "seeds": (0,), "epochs": 4}

    flags = [f"--{name.replace('_', '-')}" for name in options]
    values = [map(str, v if isinstance(v, tuple) else (v,)) for v in options.values()]
    given = [part for name, value in zip(flags, values) for part in (name, *value)]
    command = [sys.executable, "-m", "experiments.parameterization", *given]
    command += ["--scheduler", address, "--out", str(out)]
    study = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: at_work(out, 0.0) > 0)
    study.send_signal(signal.SIGINT)
    assert "interrupted" in study.communicate()[1] and study.returncode == 130
    wait_until(lambda: all(map(is_free, out.glob("runs/*"))))
    assert "running" in [record["status"] for record in records(out)]

    begun = time.time()

    def kill() -> None:
        wait_until(lambda: at_work(out, begun) == 2)
        victim.kill()

    with ThreadPoolExecutor(1) as beside:
        killer = beside.submit(kill)
        parameterization.run(ParameterizationStudy(**options, scheduler=address, out=out))
    killer.result()  # raises what it raised
    assert victim.wait(PATIENCE) == -signal.SIGKILL
    assert [record["status"] for record in records(out)] == ["finished"] * 3
    assert any("resumed" in record for record in records(out))

    alone = tmp_path / "alone"
    parameterization.run(ParameterizationStudy(**options, jobs=2, out=alone))
    reports = [
        (folder / "parameterization-sonnet" / "report.md").read_text() for folder in (out, alone)
    ]
    assert scores(reports[0]) == scores(reports[1])


def test_nobody_answers(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "ANSWER", 1)
    for address in ("tcp://127.0.0.1:9", "nowhere://127.0.0.1:9"):
        with pytest.raises(SystemExit) as exit:
            parameterization.main(
                ["--model", str(model), "--out", str(tmp_path / "out"), "--scheduler", address]
            )
        assert exit.value.code == 2 and not (tmp_path / "out").exists()
        (sentence,) = capsys.readouterr().err.splitlines()
        assert f"no Dask scheduler answers at --scheduler {address} within 1 seconds" in sentence


def test_dask_is_not_installed(model, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package distributed, .*\[cluster\]"):
        reproduce.run(
            ReproduceConfig(models=(str(model),), out=tmp_path / "out", scheduler="tcp://host:1")
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("state, reason", [("executing", "gone"), ("cancelled", "exit code -9")])
def test_why_a_worker_could_not_do_a_run(state, reason, model, tmp_path, monkeypatch):
    task = SimpleNamespace(state=state)
    worker = SimpleNamespace(
        get_current_task=lambda: "task", state=SimpleNamespace(nthreads=1, tasks={"task": task})
    )
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    options = {"model": str(model), "data": tmp_path / "gone", "device": "cpu"}
    with pytest.raises(ChildProcessError, match=reason):
        cluster.run_apart(str(ROOT), place(make_config(**options), tmp_path))
