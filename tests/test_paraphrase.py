"""The paraphrase task: files good and bad, the splits, and the scores against plain arithmetic."""

import copy
import csv
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from experiments import floors as floors_command
from experiments.run.bootstrap import bootstrap_interval
from experiments.run.evaluation import load_statistics, score, statistics_path
from experiments.run.hashed_tensors import load_hashed, save_hashed
from experiments.run.seeds import numpy_generator
from minigpt import GPT, GPTConfig, get_tokenizer
from minigpt.errors import InputError
from tasks import get_task
from tasks.choice.answers import answer_logps
from tasks.choice.floors import lookup
from tasks.choice.rows import Choice
from tasks.choice.scores import calibration_gaps
from tasks.paraphrase import quora
from tasks.paraphrase.leak import Leak, leak
from tasks.paraphrase.quora import COURSE_FILES, OFFICIAL_FILE, QuestionPair
from tasks.paraphrase.task import NO, TEMPLATE, YES, ParaphraseTask

TOKENIZER = get_tokenizer("verse")
COURSE_HEADER = ["id", "sentence1", "sentence2", "is_duplicate"]
OFFICIAL_HEADER = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]


def write_table(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([header, *rows])


def write_course(folder, n=40):
    for split, name in COURSE_FILES.items():
        rows = [
            [f"q{i}", f"What is {split} {i}?", f"What is {split} {i // 2 * 2}?", int(i % 3 > 0)]
            for i in range(n)
        ]
        labelled = split != "test"
        write_table(
            folder / name, COURSE_HEADER[: 3 + labelled], [row[: 3 + labelled] for row in rows]
        )


def write_official(path, n=2000, order=1):
    rows = [
        [i, 2 * i, 2 * i + 1, f"Question {i}?", f"Other question {i}?", int(i % 3 == 0)]
        for i in range(n)
    ]
    write_table(path, OFFICIAL_HEADER, rows[::order])


def tiny_gpt(scale: float = 10.0) -> GPT:
    """A random model; its blocks are turned up so that the answer depends on the questions."""
    config = GPTConfig(vocab_size=16384, n_positions=48, n_layer=1, n_head=2, n_embd=16)
    model = GPT(config, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.wte.weight *= scale
        for parameter in model.h.parameters():
            parameter *= scale
    return model


def evaluate(task, model):
    return task.evaluate(model, TOKENIZER, "dev", generator=torch.Generator())


@pytest.mark.parametrize("name", ["gpt2", "verse"])
def test_answers_are_single_tokens(name):
    tokenizer = get_tokenizer(name)
    assert (tokenizer.encode(YES), tokenizer.encode(NO)) == ([3763], [645])
    assert TEMPLATE.rstrip() == TEMPLATE


def test_the_courses_files(tmp_path):
    write_course(tmp_path)
    task = get_task("paraphrase", str(tmp_path))
    train, dev = task.examples("train"), task.examples("dev")
    assert len(train) == len(dev) == 40
    assert train[3] == (
        "Question 1: What is train 3?\nQuestion 2: What is train 2?\n"
        "Are these questions asking the same thing?",
        " no",
    )
    assert train[4].completion == " yes"
    assert {n: a.skipped for n, a in task.accounts.items()} == {
        "quora-train.csv": {},
        "quora-dev.csv": {},
    }
    with pytest.raises(InputError, match="quora-test-student.csv, line 1.*no column is_duplicate"):
        task.examples("test")


def test_rows_that_cannot_be_used_are_counted(tmp_path):
    (tmp_path / "quora-train.csv").write_text(
        "id\tsentence1\tsentence2\tis_duplicate\n"
        '1\t"What is ""it""?"\tWhy  not\u00a0now?\t1.0\n'
        '2\t"Two\nlines?"\tOne line?\t0\n'
        "3\tNo label?\tNone at all?\t\n"
        "4\tOdd label?\tIs it?\t2\n"
        "5\tOnly one question?\n"
        "6\t \tEmpty?\t0\n"
        "7\tOne field\ttoo many\t0\t0\n"
        '8\t"Never closed?\tWhy?\t0\n'
        "9\tSwallowed?\tYes?\t0\n"
        '10\tClosed"\tHere\t1\n'
        "11\tThe end?\tIs it?\t0\n",
        encoding="utf-8-sig",
    )
    task = get_task("paraphrase", tmp_path)
    assert task.pairs("train") == [
        ('What is "it"?', "Why not now?", True),
        ("Two lines?", "One line?", False),
        ('"Never closed?', "Why?", False),  # a character, as it would swallow two rows
        ("Swallowed?", "Yes?", False),
        ('Closed"', "Here", True),
        ("The end?", "Is it?", False),
    ]
    account = task.accounts["quora-train.csv"]
    assert account.used == 6 and account.rows == 11
    assert account.skipped == {
        "no label": 1,
        "label is not 0 or 1": 1,
        "wrong number of fields": 2,
        "empty question": 1,
    }
    (note,) = account.notes
    assert note.startswith("a double quote that opens") and note.endswith("line 10")


def test_the_official_release_is_split_by_its_text(tmp_path):
    write_official(tmp_path / OFFICIAL_FILE)
    task = get_task("paraphrase", tmp_path)
    splits = {split: set(task.pairs(split)) for split in ("train", "dev", "test")}
    assert sum(map(len, splits.values())) == 2000 == len(set.union(*splits.values()))
    assert 60 < len(splits["dev"]) < 140 and 60 < len(splits["test"]) < 140

    backwards = tmp_path / "renamed.tsv"  # a file may have any name, and its rows any order
    write_official(backwards, order=-1)
    again = get_task("paraphrase", backwards)
    assert {split: set(again.pairs(split)) for split in splits} == splits
    pair = task.pairs("dev")[0]
    assert pair._replace(first=pair.second, second=pair.first).split == "dev"


def test_one_file_of_the_course_is_split_too(tmp_path):
    write_course(tmp_path, n=1000)
    task = get_task("paraphrase", tmp_path / "quora-train.csv")
    train, dev = set(task.pairs("train")), set(task.pairs("dev"))
    assert train and dev and not train & dev


def test_limits_keep_the_same_pairs_in_every_run(tmp_path):
    write_course(tmp_path)

    def train(limit):
        return get_task("paraphrase", tmp_path, limits={"train": limit}).pairs("train")

    assert len(train(10)) == 10
    assert train(20)[:10] == train(10)
    assert sorted(train(1000)) == sorted(train(None))
    assert train(10) != train(None)[:10]


def test_data_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="nowhere holds no question pairs; expected quora"):
        get_task("paraphrase", tmp_path / "nowhere").examples("train")
    (tmp_path / "quora-dev.csv").touch()
    with pytest.raises(InputError, match="cannot read .*quora-train.csv"):
        get_task("paraphrase", tmp_path).examples("train")


def test_a_file_too_small_to_be_split(tmp_path):
    write_official(tmp_path / "few.tsv", n=2)
    task = get_task("paraphrase", tmp_path / "few.tsv")
    assert len(task.pairs("train")) == 2
    with pytest.raises(InputError, match="few.tsv has no pairs for the split 'dev'"):
        task.examples("dev")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "line 1: the columns are none at all; expected question1"),
        (b"id,sentence1,sentence2,is_duplicate\n", "line 1: the columns are id,sentence1"),
        (b"id\tsentence1\tis_duplicate\n1\ta\t0\n", "expected question1, question2 or sentence1"),
        (b"id\tsentence1\tsentence2\tis_duplicate\n", "holds no usable pair"),
        (b"id\tsentence1\tsentence2\tis_duplicate\n1\ta\t\xe9\t0\n", "line 2: byte 0xe9"),
        (
            b'id\tsentence1\tsentence2\tis_duplicate\n1\t"' + b"a\n" * 100_000,
            "no usable pair in 100,000 rows",
        ),
    ],
)
def test_malformed_files(tmp_path, content, message):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        get_task("paraphrase", path).examples("train")
    assert str(path) in str(error.value)


def test_without_data_the_papers_split_is_fetched_once(tmp_path, monkeypatch, downloads):
    write_course(tmp_path)

    class Quiet(SimpleHTTPRequestHandler):
        asked = []

        def log_message(self, *args):
            self.asked.append(self.path)

    content = (tmp_path / "quora-dev.csv").read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(quora, "ADDRESS", address)
        monkeypatch.setitem(quora.GIT_BLOB_SHA1, "dev", blob)
        monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "cache"))
        pairs = get_task("paraphrase").pairs("dev")
        assert pairs == get_task("paraphrase", tmp_path).pairs("dev")
        assert get_task("paraphrase").pairs("dev") == pairs
        server.shutdown()
    assert Quiet.asked == ["/quora-dev.csv"]
    assert (tmp_path / "cache" / "quora" / "quora-dev.csv").read_bytes() == content


def test_answer_logps_equal_the_naive_computation(tmp_path):
    write_course(tmp_path, n=70)  # more than one batch
    task, model = get_task("paraphrase", tmp_path), tiny_gpt()
    prompts = [prompt for prompt, _ in task.examples("dev")]
    found = answer_logps(model, TOKENIZER, prompts, (YES, NO))
    assert found.shape == (70, 2)
    for prompt, logps in list(zip(prompts, found))[::9]:
        with torch.no_grad():
            logits = model(torch.tensor([TOKENIZER.encode(prompt)]))[0, -1]
        expected = torch.log_softmax(logits, dim=-1)[[3763, 645]]
        assert logps == pytest.approx(expected.numpy(), rel=1e-4)


def test_evaluation(tmp_path):
    write_course(tmp_path)
    task, model = get_task("paraphrase", tmp_path), tiny_gpt()
    evaluation = evaluate(task, model)
    examples = task.examples("dev")
    logps = answer_logps(model, TOKENIZER, [prompt for prompt, _ in examples], (YES, NO))
    said_yes = [bool(yes > no) for yes, no in logps]
    is_yes = [completion == YES for _, completion in examples]
    assert len(set(said_yes)) == 2  # else the test shows little

    right = sum(a == b for a, b in zip(said_yes, is_yes))
    assert evaluation.scores["accuracy"] == right / 40
    f1 = []
    for answer in (True, False):
        hits = sum(a == b == answer for a, b in zip(said_yes, is_yes))
        precision, recall = hits / said_yes.count(answer), hits / is_yes.count(answer)
        f1.append(2 * precision * recall / (precision + recall))
    assert evaluation.scores["macro_f1"] == pytest.approx(sum(f1) / 2)
    nats = [-pair[0] if yes else -pair[1] for pair, yes in zip(logps, is_yes)]
    assert evaluation.scores["answer_nll"] == pytest.approx(np.mean(nats))
    assert not evaluation.metrics["answer_nll"].larger_is_better
    assert evaluation.metrics[task.headline].larger_is_better
    assert {len(metric.statistics) for metric in evaluation.metrics.values()} == {40}

    yes = [1 / (1 + np.exp(no - yes)) for yes, no in logps.astype(float)]
    error = 0
    for low in range(10):
        inside = [i for i, p in enumerate(yes) if low <= 10 * p < low + 1 or (p == 1 and low == 9)]
        if inside:
            gap = np.mean([yes[i] for i in inside]) - np.mean([is_yes[i] for i in inside])
            error += len(inside) / 40 * abs(gap)
    assert evaluation.scores["calibration_error"] == pytest.approx(error, abs=1e-6)
    assert not evaluation.metrics["calibration_error"].larger_is_better
    assert evaluation.samples[0].endswith(f"answer: no, predicted:{YES if said_yes[0] else NO}")


def test_the_scores_are_those_that_earlier_runs_recorded(tmp_path):
    """As computed by the first version, whose runs are read and compared with newer ones."""
    write_course(tmp_path)
    metrics = evaluate(get_task("paraphrase", tmp_path), tiny_gpt()).metrics
    values = {name: metric.value for name, metric in metrics.items()}
    assert values == {
        "accuracy": 0.6,
        "accuracy_unseen": 0.6,  # newer, as the next: all of these pairs are unseen
        "macro_f1": 0.49843260188087773,
        "macro_f1_unseen": 0.49843260188087773,
        "answer_nll": pytest.approx(10.00543782711029, rel=1e-5),
        "calibration_error": pytest.approx(0.1509232372045517, rel=1e-4),
    }
    sums = {name: metric.statistics.sum(axis=0) for name, metric in metrics.items()}
    assert sums["accuracy"].tolist() == [24, 40]
    assert sums["macro_f1"].tolist() == [21, 11, 5, 3]  # tp, fp, fn, tn
    bins = [0, 0, 0.279925, -2.218, -0.016818, -2.842938, 0.679248, 0, 0, 0, 40]
    assert sums["calibration_error"] == pytest.approx(bins, abs=1e-4)


def test_the_metrics_are_made_again_from_their_addends(tmp_path):
    write_course(tmp_path)
    task = get_task("paraphrase", tmp_path)
    metrics = evaluate(task, tiny_gpt()).metrics
    assert set(metrics) == set(task.metrics)
    for name, metric in metrics.items():
        assert task.metrics[name].of(metric.statistics).value == metric.value
        assert metric.statistics.itemsize <= 4  # there are 20,000 pairs
    assert not np.shares_memory(metrics["accuracy"].statistics, metrics["macro_f1"].statistics)


def test_calibration_by_hand():
    """Three pairs promised 0.62 of which two hold, one promised 1 that does not."""
    duplicate = np.array([1, 1, 0, 0])
    logps = np.log(np.array([[0.38, 0.62]] * 3 + [[1e-30, 1.0]]))
    metric = ParaphraseTask.metrics["calibration_error"].of(calibration_gaps(duplicate, logps))
    expected = 3 / 4 * abs(0.62 - 2 / 3) + 1 / 4 * 1
    assert metric.value == pytest.approx(expected, abs=1e-6)


def test_options_of_other_tasks_are_refused():
    with pytest.raises(InputError, match="no option 'n_samples'; expected one of fold"):
        get_task("paraphrase", n_samples=4)
    get_task("paraphrase", n_samples=None, temperature=None)
    assert get_task("paraphrase").ceilings("dev") == {}


def test_a_tie_is_a_no(tmp_path):
    write_course(tmp_path)
    evaluation = evaluate(get_task("paraphrase", tmp_path), tiny_gpt(scale=0.0))
    assert evaluation.scores["accuracy"] == 14 / 40  # 14 of the 40 labels are 0
    assert evaluation.scores["macro_f1"] == pytest.approx(2 * 14 / (2 * 14 + 26) / 2)
    assert evaluation.scores["answer_nll"] == pytest.approx(np.log(16384), rel=1e-6)


def test_a_bootstrap_can_score_many_sums_at_once(tmp_path):
    write_course(tmp_path)
    for metric in evaluate(get_task("paraphrase", tmp_path), tiny_gpt()).metrics.values():
        rows = np.random.default_rng(0).integers(40, size=(5, 40))
        sums = metric.statistics[rows].sum(axis=1)  # (5, K)
        assert metric.score(sums) == pytest.approx([float(metric.score(s)) for s in sums])


def test_floors(tmp_path):
    words = [
        ("a b c d", "a b c d", 1),
        ("a b c d", "A, b c?", 1),
        ("a b", "c d", 0),
        ("a b", "a c", 0),
        ("a b", "d", 0),
        ("a b c", "a b d", 0),
    ]
    for name in ("quora-train.csv", "quora-dev.csv"):
        write_table(tmp_path / name, COURSE_HEADER, [[i, *row] for i, row in enumerate(words)])
    floors = get_task("paraphrase", tmp_path).floors("dev", generator=np.random.default_rng(0))
    assert floors["majority class"] == {"accuracy": 4 / 6, "macro_f1": pytest.approx(0.4)}
    assert floors["word overlap"] == {"accuracy": 1.0, "macro_f1": 1.0}
    assert [*floors] == ["majority class", "word overlap", "lookup"]


def test_the_word_overlap_threshold_is_the_best(tmp_path):
    generator = np.random.default_rng(0)
    rows = [
        [
            i,
            *(" ".join(generator.choice(list("abcdef"), 4)) for _ in range(2)),
            generator.integers(2),
        ]
        for i in range(60)
    ]
    for name in ("quora-train.csv", "quora-dev.csv"):
        write_table(tmp_path / name, COURSE_HEADER, rows)

    def overlap(row):
        first, second = set(row[1].split()), set(row[2].split())
        return len(first & second) / len(first | second)

    accuracies = [
        np.mean([(overlap(row) >= threshold) == row[3] for row in rows])
        for threshold in map(overlap, rows)
    ]
    floors = get_task("paraphrase", tmp_path).floors("dev", generator=generator)
    assert floors["word overlap"]["accuracy"] == max(accuracies)


TRAIN = [
    QuestionPair("What is A?", "What is B?", True),
    QuestionPair("what is a", "What is C?", True),
    QuestionPair("What is D?", "What is E?", False),
    QuestionPair("What is D?", "What is F?", False),
    QuestionPair("What is G?", "What is H?", False),
]


def choices(pairs):
    return [Choice((pair.first, pair.second), int(pair.duplicate)) for pair in pairs]


def looked_up(train, pairs):
    return lookup(choices(train), choices(pairs), n_labels=2)


@pytest.mark.parametrize(
    "first, second, answer",
    [
        ("What is A?", "Who is new?", True),  # two training pairs, both duplicates
        ("Who is new?", "WHAT is, a?", True),  # case and punctuation aside
        ("What is D?", "Who is new?", False),
        ("What is A?", "What is D?", False),  # two against two: the commoner label of training
        ("What is A?", "What is E?", True),  # two duplicates against one other
        ("Who is new?", "Who is old?", False),
        ("A is what?", "Who is new?", False),  # the same words in another order are unseen
    ],
)
def test_lookup_by_hand(first, second, answer):
    assert looked_up(TRAIN, [QuestionPair(first, second, True)]).tolist() == [answer]


def random_pairs(n, seed):
    generator = np.random.default_rng(seed)
    return [
        QuestionPair(f"q{a}?", f"q{b}?", bool(label))
        for a, b, label in zip(*generator.integers(40, size=(2, n)), generator.integers(2, size=n))
    ]


def test_lookup_and_leak_follow_their_definitions():
    train, pairs = random_pairs(30, seed=0), random_pairs(200, seed=1)
    train = [pair for pair in train if pair.first != pair.second]
    majority = sum(pair.duplicate for pair in train) > len(train) / 2
    expected, seen = [], []
    for pair in pairs:
        labels = [t.duplicate for question in pair[:2] for t in train if question in t[:2]]
        yes = sum(labels)
        expected.append(majority if 2 * yes == len(labels) else 2 * yes > len(labels))
        seen.append(sum(any(question in t[:2] for t in train) for question in pair[:2]))
    assert looked_up(train, pairs).tolist() == expected and len(set(seen)) == 3
    both = [pair.duplicate for pair, n in zip(pairs, seen) if n == 2]
    assert leak(train, pairs) == Leak(200, sum(n > 0 for n in seen), len(both), sum(both))


def test_lookup_never_compares_the_questions():
    """Which question stands first changes nothing, nor does what an unseen question says."""
    train, pairs = random_pairs(30, seed=0), random_pairs(200, seed=1)
    turned = [QuestionPair(pair.second, pair.first, pair.duplicate) for pair in pairs]
    assert (looked_up(train, turned) == looked_up(train, pairs)).all()
    alone = [pair._replace(second="Never seen?") for pair in pairs]
    alike = [pair._replace(second=f"{pair.first} Never seen?") for pair in pairs]
    assert (looked_up(train, alone) == looked_up(train, alike)).all()


def test_the_floors_command_counts_the_leak(tmp_path, capsys):
    for name in ("quora-train.csv", "quora-dev.csv"):
        rows = [[i, pair.first, pair.second, int(pair.duplicate)] for i, pair in enumerate(TRAIN)]
        write_table(tmp_path / name, COURSE_HEADER, rows)
    rows = floors_command.run(floors_command.FloorsConfig(task="paraphrase", data=tmp_path))
    assert rows["lookup"] == {"accuracy": 1.0, "macro_f1": 1.0}  # it has seen every pair
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("leak")]
    assert line == (
        "leak       of 5 pairs 100.0 % have a question seen in training and 100.0 % have both; "
        "40.0 % of the latter are duplicates (dev)"
    )
    floors_command.run(
        floors_command.FloorsConfig(task="paraphrase", data=tmp_path, train_examples=1)
    )
    assert "\nleak       of 5 pairs" in capsys.readouterr().out


def write_half_seen(folder, n=40):
    """Dev pairs whose first half has a question of training; every third shares one with another.

    So there are pairs seen, pairs that only another dev pair ties to training, and pairs alone.
    """
    write_course(folder, n)
    train = get_task("paraphrase", folder).pairs("train")
    generator = np.random.default_rng(0)
    rows = []
    for i in range(n):
        first = train[i].first.upper() if i < n // 2 else f"What is {i}?"
        second = f"And {i // 3}?" if i % 3 else f"Or {i}?"
        rows.append([i, first, second, generator.integers(2)])
    write_table(folder / "quora-dev.csv", COURSE_HEADER, rows)
    return get_task("paraphrase", folder)


def test_unseen_pairs_are_scored_apart(tmp_path):
    task, model = write_half_seen(tmp_path), tiny_gpt()
    assert task.unseen("dev").tolist() == 20 * [False] + 20 * [True]
    both = evaluate(task, model)
    new = copy.copy(task)
    new._pairs = {**task._pairs, "dev": task.pairs("dev")[20:]}
    new._groups, new._unseen = {}, {}  # which are kept, as those of the pairs
    alone = evaluate(new, model)
    for name in ("accuracy", "macro_f1"):
        assert both.scores[f"{name}_unseen"] == pytest.approx(alone.scores[name])
        assert both.scores[name] != both.scores[f"{name}_unseen"]
        assert len(both.metrics[f"{name}_unseen"].statistics) == 40
    found, alone = (t.floors("dev", generator=np.random.default_rng(0)) for t in (task, new))
    for floor, scores in alone.items():
        for name in ("accuracy", "macro_f1"):
            assert found[floor][f"{name}_unseen"] == scores[name]
    assert found["lookup"] != found["majority class"] and alone["lookup"] == alone["majority class"]


def test_nothing_is_said_of_unseen_pairs_where_all_are_seen(tmp_path):
    write_course(tmp_path)
    (tmp_path / "quora-dev.csv").write_bytes((tmp_path / "quora-train.csv").read_bytes())
    task = get_task("paraphrase", tmp_path)
    scored = {"accuracy", "macro_f1", "answer_nll", "calibration_error"}
    assert set(evaluate(task, tiny_gpt()).metrics) == scored
    floors = task.floors("dev", generator=np.random.default_rng(0))
    assert {name for floor in floors.values() for name in floor} == {"accuracy", "macro_f1"}


def test_intervals_are_over_pairs_that_questions_tie_together_and_files_over_pairs(tmp_path):
    task = write_half_seen(tmp_path)
    groups = task.groups("dev")
    assert len(set(groups.tolist())) == 27  # of 40 pairs, 26 share a question with another
    options = {"seed": 0, "precision": "fp32", "folder": tmp_path / "run", "epoch": 1}
    recorded = score(tiny_gpt(), task, "dev", **options)["scores"]
    path = statistics_path(tmp_path / "run", "dev", 1)
    kept, read = load_hashed(path), load_statistics(path, task)
    assert {len(addends) for addends in kept.values()} == {40}
    assert {len(metric.statistics) for metric in read.values()} == {27}
    for name, metric in evaluate(task, tiny_gpt()).metrics.items():
        assert recorded[name]["value"] == metric.value == pytest.approx(read[name].value)
        interval = bootstrap_interval(metric.grouped(groups), numpy_generator(0, "bootstrap"))
        assert recorded[name]["interval"] == [*interval]
        assert read[name].statistics == pytest.approx(metric.grouped(groups).statistics)
    save_hashed(path, {**kept, "groups": kept["groups"][1:]}, {})
