"""The handoff experiment end to end: what it leaves behind, resumes, refuses."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from experiments import handoff
from experiments.run import training_run
from experiments.run.checkpoint import read_progress
from experiments.run.config import Config, flat_options, identity, make_config
from experiments.run.contents import contents_of
from experiments.run.handover import load_pairs
from experiments.run.plan import with_defaults
from experiments.run.policy import make_policy
from experiments.run.source import Source
from experiments.study.runner import finished as study_finished
from lora import LoRAConfig
from minigpt import load_pretrained, save_pretrained
from minigpt.errors import InputError
from tasks import Evaluation, get_task
from tests.test_own_task import OppositeTask

ROOT = Path(__file__).parent.parent
QUESTIONS = ["How do I learn {}?", "What is the best way to learn {}?", "Why is {} hard?"]
SUBJECTS = ["Python", "chess", "Greek", "to swim", "the violin", "to cook", "algebra", "knots"]


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    """A folder with question pairs in the course's form; one row is short of a column."""
    folder = tmp_path_factory.mktemp("quora")
    rows = [
        (QUESTIONS[0].format(s), QUESTIONS[1 + i % 2].format(s), 1 - i % 2)
        for i in range(4)
        for s in SUBJECTS
    ]
    lines = [f"{n:x}\t{a}\t{b}\t{label}" for n, (a, b, label) in enumerate(rows)]
    text = "\n".join(["id\tsentence1\tsentence2\tis_duplicate", *lines])
    (folder / "quora-train.csv").write_text(text + "\nff\tonly one question\n")
    (folder / "quora-dev.csv").write_text(text + "\n")
    return folder


def config(model: Path, out: Path, **options) -> Config:
    small = {
        "model": str(model),
        "out": out,
        "epochs": 2,
        "switch_epoch": 1,
        "train_examples": 12,
        "dev_examples": 2,
        "batch_size": 4,
        "device": "cpu",
        "keep": "checkpoint",
    }
    return make_config(**{**small, **options})


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    """One run of the sonnet task, SFT then DPO, for the tests that only look at it."""
    return handoff.run(config(model, tmp_path_factory.mktemp("runs") / "run"))


def test_a_run_leaves_its_whole_record(finished):
    names = {path.name for path in finished.folder.iterdir()}
    assert names >= {
        "run.json",
        "metrics.jsonl",
        "curves.png",
        "samples.txt",
        "report.txt",
        "checkpoint.safetensors",
        "pairs.jsonl",
        "held-out-pairs.jsonl",
        "reference",
        "best",
        "last",
    }
    record = json.loads((finished.folder / "run.json").read_text())
    assert record["status"] == "finished" and record["config"]["seed"] == 0
    assert record["reference"]["epoch"] == 1 and record["reference"]["pairs"]["pairs"] == 12
    assert set(record["versions"]) >= {"torch", "numpy"} and record["peak_memory_mib"] > 0
    assert (finished.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(finished.folder.glob(".*tmp"))


def test_the_epochs_are_untuned_then_sft_then_dpo(finished):
    assert [r["phase"] for r in finished.epochs] == ["untuned", "sft", "dpo"]
    assert [r["epoch"] for r in finished.epochs] == [0, 1, 2]
    for record in finished.epochs:
        for score in record["scores"].values():
            low, high = score["interval"]
            assert low <= score["value"] <= high
    assert finished.best in finished.epochs[1:] and finished.last is finished.epochs[-1]
    assert set(finished.test["scores"]) == set(finished.last["scores"])
    assert {"random sonnet", "prompt only", "random lines"} <= set(finished.floors)


def test_sft_lowers_the_held_out_bits(finished):
    untuned, sft, _ = (r["scores"]["bits_per_char"]["value"] for r in finished.epochs)
    assert sft < untuned


def test_dpo_starts_at_ln_2_and_logs_trls_metrics(finished):
    lines = map(json.loads, (finished.folder / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 7))
    first = next(line for line in steps if line["phase"] == "dpo")
    assert first["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert {
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "logps/chosen",
        "logps/rejected",
        "weights",
        "weights/q10",
        "weights/q50",
        "weights/q90",
        "grad_norm",
        "learning_rate",
    } <= first.keys()


def test_dpo_is_looked_at_on_pairs_made_of_dev(finished):
    untuned, sft, dpo = ({n for n in r if n.startswith("eval_")} for r in finished.epochs)
    assert not untuned and not sft and len(dpo) == 13
    assert {"eval_rewards/margins", "eval_kl/chosen", "eval_weights/q90"} <= dpo
    made = json.loads((finished.folder / "run.json").read_text())["reference"]["held_out"]
    path = finished.folder / "held-out-pairs.jsonl"
    dev = get_task("sonnet", limits={"dev": 2}).examples("dev")
    assert [(pair.prompt, pair.chosen) for pair in load_pairs(path, made)] == dev
    assert len(list(finished.folder.glob("reference-*.safetensors"))) == 2  # training's, and these
    with pytest.raises(InputError, match="that the run wrote"):
        load_pairs(path, {**made, "pairs_sha256": "0"})


def test_the_best_weights_can_be_loaded(finished, model):
    assert load_pretrained(finished.folder / "best").config == load_pretrained(model).config


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_seed_another(finished, model, tmp_path):
    again = handoff.run(config(model, tmp_path / "again"))
    other = handoff.run(config(model, tmp_path / "other", seed=1))
    weights = [load_file(r.folder / "last" / "model.safetensors") for r in (finished, again, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert again.last["scores"] == finished.last["scores"]


@pytest.mark.slow
def test_a_run_leaves_torchs_random_state_alone(model, tmp_path):
    before = torch.get_rng_state()
    handoff.run(config(model, tmp_path / "run", epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_compiled_run_trains_as_it_would_uncompiled(finished, model, tmp_path):
    compiled = handoff.run(config(model, tmp_path / "run", compile="minigpt"))
    for ours, plain in zip(compiled.epochs, finished.epochs, strict=True):
        bits = [r["scores"]["bits_per_char"]["value"] for r in (ours, plain)]
        assert bits[0] == pytest.approx(bits[1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("switch", [0, 2])
def test_one_phase_alone(model, tmp_path, switch):
    result = handoff.run(config(model, tmp_path / "run", switch_epoch=switch))
    assert {r["phase"] for r in result.epochs[1:]} == {"dpo" if switch == 0 else "sft"}


@pytest.mark.slow
def test_lora_moves_adapters_only(model, tmp_path):
    result = handoff.run(config(model, tmp_path / "run", parameterization="lora", rank=2))
    assert (result.folder / "best" / "adapter_model.safetensors").exists()
    saved = load_file(result.folder / "checkpoint.safetensors")
    trained = [name for name in saved if name.startswith("model/")]
    assert len(trained) == 8 and all("lora_" in name for name in trained)


def test_paraphrase_end_to_end(model, questions, tmp_path, capsys):
    result = handoff.run(
        config(
            model,
            tmp_path / "run",
            task="paraphrase",
            data=questions,
            train_examples=None,
            dev_examples=None,
            epochs=3,
            switch_epoch=2,
        )
    )
    assert result.test is None  # the course keeps the answers to its test set
    assert set(result.last["scores"]) >= {"accuracy", "macro_f1"}
    assert {"majority class", "word overlap"} <= set(result.floors)
    assert "skipped" in capsys.readouterr().out


def test_dry_run_touches_nothing(model, tmp_path, capsys):
    assert handoff.run(config(model, tmp_path / "run", dry_run=True)) is None
    assert not (tmp_path / "run").exists()
    printed = capsys.readouterr().out
    assert "DPO, epochs 2 to 2" in printed and "reference: the policy after epoch 1" in printed


def shell(*arguments: str | Path, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.handoff", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def flags(config: Config) -> list[str]:
    """The command line of a test's config."""
    names = (
        "model",
        "out",
        "epochs",
        "switch_epoch",
        "train_examples",
        "dev_examples",
        "batch_size",
        "device",
    )
    return [
        x for name in names for x in ("--" + name.replace("_", "-"), str(getattr(config, name)))
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "lines, number, code",
    [
        (1, signal.SIGKILL, -signal.SIGKILL),
        (5, signal.SIGKILL, -signal.SIGKILL),
        (7, signal.SIGKILL, -signal.SIGKILL),
        (5, signal.SIGTERM, 143),
    ],
)
def test_a_killed_run_resumes_to_the_same_weights(finished, model, tmp_path, lines, number, code):
    """Killed once metrics.jsonl has so many lines: in SFT, at the handoff, in DPO."""
    arguments = flags(config(model, tmp_path / "run"))
    killed, log = shell(*arguments), tmp_path / "run" / "metrics.jsonl"
    while killed.poll() is None and not (log.exists() and log.read_text().count("\n") >= lines):
        time.sleep(0.005)
    killed.send_signal(number)
    _, errors = killed.communicate()
    assert killed.returncode == code, errors
    assert code < 0 or errors.splitlines()[-1].startswith("interrupted; the same command with")
    resumed = shell(*arguments, "--resume")
    _, errors = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, errors
    once = load_file(finished.folder / "last" / "model.safetensors")
    twice = load_file(tmp_path / "run" / "last" / "model.safetensors")
    assert len(once) == 16 and all(torch.equal(once[name], twice[name]) for name in once)
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == [0, 1, 2, 3, 3, 4, 5, 6, 6]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"parameterization": "full"},
        {"parameterization": "lora", "rank": 2, "lora_dropout": 0.2, "dora": True, "lora_plus": 4},
    ],
    ids=["full", "lora"],
)
def test_an_interrupt_within_sft_loses_no_draw_of_dropout(
    options, model, questions, tmp_path, monkeypatch
):
    """In bf16; SFT alone drops out, and a kill at random seldom meets it."""
    options |= {"task": "paraphrase", "data": questions, "dropout": 0.2, "precision": "bf16"}
    options |= {"epochs": 1, "switch_epoch": 1}
    whole = handoff.run(config(model, tmp_path / "whole", **options))
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", 0.0)
    real = training_run.save_checkpoint

    def interrupted(*arguments):
        real(*arguments)
        if arguments[-1]["done"] == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training_run, "save_checkpoint", interrupted)
        handoff.run(config(model, tmp_path / "run", **options))
    resumed = handoff.run(config(model, tmp_path / "run", resume=True, **options))
    (once, twice) = (
        {path.name: load_file(path) for path in (run.folder / "last").glob("*.safetensors")}
        for run in (whole, resumed)
    )
    assert once and once.keys() == twice.keys()
    for name, tensors in once.items():
        assert all(torch.equal(tensors[key], twice[name][key]) for key in tensors)


@pytest.mark.slow
def test_a_checkpoint_within_an_epoch_resumes_to_the_same_weights(
    finished, model, tmp_path, monkeypatch
):
    """With a checkpoint after every step, an interrupt in the middle of DPO loses no step."""
    monkeypatch.setattr(training_run, "CHECKPOINT_SECONDS", 0.0)
    real, calls = training_run.save_checkpoint, []

    def interrupted(*arguments):
        real(*arguments)
        calls.append(arguments[-1])
        logged = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        assert {json.loads(line)["step"] for line in logged} == set(range(calls[-1]["step"] + 1))
        if len(calls) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(training_run, "save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        handoff.run(config(model, tmp_path / "run"))
    assert calls[-1]["epoch"] == 2 and calls[-1]["done"] == 2
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    monkeypatch.setattr(training_run, "save_checkpoint", real)
    result = handoff.run(config(model, tmp_path / "run", resume=True))
    once = load_file(finished.folder / "last" / "model.safetensors")
    twice = load_file(result.folder / "last" / "model.safetensors")
    assert all(torch.equal(once[name], twice[name]) for name in once)
    timeless = [
        [{k: v for k, v in r.items() if "seconds" not in k} for r in each.epochs]
        for each in (result, finished)
    ]
    assert timeless[0] == timeless[1] and "eval_rewards/margins" in timeless[0][-1]


class Told(OppositeTask):
    """Its evaluations score what they are told, and note the weights that they scored."""

    def __init__(self, *bits: float):
        self.bits = iter(bits)
        self.scored: list[torch.Tensor] = []

    def evaluate(self, model, tokenizer, split, *, generator):
        self.scored.append(model.ln_f.bias.detach().clone())
        return Evaluation({"bits": self.metrics["bits"].of(np.array([[next(self.bits), 1.0]]))})


@pytest.mark.slow
@pytest.mark.parametrize(("saved", "best"), [(False, 1), (True, 2)])
def test_what_is_kept_as_the_best_was_scored_in_the_log(model, tmp_path, monkeypatch, saved, best):
    """Killed at its last checkpoint, before it is there or after, in the best epoch until then."""
    real = training_run.save_checkpoint

    def killed(*arguments):
        last = arguments[-1]["epoch"] == 3
        if saved or not last:
            real(*arguments)
        if last:
            raise KeyboardInterrupt

    task = Told(9, 2, 1, 3)  # the untuned model, two epochs, and the second one again
    options = {"switch_epoch": 2, "train_examples": None, "dev_examples": None, "task": task.name}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training_run, "save_checkpoint", killed)
        handoff.run(config(model, tmp_path / "run", **options), task)
    result = handoff.run(config(model, tmp_path / "run", resume=True, **options), task)
    assert len(task.scored) == (3 if saved else 4) and result.best["epoch"] == best
    kept = load_pretrained(tmp_path / "run" / "best").ln_f.bias
    assert torch.equal(kept, task.scored[best]) and not torch.equal(kept, task.scored[3 - best])


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, 3])  # within an epoch, and at its end before it is evaluated
def test_a_signal_waits_for_the_step_and_its_checkpoint(
    finished, model, tmp_path, monkeypatch, capsys, steps
):
    real = training_run.train

    def signalled(*arguments, **options):
        for number, metrics in enumerate(real(*arguments, **options), 1):
            if number == steps:
                os.kill(os.getpid(), signal.SIGTERM)  # while the step is taken
            yield metrics

    monkeypatch.setattr(training_run, "train", signalled)
    arguments = flags(config(model, tmp_path / "run"))
    with pytest.raises(SystemExit) as exit:
        handoff.main(arguments)
    assert exit.value.code == 143 and "--resume goes on" in capsys.readouterr().err
    progress = read_progress(tmp_path / "run" / "checkpoint.safetensors")
    assert (progress["epoch"], progress["done"], progress["step"]) == (1, steps, steps)
    monkeypatch.setattr(training_run, "train", real)
    handoff.main([*arguments, "--resume"])
    once = load_file(finished.folder / "last" / "model.safetensors")
    twice = load_file(tmp_path / "run" / "last" / "model.safetensors")
    assert all(torch.equal(once[name], twice[name]) for name in once)
    log = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [0, 1, 2, 3, 3, 4, 5, 6, 6]


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_refused(model, tmp_path):
    arguments = flags(config(model, tmp_path / "run"))
    first = shell(*arguments)
    while first.poll() is None and not (tmp_path / "run" / "run.json").exists():
        time.sleep(0.005)
    second = shell(*arguments)
    _, errors = second.communicate(timeout=300)
    first.kill()
    first.communicate()
    assert second.returncode == 2 and "another run is at work in" in errors
    third = shell(*arguments)
    _, errors = third.communicate(timeout=300)
    assert third.returncode == 2 and "continue it with --resume" in errors


def test_resuming_under_another_configuration_is_refused(finished, model):
    other = config(model, finished.folder, resume=True, beta=0.2, seed=3)
    with pytest.raises(InputError, match=r"another configuration \(differing: beta, seed\)"):
        handoff.run(other)


def test_resuming_a_finished_run_reports_it_again(finished, model):
    again = handoff.run(config(model, finished.folder, resume=True))
    assert again.last["scores"] == finished.last["scores"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--task", "chess"], "unknown task 'chess'; expected one of paraphrase, sonnet"),
        (["--model", "gpt3"], "there is no model gpt3; expected a file, a folder or one of gpt2"),
        (["--switch-epoch", "11"], "--switch-epoch is 11; expected 0 (DPO only) to 10 (SFT only)"),
        (["--parameterization", "lora", "--rank", "0"], "rank is 0; expected a positive"),
        (["--parameterization", "lora", "--targets", "q_proj"], "'q_proj' matches no linear layer"),
        (["--parameterization", "lora", "--rank", "999"], "rank is 999; expected at most"),
        (["--pairs", "right-vs-wrong"], "unknown pairs 'right-vs-wrong' for sonnet; expected gold"),
        (["--beta", "0"], "beta is 0.0; expected a number above 0"),
        (["--data", "nowhere"], "nowhere is not a folder with sonnets; expected one"),
        (
            ["--task", "paraphrase", "--data", "nowhere"],
            "nowhere holds no question pairs; expected",
        ),
        (["--device", "cuda:9"], "--device 'cuda:9' cannot be used"),
        (["--batch-size", "0"], "--batch-size is 0; expected at least 1"),
        (["--resume"], "there is no run to resume in"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, message, model, tmp_path, capsys):
    defaults = ["--out", str(tmp_path / "run")]
    if "--model" not in arguments:
        defaults += ["--model", str(model)]
    with pytest.raises(SystemExit) as exit:
        handoff.main(defaults + arguments)
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_unknown_flags_are_refused_and_help_shows_every_option(capsys):
    with pytest.raises(SystemExit) as exit:
        handoff.main(["--no-such-flag", "1"])
    assert exit.value.code == 2
    with pytest.raises(SystemExit) as exit:
        handoff.main(["--help"])
    printed = capsys.readouterr().out
    assert exit.value.code == 0
    names = flat_options(Config())
    shown = [name for name in names if "--" + name.replace("_", "-") in printed]
    assert len(shown) == len(names) >= 25
    assert printed.replace("│", " ").count("(default:") == len(names)


def test_an_unwritable_folder_is_refused(model, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SystemExit) as exit:
        handoff.main(["--model", str(model), "--out", str(tmp_path / "file" / "run")])
    assert exit.value.code == 2 and "cannot write to the run folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_ends_in_one_sentence_and_keeps_what_was_finished(model, tmp_path, monkeypatch):
    """Every file is bounded to 40 kB, as by a disk with so much left: no checkpoint fits."""
    limited = shell(
        *flags(config(model, tmp_path / "run")),
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
        ),
    )
    _, errors = limited.communicate(timeout=300)
    assert limited.returncode == 2
    assert "cannot write" in errors.splitlines()[-1] and "Traceback" not in errors
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


@pytest.fixture
def interrupted(model, questions, tmp_path, monkeypatch) -> Config:
    """A run of its own data and model, stopped as soon as it had begun; to be resumed."""
    shutil.copytree(model, tmp_path / "model")
    shutil.copytree(questions, tmp_path / "data")
    where = {"data": tmp_path / "data", "train_examples": None, "dev_examples": None}
    of = config(tmp_path / "model", tmp_path / "run", task="paraphrase", **where)

    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training_run.TrainingRun, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        handoff.run(of)
    return replace(of, resume=True)


@pytest.mark.parametrize("name", ["quora-train.csv", "quora-dev.csv"])
def test_resuming_on_changed_data_is_refused(interrupted, name):
    with pytest.raises(KeyboardInterrupt):  # the data as they were are accepted
        handoff.run(interrupted)
    path = interrupted.data / name
    path.write_text(path.read_text().replace("chess", "chase", 1))
    with pytest.raises(InputError, match=r"the data has changed since .* \(SHA-256 \w{12} then, "):
        handoff.run(interrupted)
    record_path = interrupted.out / "run.json"
    record = json.loads(record_path.read_text())
    assert record["status"] == "interrupted"
    assert set(record["contents"]) == {"data", "dev", "task", "weights"}
    with pytest.raises(InputError, match="the data has changed since"):
        study_finished(with_defaults(interrupted))
    del record["contents"], record["sha256"]  # as runs of before have none
    record_path.write_text(json.dumps(record))
    assert not study_finished(with_defaults(interrupted))
    with pytest.raises(KeyboardInterrupt):
        handoff.run(interrupted)


def test_resuming_from_changed_weights_is_refused(interrupted):
    changed = load_pretrained(interrupted.model)
    with torch.no_grad():
        changed.h[0].mlp.c_fc.bias[3] += 1e-3
    save_pretrained(changed, interrupted.model)
    with pytest.raises(InputError, match="the weights have changed since .* then, "):
        handoff.run(interrupted)
    with pytest.raises(InputError, match="the weights have changed since .* then, "):
        study_finished(with_defaults(interrupted))


def test_adapters_are_no_part_of_the_base_weights():
    shape = {"dropout": 0.0, "device": "cpu", "precision": "fp32", "compile": "eager"}
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    one, other = (
        make_policy(Source("verse"), lora=LoRAConfig(rank=2, dora=True), generator=g, **shape)[0]
        for g in seeds
    )
    task = get_task("sonnet", temperature=1)
    assert contents_of(task, one) == contents_of(task, other)
    contents = {t: contents_of(get_task("sonnet", temperature=t), one) for t in (1.0, 1.1)}
    assert contents[1.0] == contents_of(task, one) != contents[1.1]
    assert contents[1.0]["data"] == contents[1.1]["data"]


def without(number: int):
    return lambda lines: lines[:number] + lines[number + 1 :]


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda lines: [], "lacks 6 of the 6 steps before the checkpoint, from 1 to 6"),
        (without(2), "lacks 1 of the 6 steps before the checkpoint, from 2 to 2"),
        (without(4), r"was changed since .* bytes \(SHA-256 \w{12} then, \w{12} now\)"),
        (lambda lines: [*lines[:2], lines[2][:30] + "\n", *lines[3:]], "line 3 of .* is damaged"),
    ],
)
def test_a_log_with_holes_is_not_resumed(finished, model, tmp_path, damage, message):
    broken = tmp_path / "run"
    shutil.copytree(finished.folder, broken)
    path = broken / "metrics.jsonl"
    path.write_text("".join(damage(path.read_text().splitlines(keepends=True))))
    left = path.read_text()
    with pytest.raises(InputError, match=message):
        handoff.run(config(model, broken, resume=True))
    assert path.read_text() == left


def test_divergence_ends_the_run_and_keeps_the_last_good_checkpoint(
    model, tmp_path, monkeypatch, capsys
):
    real = training_run.train

    def diverging(*arguments, **options):
        for number, metrics in enumerate(real(*arguments, **options)):
            yield metrics | ({"loss": torch.tensor(float("nan"))} if number == 1 else {})

    monkeypatch.setattr(training_run, "train", diverging)
    with pytest.raises(SystemExit) as exit:
        handoff.main(flags(config(model, tmp_path / "run")))
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1
    assert "training diverged at step 2 with" in error and "lower --sft-learning-rate" in error
    assert read_progress(tmp_path / "run" / "checkpoint.safetensors")["step"] == 0
    assert not (tmp_path / "run" / "best").exists()  # what has diverged is not evaluated


def test_a_truncated_checkpoint_is_refused(finished, model, tmp_path):
    broken = tmp_path / "run"
    shutil.copytree(finished.folder, broken)
    path = broken / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        handoff.run(config(model, broken, resume=True))
    assert path.exists() and (broken / "last").exists()


def test_defaults_suit_the_task():
    sonnet = with_defaults(Config(device="cpu"))
    paraphrase = with_defaults(Config(task="paraphrase", device="cpu"))
    lora = with_defaults(Config(parameterization="lora", device="cpu"))
    assert sonnet.pairs == "gold-vs-sample" and paraphrase.pairs == "right-vs-wrong"
    assert sonnet.batch_size < paraphrase.batch_size
    assert lora.sft_learning_rate > sonnet.sft_learning_rate
    unset = {name for name, value in identity(sonnet).items() if value is None}
    assert unset == {
        "data",
        "train_examples",
        "dev_examples",
        "layers",
        "target_margin",
        "samples",
        "temperature",
        "top_p",
    }  # the last three are the task's to fill


def test_a_run_scored_by_the_headline_alone_trains_the_same(model, tmp_path, capsys):
    whole, alone = (
        handoff.run(config(model, tmp_path / str(only), task="sonnet", headline_only=only))
        for only in (False, True)
    )
    bits = [[r["scores"]["bits_per_char"] for r in one.epochs] for one in (whole, alone)]
    assert bits[0] == bits[1]
    assert all(set(record["scores"]) == {"bits_per_char"} for record in alone.epochs)
    assert "eval_loss" in alone.last  # by which DPO's rate is chosen
    assert alone.floors == {} and "chrF" in capsys.readouterr().out
    assert "chrF" not in (tmp_path / "True" / "report.txt").read_text()
    assert (tmp_path / "True" / "curves.png").is_file()
    assert "headline_only" not in identity(Config())  # which finds the runs of before it
    handoff.run(config(model, tmp_path / "True", task="sonnet", headline_only=True, resume=True))
