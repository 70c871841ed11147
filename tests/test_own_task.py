"""A task of one's own: what it says of itself is all that runs, reports and figures need."""

import json

import numpy as np
import pytest

from experiments import floors, handoff
from experiments.handoff_grid import HandoffGridStudy, run
from experiments.reproduce import ReproduceConfig
from experiments.run.config import Config
from experiments.run.plan import resolve
from minigpt.errors import InputError
from tasks import Evaluation, Example, PreferencePair, Score, Task
from tasks.likelihood import completion_bits
from tasks.metric import ratio
from tasks.registry import TASKS

WORDS = "hot cold, big small, day night, up down, rich poor, young old, white black, sweet sour"
OPPOSITES = [tuple(pair.split()) for pair in WORDS.split(", ")]


class OppositeTask(Task):
    """Name the opposite of a word: six to learn from, two to be asked for."""

    name = "opposite"
    unit = "words with an opposite"
    headline = "bits"
    judged = ("bits",)
    metrics = {
        "bits": Score(
            ratio,
            short="kilobits/word",
            long="thousand bits of the right word",
            larger_is_better=False,
            margin=0.35,
            factor=1000,
            decimals=1,
        )
    }
    preferences = {
        "right-vs-given": lambda examples, draws: [
            PreferencePair(prompt, word, " " + prompt.split()[-2]) for prompt, word in examples
        ]
    }
    free_text = False
    scored_splits = ("train", "dev")

    def __init__(self, data=None, *, limits=None):
        pass

    def examples(self, split):
        pairs = OPPOSITES[:6] if split == "train" else OPPOSITES[6:]
        return [Example(f"The opposite of {a} is", f" {b}") for a, b in pairs]

    def evaluate(self, model, tokenizer, split, *, generator):
        bits = completion_bits(model, tokenizer, self.examples(split))
        return Evaluation({"bits": self.metrics["bits"].of(np.stack([bits, bits**0], axis=1))})

    def floors(self, split, *, generator):
        return {"any word": {"bits": 40.0}}


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(TASKS, OppositeTask.name, OppositeTask)


def study(out, **options) -> HandoffGridStudy:
    """SFT for two epochs, also with LoRA, against one of it and one of DPO; three seeds."""
    return HandoffGridStudy(
        task="opposite",
        epochs=2,
        seeds=(0, 1, 2),
        switch_epochs=(1,),
        methods=("full",),
        device="cpu",
        out=out,
        **options,
    )


@pytest.fixture
def runs(registered, model, tmp_path):
    """The study's runs, done in this process: others would not know the task."""
    return [handoff.run(config) for config in study(tmp_path, model=str(model)).all_configs()]


def test_a_handoff_a_report_and_figures_of_a_task_of_ones_own(runs, model, tmp_path, capsys):
    assert len(runs) == 9
    result = [one for one in runs if one.last["phase"] == "dpo"][-1]
    assert [record["phase"] for record in result.epochs] == ["untuned", "sft", "dpo"]
    assert (result.folder / "curves.png").is_file()
    value = result.last["scores"]["bits"]["value"]
    report = (result.folder / "report.txt").read_text()
    for shown in ("kilobits/word", f"{1000 * value:.1f} [", "any word", "40000.0"):
        assert shown in report
    record = json.loads((result.folder / "run.json").read_text())
    assert record["reference"]["pairs"]["pairs"] == 6
    assert "margin_mean" not in record["reference"]["pairs"]  # the words are no free text
    assert json.loads((result.folder / "pairs.jsonl").read_text().splitlines()[0]) == {
        "prompt": "The opposite of hot is",
        "chosen": " cold",
        "rejected": " hot",
        "chosen_ends": True,
        "rejected_ends": True,
    }

    run(study(tmp_path, model=str(model)))
    folder = tmp_path / "handoff-grid-opposite"
    assert len(list(folder.rglob("epochs-bits.svg"))) == 1
    text = (folder / "report.md").read_text()
    (claim,) = [
        line for line in text.splitlines() if line.startswith("| full: SFT to epoch 1, then")
    ]
    assert "| kilobits/word |" in claim
    assert "cannot be told" in claim
    assert "differences on both sides of 350.0" in claim  # the margin
    assert "words with an opposite" in claim  # how many would tell
    assert "| floor: any word | 40000.0 |" in text
    (change,) = [
        line for line in text.splitlines() if line.startswith("| full, switch 1 | kilobits")
    ]
    cells = [float(cell.split()[0]) for cell in change.split(" | ")[2:]]
    _, before, after, missing, lead, both = cells
    assert lead == pytest.approx(before - after, abs=0.2)  # fewer bits are better
    assert both == pytest.approx(missing + lead, abs=0.2)

    capsys.readouterr()
    floors.run(floors.FloorsConfig(task="opposite"))
    assert "kilobits/word" in capsys.readouterr().out


def test_a_task_of_ones_own_has_a_plan_in_the_whole_study(registered):
    assert set(ReproduceConfig().plans) == set(TASKS) > {"paraphrase", "sonnet", "opposite"}


def test_a_judged_score_needs_a_margin(registered, monkeypatch, tmp_path):
    score = Score(ratio, short="bits", long="bits")
    monkeypatch.setattr(OppositeTask, "metrics", {"bits": score})
    with pytest.raises(InputError, match="'bits' of the task 'opposite' has no margin"):
        run(study(tmp_path))


def test_the_first_pairs_are_the_default_and_others_are_refused(registered):
    with pytest.raises(InputError, match="expected right-vs-given"):
        resolve(Config(task="opposite", pairs="gold-vs-sample"))
