"""Runs that are killed at random moments, and go on to what they would have been."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minigpt import load_pretrained, save_pretrained
from tasks.sonnet.shakespeare import SPLIT_FILES

ROOT = Path(__file__).parent.parent
LINES = ["love is a day", "and day is love", "no heart so true", "as mine to you"]
KILLS = 30
EXIT_CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
SMALL = "--epochs 2 --switch-epoch 1 --batch-size 4 --dev-examples 2 --dropout 0.2 --device cpu"
ARMS = {
    "full": "--task paraphrase --train-examples 16",
    "lora": "--parameterization lora --rank 2 --lora-dropout 0.2 --dora --lora-plus 4"
    " --train-examples 8 --samples 1",
}


class Server:
    """Starts runs by `tests.run_server`, one at a time."""

    def __init__(self, output: Path):
        self.output = output
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.run_server"],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, arguments: list[str]) -> int:
        """Return the process id of a run that has begun."""
        self.process.stdin.write(json.dumps([arguments, str(self.output)]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> tuple[int, str]:
        """Return the exit code of the run, and what it printed."""
        code = int(self.process.stdout.readline())
        return code, self.output.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "output.txt")
    yield server
    server.process.stdin.close()
    server.process.wait()


@pytest.fixture(scope="module")
def inputs(model, tmp_path_factory) -> Path:
    """A folder with a tiny model, question pairs and sonnets."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copytree(model, folder / "model")
    (folder / "data").mkdir()
    rows = [f"{n}\tIs {n} odd?\tIs {n + n % 2} odd?\t{1 - n % 2}" for n in range(16)]
    for name in ("quora-train.csv", "quora-dev.csv"):
        text = "\n".join(["id\tsentence1\tsentence2\tis_duplicate", *rows])
        (folder / "data" / name).write_text(text)
    for split, name in SPLIT_FILES.items():
        first = 100 * [*SPLIT_FILES].index(split)
        sonnets = [f"{n}\n\n" + "\n".join(rotated(n)) for n in range(first + 1, first + 9)]
        (folder / "data" / name).write_text("\n\n".join(sonnets))
    return folder


def rotated(number: int) -> list[str]:
    """Fourteen short lines."""
    return [LINES[(number * line + line) % len(LINES)] for line in range(14)]


def command(inputs: Path, arm: str, out: Path) -> list[str]:
    """The options of a tiny run, with --resume where there is a record to go on from."""
    where = ["--model", inputs / "model", "--data", inputs / "data", "--out", out]
    resume = ["--resume"] if (out / "run.json").exists() else []
    return [*map(str, where), *SMALL.split(), *ARMS[arm].split(), *resume]


@pytest.fixture(scope="module")
def undisturbed(server, inputs, tmp_path_factory) -> dict[str, tuple[Path, float]]:
    """The run of each arm to its end, and the seconds that it took."""
    runs = {}
    for arm in ARMS:
        out, started = tmp_path_factory.mktemp("runs") / arm, time.monotonic()
        server.start(command(inputs, arm, out))
        code, printed = server.end()
        assert code == 0, printed
        runs[arm] = out, time.monotonic() - started
    return runs


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def lines_of(folder: Path) -> list[tuple]:
    """Of each line of the log its step and its epoch, and whether it is an evaluation."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["epoch"], "scores" in line) for line in lines]


def check_finished(folder: Path, expected: Path) -> None:
    """The same weights, bit for bit, the same log, and no file more or less."""
    assert files_of(folder) == files_of(expected)
    assert lines_of(folder) == lines_of(expected)
    for path in expected.rglob("*.safetensors"):
        if path.name != "checkpoint.safetensors":  # which keeps the seconds of the run too
            once, twice = load_file(path), load_file(folder / path.relative_to(expected))
            assert once and once.keys() == twice.keys()
            assert all(torch.equal(once[name], twice[name]) for name in once), path
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished" and "error" not in record


def check_interrupted(folder: Path, code: int, printed: str) -> None:
    """--resume is promised where there is a record to go on from."""
    if code > 0:
        last = printed.splitlines()[-1]
        assert last.startswith("interrupted; ")
        if "--resume" in last:
            assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_thirty_kills(server, inputs, undisturbed, tmp_path):
    """Each kind of signal ten times, over as many runs as it takes, until all are finished."""
    rng, finished = random.Random(0), 0
    waiting = [number for number in EXIT_CODES for _ in range(KILLS // len(EXIT_CODES))]
    rng.shuffle(waiting)
    seconds = {arm: seconds for arm, (_, seconds) in undisturbed.items()}
    while waiting:
        arm, out, code = [*ARMS][finished % len(ARMS)], tmp_path / str(finished), None
        while code != 0:
            process = server.start(command(inputs, arm, out))
            number = waiting[-1] if waiting else None
            if number:
                time.sleep(rng.random() * seconds[arm])
                with suppress(ProcessLookupError):  # it has finished
                    os.kill(process, number)
            code, printed = server.end()
            if code != 0:
                assert number and code == EXIT_CODES[number] and "Traceback" not in printed, printed
                check_interrupted(out, code, printed)
                waiting.pop()
        check_finished(out, undisturbed[arm][0])
        finished += 1
        seconds[arm] *= 0.8  # as it has not been killed in time
    assert finished >= 2


@pytest.mark.slow
def test_changed_data_and_weights_are_refused_after_a_kill(server, inputs, undisturbed, tmp_path):
    shutil.copytree(inputs, tmp_path / "inputs")
    inputs, out = tmp_path / "inputs", tmp_path / "run"
    process = server.start(command(inputs, "lora", out))
    while not (out / "checkpoint.safetensors").exists():
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    server.end()
    sonnets = inputs / "data" / SPLIT_FILES["train"]
    text = sonnets.read_text(encoding="utf-8")
    sonnets.write_text(text.replace("heart", "hearts", 1), encoding="utf-8")
    refused(server, command(inputs, "lora", out), "the data has changed since")
    sonnets.write_text(text, encoding="utf-8")
    changed = load_pretrained(inputs / "model")
    changed.h[0].mlp.c_fc.bias.data[3] += 1e-3
    save_pretrained(changed, inputs / "model")
    refused(server, command(inputs, "lora", out), "the weights have changed since")


def refused(server: Server, arguments: list[str], reason: str) -> None:
    server.start(arguments)
    code, printed = server.end()
    assert code == 2 and reason in printed.splitlines()[-1]
    assert re.search(r"\(SHA-256 \w{12} then, \w{12} now\)", printed)
