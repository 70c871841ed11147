"""The command for a GPU: all of it in small on a CPU, and what it does when a part goes wrong."""

import json
import subprocess
from dataclasses import replace

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_parts import headline, kernels, pretraining, steps
from benchmarks.gpu_parts.device import peak_flops
from benchmarks.gpu_parts.goals import GOALS
from benchmarks.gpu_parts.page import page
from benchmarks.gpu_parts.part import (
    FAILED,
    FINISHED,
    SKIPPED,
    STOPPED,
    TINY,
    Part,
    Settings,
    read_rows,
    write_part,
)
from benchmarks.gpu_parts.plan import make_plan
from benchmarks.gpu_parts.worker import work
from minigpt.fast.attention import FastAttention

SPARE = Part("spare", lambda settings, report: None, 10.0)


def in_this_process(part, settings):
    """In the place of `launch`, whose processes would take most of the time to start."""
    try:
        work(part.name, settings)
    except RuntimeError as error:
        return FAILED, str(error)
    return FINISHED, None


@pytest.mark.slow
def test_all_of_it_in_small(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "launch", in_this_process)
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)  # the peers have tests of their own
    out = tmp_path / "gpu"
    gpu.main(["--device", "cpu", "--tiny", "--out", str(out)])
    records = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert {record["status"] for name, record in records.items() if "peers" in name} == {SKIPPED}
    others = {name: record for name, record in records.items() if "peers" not in name}
    assert {name: r["error"] for name, r in others.items() if r["status"] != FINISHED} == {}
    assert all(record["rows"] for record in others.values()) and len(others) == 13
    assert not any(row.get("failed") for row in records["kernels"]["rows"])
    assert [r["triton_kernels"] for r in records["compile"]["rows"] if "ok" not in r] == [[], []]
    assert records["headline"]["rows"][-1]["minutes"] > 0
    table = (out / "table.md").read_text()
    assert "works on a CPU. The numbers mean nothing" in table and "trl cannot be imported" in table
    assert "reached" not in table and "all of it:" in capsys.readouterr().out


@pytest.mark.slow
def test_a_part_has_a_process_of_its_own_that_can_fail_alone(tmp_path):
    settings = replace(TINY, out=str(tmp_path), inputs=str(tmp_path / "nowhere"), seconds=300.0)
    plan = {part.name: part for part in make_plan(settings)}
    record = gpu.run_part(plan["sft/full/paraphrase/eager"], settings)
    assert record["status"] == FAILED and "nowhere" in record["error"] and record["rows"] == []
    assert json.loads((tmp_path / "sft-full-paraphrase-eager.json").read_text())["error"]


def test_what_a_part_had_reported_before_the_time_was_over_is_kept(tmp_path, monkeypatch):
    def overtime(command, **options):
        write_part(tmp_path, "spare", status=STOPPED, rows=[{"tokens": 1}])
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", overtime)
    record = gpu.run_part(SPARE, Settings(out=str(tmp_path), seconds=11.0))
    assert record["status"] == STOPPED and record["rows"] == [{"tokens": 1}]
    assert read_rows(tmp_path, "spare") == [{"tokens": 1}]


def test_a_part_that_does_not_fit_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was begun"))
    record = gpu.run_part(SPARE, Settings(out=str(tmp_path), seconds=9.0))
    assert record["status"] == SKIPPED
    assert record["error"] == "it takes about 10 s, and 9 s are left"
    needy = replace(SPARE, needs=("torch", "a_package_that_is_not_there"))
    record = gpu.run_part(needy, Settings(out=str(tmp_path), seconds=11.0))
    assert record["error"] == "a_package_that_is_not_there cannot be imported"


def test_the_plan_has_every_part_once_and_the_corpus_before_the_headline():
    names = [part.name for part in make_plan(Settings())]
    assert len(names) == len(set(names)) >= 20 and names[0] == "device" and "verse" not in names
    assert names.index("compile") < names.index("sft/lora/paraphrase/peers")
    names = [part.name for part in make_plan(Settings(corpus="corpus"))]
    assert len(names) == len(set(names)) and names.index("pretraining") < names.index("verse")
    assert names.index("verse") + 1 == names.index("headline")


def test_goals_are_judged_by_what_was_measured():
    def step(row, side, speed, mfu=None):
        return {"row": row, "side": side, "examples_per_second": speed, "mfu": mfu}

    full, lora = "sft/full/paraphrase", "sft/lora-r8/paraphrase"
    rows = [
        step(full, "eager", 10.0, 0.3), step(full, "minigpt", 14.0, 0.42),
        step(full, "inductor", 15.0, 0.45), step(lora, "minigpt", 21.0), step(lora, "peers", 6.0),
    ]  # fmt: skip
    found = {
        "sft/all": {"rows": rows},
        "projection": {"rows": [{"minutes": 7.0}, {"minutes": 6.5}]},
        "headline": {"rows": [{"stopped_after": 9.0}]},
    }
    judged = [goal.judge(found)[2:] for goal in GOALS]
    assert judged == [
        ("0.42", "reached"),
        ("-", "not measured"),
        ("1.07", "not reached"),
        ("0.67", "reached"),
        ("3.50", "reached"),
        ("-", "not measured"),  # of the whole run, which was stopped
        ("6.5", "not reached"),
    ]
    found["headline"]["rows"].append({"minutes": 4.5})
    assert GOALS[-2].judge(found)[2:] == ("4.5", "reached")
    ended = {"status": FINISHED, "error": None, "seconds": 1.0}
    table = page({name: ended | record for name, record in found.items()}, "cuda", False)
    assert "| 0.42 | reached |" in table and "mean nothing" not in table


def test_the_whole_run_is_projected_from_a_short_one():
    epochs = [
        {"phase": phase, "seconds": seconds, "evaluation_seconds": 2.0}
        for phase, seconds in [("sft", 9.0), ("sft", 4.0), ("dpo", 8.0), ("dpo", 5.0)]
    ]
    settings = Settings(pairs=1000, sample_pairs=100)
    # Steps 3 x 4 + 7 x 5, six seconds of all else; ten times that, five and three of compiling
    # once, and eleven evaluations.
    assert headline.projected(epochs, 26.0 + 8.0 + 6.0, settings) == 10 * (47 + 6) + 8 + 22


def test_the_whole_run_stops_in_time_with_what_it_has(tmp_path, monkeypatch):
    def train(settings, pairs, dev_pairs, observer, **options):
        assert options["compile"] == "minigpt"  # which the projection found to be faster
        observer({"scores": {}, "epoch": 1, "phase": "sft"})
        pytest.fail("it goes on")

    monkeypatch.setattr(headline, "train_on_questions", train)
    rows = [{"backend": "eager", "minutes": 3.0}, {"backend": "minigpt", "minutes": 2.0}]
    write_part(tmp_path, headline.EARLIER, rows=rows)
    reported = []
    settings = Settings(out=str(tmp_path), seconds=headline.MARGIN - 1)
    headline.run_headline(settings, lambda **row: reported.append(row))
    assert [row.get("epoch") for row in reported] == [1, None] and "stopped_after" in reported[1]


def test_verse_is_pretrained_for_the_time_that_it_is_given(tmp_path, monkeypatch):
    settings = Settings(out=str(tmp_path), corpus="corpus", pretrain_seconds=60.0, seconds=100.0)
    with pytest.raises(RuntimeError, match="the speed of pretraining was not measured"):
        pretraining.pretrain_verse(settings, None)
    speeds = {"eager": (9000.0, 5000.0), "minigpt": (1000.0,)}
    rows = [
        {"model": "verse", "side": side, "tokens_per_second": each}
        for side, values in speeds.items()
        for each in values
    ]
    write_part(tmp_path, pretraining.EARLIER, rows=rows)
    configs, reported = [], []
    monkeypatch.setattr(pretraining.pretrain, "run", configs.append)
    monkeypatch.setattr(pretraining, "read_run", lambda out: {"held_out_bits_per_char": 1.75})
    pretraining.pretrain_verse(settings, lambda **row: reported.append(row))
    tokens = int(0.8 * 60 * 5000)
    assert configs[0].tokens == tokens and configs[0].precision == "bf16"
    assert reported == [{"tokens": tokens, "bits_per_char": 1.75}]


def test_a_batch_is_halved_until_it_fits():
    tried = []

    def measure(job):
        tried.append(job.batch)
        if job.batch > 2:
            raise torch.cuda.OutOfMemoryError
        return [1.0]

    job = replace(steps.make_job(TINY, "sft", "full", "paraphrase"), batch=8)
    smaller, seconds = steps.halving(job, measure)
    assert tried == [8, 4, 2] and smaller.batch == 2 and seconds == [1.0]


def test_a_kernel_that_is_wrong_is_found(monkeypatch):
    broken = kernels.Operation("broken", lambda x: 1.001 * x, lambda x: x, lambda N, C: [(N, C)])
    monkeypatch.setattr(kernels, "operations", lambda V: [broken])
    rows = []
    with pytest.raises(RuntimeError, match="4 checks failed"):
        kernels.check_kernels(TINY, lambda **row: rows.append(row))
    assert rows[0]["failed"] == ["7 x 6", "7 x 6, awkward", "21 x 132", "21 x 132, awkward"]
    assert rows[0]["forward"] == pytest.approx(1e-3, rel=1e-2) and not rows[1]["failed"]


def test_attention_is_checked_on_what_a_model_may_give_it(monkeypatch):
    seen, attend = [], FastAttention.attend
    monkeypatch.setattr(
        FastAttention, "attend", lambda self, *a: seen.extend(a[:3]) or attend(self, *a)
    )
    operation = next(each for each in kernels.operations(97) if each.name == "attention")
    for awkward in (False, True):
        for size in ((1, 4), (7, 6), (21, 132)):
            assert kernels._check(operation, *size, torch.float32, awkward, "cpu")["ok"]
    assert {tensor.size(3) for tensor in seen} == {4, 6, kernels.WIDEST}
    for tensor in seen:  # between rows, heads and q, k and v lie whole heads
        D = tensor.size(3)
        assert tensor.stride(3) == 1 and not any(n % D for n in tensor.stride()[:3])
        assert tensor.storage_offset() % D == tensor.untyped_storage().data_ptr() % 16 == 0


def test_a_device_is_known_by_its_name(monkeypatch):
    assert peak_flops("cpu") is None
    for name, peak in {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12}.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert peak_flops("cuda") == peak


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--device", "cpu"], "--device is cpu without --tiny; expected cuda"),
        (["--device", "cpu", "--tiny", "--parts", "gpu"], "--parts has 'gpu', which matches none"),
        (["--device", "cpu", "--tiny", "--corpus", "nowhere"], "--corpus is nowhere; expected a"),
        (["--device", "cpu", "--tiny", "--out", "."], "holds records already"),
    ],
)
def test_bad_options_end_in_a_sentence(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "device.json").write_text("{}")
    with pytest.raises(SystemExit) as exit:
        gpu.main(arguments)
    assert exit.value.code == 2 and message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["device.json"]
