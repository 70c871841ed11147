"""Several processes take the steps of one, whoever ends before the others."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import experiments.handoff
from experiments import floors
from experiments.run.data import PhaseData
from experiments.run.plan import check_device
from experiments.run.reduction import gather_by_name, sum_by_name
from experiments.run.seeds import own_dropout
from experiments.run.together import open_together
from experiments.run.training_run import TrainingRun
from minigpt import generate, load_pretrained, parallel
from minigpt.errors import InputError
from objectives import SFT
from tests import team
from tests.conftest import CASES
from tests.test_corpus import PLAY, table, verse, write_sdist, write_wheel

ROOT = Path(__file__).parent.parent
QUESTIONS = f"--task paraphrase --data {CASES / 'quora-unlabelled-test'}"
# With 5 examples, 4 a step, the last step of an epoch has but one, and one process none.
ARMS = {
    "full": "--train-examples 5 --batch-size 4 --accumulation 2 --samples 2",
    "lora": f"{QUESTIONS} --train-examples 5 --batch-size 4 --parameterization lora --rank 2",
    "resumed": f"{QUESTIONS} --train-examples 16 --batch-size 4",
}
SMALL = "--epochs 2 --switch-epoch 1 --dev-examples 3 --device cpu"
UNLIKE = ("seconds", "evaluation_seconds", "num_tokens")  # the last one counts padding


def handoff(arm: str, model: Path, out: Path, *more: str) -> list[str]:
    where = ["--model", str(model), "--out", str(out)]
    return ["handoff", *ARMS[arm].split(), *SMALL.split(), *where, *more]


def pretrain(corpus: Path, out: Path) -> list[str]:
    options = "--tokens 1280 --batch-tokens 160 --warmup 2 --precision fp32 --device cpu"
    return ["pretrain", "--corpus", f"{corpus}", *options.split(), "--out", f"{out}"]


def torchrun(folder: Path, commands: list[list[str]], processes: int = 2) -> subprocess.Popen:
    """Start `tests.team`; what it prints is in files of the folder."""
    (folder / "commands.json").write_text(json.dumps(commands))
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    with open(folder / "stdout", "w") as out, open(folder / "stderr", "w") as errors:
        return subprocess.Popen(
            [*run, "-m", "tests.team", str(folder / "commands.json")],
            cwd=ROOT,
            stdout=out,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        team.prepare(patch.setattr)
        yield patch


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_sdist(folder, hamlet_gut=PLAY + "\n".join(verse(90, first="ghost")))
    write_wheel(folder, table(verse(120) + verse(120, first="queen")))
    return folder


@pytest.fixture(scope="module")
def runs(model, corpus, patch, tmp_path_factory) -> dict[int, Path]:
    """The same runs by one process and by two; "resumed" is one's begun, and gone on with by both.

    The run of one is stopped after its third step, and goes on from the checkpoint.
    """
    alone, both = (tmp_path_factory.mktemp(name) for name in ("alone", "both"))
    commands = {
        folder: [handoff(arm, model, folder / arm) for arm in ("full", "lora")]
        + [pretrain(corpus, folder / "pretrain")]
        for folder in (alone, both)
    }
    team.run_all([*commands[alone], handoff("resumed", model, alone / "resumed")])
    with patch.context() as stopping:
        stopping.setattr("experiments.run.training_run.CHECKPOINT_SECONDS", 0)
        stop_after(stopping, saves=4)
        with pytest.raises(SystemExit, match="130"):
            team.run_all([handoff("resumed", model, both / "resumed")])
    resume = handoff("resumed", model, both / "resumed", "--resume")
    started = torchrun(both, [*commands[both], resume])
    assert started.wait(600) == 0, (both / "stderr").read_text()
    return {1: alone, 2: both}


def stop_after(patch, saves: int) -> None:
    """Let Ctrl-C come after so many checkpoints."""
    real, done = TrainingRun._save, []

    def save(run):
        real(run)
        done.append(run.step)
        if len(done) == saves:
            raise KeyboardInterrupt

    patch.setattr(TrainingRun, "_save", save)


def lines_of(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: v for name, v in line.items() if name not in UNLIKE} for line in lines]


def assert_alike(one, other, path: str = "", atol: float = 1e-9) -> None:
    """Numbers to 1e-9; all else, such as the sampled texts, to the letter."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for name in one:
            assert_alike(one[name], other[name], f"{path} {name}", atol)
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for i, pair in enumerate(zip(one, other)):
            assert_alike(*pair, f"{path} {i}", atol)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=0, abs=atol), path
    else:
        assert one == other, path


def assert_same_run(one: Path, other: Path) -> None:
    assert_alike(lines_of(one), lines_of(other))
    for path in one.rglob("*.safetensors"):
        once, twice = load_file(path), load_file(other / path.relative_to(one))
        for tensors in (once, twice):
            tensors.pop("random/cpu", None)  # of a checkpoint; without dropout nobody draws from it
        torch.testing.assert_close(once, twice, rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["full", "lora", "pretrain"])
def test_two_processes_take_the_steps_of_one(runs, arm):
    """SFT and DPO: losses, gradients, weights, references, samples, scores, held-out pairs."""
    assert_same_run(runs[1] / arm, runs[2] / arm)
    lines = lines_of(runs[2] / arm)
    assert sum("loss" in line for line in lines) == (8 if arm == "pretrain" else 4)
    if arm != "pretrain":
        assert any("weights/q90" in line for line in lines)
        assert any("eval_kl/chosen" in line for line in lines)


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two(runs):
    assert_same_run(runs[1] / "resumed", runs[2] / "resumed")
    record = json.loads((runs[2] / "resumed" / "run.json").read_text())
    assert record["processes"] == 1 and [r["processes"] for r in record["resumed"]] == [2]


@pytest.mark.slow
def test_one_process_prints_and_writes(runs):
    printed = (runs[2] / "stdout").read_text()
    assert printed.count("record: ") == 3 and printed.count("epoch  1/2") == 3
    assert (runs[2] / "stderr").read_text().count("error") == 0
    for arm in ("full", "lora", "pretrain"):
        files = [
            {path.relative_to(folder / arm) for path in (folder / arm).rglob("*")}
            for folder in runs.values()
        ]
        assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_a_killed_process_ends_the_others_and_the_run_goes_on(model, patch, tmp_path):
    """Soon, with a sentence; then one process goes on to what it would have been."""
    long = [*handoff("resumed", model, tmp_path / "run"), "--epochs", "6", "--switch-epoch", "3"]
    started = torchrun(tmp_path, [long])
    wait_for(tmp_path / "run" / "checkpoint.safetensors", started)
    (second,) = [pid for pid in children_of(started.pid) if "RANK=1" in environment_of(pid)]
    os.kill(second, signal.SIGKILL)
    assert started.wait(60) != 0  # two seconds on an idle machine; else, after half an hour
    told = [line for line in (tmp_path / "stderr").read_text().splitlines() if "--resume" in line]
    assert len(told) == 1
    assert told[0].startswith(("error: another process of this run has ended", "interrupted; "))
    assert "pair.cc" not in told[0]
    assert "Traceback" not in (tmp_path / "stderr").read_text().split(told[0])[0]
    team.run_all([[*long, "--resume"]])
    whole = [*handoff("resumed", model, tmp_path / "whole"), *long[-4:]]
    team.run_all([whole])
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def wait_for(path: Path, started: subprocess.Popen) -> None:
    while not path.exists():
        assert started.poll() is None, path.parent
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    """The processes that another one has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            if int(entry.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.parent.name))
    return found


def environment_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def test_a_share_is_every_so_many_th_and_all_shares_are_the_whole(monkeypatch):
    data = PhaseData(SFT(), np.arange(2, 13), lambda index: index)
    steps = {}
    for rank in range(3):
        monkeypatch.setattr(parallel, "_place", parallel.Place(rank, 3))
        steps[rank] = [*data.steps(4, 2, np.random.default_rng(0))]
    monkeypatch.undo()
    whole = [*data.steps(4, 1, np.random.default_rng(0))]
    for (index,), *parts in zip(whole, *steps.values()):
        assert [len(own) for own in parts] == [2 if len(index) == 4 else 1, 1, 1]
        assert sorted(number for own in parts for part in own for number in part) == sorted(index)
    # Two processes of three have nothing to do in a step of one example.
    monkeypatch.setattr(parallel, "_place", parallel.Place(2, 3))
    assert [*PhaseData(SFT(), np.ones(1), None).steps(4, 2, np.random.default_rng(0))] == [[]]


def test_one_process_by_itself_is_told_what_it_says():
    values = {"loss": torch.ones(())}
    device = torch.device("cpu")
    assert sum_by_name(values, device) is gather_by_name(values, device) is values
    assert parallel.mapped(str, iter(range(3))) == ["0", "1", "2"]
    assert parallel.most(3, 1) == [3, 1] and parallel.told_by_all("a") == ["a"]
    assert parallel.by_first(max)(1, 2) == 2 and parallel.share([1, 2]) == [1, 2]
    with parallel.joined():
        assert parallel.place() == (0, 1) and parallel.is_first()


def test_rows_that_are_written_apart_are_those_written_together(model):
    gpt = load_pretrained(model)

    def write(rows):
        generator = torch.Generator().manual_seed(1)
        prompts = [[5, 6, 7], [8], [9, 10], [11, 12]]
        return generate(gpt, prompts, max_new_tokens=20, generator=generator, rows=rows)

    whole = write(None)
    assert all(len(new) == 20 for new in whole)
    assert write([1, 3]) == [[], whole[1], [], whole[3]] and write([]) == [[], [], [], []]


def test_each_process_drops_out_what_it_draws_wherever_the_run_goes_on(monkeypatch):
    def draws(rank: int, size: int, done: int) -> list[float]:
        monkeypatch.setattr(parallel, "_place", parallel.Place(rank, size))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return [torch.rand(()).item() for _ in own_dropout(range(done, 3), 7, done)]

    first, second = draws(0, 2, 0), draws(1, 2, 0)
    assert len({*first, *second}) == 6 and draws(1, 2, 1) == second[1:]
    torch.manual_seed(0)
    assert draws(0, 1, 0) == torch.rand(3).tolist()  # one process draws on


@pytest.mark.parametrize(
    "device, message",
    [("cuda:1", "expected cuda, of which each takes the GPU"), ("cuda", "more processes .* GPUs")],
)
def test_several_processes_take_a_gpu_each(monkeypatch, device, message):
    monkeypatch.setattr(parallel, "_place", parallel.Place(1, 2))
    monkeypatch.setenv("LOCAL_RANK", "9")
    with pytest.raises(InputError, match=message):
        check_device(device)
    check_device("cpu")


def test_other_commands_are_not_for_torchrun(monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "0")
    for command, options in ((floors.main, []), (experiments.handoff.main, ["--grid"])):
        with pytest.raises(SystemExit, match="2"):
            command(options)
        assert "torchrun started a command that several" in capsys.readouterr().err


def test_other_data_in_another_process_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "_place", parallel.Place(1, 2))
    monkeypatch.setattr(parallel, "_told", lambda mine: [{"train": "1"}, mine])
    with (
        pytest.raises(InputError, match="process 1 has other data"),
        open_together(tmp_path / "run", {}, resume=False, contents={"train": "2"}),
    ):
        pass
    assert not (tmp_path / "run").exists()
