"""A run as an object: what a notebook gets, shows, reads back and hands to pandas."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from experiments import handoff
from experiments.run.config import Config, make_config
from experiments.run.display import show_duration
from minigpt import GPT, GPTConfig, save_pretrained
from minigpt.errors import InputError
from tests.conftest import oracle

SHAPE = GPTConfig(vocab_size=16384, n_positions=256, n_layer=2, n_head=2, n_embd=16)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Config:
    """Options of a run that takes a moment: two layers, four sonnets, SFT and then DPO."""
    model = tmp_path_factory.mktemp("model")
    save_pretrained(GPT(SHAPE, generator=torch.Generator().manual_seed(0)), model)
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
def result(small):
    return handoff.run(small)


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


def test_durations_as_people_say_them():
    assert [show_duration(s) for s in (0.4, 59, 60, 119, 3599, 7500)] == [
        "0 s",
        "59 s",
        "1 min",
        "2 min",
        "1 h 00 min",
        "2 h 05 min",
    ]
