"""Damaged data files: each is refused in one sentence, or all that it holds is accounted for."""

import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minigpt.errors import InputError
from tasks.paraphrase.quora import OFFICIAL_FILE, read_pairs
from tasks.sonnet.shakespeare import split_sonnets

CASES = Path(__file__).parent / "cases"
MUTATIONS = 300  # of each format
SECONDS = 2.0  # that reading a file of some kilobytes may take on a busy machine
PIECES = [b'"', b'""', b"\t", b"\n", b"\r", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"\xff", b"\0"]
PIECES += ["न".encode(), "\u2028".encode(), "٣".encode(), b"7" * 5000, b"\n154\n", b"\n1\n"]


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Return the data with one to four pieces cut, put in, doubled, moved or turned."""
    for _ in range(generator.randint(1, 4)):
        start, end = sorted(generator.randrange(len(data) + 1) for _ in range(2))
        end = min(end, start + generator.choice([1, 3, 30, 3000]))
        piece, rest = data[start:end], data[:start] + data[end:]
        at = generator.randrange(len(rest) + 1)
        data = generator.choice(
            [
                rest,
                data[:start],
                data[:end] + data[start:],
                rest[:at] + piece + rest[at:],
                data[:start] + piece.swapcase()[::-1] + data[end:],
                *[data[:start] + generator.choice(PIECES) + data[start:]] * 4,
            ]
        )
    return data


def outcomes(data: bytes, path: Path, seed: int, read: Callable[[], None]) -> list[bool]:
    """Return, for each mutation of a file, whether it could be read.

    `read` reads it and checks that all is accounted for; it may raise InputError.
    """
    generator, readable = random.Random(seed), []
    for _ in range(MUTATIONS):
        path.write_bytes(mutate(data, generator))
        started = time.monotonic()
        try:
            read()
        except InputError as error:
            message = str(error)
            assert "\n" not in message and len(message) < 1000, message
            readable.append(False)
        else:
            readable.append(True)
        assert time.monotonic() - started < SECONDS
    return readable


@pytest.mark.parametrize("case", ["quora-one-stray-quote", "quora-quoted"])
def test_damaged_question_pairs(tmp_path, case):
    path = tmp_path / OFFICIAL_FILE
    if case == "quora-quoted":
        rows = [f'{i}\t"What ""is"" {i}?"\t"Who\nis {i}?"\t{i % 2}.0\n' for i in range(60)]
        data = "".join(["id\tsentence1\tsentence2\tis_duplicate\n", *rows]).encode()
    else:
        data = (CASES / case / OFFICIAL_FILE).read_bytes()

    def read() -> None:
        pairs, account = read_pairs(path)
        assert account.used == len(pairs) and account.rows == account.used + sum(
            account.skipped.values()
        )
        text = path.read_bytes().decode("utf-8-sig")
        if '"' not in text:  # then a row is a line, and what is used can be counted apart
            lines = re.split("\r\n|\r|\n", text)
            assert account.rows == len(lines) - 1 - (lines[-1] == "")
        for pair in pairs:
            assert pair.first.strip() and pair.second.strip() and "\t" not in pair.first

    readable = outcomes(data, path, 0, read)
    assert len(readable) == MUTATIONS and sum(readable) > MUTATIONS / 4


def test_one_stray_quote_anywhere_costs_at_most_its_own_row(tmp_path):
    """Whatever stands after it is read as it was."""
    source = (CASES / "quora-one-stray-quote" / OFFICIAL_FILE).read_text(encoding="utf-8")
    text, path = source.replace('"', ""), tmp_path / "pairs.tsv"
    path.write_text(text, encoding="utf-8")
    whole, _ = read_pairs(path)
    generator, start = random.Random(0), text.index("\n") + 1
    for _ in range(MUTATIONS):
        at = generator.randrange(start, len(text))
        path.write_text(text[:at] + '"' + text[at:], encoding="utf-8")
        pairs, account = read_pairs(path)
        assert account.rows == 120 and account.used >= 119
        row = text.count("\n", 0, at) - 1
        assert pairs[:row] == whole[:row]
        assert pairs[len(pairs) - (119 - row) :] == whole[row + 1 :]


@pytest.mark.parametrize("name", ["sonnets.txt", "TRUE_sonnets_held_out_dev.txt"])
def test_damaged_sonnets(tmp_path, name):
    folder = CASES / "sonnets-own-from-155"
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def read() -> None:
        splits, accounts, _ = split_sonnets(tmp_path)
        assert sum(map(len, splits.values())) == sum(a.used for a in accounts.values())
        text = (tmp_path / name).read_bytes().decode("utf-8-sig")
        lines = [line.strip() for line in text.splitlines()]
        numbers = [line for line in lines if line.isdecimal() and len(line) <= 6]
        account = accounts[name]
        assert account.rows == len(numbers) == len({int(n) for n in numbers})
        # Every other line that is not blank belongs to a sonnet or to the title.
        if not account.skipped:
            split = "train" if name == "sonnets.txt" else "dev"
            title = sum(bool(line) for line in lines[: lines.index(numbers[0])])
            verses = sum(map(len, splits[split]))
            assert title + len(numbers) + verses == sum(map(bool, lines))
            assert bool(title) == any("title" in note for note in account.notes)

    readable = outcomes((folder / name).read_bytes(), tmp_path / name, 1, read)
    assert len(readable) == MUTATIONS and sum(readable) > MUTATIONS / 4
