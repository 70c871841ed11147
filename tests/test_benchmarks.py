"""Benchmarks: both sides do the same, work is counted right, tables and errors are clear."""

import importlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import earlier, growth, hosts, ours, run
from benchmarks.data import LONGEST, SHORTEST, paraphrases, shape, sonnets, write_inputs
from benchmarks.job import Job, time_each
from benchmarks.least_work import (
    Ceilings,
    Work,
    least_generation,
    least_training,
    least_work,
    step_flops,
    trained_numbers,
)
from benchmarks.table import lora_table, main_table, summarise
from lora import LoRAConfig, inject
from minigpt import GPT, GPTConfig, get_tokenizer
from minigpt.errors import InputError
from objectives import make_batch, sequence_logps
from tasks.paraphrase.task import NO, YES
from tests.conftest import need_program, oracle

ROOT = Path(__file__).parent.parent
TINY = "2x32"
MEMORY = {"peak_memory_mib": 1000.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model and eight examples, so that an epoch is one step on the same batch."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_inputs(folder, shape(TINY), 8)
    return str(folder)


@pytest.fixture
def peers(monkeypatch):
    """The other side, one step or one batch of four new tokens a measurement, as ours."""
    for name in ("transformers", "peft", "trl"):
        oracle(name)
    module = importlib.import_module("benchmarks.peers")
    for side in (ours, module):
        monkeypatch.setattr(side, "WARM_UP", 0)
        monkeypatch.setattr(side, "NEW_TOKENS", 4)
    return module


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_both_sides_train_on_the_same(objective, rank, folder, peers):
    job = Job(objective, rank, "paraphrase", "fp32", "cpu", 1, "eager", folder)
    found = [side.measure_training(job, time.time()) for side in (ours, peers)]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
    assert all(len(side["seconds"]) == 1 and side["start_up_seconds"] > 0 for side in found)


@pytest.mark.parity
def test_both_sides_generate_as_much(folder, peers):
    job = Job("generate", None, "nucleus", "bf16", "cpu", 2, "eager", folder)
    found = [side.measure_generation(job, time.time()) for side in (ours, peers)]
    assert [side["tokens"] for side in found] == [48, 48]
    assert all(len(side["seconds"]) == 2 for side in found)


@pytest.mark.slow
def test_ours_is_measured_where_the_peers_are_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    out = tmp_path / "folder" / "found.json"
    run.main(
        [
            "--rows",
            "dpo/lora-r4/paraphrase",
            "--model",
            TINY,
            "--steps",
            "1",
            "--precision",
            "fp32",
            "--out",
            str(out),
        ]
    )
    printed = capsys.readouterr().out
    assert "transformers, peft, trl cannot be imported" in printed and "ours / least" in printed
    found = json.loads(out.read_text())
    (measurement,) = found["measurements"]
    assert measurement["side"] == "ours" and measurement["peak_memory_mib"] > 50
    assert found["least_work"][0]["seconds"] > 0 and found["ceilings"]["bandwidth"] > 0


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of one commit in place of this one, which may lie outside any.

    The user's settings of git (hooks, signatures, templates) have no part in it.
    """
    need_program("git")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    path = tmp_path / "repository"
    shutil.copytree(ROOT / "benchmarks", path / "benchmarks")
    name = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for command in (["init"], ["add", "."], [*name, "commit", "--message", "all"]):
        subprocess.run(["git", "-C", path, *command], check=True, capture_output=True)
    monkeypatch.setattr(earlier, "ROOT", path)


@pytest.mark.usefixtures("repository")
def test_an_earlier_commit_is_measured_beside_ours(folder, monkeypatch, tmp_path, capsys):
    def measured(command, root):
        assert command[2] == "benchmarks.ours" and "compile" in json.loads(command[3])
        assert Path(root, "benchmarks", "ours.py").exists()
        return {"seconds": [1.0 if root == ROOT else 1.5], "start_up_seconds": 0.0, **MEMORY}

    monkeypatch.setattr(run, "measured", measured)
    out = tmp_path / "found.json"
    arguments = ["--rows", "sft/full/paraphrase", "--model", TINY, "--precision", "fp32"]
    run.main([*arguments, "--against", "HEAD", "--out", str(out)])
    header, row = capsys.readouterr().out.splitlines()[-2:]
    assert "before s" in header and "peers" not in header and " 1.50 " in row
    assert [m["side"] for m in json.loads(out.read_text())["measurements"]] == ["ours", "before"]


def test_a_job_tells_what_is_not_at_its_default(folder):
    job = Job("sft", None, "paraphrase", "fp32", "cpu", 1, "eager", folder)
    assert Job(**json.loads(job.command("ours")[3])) == job


@pytest.mark.slow
def test_a_side_that_fails_is_named(folder, capsys):
    job = Job("sft", None, "paraphrase", "fp32", "cpu", 1, "eager", folder + "/nowhere")
    assert list(run._measure_all([job], {"ours": ROOT}, 1)) == []
    assert "sft/full/paraphrase fp32 ours: failed with exit code 1" in capsys.readouterr().out


@pytest.mark.parametrize("name, end_of_text", [("gpt2", 50256), ("verse", 16383)])
def test_examples_are_as_long_as_they_should_be(name, end_of_text):
    tokenizer = get_tokenizer(name)
    examples = paraphrases(tokenizer, 200)
    assert {len(e["prompt"]) for e in examples} == set(range(SHORTEST, LONGEST + 1))
    answers = {tuple(tokenizer.encode(answer)) for answer in (YES, NO)}
    assert all({tuple(e["chosen"]), tuple(e["rejected"])} == answers for e in examples)
    for example in sonnets(tokenizer, 140):
        assert tokenizer.decode(example["prompt"]).count("\n") == 3
        assert example["chosen"] != example["rejected"]
        assert example["chosen"][-1] == example["rejected"][-1] == end_of_text


def in_place(y, a, b, *, out_shape=None, alpha=1):
    """The count for addmm_, which FlopCounterMode does not know."""
    return 2 * a[0] * a[1] * b[1]


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("T", [8, 60])
def test_operations_are_those_that_pytorch_counts(rank, T):
    config = GPTConfig(vocab_size=211, n_positions=64, n_layer=3, n_head=2, n_embd=64)
    model = GPT(config, generator=torch.Generator().manual_seed(0))
    if rank is not None:
        inject(model, LoRAConfig(rank))
    model.double()  # whose products are PyTorch's own, which it counts
    batch = make_batch([[i] * (T - 5) for i in range(4)], [[7] * 6] * 4)
    # Eager attention looks at all T positions, the later ones too, and the last block at all rows.
    work = Work(4 * T, 4 * T * T, 4 * T, 4 * T * T, 24)
    custom = {torch.ops.aten.addmm_: in_place}
    with FlopCounterMode(display=False, custom_mapping=custom) as counter:
        sequence_logps(model, batch).sum().backward()
    assert step_flops(config, work, rank) == pytest.approx(counter.get_total_flops(), rel=0.02)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained_numbers(config, rank) == trained


def test_the_least_work_reads_every_prefix_once():
    # Positions 1, 2, 3 of the prompt; the last token of a completion is never an input.
    assert least_work([1, 2, 3], [[4], [5]]) == Work(3, 6, 1, 3, 1)
    assert least_work([1, 2, 3], [[4, 5]]) == Work(4, 10, 2, 7, 2)
    assert least_work([1, 2, 3], [[4, 5], [6, 7]]) == Work(5, 14, 3, 11, 3)
    assert least_work([1], [[4, 5], [4, 6]]) == Work(2, 3, 2, 3, 2)


def test_least_times_follow_the_ceilings(folder):
    def seconds(objective, rank=None, precision="fp32", speed=1e9, bandwidth=1e9):
        function = least_generation if objective == "generate" else least_training
        job = Job(objective, rank, "sonnets", precision, "cpu", 1, "eager", folder)
        ceilings = Ceilings({"fp32": speed, "bf16": 2 * speed}, bandwidth)
        return function(shape(TINY), job, ceilings)["seconds"]

    fast = {"speed": 1e30, "bandwidth": 1e30}
    for objective in ("sft", "dpo", "generate"):
        assert seconds(objective, **fast) == pytest.approx(0, abs=1e-12)
        assert seconds(objective, precision="bf16") < seconds(objective)
    trained = trained_numbers(shape(TINY), None)
    assert seconds("sft", speed=1e30) == pytest.approx(32 * trained / 1e9)
    assert seconds("sft", rank=4) < seconds("sft") < seconds("dpo") < 2 * seconds("sft")


def measurement(row, side, *seconds, **more):
    return {
        "row": row,
        "precision": "fp32",
        "side": side,
        "round": 0,
        "seconds": list(seconds),
        "start_up_seconds": 3.0,
        "peak_memory_mib": 1000.0,
        **more,
    }


def test_tables():
    names = ["dpo/full/sonnets", "dpo/lora-r4/sonnets", "generate/plain"]
    rows = summarise(
        [
            measurement(names[0], "ours", 2.0, 4.0, reference_per_step=1.0),
            measurement(names[0], "ours", 3.0, 9.0, reference_per_step=1.0),
            measurement(names[0], "peers", 14.0, peak_memory_mib=2345.0),
            measurement(names[1], "ours", 1.75),
        ],
        [{"row": name, "precision": "fp32", "seconds": 0.5} for name in names],
    )
    _header, full, lora, generate = main_table(rows)
    assert "3.5 (2 to 9)" in full and "14 (14 to 14)" in full and "2,345" in full
    assert rows[0]["ratio"] == 4.0 and rows[0]["gap"] == 7.0
    assert rows[0]["ratio_with_reference"] == pytest.approx(14 / 4.5)
    assert lora.split()[2:] == [
        "1.75",
        "(1.75",
        "to",
        "1.75)",
        "-",
        "-",
        "-",
        "0.5",
        "3.50",
        "1,000",
        "-",
        "3.0",
        "-",
    ]
    assert generate.split()[2:] == ["-"] * 4 + ["0.5"] + ["-"] * 5
    assert [line.split()[2:] for line in lora_table(rows)] == [["ours", "peers"], ["0.50", "-"]]
    assert lora_table(rows[1:]) == []


def test_hosts_stand_side_by_side_with_their_ceilings(tmp_path, capsys):
    def record(name, fp32, *measurements):
        flops = {"fp32": fp32} | ({"bf16": 9e11} if name == "fast" else {})
        ceilings = {"flops": flops, "bandwidth": 4e10}
        least = [{"row": "sft/full/sonnets", "precision": "fp32", "seconds": 0.5}]
        text = json.dumps({"measurements": measurements, "ceilings": ceilings, "floors": least})
        (tmp_path / f"{name}.json").write_text(text)
        return f"{name}={tmp_path / f'{name}.json'}"

    ours = measurement("sft/full/sonnets", "ours", 1.0)
    fast = record("fast", 4.1e11, ours, measurement("sft/full/sonnets", "peers", 4.0))
    slow = record("slow", 2e11, ours)
    hosts.main([fast, slow])
    assert capsys.readouterr().out.splitlines() == [
        "|  | fast, fp32 | fast, bf16 | slow, fp32 | slow, bf16 |",
        "| --- | --- | --- | --- | --- |",
        "| ceiling, GFLOP/s | 410 | 900 | 200 | - |",
        "| ceiling, GB/s | 40 | 40 | 40 | 40 |",
        "| sft/full/sonnets | 4.00 (2.00) | - | - (2.00) | - |",
    ]
    with pytest.raises(InputError, match="fast has sft/full/sonnets fp32 in two records"):
        hosts.read_host(f"{fast},{tmp_path / 'slow.json'}")


def test_the_recorded_host_is_read():
    path = ROOT / "records" / "speed" / "paraphrase.json"
    host = hosts.read_host(f"EPYC={path}")
    assert len(host.rows) == 20 and host.ceilings["fp32"] == pytest.approx(4.12e11, rel=1e-2)


def test_each_value_is_timed():
    seconds, values = zip(*time_each(iter("abc"), "cpu"))
    assert values == ("a", "b", "c") and min(seconds) >= 0


@pytest.mark.parametrize(
    "module, arguments, message",
    [
        (run, ["--rows", "sft/half/*"], "--rows has 'sft/half/*', which matches no row"),
        (run, ["--steps", "0"], "--steps is 0; expected at least 1"),
        (run, ["--model", "gpt5"], "unknown model 'gpt5'; expected one of gpt2"),
        (run, ["--model", "6x100", "--rows", "generate/*", "--rounds", "0"], "--rounds is 0"),
        (run, ["--precision"], "--precision is empty"),
        (run, ["--against", "nowhere"], "--against is 'nowhere', which git does not know here"),
        (hosts, [], "there are no hosts; expected NAME=FILE"),
        (hosts, ["EPYC"], "there is a host 'EPYC'; expected NAME=FILE"),
        (hosts, ["EPYC=nowhere.json"], "nowhere.json cannot be read"),
        (growth, ["--lengths", "2"], "--lengths is 2; expected at least 3"),
        (growth, ["--lengths", "400"], "expected at most 257 for verse"),
        (growth, ["--batches"], "there are no values of batch"),
    ],
)
def test_bad_options_end_in_a_sentence(module, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        module.main(arguments)
    assert exit.value.code == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_by_its_shape():
    assert shape("gpt2").n_layer == 12
    assert shape("6x256") == GPTConfig(n_layer=6, n_head=4, n_embd=256)
    with pytest.raises(InputError, match="n_layer is 0"):
        shape("0x64")


def test_the_library_does_without_the_benchmarks():
    for package in ("minigpt", "lora", "objectives", "tasks", "experiments"):
        for path in (ROOT / package).rglob("*.py"):
            assert "benchmarks" not in path.read_text(encoding="utf-8"), path
