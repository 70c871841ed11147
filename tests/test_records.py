"""A study's record: small, without data, and enough to make the report again, byte for byte."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import handoff, publish, reproduce
from experiments.run.evaluation import evaluations, load_statistics
from experiments.run.metrics_log import read_lines
from experiments.run.packed import load_packed, narrowest, save_packed
from experiments.run.record import read_record, read_run
from experiments.run.source import options_of
from experiments.run.tables import Link, Table
from experiments.study.claims import Claim
from experiments.study.document import Paragraph
from experiments.study.full_report import write_report
from experiments.study.protocol import Planned, Protocol, plan_study, read_plan, write_plan
from experiments.study.rate_table import CHOSEN, rate_blocks
from minigpt import download
from minigpt.errors import InputError
from tasks import Task
from tasks.paraphrase.task import ParaphraseTask

ROOT = Path(__file__).parent.parent
REPORTS = ("report.md", "report.html")


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file that a report consists of."""
    paths = [folder / name for name in REPORTS] + sorted(folder.rglob("*.svg"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def study(lora_run, tmp_path_factory) -> Path:
    """Two arms of one seed each, SFT then DPO, in two experiments; a primary claim and others."""
    folder = tmp_path_factory.mktemp("study")
    config = options_of(lora_run)
    shutil.copytree(lora_run, folder / "runs" / "zero")
    handoff.run(replace(config, seed=1, out=folder / "runs" / "one", keep="nothing"))
    claims = [
        Claim("one is better than zero", "better", "one", "zero", "accuracy", "more", primary=True),
        Claim("one does as zero", "the same", "one", "zero", "macro_f1", "same"),
        Claim("one does as zero at first", "the same", "one", "zero", "accuracy", "same", at=0),
    ]
    arms = {"zero": ["runs/zero"], "one": ["runs/one"]}
    cells = [[0.1, 1e-4, "zero"], [0.3, 1e-4, "one"]]
    protocol = Protocol("pair", "A pair", "Which?", "paraphrase", "tiny", arms, claims, cells)
    shutil.copytree(lora_run, folder / "runs" / "tried")
    link = Link("tried", folder / "runs" / "tried" / "run.json")
    tuning = [Paragraph("One rate was tried."), Table(["rate", "run"], [["0.05", link]])]
    # The same runs once more, of which it reads less.
    again = replace(protocol, name="again", claims=claims[1:2], heat_map=[])
    write_plan(folder, Planned("A small study", [protocol, again], tuning))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def record(study, tmp_path_factory) -> Path:
    return publish.run(publish.PublishConfig(study, tmp_path_factory.mktemp("record") / "small"))


@pytest.mark.slow
def test_a_record_makes_its_report_byte_for_byte_without_data_models_or_network(
    study, record, tmp_path, monkeypatch
):
    """The one made here, and every one that is committed."""
    monkeypatch.setattr(Task, "examples", lambda *_: pytest.fail("it reads data"))
    monkeypatch.setattr(ParaphraseTask, "__init__", lambda *_, **__: pytest.fail("it reads data"))
    monkeypatch.setattr(download, "_download", lambda *_: pytest.fail("it fetches"))
    assert contents(record) == contents(study)
    committed = [path.parent for path in sorted((ROOT / "records").glob("*/study.json"))]
    for number, folder in enumerate([record, *committed]):
        made = contents(folder)
        again = tmp_path / f"elsewhere-{number}"
        shutil.copytree(folder, again)
        for name in made:
            (again / name).unlink()
        monkeypatch.chdir(again)
        reproduce.main(["--records", "."])
        assert contents(again) == made, folder


@pytest.mark.slow
def test_a_record_has_no_text_of_the_data_and_no_weights(study, record):
    config = options_of(study / "runs" / "zero")
    task = ParaphraseTask(config.data)
    texts = {text for split in ("train", "dev") for row in task.contents(split) for text in row[:2]}
    files = [path for path in record.rglob("*") if path.is_file()]
    written = "\n".join(path.read_text() for path in files if path.suffix != ".npz")
    assert len(texts) > 20 and not [text for text in texts if len(text) > 8 and text in written]
    assert {path.suffix for path in files} == {".json", ".jsonl", ".npz", ".svg", ".md", ".html"}
    kept, whole = (read_record(place / "runs" / "one" / "run.json") for place in (record, study))
    assert kept["log_of_run"] == whole["log"] != kept["log"]
    assert {**kept["best"]["scores"]} == whole["best"]["scores"]
    assert "[tried](runs/tried/run.json)" in (record / "report.md").read_text()
    assert sorted(path.name for path in (record / "runs" / "tried").iterdir()) == [
        "metrics.jsonl",
        "run.json",
    ]
    for path in (record / "runs" / "one" / "evaluations").iterdir():
        here = load_statistics(path.with_suffix(".safetensors"), ParaphraseTask)
        there = load_statistics(
            study / "runs" / "one" / "evaluations" / f"{path.stem}.safetensors", ParaphraseTask
        )
        for name, metric in there.items():
            assert np.array_equal(here[name].statistics, metric.statistics)


@pytest.mark.slow
def test_what_other_rates_of_dpo_did_is_told_from_the_runs_of_the_search(study, record):
    tried = record / "runs" / "tried"
    (folded,) = rate_blocks({tried: read_run(tried)})
    epochs = evaluations(read_lines(study / "runs" / "tried" / "metrics.jsonl"))
    before, after = (epochs[n]["scores"]["accuracy"]["value"] for n in (1, 2))
    (row,) = folded.blocks[1].rows
    assert row[:4] == ["lora-r8 sigmoid", "", "0.02", "0.1"]
    assert row[5] == f"{100 * (after - before):.2f}" and float(row[6]) > 0
    text = (record / "report.md").read_text()
    assert CHOSEN in text and text.index(CHOSEN) < text.index("## How to read this")
    assert rate_blocks({}) == []


@pytest.mark.slow
def test_a_report_tells_when_its_primary_claims_were_fixed(study, record, tmp_path):
    shutil.copytree(study, tmp_path / "study")
    protocols = read_plan(study).protocols
    told = {}
    for when, primary in (("before", 1), ("less", 0), ("after", 2)):
        claims = [replace(c, primary=i < primary) for i, c in enumerate(protocols[0].claims)]
        changed = [replace(protocols[0], claims=claims), protocols[1]]
        plan_study(tmp_path / "study", "A small study", changed)
        write_report(tmp_path / "study")
        told[when] = (tmp_path / "study" / "report.md").read_text()
    for when in ("before", "less"):
        assert "The primary claims were fixed before the runs and are" in told[when]
    assert "The primary claims were fixed when 2 of the runs were finished, and" in told["after"]
    assert read_plan(record).known == 0 and read_plan(tmp_path / "study").known == 2
    copied = publish.run(publish.PublishConfig(tmp_path / "study", tmp_path / "copied"))
    assert read_plan(copied).known == 2


@pytest.mark.slow
def test_what_was_changed_is_refused(record, study, tmp_path):
    with pytest.raises(InputError, match="small is not empty; expected a new folder"):
        publish.run(publish.PublishConfig(study, record))
    for name, old, new, sentence in (
        ("study.json", '"more"', '"same"', "study.json was changed"),
        ("runs/one/run.json", '"finished"', '"running"', "run.json is damaged"),
        ("runs/one/metrics.jsonl", '"value": 0', '"value": 1', "metrics.jsonl was changed"),
    ):
        broken = tmp_path / name.replace("/", "-")
        shutil.copytree(record, broken)
        text = (broken / name).read_text()
        assert old in text
        (broken / name).write_text(text.replace(old, new, 1))
        with pytest.raises(InputError, match=sentence):
            write_report(broken)
    shutil.copytree(record, tmp_path / "cut")
    packed = min((tmp_path / "cut" / "runs" / "one" / "evaluations").iterdir())
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(InputError, match="it is not arrays as NumPy keeps them"):
        write_report(tmp_path / "cut")
    with pytest.raises(InputError, match="there is no study in"):
        read_plan(tmp_path)


def test_packed_arrays_come_back_exactly_in_little_room(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "flags": rng.integers(0, 2, (50, 2)).astype(bool),
        "counts": rng.integers(0, 300, (50, 3)),
        "signed": rng.integers(-5, 5, (50, 1)),
        "single": rng.normal(size=(50, 2)).astype(np.float32).astype(float),
        "double": rng.normal(size=(50, 2)),
        "not numbers": np.array([[np.nan, np.inf]]),
    }
    save_packed(tmp_path / "a.npz", arrays)
    save_packed(tmp_path / "b.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = load_packed(tmp_path / "a.npz")
    assert {name: array.dtype for name, array in back.items()} == {
        "flags": bool,
        "counts": np.int16,
        "signed": np.int16,
        "single": np.float32,
        "double": np.float64,
        "not numbers": np.float64,
    }
    for name, array in arrays.items():
        assert np.array_equal(back[name], array, equal_nan=name == "not numbers")
    assert narrowest(np.array([0, 255])).dtype == np.uint8
