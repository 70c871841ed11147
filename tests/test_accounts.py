"""Every row of every file is accounted for, before anything is trained."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest

from experiments import floors, handoff
from experiments.run import training_run
from experiments.run.config import make_config
from experiments.run.reading import account_for, account_lines
from minigpt import get_tokenizer
from minigpt.errors import InputError
from tasks import get_task
from tasks.paraphrase.quora import OFFICIAL_FILE, read_pairs
from tasks.sonnet.shakespeare import read_sonnets
from tasks.table import read_table
from tests.conftest import oracle

CASES = Path(__file__).parent / "cases"
HEADER = "id\tsentence1\tsentence2\tis_duplicate\n"


def accounted(name: str, data: Path, **options) -> tuple[dict, str]:
    """What is recorded of a task's files, and what is printed of them."""
    account = account_for(get_task(name, data, **options))
    json.dumps(account)
    return account, "\n".join(account_lines(account))


def read(tmp_path, text: str):
    path = tmp_path / "pairs.tsv"
    path.write_bytes((HEADER + text).encode())
    return read_pairs(path)


def test_half_of_dev_unlabelled_is_told():
    account, printed = accounted("paraphrase", CASES / "quora-dev-half-unlabelled")
    assert account["examples"] == {"train": 80, "dev": 30}
    assert account["files"]["quora-dev.csv"]["skipped"] == {"no label": 30}
    assert "quora-dev.csv: 30 of 60 rows are used" in printed
    assert "30 rows of quora-dev.csv: no label" in printed


def test_the_unlabelled_test_set_is_told_and_never_scored():
    account, printed = accounted("paraphrase", CASES / "quora-unlabelled-test")
    assert account["examples"] == {"train": 80, "dev": 30}
    (line,) = [line for line in printed.splitlines() if line.startswith("not scored")]
    assert "test: the course keeps the answers" in line and "quora-test-student.csv" in line


def test_questions_in_hindi_are_read_as_they_are():
    account, _ = accounted("paraphrase", CASES / "quora-hindi")
    assert account["examples"] == {"train": 40, "dev": 12}
    (pair, *_) = get_task("paraphrase", CASES / "quora-hindi").pairs("dev")
    assert pair.first == "मैं 0 मिनट में चाय कैसे बनाऊँ?"


def test_a_stray_quote_costs_no_row():
    path = CASES / "quora-one-stray-quote" / OFFICIAL_FILE
    pairs, account = read_pairs(path)
    assert len(pairs) == account.used == account.rows == 120
    assert pairs[40].first == '"How do I store bread?'
    (note,) = account.notes
    assert "line 42" in note
    # The oracle for a file without quoted fields: tabs alone.
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    assert [pair.first for pair in pairs] == [line.split("\t")[3] for line in lines]
    with pytest.raises(InputError, match="no pairs for the split 'dev' .120 pairs in .*line 42"):
        account_for(get_task("paraphrase", path))


def test_how_one_file_is_split_is_one_line_of_the_plan(tmp_path):
    rows = "".join(f"{i}\tWhat is {i}?\tWho is {i}?\t{i % 2}\n" for i in range(300))
    (tmp_path / "pairs.tsv").write_text(HEADER + rows)
    account, printed = accounted("paraphrase", tmp_path / "pairs.tsv")
    assert sum(account["examples"].values()) == 300 and len(account["examples"]) == 3
    (line,) = [line for line in printed.splitlines() if line.startswith("splits")]
    assert "5 % are dev, 5 % test, 90 % train" in line


def test_a_stray_quote_in_a_large_file_is_named_where_it_opens(tmp_path):
    rows = [f"{i}\tWhat is {i}?\tWho is {i}?\t{i % 2}\n" for i in range(5000)]
    rows[39] = '39\t"What is it?\tWho is?\t1\n'
    rows[1011] = '1011\t"What is ""it""?"\t"Two\nlines?"\t0\n'
    rows[4000] = '4000\tA "quoted" word?\tAnd " one?\t0\n'
    pairs, account = read(tmp_path, "".join(rows))
    assert len(pairs) == account.rows == 5000
    assert account.notes[0].endswith("line 41")
    assert pairs[39] == ('"What is it?', "Who is?", True)
    assert pairs[1011] == ('What is "it"?', "Two lines?", False)
    assert pairs[4000] == ('A "quoted" word?', 'And " one?', False)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_sound_tables_are_read_as_by_csv(end):
    fields = [
        "",
        "plain",
        'a "quoted" word',
        '"begins so',
        "two\nlines",
        'ends so"',
        '"',
        "a\rb",
        '""',
    ]
    rows = [[a, b, "0"] for a in fields for b in fields]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="\t", lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    found = list(read_table(text.getvalue()))
    assert [row.fields for row in found] == rows
    assert not any(row.stray_quotes for row in found)
    again = csv.reader(io.StringIO(text.getvalue(), newline=""), delimiter="\t")
    assert [row.fields for row in found] == list(again)


@pytest.mark.parity
def test_sound_tables_are_read_as_by_pandas(tmp_path):
    pandas = oracle("pandas")
    text = '1\t"Is ""it""\nso?"\tWhy "not"?\t0\n2\tकैसे?\tb\t1\n'
    pairs, _ = read(tmp_path, text)
    frame = pandas.read_csv(tmp_path / "pairs.tsv", sep="\t", on_bad_lines="error")
    expected = zip(frame.sentence1, frame.sentence2, frame.is_duplicate)
    assert pairs == [(" ".join(a.split()), b, bool(label)) for a, b, label in expected]


def test_odd_rows_are_counted_and_the_others_kept(tmp_path):
    text = "1\ta\tb\t0.0\n\n2\tc\td\t 1 \n" + HEADER + "3\te\tf\tyes\n4\tg\th\t1.0"
    path = tmp_path / "pairs.tsv"
    for end in ("\n", "\r\n"):
        for encoding in ("utf-8", "utf-8-sig"):
            path.write_bytes((HEADER + text).replace("\n", end).encode(encoding))
            pairs, account = read_pairs(path)
            assert pairs == [("a", "b", False), ("c", "d", True), ("g", "h", True)]
            expected = {"blank line": 1, "header again": 1, "label is not 0 or 1": 1}
            assert account.skipped == expected
            assert account.used == 3 and account.rows == 6


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tis_duplicate\tis_duplicate\na\tb\t0\t1\n")
    with pytest.raises(InputError, match="2 columns are called is_duplicate; expected one"):
        read_pairs(path)


def test_rows_beyond_a_limit_are_told():
    limits = {"train": 10, "dev": 100}
    account, _ = accounted("paraphrase", CASES / "quora-hindi", limits=limits)
    assert account["examples"] == {"train": 10, "dev": 12}
    assert account["files"]["quora-train.csv"]["skipped"] == {"over the limit of 10 for train": 30}
    account, _ = accounted("sonnet", None, limits={"train": 10, "test": 1})
    assert account["examples"] == {"train": 10, "dev": 12, "test": 1}
    (file,) = account["files"].values()
    assert (file["rows"], file["used"]) == (154, 23)


def test_the_packaged_sonnets_have_nothing_to_tell():
    account, printed = accounted("sonnet", None)
    assert account["examples"] == {"train": 131, "dev": 12, "test": 11}
    assert "skipped" not in printed and "note" not in printed
    assert "sonnets.txt: 154 of 154 sonnets are used" in printed


def test_the_file_decides_a_sonnets_split():
    account, _ = accounted("sonnet", CASES / "sonnets-numbered-145-to-156")
    assert account["examples"] == {"train": 20, "dev": 12, "test": 12}
    account, printed = accounted("sonnet", CASES / "sonnets-own-from-155")
    assert account["examples"] == {"train": 30, "dev": 12}
    assert "not scored test: there are none" in printed
    assert account["drawn"] is None


def test_the_courses_complete_files_are_the_packaged_sonnets(tmp_path):
    sonnets = read_sonnets()
    files = {"sonnets.txt": range(1, 132), "TRUE_sonnets_held_out_dev.txt": range(132, 144)}
    for name, numbers in files.items():
        text = "".join(f"{n}\n\n" + "\n".join(sonnets[n]) + "\n\n" for n in numbers)
        (tmp_path / name).write_text(text)
    course, packaged = get_task("sonnet", tmp_path), get_task("sonnet")
    for split in ("train", "dev"):
        assert course.examples(split) == packaged.examples(split)
    assert course.scored_splits == ("train", "dev")


def test_repeated_and_cut_sonnets_are_told_in_one_sentence(tmp_path):
    folder = CASES / "sonnets-repeated-and-cut"
    with pytest.raises(InputError) as error:
        get_task("sonnet", folder)
    assert "line 171: sonnet 5 stands here again, first in line 69" in str(error.value)
    assert "not 14 lines long: sonnet 11 (9 lines)" in str(error.value)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "sonnets.txt"
    path.write_text(path.read_text().replace("\n5\n", "\n105\n", 1))
    account, printed = accounted("sonnet", tmp_path)
    assert account["examples"]["train"] == 21
    assert "sonnet 11 (9 lines)" in printed


def test_a_training_sonnet_that_is_held_out_is_told(tmp_path):
    shutil.copytree(CASES / "sonnets-own-from-155", tmp_path, dirs_exist_ok=True)
    held_out = (tmp_path / "TRUE_sonnets_held_out_dev.txt").read_text()
    with (tmp_path / "sonnets.txt").open("a") as file:
        file.write("\n" + held_out)
    account, printed = accounted("sonnet", tmp_path)
    assert account["examples"] == {"train": 30, "dev": 12}
    assert "12 sonnets of sonnets.txt: held out" in printed


def test_one_number_in_two_files_overwrites_nothing(tmp_path):
    shutil.copytree(CASES / "sonnets-own-from-155", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "TRUE_sonnets_held_out_dev.txt"
    path.write_text(path.read_text().replace("132\n", "1\n", 1))
    task = get_task("sonnet", tmp_path)
    assert [len(task.examples(split)) for split in ("train", "dev")] == [30, 12]
    assert task.sonnets["dev"][0] != task.sonnets["train"][0]
    assert task.sonnets["train"][0] == read_sonnets()[1]


def config(model, out, data, **options):
    return make_config(
        model=str(model), out=out, data=data, epochs=1, switch_epoch=1, device="cpu", **options
    )


def test_the_account_is_printed_and_recorded(model, tmp_path, capsys):
    data = CASES / "quora-dev-half-unlabelled"
    result = handoff.run(config(model, tmp_path / "run", data, task="paraphrase"))
    account = json.loads((result.folder / "run.json").read_text())["accounts"]
    assert account == account_for(get_task("paraphrase", data))
    printed = capsys.readouterr().out
    assert "\nexamples   train 80, dev 30\n" in printed
    assert "\nskipped    30 rows of quora-dev.csv: no label\n" in printed


@pytest.mark.parametrize(
    "text, message",
    [
        ("144\n\na\nb\n", "sonnet 144 has 2 lines"),
        ("144\n\na\nb\nc\nd\n", "no two lines of .* can change places"),
        ("144\n\na\nb\nc\n" + "many words and more words\n" * 99, "context of 256"),
    ],
)
def test_a_bad_test_file_fails_before_anything_is_trained(
    model, tmp_path, text, message, monkeypatch
):
    monkeypatch.setattr(training_run.TrainingRun, "train", lambda self: pytest.fail("it trains"))
    data = tmp_path / "data"
    shutil.copytree(CASES / "sonnets-own-from-155", data)
    (data / "TRUE_sonnets_held_out.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        handoff.run(config(model, tmp_path / "run", data))
    assert not (tmp_path / "run").exists()


def test_questions_that_are_cut_to_fit_are_counted(tmp_path):
    shutil.copytree(CASES / "quora-unlabelled-test", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "quora-dev.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace("\t", "\t" + "why " * 300, 1)
    path.write_text("\n".join([*lines, ""]))
    whole = get_task("paraphrase", CASES / "quora-unlabelled-test")
    whole.check_fit(get_tokenizer("verse"), 256)
    assert not account_for(whole)["files"]["quora-dev.csv"]["notes"]
    task = get_task("paraphrase", tmp_path)
    task.check_fit(get_tokenizer("verse"), 256)
    notes = account_for(task)["files"]["quora-dev.csv"]["notes"]
    (dev,) = re.findall(r"1 of (\d+) prompts for dev are cut at their beginning", " ".join(notes))
    assert int(dev) == len(task.examples("dev"))


@pytest.mark.parametrize("split, why", [("test", "the course keeps"), ("tests", "no such split")])
def test_floors_of_a_split_that_is_not_scored_are_refused(split, why):
    config = floors.FloorsConfig(
        task="paraphrase", data=CASES / "quora-unlabelled-test", split=split
    )
    with pytest.raises(InputError, match=f"--split is '{split}' .*{why}.*expected train or dev"):
        floors.run(config)
