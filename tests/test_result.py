"""A run as an object: what a notebook gets, shows, reads back and hands to pandas."""

import json
import signal
import sys
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from experiments import handoff
from experiments.run import loop, observers
from experiments.run.config import Config, make_config
from experiments.run.display import show_duration
from experiments.run.folder import RunFolder
from experiments.run.keeping import clear
from experiments.run.observers import LivePlot
from experiments.run.plan import resolve
from experiments.run.report import epoch_line
from experiments.run.time_left import seconds_left
from minigpt.errors import InputError
from tasks.registry import TASKS
from tests.conftest import oracle


@pytest.fixture(scope="module")
def small(model, tmp_path_factory) -> Config:
    """Options of a run that takes a moment: a tiny model, four sonnets, SFT and then DPO."""
    return make_config(
        model=str(model),
        out=tmp_path_factory.mktemp("runs") / "run",
        epochs=2,
        switch_epoch=1,
        train_examples=4,
        dev_examples=2,
        batch_size=2,
        pairs="gold-vs-corrupted",
        samples=1,
        device="cpu",
    )


@pytest.fixture(scope="module")
def result(small, watched):
    def observe(row):
        lines = (small.out / "metrics.jsonl").read_text().count("\n")
        watched.append((row, lines))

    return handoff.run(small, observer=observe)


@pytest.fixture(scope="module")
def watched() -> list[tuple[dict, int]]:
    """What the observer of `result` was told, and how many lines of the log there were by then."""
    return []


def test_a_finished_run_opens_again(result):
    again = handoff.Result.read(str(result.folder))
    assert repr(again) == repr(result) and again.last == result.last
    assert again.scores() == result.scores() and again.test == result.test


@pytest.mark.parametrize(
    "record, sentence",
    [
        (None, "there is no run in .*; expected a folder with a run.json"),
        ({"config": {}, "status": "interrupted"}, "is interrupted; expected a finished one"),
    ],
)
def test_only_a_finished_run_opens(tmp_path, record, sentence):
    if record:
        (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=sentence):
        handoff.Result.read(tmp_path)


def test_steps_scores_and_samples_are_flat_rows(result):
    assert [row["step"] for row in result.steps()] == [1, 2, 3, 4]
    assert {row["kind"] for row in result.steps()} == {"step"}
    scores, samples = result.scores(), result.samples()
    headline = [row for row in scores if row["metric"] == "bits_per_char"]
    assert [(row["split"], row["epoch"]) for row in headline] == [
        *(("dev", epoch) for epoch in (0, 1, 2)),
        ("test", result.best["epoch"]),
    ]
    assert all(row["low"] <= row["value"] <= row["high"] for row in scores)
    assert [row["text"] for row in samples if row["split"] == "dev"] == [
        text for record in result.epochs for text in record["samples"]
    ]


@pytest.mark.parity
def test_pandas_takes_the_rows(result):
    pandas = oracle("pandas")
    steps = pandas.DataFrame(result.steps())
    assert steps.groupby("phase")["loss"].count().to_dict() == {"dpo": 2, "sft": 2}
    assert steps["rewards/margins"].notna().sum() == 2
    scores = pandas.DataFrame(result.scores())
    dev = scores[scores["split"] == "dev"].pivot(index="epoch", columns="metric", values="value")
    assert dev.loc[2, "bits_per_char"] == result.last["scores"]["bits_per_char"]["value"]
    assert (
        not scores.isna().any().any() and not pandas.DataFrame(result.samples()).isna().any().any()
    )


def test_the_figure_leaves_pyplot_alone(result):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    assert len(result.plot().axes) >= 4 and pyplot.get_fignums() == before


def test_an_observer_gets_each_row_as_it_is_logged(result, watched):
    log = (result.folder / "metrics.jsonl").read_text().splitlines()
    assert [row for row, _ in watched] == [json.loads(line) for line in log]
    assert [lines for _, lines in watched] == [*range(1, len(log) + 1)]  # written by then


def test_the_live_figure_can_be_drawn_from_the_first_row_on(result):
    figures = []
    live = LivePlot(seconds=0, show=figures.append)
    rows = RunFolder(result.folder).logged()
    for row in rows:
        live(row)
    assert len(figures) == len(rows) == 7 and figures[-1].axes


class Page(HTMLParser):
    """The tags and the words of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.words = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.words += data


def test_a_notebook_shows_summary_scores_floors_and_figure_and_nothing_unescaped(result):
    floors = {"<script>alert(1)</script>": result.floors["prompt only"]}
    page = Page(replace(result, floors=floors)._repr_html_())
    assert page.tags.count("img") == 1 and "script" not in page.tags
    assert "<script>alert(1)</script>" in page.words
    for text in (str(result.folder), "switch_epoch 1", "test: epoch", "floor", "bits/char"):
        assert text in page.words


def test_a_finished_run_keeps_its_weights_and_no_checkpoint(result):
    names = {path.name for path in result.folder.iterdir()}
    assert {"best", "last", "reference", "pairs.jsonl", "evaluations"} <= names
    assert "checkpoint.safetensors" not in names and not list(result.folder.glob("reference-*"))


def test_what_is_kept_and_how_much_is_removed(tmp_path):
    files = (
        "checkpoint.safetensors",
        "reference-1a.safetensors",
        "best/w",
        "last/w",
        "reference/w",
    )
    records = ("run.json", "pairs.jsonl", "evaluations/dev-00.safetensors")
    for file in (*files, *records):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("12345")

    def left() -> set[str]:
        return {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}

    assert clear(tmp_path, "checkpoint") == 0 and left() == {*files, *records}
    assert clear(tmp_path, "weights") == 10 and left() == {*files[2:], *records}
    assert clear(tmp_path, "nothing") == 15 and left() == {*records}


def test_a_finished_run_stays_finished_though_its_report_fails(result, small, monkeypatch):
    def full(*_):
        raise OSError("the disk is full")

    before = (result.folder / "metrics.jsonl").read_text()
    monkeypatch.setattr(loop, "write_report", full)
    with pytest.raises(OSError, match="full"):
        handoff.run(replace(small, resume=True))
    assert handoff.Result.read(result.folder).scores() == result.scores()
    assert (result.folder / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_an_observer_that_raises_ends_the_run_and_the_next_cell_resumes_it(small, result, tmp_path):
    def fail(row):
        if row["step"] == 3:
            raise ZeroDivisionError("the observer's own fault")

    config = replace(small, out=tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        handoff.run(config, observer=fail)
    record = json.loads((config.out / "run.json").read_text())
    assert record["status"] == "failed" and "the observer's own fault" in record["error"]
    assert handoff.run(replace(config, resume=True)).scores() == result.scores()


@pytest.mark.slow
def test_a_stopped_cell_is_resumed_by_the_next_and_a_cell_runs_twice(small, result, tmp_path):
    """The stop button sends SIGINT to the kernel; the step at work is done and kept."""
    config = replace(small, out=tmp_path / "run")

    def stop(row):
        if row["kind"] == "step" and row["step"] == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="interrupted; resume=True goes on"):
        handoff.run(config, observer=stop)
    rows, told = RunFolder(config.out).logged(), []
    assert [row["step"] for row in rows] == [0, 1]
    for _ in range(2):  # the next cell, and that cell once more
        again = handoff.run(replace(config, resume=True), observer=told.append)
        assert again.scores() == result.scores()
    assert [row["step"] for row in told] == [2, 2, 3, 4, 4]


@pytest.mark.parametrize("log", ["tensorboard", "trackio"])
def test_a_log_whose_package_is_missing_is_refused_before_anything(log, tmp_path, monkeypatch):
    monkeypatch.setattr(observers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"--log {log} needs .*; expected it, pip install {log}"):
        handoff.run(make_config(model="not there", out=tmp_path / "run", log=log))
    assert not (tmp_path / "run").exists()


def rows_of_a_run(result):
    rows = RunFolder(result.folder).logged()
    losses = [row["loss"] for row in rows if row["kind"] == "step"]
    bits = [row["scores"]["bits_per_char"]["value"] for row in rows if row["kind"] == "evaluation"]
    return rows, losses, bits


@pytest.mark.parity
def test_tensorboard_reads_back_what_was_logged(result, tmp_path):
    oracle("tensorboard")
    events = oracle("tensorboard.backend.event_processing.event_accumulator")
    rows, losses, bits = rows_of_a_run(result)
    with observers.open_log("tensorboard", tmp_path, {}) as log:
        for row in rows:
            log(row)
    found = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in found.Scalars("train/loss")] == pytest.approx(losses)
    assert [event.step for event in found.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.value for event in found.Scalars("dev/bits_per_char")] == pytest.approx(bits)


def test_trackio_gets_what_was_logged(result, tmp_path, monkeypatch):
    """A stand-in that takes what trackio's own `init` and `Run` take."""
    rows, losses, bits = rows_of_a_run(result)
    logged, ended = [], []

    def init(project, name=None, config=None, resume="never"):
        assert (name, config, resume) == ("run", {"seed": 0}, "allow")
        return SimpleNamespace(
            log=lambda metrics, step=None: logged.append((step, metrics)),
            finish=lambda: ended.append(True),
        )

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=init))
    with observers.open_log("trackio", tmp_path / "run", {"seed": 0}) as log:
        for row in rows:
            log(row)
    assert [values["train/loss"] for _, values in logged if "train/loss" in values] == losses
    assert [v["dev/bits_per_char"] for _, v in logged if "dev/bits_per_char" in v] == bits
    assert [step for step, _ in logged] == [0, 1, 2, 2, 3, 4, 4] and ended == [True]


def test_the_terminal_shows_the_headline_and_fits_100_columns(result, small, capsys):
    handoff.run(replace(small, resume=True))  # of a finished run, so it reports alone
    shown = capsys.readouterr().out
    table = shown[shown.index("   phase ") : shown.index("test: epoch")].splitlines()
    assert "bits/char" in table[0] and max(map(len, table)) <= 100
    report = (result.folder / "report.txt").read_text().splitlines()
    recorded = result.epochs[0]["scores"]
    assert all(result.task.metrics[name].short in report[0] for name in recorded)
    assert [line.split()[:3] for line in table[2:]] == [line.split()[:3] for line in report[2:-1]]


@pytest.mark.parametrize("name", TASKS)
def test_a_line_for_an_epoch_fits_100_columns(name):
    task = TASKS[name]
    score = {"value": 0.98765, "interval": [0.98765, 0.98765]}
    place = {"epoch": 10, "phase": "untuned", "scores": dict.fromkeys(task.metrics, score)}
    line = epoch_line(place, 10, task, "12 h 05 min")
    assert task.metrics[task.headline].short in line and line.endswith("12 h 05 min left")
    assert len(line) <= 100


def test_the_time_left_counts_epochs_and_evaluations_to_come():
    """Five epochs, evaluated after 2 (the handoff), 3 and 5; test is scored at the end."""
    plan = resolve(Config(epochs=5, switch_epoch=2, evaluate_every=3, device="cpu"))
    untuned = {"epoch": 0, "phase": "untuned", "seconds": 0.0, "evaluation_seconds": 8.0}
    sft = {"epoch": 2, "phase": "sft", "seconds": 60.0, "evaluation_seconds": 12.0}

    def left(records, epoch, phase, seconds, share):
        at_work = {"epoch": epoch, "phase": phase, "seconds": seconds}
        return seconds_left(plan, records, at_work, share, tests=1)

    assert left([untuned], 0, "untuned", 0.0, 1.0) is None
    # Half an epoch of 40 s, another one, three of DPO at twice that; four evaluations of 8 s.
    assert left([untuned], 1, "sft", 20.0, 0.5) == 20 + 40 + 3 * 80 + 4 * 8
    assert left([untuned, sft], 2, "sft", 60.0, 1.0) == 3 * 120 + 3 * 10
    # DPO is known by now: a quarter of its last epoch but one took 25 s.
    assert left([untuned, sft], 4, "dpo", 25.0, 0.25) == 75 + 100 + 2 * 10


def test_durations_as_people_say_them():
    assert [show_duration(s) for s in (0.4, 59, 60, 119, 3599, 7500)] == [
        "0 s",
        "59 s",
        "1 min",
        "2 min",
        "1 h 00 min",
        "2 h 05 min",
    ]
