"""Rows of one's own: every format, every kind of damage, and splits that share no text."""

import csv
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from experiments.run.reading import account_for, account_lines
from minigpt.errors import InputError
from tasks import Example, from_rows, get_task
from tasks.accounts import FileAccount
from tasks.own.reading import check_read, read_rows
from tasks.own.store import StoredRows, TextStore
from tasks.splits import components, draw_splits, group_key
from tasks.table import read_table
from tests.conftest import oracle

ODD = [
    "plain",
    'a "quoted" word',
    '"begins so',
    "two\nlines, with a comma",
    "a\ttab",
    "क, é 🙂",
    '"',
]
ROWS = [
    {"prompt": f"What is {n}?", "chosen": f" {text} {n}", "rejected": " no"}
    for n, text in enumerate(ODD * 3)
]


def read(path: Path) -> tuple[list[dict], FileAccount]:
    """All rows of a file, and what became of them."""
    account, rows = FileAccount(), []
    for entry in read_rows(path, account):
        rows.append(entry.values)
        account.used += 1
    check_read(path.name, account)
    return rows, account


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.tsv"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    rows = [{k: v.replace("\n", " ") for k, v in row.items()} for row in ROWS]
    rows = ROWS if name != "x.tsv" else rows  # a tab and a line break at once are no TSV
    write = write_jsonl if name == "x.jsonl" else write_csv
    found, account = read(write(tmp_path / name, rows))
    assert found == rows
    assert account.used == account.rows == len(rows) and not account.notes


@pytest.mark.parity
def test_parquet_as_pandas_writes_it(tmp_path):
    oracle("pyarrow")
    oracle("pandas").DataFrame(ROWS).to_parquet(tmp_path / "x.parquet")
    found, account = read(tmp_path / "x.parquet")
    assert found == ROWS and account.used == len(ROWS)
    (tmp_path / "y.parquet").write_bytes(b"PAR1 nothing more")
    with pytest.raises(InputError, match="no sound Parquet file"):
        read(tmp_path / "y.parquet")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        InputError, match=r"without pyarrow; expected .* pip install -e '.\[data\]'"
    ):
        read(tmp_path / "x.parquet")


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_sound_tables_are_read_as_by_csv(tmp_path, separator, end):
    rows = [["a", "b"], *([x, y] for x in ODD for y in ODD)]
    path = tmp_path / "x.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(
            rows
        )
    with path.open(newline="", encoding="utf-8-sig") as file:
        assert list(csv.reader(file, delimiter=separator)) == rows
    assert [list(row.values()) for row in read(path)[0]] == rows[1:]


def test_a_stray_quote_between_commas_costs_its_own_row_at_most():
    lines = ["text,label", *(f'"Line {n}, so to say",{n % 2}' for n in range(40))]
    for at in range(1, 40):
        for stray in ('"Hello, he said,1', '"Hello he said,1', 'He said "hello",0'):
            text = "\n".join([*lines[:at], stray, *lines[at + 1 :]])
            found = [row.fields for row in read_table(text, ",")]
            expected = [row.fields for row in read_table("\n".join(lines), ",")]
            assert found[:at] == expected[:at] and found[at + 1 :] == expected[at + 1 :]


def test_bad_lines_are_skipped_counted_and_told(tmp_path):
    good = [json.dumps(row).encode() for row in ROWS * 5]
    bad = [
        b'{"prompt": "a',
        b"[1, 2]",
        b'{"a": "caf\xe9"}',
        b"",
        b"[" * 10_000,
        b'{"a": "\0"}',
    ]
    path = tmp_path / "x.jsonl"
    for end in (b"\n", b"\r\n"):
        for mark in (b"", b"\xef\xbb\xbf"):
            path.write_bytes(mark + end.join(good[:50] + bad + good[50:]) + end)
            rows, account = read(path)
            assert rows == ROWS * 5
            skipped = {"not JSON": 3, "not a JSON object": 1, "not UTF-8": 1, "blank line": 1}
            assert account.skipped == skipped and account.malformed == 5
            assert [note.split(" (")[0] for note in account.notes] == [
                "not JSON: first in line 51",
                "not a JSON object: first in line 52",
                "not UTF-8: first in line 53",
            ]


def test_bad_rows_of_a_table_are_skipped_counted_and_told(tmp_path):
    good = ["prompt,chosen,rejected", *(f"what {n}, yes, no" for n in range(60))]
    lines = [line.encode() for line in good]
    lines[5:5] = [b"one, two", b"caf\xe9, a, b", b"", b"1,2,3,4"]
    path = tmp_path / "x.csv"
    path.write_bytes(b"\n".join(lines))
    rows, account = read(path)
    assert len(rows) == 60 and [row["prompt"] for row in rows] == [f"what {n}" for n in range(60)]
    assert account.skipped == {"wrong number of fields": 2, "not UTF-8": 1, "blank line": 1}
    assert "wrong number of fields: first in line 6 (2 instead of 3)" in account.notes


def test_long_lines_and_null_characters_are_read_as_they_are(tmp_path):
    rows = [{"text": "x" * 2_000_000}, {"text": "a\0b"}, {"text": "end"}]
    assert read(write_jsonl(tmp_path / "x.jsonl", rows))[0] == rows
    assert read(write_csv(tmp_path / "x.csv", rows))[0] == rows


@pytest.mark.parametrize(
    "name, data, match",
    [
        ("x.jsonl", b'{"a": 1}\nno\n' * 4, "4 of 8 rows are malformed .not JSON: first in line 2"),
        ("x.jsonl", "{}".encode("utf-16"), "1 of 1 rows are malformed .not UTF-8: first in line 1"),
        ("x.jsonl", b"", "no row of use among 0 .it is empty"),
        ("x.csv", b"", "no row of use among 0"),
        ("x.csv", "a,b\n1,2\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("x.csv", b"a,b,a\n1,2,3\n", "2 columns are called 'a'; expected one"),
        ("x.pickle", b"", "no format that is known; expected its name to end in .jsonl"),
    ],
)
def test_files_of_no_use_are_refused(tmp_path, name, data, match):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=match):
        read(path)
    with pytest.raises(InputError, match="there is no file"):
        read(tmp_path / "nowhere.jsonl")


def test_stored_rows_are_the_rows():
    store = TextStore(2)
    texts = [("a", ""), ("é🙂", "b\0"), ("", "x" * 10_000)]
    for row in texts:
        store.append(row)
    assert [store.row(n) for n in (2, 0, 1)] == [texts[2], texts[0], texts[1]]
    rows = StoredRows(store, np.array([2, 0]), Example)
    assert list(rows) == [Example(*texts[2]), Example(*texts[0])]
    assert len(rows) == 2 and rows[-1] == rows[1:][0] == Example(*texts[0])
    with pytest.raises(UnicodeEncodeError):
        store.append(("a", "\ud800"))
    assert len(store) == 3


def rows_with_texts(generator: np.random.Generator, n: int) -> list[tuple[str, str]]:
    """Pairs of texts, of which many occur in several pairs."""
    return [tuple(f"text {t}" for t in generator.integers(0, 3 * n, 2)) for _ in range(n)]


def splits_of(rows: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    keys = np.array([[group_key(text) for text in row] for row in rows], dtype=np.uint64)
    splits = draw_splits(components(keys), dev=0.2, test=0.2)
    return dict(zip(rows, splits.tolist()))


@pytest.mark.parametrize("seed", range(10))
def test_splits_share_no_text_and_depend_on_nothing_but_it(seed):
    generator = np.random.default_rng(seed)
    rows = rows_with_texts(generator, 40)
    splits = splits_of(rows)
    sides = {
        split: {text for row in rows if splits[row] == split for text in row}
        for split in ("train", "dev", "test")
    }
    assert all(sides.values())
    assert not any(a & b for a, b in pairwise([*sides.values(), sides["train"]]))
    assert splits_of([rows[i] for i in generator.permutation(len(rows))]) == splits

    single = [(f"{seed} {n}",) for n in range(200)]  # where no group is tied, none moves
    before = splits_of(single)
    after = splits_of([*single, *((f"more {n}",) for n in range(100))])
    assert {row: after[row] for row in single} == before
    assert 15 < sum(split == "dev" for split in before.values()) < 70


def test_components_are_those_of_a_search():
    generator = np.random.default_rng(0)
    for _ in range(20):
        keys = generator.integers(0, 30, (20, 3)).astype(np.uint64)
        found = components(keys)
        for i, row in enumerate(keys):
            group, grown = set(row.tolist()), 0
            while grown < len(group):
                grown = len(group)
                group.update(k for other in keys.tolist() if group & set(other) for k in other)
            assert found[i] == min(group)


def test_few_groups_still_make_every_split():
    for n in range(3, 12):
        for dev, test in ((0.1, 0.1), (0.9, 0.05), (0.05, 0.9), (0.01, 0.98)):
            splits = draw_splits(np.arange(n, dtype=np.uint64), dev=dev, test=test)
            assert set(splits) == {"train", "dev", "test"}
    with pytest.raises(InputError, match="make 2 groups that share no text; expected at least 3"):
        draw_splits(np.arange(2, dtype=np.uint64), dev=0.1, test=0.1)


@pytest.mark.parametrize("n", [2, 3, 100])
def test_where_dev_has_a_file_of_its_own_no_row_is_drawn_for_it(n):
    rows = np.arange(n, dtype=np.uint64)
    assert set(draw_splits(rows, dev=0.0, test=0.2)) == {"train", "test"}
    more = draw_splits(np.arange(2 * n, dtype=np.uint64), dev=0.0, test=0.2)[:n]
    assert n < 100 or (more == draw_splits(rows, dev=0.0, test=0.2)).all(), "rows stay"


def pairs(*prompts: str) -> list[dict]:
    return [{"prompt": p, "chosen": f" yes, {p}", "rejected": " no"} for p in prompts]


def test_files_shares_and_folders_say_which_rows_are_whose(tmp_path):
    rows = pairs(*(f"What is {n}?" for n in range(50)))
    one = write_jsonl(tmp_path / "one.jsonl", rows)
    held = write_csv(tmp_path / "held.csv", rows[:7])

    def sizes(data=None, **options):
        task = get_task("preference", data, **options)
        return {split: len(task.examples(split)) for split in task.scored_splits}

    drawn = sizes(one)
    assert set(drawn) == {"train", "dev", "test"} and sum(drawn.values()) == 50
    assert sizes(train=one) == drawn == sizes(one, dev="0.1", test=0.1)
    assert set(sizes(one, dev="0.5", test="0")) == {"train", "dev"}
    assert sizes(one, dev=str(held)) == {"train": 50, "dev": 7}
    beside = sizes(one, dev=str(held), test=0.2)
    assert beside["dev"] == 7 and beside["train"] + beside["test"] == 50, "every row is somewhere"
    assert sizes(train=one, dev=held, test=held) == {"train": 50, "dev": 7, "test": 7}
    names = ["one.jsonl", "one.jsonl for dev", "one.jsonl for test"]
    assert list(get_task("preference", one, dev=one, test=one).accounts) == names
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_csv(tmp_path / "validation.csv", rows[:5])
    assert sizes(tmp_path) == {"train": 50, "dev": 5}
    assert sizes(tmp_path, test=held) == {"train": 50, "dev": 5, "test": 7}

    task = get_task("preference", one, limits={"train": 12, "dev": 1})
    assert len(task.examples("train")) == 12 and len(task.examples("dev")) == 1
    larger = get_task("preference", one, limits={"train": 20}).examples("train")
    assert set(task.examples("train")) < set(larger)
    assert task.accounts["one.jsonl"].rows == 50

    write_jsonl(tmp_path / "train.csv", rows)
    for options, match in [
        ({}, "got neither of --data and --train"),
        ({"data": one, "train": one}, "got both of --data and --train"),
        ({"data": tmp_path}, "has train.jsonl, train.csv for train; expected one of them"),
        ({"data": one, "dev": 0}, "--dev is 0; expected a share above 0"),
        ({"data": one, "dev": 1.5}, "--dev is 1.5; expected a file, or a share"),
        ({"data": one, "dev": 0.5, "test": "0.5"}, "--dev 0.5 and --test 0.5 leave nothing"),
        ({"data": one, "dev": "nowhere.csv"}, "there is no file nowhere.csv"),
        ({"data": one, "top_p": 0.5}, "the task 'preference' has no option 'top_p'"),
    ]:
        with pytest.raises(InputError, match=match):
            get_task("preference", **options)
    with pytest.raises(InputError, match="'sonnet' is not made of rows; expected preference"):
        from_rows("sonnet", rows)


def test_what_training_has_of_other_splits_is_told():
    rows = pairs("a", "b", "c", "a")
    held = [*pairs("a"), {"prompt": " B ", "chosen": "other", "rejected": "one"}, *pairs("d", "e")]
    task = from_rows("preference", rows, dev=held)
    assert task.accounts["rows for train"].notes == ["1 of 4 rows for train repeat another one"]
    (told,) = [line for line in account_lines(account_for(task)) if line.startswith("leak")]
    assert told == f"leak       {task.leak('dev')}"
    assert "of 4 rows for dev 50.0 % share a text with a row of train, and 25.0 % stand" in told
    drawn = from_rows("preference", pairs(*"abcdefghij"))
    assert drawn.leak("dev") is None and "rows that share one stay together" in drawn.drawn


def test_rows_come_as_any_iterable_of_dicts():
    rows = pairs(*"abcdefghij")
    task = from_rows("preference", (row for row in rows), dev=(row for row in rows[:3]))
    assert list(task.examples("train")) == [Example(r["prompt"], r["chosen"]) for r in rows]
    with pytest.raises(InputError, match="row 1 of rows for train is a str; expected a dict"):
        from_rows("preference", ["a"])
    with pytest.raises(InputError, match="has the columns text; expected chosen, rejected"):
        from_rows("preference", [{"text": "a"}] * 3)


@pytest.mark.parity
def test_a_dataset_of_the_datasets_library_works_as_it_is():
    rows = pairs(*"abcdefghij")
    theirs = oracle("datasets").Dataset.from_list(rows)
    task = from_rows("preference", theirs, dev=0.3)
    ours = from_rows("preference", rows, dev=0.3)
    assert len(task.examples("dev")) > 0
    assert all([*task.contents(s)] == [*ours.contents(s)] for s in ("train", "dev"))
