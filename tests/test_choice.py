"""Choices among label words: their log-probs, scores, floors, pairs, and what is refused."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import handoff, predict
from minigpt import GPT, GPTConfig, get_tokenizer, save_pretrained
from minigpt.errors import InputError
from tasks import build_pairs, from_rows, get_task
from tasks.choice.answers import answer_logps, check_answers
from tasks.choice.floors import choice_floors, lookup
from tasks.choice.rows import Choice
from tasks.choice.scores import calibration_gaps, prediction_statistics
from tasks.choice.template import Template
from tasks.own.choice import ChoiceTask, label_words
from tasks.paraphrase.task import TEMPLATE
from tests.conftest import oracle

CASES = Path(__file__).parent / "cases"
SENTIMENT = CASES / "own-data" / "sentiment.csv"
PAIRS = CASES / "own-data" / "pairs-with-label-column.tsv"
TOKENIZER = get_tokenizer("verse")
REVIEW = "Review: {sentence}\nSentiment:"
SAME = TEMPLATE.format(first="{sentence1}", second="{sentence2}")
MOODS = {"sad": " very sad", "glad": " very glad", "so-so": " neither"}


@pytest.fixture(scope="module")
def model() -> GPT:
    """A random model whose blocks are turned up, so that the answer depends on the prompt."""
    config = GPTConfig(vocab_size=16384, n_positions=64, n_layer=2, n_head=2, n_embd=16)
    model = GPT(config, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 8
    return model


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_pretrained(model, folder, "hugging_face")
    return folder


def moods(n=30) -> list[dict]:
    return [{"text": f"The {i} of us.", "mood": [*MOODS][i % 3]} for i in range(n)]


def notes(task: ChoiceTask) -> str:
    return "; ".join(note for account in task.accounts.values() for note in account.notes)


def mood_task(rows=None, **options) -> ChoiceTask:
    options = {"template": "{text}\nIt is", "labels": MOODS, "label_column": "mood"} | options
    return from_rows("choice", moods() if rows is None else rows, **options)


def evaluate(task, model):
    return task.evaluate(model, TOKENIZER, "dev", generator=torch.Generator())


@pytest.mark.parity
def test_answer_logps_are_those_of_transformers(model, folder):
    transformers = oracle("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompts = ["Review: cold.\nSentiment:", "Review: a warm and a sharp one.\nSentiment:", "It is"]
    answers = [" no", " very good", " very bad indeed", " yes"]
    found = answer_logps(model, TOKENIZER, prompts, answers)
    for i, prompt in enumerate(map(TOKENIZER.encode, prompts)):
        for j, answer in enumerate(map(TOKENIZER.encode, answers)):
            with torch.no_grad():
                logits = theirs(torch.tensor([prompt + answer])).logits[0].log_softmax(dim=-1)
            steps = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
            expected = sum(logits[step, token].item() for step, token in zip(steps, answer))
            assert found[i, j] == pytest.approx(expected, abs=1e-4)


def test_answers_of_one_token_share_one_forward(model, monkeypatch):
    read = []
    monkeypatch.setattr(GPT, "hidden", lambda *a, real=GPT.hidden: read.append(a[1]) or real(*a))
    prompts = [f"The {i} of us is" for i in range(5)]
    answer_logps(model, TOKENIZER, prompts, [" no", " yes", " so", " not"])
    assert [len(ids) for ids in read] == [5]


def test_a_long_prompt_loses_its_beginning_for_all_answers_alike(model):
    long = "word " * 100 + "It is"
    longest = max(len(TOKENIZER.encode(word)) for word in MOODS.values())
    kept = TOKENIZER.decode(TOKENIZER.encode(long)[-(65 - longest) :])
    answers = [*MOODS.values()]
    found = answer_logps(model, TOKENIZER, [long, kept], answers)
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_macro_f1_is_scikit_learns():
    """Its rule, written out: f1_score(..., labels=all four, average="macro", zero_division=0)."""
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(3, size=(2, 50))  # the label 3 is in neither
    predicted[predicted == 2] = 0  # and 2 is never predicted
    f1 = []
    for label in range(4):
        tp = sum((truth == label) & (predicted == label))
        precision = tp / sum(predicted == label) if sum(predicted == label) else 0
        recall = tp / sum(truth == label) if sum(truth == label) else 0
        both = precision + recall
        f1.append(2 * precision * recall / both if both else 0)
    statistics = prediction_statistics(truth, predicted, 4)["macro_f1"]
    metric = ChoiceTask.metrics["macro_f1"].of(statistics)
    assert metric.value == pytest.approx(sum(f1) / 4, abs=1e-12)
    assert f1[2] == f1[3] == 0 and f1[0] > 0 < f1[1]
    assert statistics.sum(axis=1).tolist() == [1] * 50


def test_calibration_of_three_labels_is_that_of_the_predicted_one():
    logps = np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.26, 0.54]]) - 3  # not normalised
    gaps = calibration_gaps(np.array([0, 0, 2]), logps)
    metric = ChoiceTask.metrics["calibration_error"].of(gaps)
    # 0.5 and 0.54 promised for two that are right, 0.8 for one that is not.
    assert metric.value == pytest.approx((abs(0.5 + 0.54 - 2) + 0.8) / 3, abs=1e-6)


def test_evaluation_of_three_labels(model):
    task = mood_task()
    evaluation = evaluate(task, model)
    examples = task.examples("dev")
    logps = answer_logps(model, TOKENIZER, [e.prompt for e in examples], task.answers)
    assert examples[0].prompt.endswith(" of us.\nIt is")
    right = [task.answers.index(e.completion) for e in examples]
    said = logps.argmax(axis=1)
    assert evaluation.scores["accuracy"] == pytest.approx(np.mean(said == right))
    nats = [-row[answer] for row, answer in zip(logps, right)]
    assert evaluation.scores["answer_nll"] == pytest.approx(np.mean(nats))
    assert set(evaluation.metrics) == set(task.metrics)


def test_intervals_are_over_the_rows_that_share_a_text(model):
    alone, again = moods(6), [{"text": "The 1 of us.", "mood": "sad"}] * 3
    task = mood_task(moods(), dev=alone + again)
    found = evaluate(task, model)
    grouped = found.grouped(task.groups("dev"))
    assert {len(metric.statistics) for metric in grouped.values()} == {6}
    assert grouped["accuracy"].statistics.sum(axis=0)[1] == 9
    assert {len(metric.statistics) for metric in found.metrics.values()} == {9}
    assert {n: metric.value for n, metric in grouped.items()} == pytest.approx(found.scores)


def test_the_wrong_side_of_a_pair_is_the_likeliest_wrong_answer(model):
    task = mood_task()
    examples = task.examples("train")
    made = build_pairs(
        "right-vs-wrong", task, model, TOKENIZER, examples, generator=torch.Generator()
    )
    pairs = [pair for pair, _ in made]
    assert len(pairs) == len(examples)
    logps = answer_logps(model, TOKENIZER, [e.prompt for e in examples], task.answers)
    for pair, example, row in zip(pairs, examples, logps):
        assert (pair.prompt, pair.chosen) == example
        wrong = {a: logp for a, logp in zip(task.answers, row) if a != pair.chosen}
        assert pair.rejected == max(wrong, key=wrong.get)


def test_lookup_and_majority_of_three_labels():
    train = [Choice((text,), label) for text, label in zip("aaabbcdd", (2, 2, 0, 0, 1, 1, 1, 1))]
    asked = [Choice((text,), 0) for text in "ABCX"]
    assert lookup(train, asked, 3).tolist() == [2, 1, 1, 1]  # of b and x, training's commonest
    floors = choice_floors(train, train, 3)
    assert [*floors] == ["majority class", "lookup"]
    assert floors["majority class"]["accuracy"] == 4 / 8


def test_a_file_of_pairs_is_scored_as_the_paraphrase_task_scores_it(model, tmp_path):
    lines = PAIRS.read_text().splitlines()
    (tmp_path / "train.tsv").write_text("\n".join(lines[:61]))
    (tmp_path / "dev.tsv").write_text("\n".join([lines[0], *lines[61:]]))
    header = lines[0].replace("label", "is_duplicate")
    (tmp_path / "quora-train.csv").write_text("\n".join([header, *lines[1:61]]))
    (tmp_path / "quora-dev.csv").write_text("\n".join([header, *lines[61:]]))
    labels = ("0= no", "1= yes")
    choice = get_task("choice", tmp_path, template=SAME, labels=labels)
    paraphrase = get_task("paraphrase", tmp_path)
    assert [*choice.examples("train")] == paraphrase.examples("train")
    assert evaluate(choice, model).scores == evaluate(paraphrase, model).scores
    floors = choice.floors("dev", generator=np.random.default_rng(0))
    assert floors == paraphrase.floors("dev", generator=np.random.default_rng(0))
    assert [*floors] == ["majority class", "word overlap", "lookup"]


@pytest.mark.parametrize(
    "template, message",
    [
        ("Is it good?", "names no column"),
        ("Review: {text} ", "ends in a space"),
        ("Review: {} it", "no mere name of a column"),
        ("Review: {text!r} it", "no mere name of a column"),
        ("Review: {text it", "cannot be read"),
    ],
)
def test_templates_that_are_refused(template, message):
    with pytest.raises(InputError, match=message):
        Template(template)


def test_templates_as_shells_hand_them_over():
    template = Template(r"{a}\nand {b}\tor {a}, {{so}}:")
    assert template.columns == ("a", "b")
    assert template.fill(["x{b}", "y"]) == "x{b}\nand y\tor x{b}, {so}:"
    assert Template("{#1 String} or {#2 String}?").columns == ("#1 String", "#2 String")


@pytest.mark.parametrize(
    "labels, message",
    [
        ((), "0 labels leave no choice"),
        (("0= no",), "1 labels leave no choice"),
        (("0= no", "1"), "the label '1' has no word"),
        (("0= no", "1= "), "the label '1' has no word"),
        (("0= no", "0= yes"), "the label '0' has two words"),
        (("0= no", "1= no"), "two labels have the word ' no'"),
        ({1: " yes", "1": " no"}, "the label '1' has two words"),
    ],
)
def test_labels_that_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        label_words(labels)


def test_labels_are_compared_as_tables_write_them():
    assert label_words({0: " no", 1.0: r"\nyes"}) == {"0": " no", "1": "\nyes"}
    assert label_words(("0= no", "1==")) == {"0": " no", "1": "="}


def test_answers_whose_tokens_do_not_differ_are_refused():
    check_answers([" very good", " very bad"], TOKENIZER, 64)
    with pytest.raises(InputError, match="' very' .* begin those of ' very good'"):
        check_answers([" very good", " bad", " very"], TOKENIZER, 64)
    with pytest.raises(InputError, match="leave no room for a prompt in a context of 64"):
        check_answers([" no", " never" * 70], TOKENIZER, 64)


def test_prompts_that_are_cut_are_told():
    rows = [*moods(), {"text": "long " * 99, "mood": "sad"}]
    for dev, n_told in ((moods(), 0), (rows, 1)):
        task = mood_task(dev=dev)
        task.check_fit(TOKENIZER, 64)
        told = [note for note in task.accounts["rows for dev"].notes if "are cut" in note]
        assert len(told) == n_told


def test_rows_without_use_are_counted():
    rows = [
        *moods(),
        {"text": "A", "mood": "mad"},
        {"text": "B", "mood": "bad"},
        {"text": "C", "mood": "mad"},
        {"text": " ", "mood": "sad"},
        {"text": "D", "mood": None},
        {"text": "E", "mood": float("nan")},
        {"mood": "sad"},
    ]
    task = mood_task(rows, labels=MOODS | {"numb": " numb"})
    (account,) = task.accounts.values()
    assert account.used == 30 and account.rows == 37
    assert account.skipped == Counter(
        {"label without a word": 3, "no label": 2, "empty text": 1, "no text": 1}
    )
    told = "; ".join(account.notes)
    assert "labels without a word: 'mad' (2 rows), 'bad' (1 rows)" in told
    assert "no row for train has the label 'numb'" in told
    assert "label without a word: first in row 31 ('mad')" in told


def test_a_test_file_is_scored_where_some_of_its_labels_are_there(tmp_path):
    rows = [{"text": f"text {n}", "label": n % 2} for n in range(40)]
    options = {"template": "{text}", "labels": {0: " no", 1: " yes"}, "dev": 0.2}
    for beside, scored in (({"text": "x", "label": 1}, True), ({"text": "", "label": 1}, False)):
        test = [{"text": "one", "label": None}, beside]
        task = from_rows("choice", train=rows, test=test, **options)
        assert ("test" in task.scored_splits) is scored
    assert "has no labels" in task.why_not_scored("test")


def test_a_column_of_few_texts_does_not_tie_rows_where_others_are_to_group_by():
    kinds = ["common"] * 360 + [f"rare {n}" for n in range(40)]
    rows = [{"text": f"{n // 2}", "kind": k, "label": n % 2} for n, k in enumerate(kinds)]
    options = {"template": "{kind}: {text}", "labels": {0: " no", 1: " yes"}, "dev": 0.2}
    tied = from_rows("choice", rows, **options)
    assert "360 of 400 rows hang together, by texts that they share" in notes(tied)
    apart = from_rows("choice", rows, group_by="text", **options)
    assert "hang together" not in notes(apart)
    kept = {split: {row.texts[1] for row in apart.choices(split)} for split in ("train", "dev")}
    assert not kept["train"] & kept["dev"] and 20 < len(kept["dev"]) < 60  # of 200
    assert len(set(apart.groups("dev").tolist())) == len(kept["dev"])
    for wrong in (["label"], []):
        with pytest.raises(InputError, match="--group-by is (label|empty); expected columns of"):
            from_rows("choice", rows, group_by=wrong, **options)


def test_a_test_file_without_labels_is_not_scored(tmp_path):
    data = CASES / "quora-unlabelled-test"
    task = get_task(
        "choice",
        train=data / "quora-train.csv",
        dev=data / "quora-dev.csv",
        test=data / "quora-test-student.csv",
        template=SAME,
        labels=("0.0= no", "1.0= yes"),
        label_column="is_duplicate",
    )
    assert task.scored_splits == ("train", "dev")
    assert task.why_not_scored("test") == (
        "quora-test-student.csv has no labels in a column 'is_duplicate'"
    )
    with pytest.raises(InputError, match="quora-test-student.csv has the columns id, sentence1"):
        get_task(
            "choice",
            train=data / "quora-test-student.csv",
            template=SAME,
            labels=("0.0= no", "1.0= yes"),
            label_column="is_duplicate",
        )


def test_a_file_with_odd_lines_loses_only_those(model, tmp_path):
    rows = [f"The {i} of us.,{i % 2}" for i in range(300)]
    rows[10] = '"never closed,1'
    rows[20] = "too,many,fields"
    rows[30] = "no field"
    rows[40] = "long " * 400_000 + ",1"  # 2 MB
    lines = [row.encode() for row in rows]
    lines[50] = "Café,1".encode("latin-1")
    path = tmp_path / "odd.csv"
    path.write_bytes(b"text,label\n" + b"\n".join(lines))
    task = get_task("choice", path, template="{text}\nIt is", labels=("0= no", "1= yes"))
    account = task.accounts["odd.csv"]
    assert account.used == 297 and account.rows == 300
    assert account.skipped == {"wrong number of fields": 2, "not UTF-8": 1}
    told = "; ".join(account.notes)
    assert "line 12" in told and "line 22" in told and "line 52" in told
    long = max((e for split in task.scored_splits for e in task.examples(split)), key=len_of_prompt)
    assert long.prompt.startswith("long long") and len(long.prompt) > 1_900_000
    assert np.isfinite(answer_logps(model, TOKENIZER, [long.prompt], task.answers)).all()


def len_of_prompt(example) -> int:
    return len(example.prompt)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--template", REVIEW], "0 labels leave no choice"),
        (["--labels", "0= no", "1= yes"], "choice got no template"),
        (["--template", "{text}\nIt is", "--labels", "0= no", "1= yes"], "there is no text"),
        (["--template", REVIEW, "--labels", "a= no", "b= yes"], "label without a word: .*'0'"),
        (["--template", REVIEW, "--labels", "0= yes", "1= yes indeed"], "begin those of"),
    ],
)
def test_bad_options_are_one_sentence_before_anything_is_made(
    folder, tmp_path, capsys, flags, message
):
    where = ["--model", str(folder), "--out", str(tmp_path / "run"), "--data", str(SENTIMENT)]
    with pytest.raises(SystemExit) as exit:
        handoff.main(["--task", "choice", *where, *flags])
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "data, template", [(SENTIMENT, REVIEW), (PAIRS, SAME)], ids=["sentiment", "pairs"]
)
def test_a_run_from_the_command_line_and_from_rows(folder, tmp_path, data, template):
    data = Path(shutil.copy(data, tmp_path))
    words = {"0": " quite bad", "1": " good"}
    flags = ["--data", str(data), "--template", template]
    flags += ["--labels", *(f"{label}={word}" for label, word in words.items())]
    flags += ["--model", str(folder), "--epochs", "2", "--switch-epoch", "1", "--device", "cpu"]
    handoff.main(["--task", "choice", *flags, "--out", str(tmp_path / "run")])
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished" and record["accounts"]["files"][data.name]["used"] == 90
    assert (tmp_path / "run" / "curves.png").is_file()

    header, *lines = data.read_text().splitlines()
    separator = "\t" if "\t" in header else ","
    names = header.split(separator)
    rows = [dict(zip(names, line.rsplit(separator, len(names) - 1))) for line in lines]
    for row in rows:
        row["label"] = int(row["label"])
        row[names[0]] = row[names[0]].strip('"')
    task = from_rows("choice", rows, template=template, labels=words)
    config = handoff.Config(
        model=str(folder), epochs=2, switch_epoch=1, device="cpu", out=tmp_path / "rows"
    )
    result = handoff.run(config, task)
    assert result.last["scores"] == record["last"]["scores"]
    assert result.test == record["test"]
    another = from_rows("choice", rows, template=f"Well: {template}", labels=words)
    with pytest.raises(InputError, match="the task has changed since the run in"):
        handoff.run(replace(config, resume=True), another)

    asked = data.rename(tmp_path / f"asked{data.suffix}")  # nor are the rows in memory there
    found = []
    for folder in (tmp_path / "run", tmp_path / "rows"):
        predict.run(predict.PredictConfig(folder, asked, folder / "out.csv", device="cpu"))
        found.append((folder / "out.csv").read_text())
    assert found[0] == found[1] and found[0].count("\n") > 90
