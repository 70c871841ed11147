"""experiments.predict: a row for every id, in order, in the formats of CSV and of the course."""

import csv
import re
import shutil
from pathlib import Path

import pytest
import torch

from experiments import predict
from experiments.predict import PredictConfig
from experiments.run.loading import load_run
from experiments.run.record import read_record, write_record
from minigpt.errors import InputError
from tasks import get_task
from tasks.paraphrase.task import TEMPLATE
from tasks.sonnet import task as sonnet_task
from tests.conftest import CASES

UNLABELLED = CASES / "quora-unlabelled-test" / "quora-test-student.csv"
YES, NO = 3763, 645  # the tokens " yes" and " no"
OPENINGS = """The sonnets
edited by nobody

132

 Thine eyes I love,
 and they, as pitying me,
 Knowing thy heart

7
Lo, in the orient
when the gracious light

201

One line
and two
and three
and one that should have been written
"""


def predicted(run: Path, data: Path, out: Path, **options) -> list[list[str]]:
    """The rows of the CSV that the command writes, its header first."""
    predict.run(PredictConfig(run, data, out, device="cpu", **options))
    with out.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def run_of(lora_run, tmp_path):
    """The same policies, as if the run had been one of another task."""

    def make(task: str, *, told: dict | None = None, **options) -> Path:
        folder = tmp_path / (f"{task}-told" if told else task)
        shutil.copytree(lora_run, folder)
        record = read_record(folder / "run.json")
        del record["task_options"]  # as in runs of before: the run's options are asked
        record |= {"task_options": told} if told else {}
        record["config"] |= {"task": task, "data": None, "pairs": None, **options}
        write_record(folder / "run.json", record)
        return folder

    return make


@torch.no_grad()
def test_every_id_has_the_likelier_answer(lora_run, tmp_path):
    rows = predicted(lora_run, UNLABELLED, tmp_path / "out.csv", which="last")
    pairs = [line.split("\t") for line in UNLABELLED.read_text().splitlines()][1:]
    assert rows[0] == ["id", "prediction", "probability"]
    assert [row[0] for row in rows[1:]] == [pair[0] for pair in pairs] and len(pairs) == 20
    model, tokenizer, _ = load_run(lora_run, "last")
    for (_, label, probability), (_, first, second) in zip(rows[1:], pairs):
        ids = tokenizer.encode(TEMPLATE.format(first=first, second=second))
        no, yes = model(torch.tensor([ids]))[0, -1, [NO, YES]].softmax(0).tolist()
        assert label == str(int(yes > no))
        assert float(probability) == pytest.approx(max(yes, no), abs=1e-5)
    again = predicted(lora_run, UNLABELLED, tmp_path / "again.csv", which="last")
    assert again == rows


def test_the_course_reads_its_own_format(lora_run, tmp_path):
    """As its starter code writes it: `f"{id}, {token} \\n"` below the header."""
    rows = predicted(lora_run, UNLABELLED, tmp_path / "out.csv")
    predicted(lora_run, UNLABELLED, tmp_path / "course.csv", format="course")
    lines = (tmp_path / "course.csv").read_text().split("\n")
    assert lines[0] == "id \t Predicted_Is_Paraphrase " and lines[-1] == ""
    tokens = {"0": "3919", "1": "8505"}
    assert lines[1:-1] == [f"{name}, {tokens[label]} " for name, label, _ in rows[1:]]


def test_rows_that_cannot_be_read_are_told_and_keep_their_place(lora_run, tmp_path, capsys):
    data = tmp_path / "test.csv"
    sound = ["a1\tWhy?\tHow?", "a2\t\tHow?", "a3\tWhy? \tWhy  not?", "a4\tWhy?", "", "a5\tx\ty"]
    data.write_text("\n".join(["id\tsentence1\tsentence2", *sound]))
    rows = predicted(lora_run, data, tmp_path / "out.csv")[1:]
    assert [row[0] for row in rows] == ["a1", "a2", "a3", "a5"]
    assert [bool(row[1]) for row in rows] == [True, False, True, True]
    shown = capsys.readouterr().out
    assert "wrong number of fields: first in line 5" in shown
    assert "empty question: first in line 3" in shown and "blank line" in shown
    assert "3 predictions for 4 ids" in shown
    assert "left empty, as they cannot be read: a2" in shown
    predicted(lora_run, data, tmp_path / "course.csv", format="course")
    assert "a2" not in (tmp_path / "course.csv").read_text()
    assert "left out, as they cannot be read: a2" in capsys.readouterr().out


def test_sonnets_are_written_for_their_first_lines(run_of, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sonnet_task, "MAX_NEW_TOKENS", 16)  # an untrained model ends no line
    (tmp_path / "held_out.txt").write_text(OPENINGS)
    run = run_of("sonnet")
    rows = predicted(run, tmp_path / "held_out.txt", tmp_path / "out.csv", seed=3)
    assert rows[0] == ["id", "text"] and [row[0] for row in rows[1:]] == ["132", "7", "201"]
    begins = ["Thine eyes I love,\nand they, as pitying me,\nKnowing thy heart\n"]
    begins += ["Lo, in the orient\nwhen the gracious light\n", "One line\nand two\nand three\n"]
    for (_, text), begin in zip(rows[1:], begins):
        assert text.startswith(begin) and len(text) > len(begin) and "should" not in text
    shown = capsys.readouterr().out
    assert "sonnet 201 has more than 3 lines" in shown and "sonnet 7 has fewer" in shown
    predicted(run, tmp_path / "held_out.txt", tmp_path / "out.txt", seed=3, format="course")
    text = (tmp_path / "out.txt").read_text()
    assert text.startswith("--Generated Sonnets-- \n\n\n132\nThine eyes") and text.endswith("\n\n")
    read = re.split(r"\n\s*\d+\s*\n", text)[1:]  # as the course's SonnetsDataset does
    assert [sonnet.strip() for sonnet in read] == [row[1].strip() for row in rows[1:]]


def test_a_choice_of_ones_own_answers_in_its_own_labels(run_of, tmp_path):
    options = {"template": "{sentence} It was", "labels": ["sad= bad", "glad= good"]}
    train, data = tmp_path / "train.csv", tmp_path / "asked.jsonl"
    labels = ("sad", "glad")
    rows = "".join(f"Scene {n},{labels[n % 2]}\n" for n in range(40))
    train.write_text(f"sentence,label\n{rows}")
    lines = ('{"id": 7, "sentence": "Oh."}', "no row", '{"sentence": "Ah."}', '{"id": 9}')
    data.write_text("\n".join(lines))
    rows = predicted(run_of("choice", data=str(train), **options), data, tmp_path / "out.csv")
    assert [row[0] for row in rows[1:]] == ["7", "3", "9"]  # the third line's number
    assert {row[1] for row in rows[1:3]} <= {"sad", "glad"} and rows[3] == ["9", "", ""]
    # A notebook's run, whose rows were in memory and are gone.
    handed = get_task("choice", train=train, **options).options()
    train.unlink()
    assert predicted(run_of("choice", told=handed), data, tmp_path / "told.csv") == rows
    other = handed | {"labels": {"sad": " glad", "glad": " sad"}}
    run = tmp_path / "choice-told"
    record = read_record(run / "run.json")
    write_record(run / "run.json", record | {"task_options": other})
    assert predicted(run, data, tmp_path / "other.csv") != rows


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"run": "nowhere"}, "there is no run in nowhere"),
        ({"data": "nowhere.csv"}, "there is no file nowhere.csv"),
        ({"out": "here.csv"}, "is there already; expected the name of a new file"),
        ({"out": "none/out.csv"}, "there is no folder none"),
        ({"seed": "-1"}, "--seed is -1"),
        ({"device": "abacus"}, "cannot be used"),
        ({"data": "empty.csv"}, "has no row to predict"),
        ({"data": "other.csv"}, "no columns question1 and question2 or sentence1 and sentence2"),
    ],
)
def test_what_cannot_be_predicted_is_refused(
    options, sentence, lora_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("here.csv").write_text("mine")
    Path("empty.csv").write_text("id\tsentence1\tsentence2\n")
    Path("other.csv").write_text("id\tx\ty\n1\ta\tb\n")
    options = {"run": lora_run, "data": UNLABELLED, "out": "out.csv", "device": "cpu", **options}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with pytest.raises(SystemExit) as exit:
        predict.main(arguments)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert not Path("out.csv").exists() and Path("here.csv").read_text() == "mine"


def test_a_task_without_predictions_and_a_format_that_there_is_not(run_of, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    row = '{"prompt": "a%d", "chosen": "b%d", "rejected": "c"}\n'
    pairs.write_text("".join(row % (n, n) for n in range(40)))
    run = run_of("preference", data=str(pairs))
    with pytest.raises(InputError, match="the task 'preference' has no predictions in the form"):
        predicted(run, UNLABELLED, tmp_path / "out.csv")
    with pytest.raises(InputError, match="no predictions in the format course; expected csv"):
        predicted(run_of("choice"), UNLABELLED, tmp_path / "out.csv", format="course")
    assert not (tmp_path / "out.csv").exists()
