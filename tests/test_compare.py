"""Finished runs beside each other: paired on the same examples, refused where they cannot be."""

import json
import shutil
from pathlib import Path

import pytest

from experiments import compare, handoff
from experiments.run.config import make_config
from experiments.run.record import read_record, write_record
from minigpt.errors import InputError


@pytest.fixture(scope="module")
def other_run(lora_run, tmp_path_factory) -> Path:
    """The same questions as those of the run of LoRA, learnt with all weights by SFT alone."""
    folder = tmp_path_factory.mktemp("runs") / "full"
    options = read_record(lora_run / "run.json")["config"]
    same = ("task", "data", "model", "train_examples", "dev_examples", "batch_size", "device")
    handoff.run(make_config(**{n: options[n] for n in same}, out=folder, epochs=1, switch_epoch=1))
    return folder


@pytest.fixture(scope="module")
def compared(lora_run, other_run, tmp_path_factory):
    config = compare.CompareConfig((lora_run, other_run), tmp_path_factory.mktemp("compared"))
    return config.out, compare.run(config)


def test_a_difference_is_that_of_the_recorded_scores_of_the_best_epochs(
    compared, lora_run, other_run
):
    _, found = compared
    first, second = (read_record(run / "run.json") for run in (lora_run, other_run))
    splits = ["dev"] + ["test"] * bool(first.get("test"))
    assert list(found) == [(other_run.name, split) for split in splits]
    for name, difference in found[other_run.name, "dev"].items():
        before, after = (record["best"]["scores"][name]["value"] for record in (first, second))
        assert difference.value == pytest.approx(after - before)
        low, high = difference.estimate.interval()
        assert low <= high and not difference.enough_seeds


def test_turned_round_the_differences_turn_round(compared, lora_run, other_run, tmp_path):
    _, found = compared
    turned = compare.run(compare.CompareConfig((other_run, lora_run), tmp_path))
    for name, there in found[other_run.name, "dev"].items():
        back = turned[lora_run.name, "dev"][name]
        low, high = there.estimate.interval()
        assert (back.value, *back.estimate.interval()) == pytest.approx((-there.value, -high, -low))


def test_what_is_written_and_printed(compared, lora_run, other_run, capsys, tmp_path):
    out, _ = compared
    report = (out / "report.md").read_text()
    assert "they say nothing of seeds" in report and "| better |" in report
    assert (
        f"dev, 7 groups of question pairs: {other_run.name}, epoch 1 against {lora_run.name}"
        in report
    )
    assert (out / "epochs-accuracy.svg").read_text().startswith("<svg")
    samples = (out / "samples.txt").read_text().splitlines()
    assert samples[0].split(" | ")[0].strip() == lora_run.name
    assert max(map(len, samples)) <= 100
    compare.main(["--runs", str(lora_run), str(other_run), "--out", str(tmp_path)])
    table = [line for line in capsys.readouterr().out.splitlines() if "[" in line]
    assert len(table) >= 3 and max(map(len, table)) <= 100


def copied(run: Path, to: Path, **changes) -> Path:
    shutil.copytree(run, to)
    record = read_record(to / "run.json")
    write_record(to / "run.json", {**record, **changes})
    return to


def test_runs_that_cannot_be_compared_are_refused(lora_run, tmp_path):
    contents = read_record(lora_run / "run.json")["contents"]
    options = read_record(lora_run / "run.json")["config"]
    other_dev = copied(lora_run, tmp_path / "dev", contents={**contents, "dev": "0" * 64})
    old = copied(lora_run, tmp_path / "old", contents={})
    sonnets = copied(lora_run, tmp_path / "sonnets", config={**options, "task": "sonnet"})
    stopped = copied(lora_run, tmp_path / "stopped", status="interrupted")
    for other, sentence in {
        lora_run: "expected the folders of two runs or more, each once",
        other_dev: "the dev examples of .* and .* differ .*; expected the same",
        old: "does not say by a hash what dev was",
        sonnets: "is a run of the task paraphrase, .* of sonnet; expected runs of one task",
        stopped: "is interrupted; expected it finished",
        tmp_path / "none": "there is no run in .*none; expected a folder with a run.json",
    }.items():
        with pytest.raises(InputError, match=sentence):
            compare.run(compare.CompareConfig((lora_run, other), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_statistics_of_another_run_are_refused(lora_run, other_run, tmp_path):
    broken = copied(lora_run, tmp_path / "broken")
    best = json.loads((broken / "run.json").read_text())["best"]["epoch"]
    shutil.copy(
        other_run / "evaluations" / "dev-00.safetensors",
        broken / "evaluations" / f"dev-{best:02}.safetensors",
    )
    with pytest.raises(InputError, match="does not make the .* that the log of its run tells of"):
        compare.run(compare.CompareConfig((other_run, broken), tmp_path / "out"))
