"""Which rows are whose: files or rows for each split, or shares of one file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minigpt.errors import InputError
from tasks.base import SPLITS
from tasks.own.reading import READERS

DEFAULT_SHARE = 0.1  # of the rows, for dev and for test where they do not come apart
STEMS = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}

Rows = Iterable[Mapping[str, Any]]
Source = Path | Rows


class Sources(NamedTuple):
    """Where the rows of the splits come from, and how much of train's is drawn for the others."""

    given: dict[str, Source]  # split -> a file, or rows in memory; train is always there
    shares: dict[str, float]  # split -> share of the rows given for train


def find_sources(
    data: str | Path | None,
    train: str | Path | Rows | None,
    dev: str | float | Path | Rows | None,
    test: str | float | Path | Rows | None,
    *,
    folded: bool = False,
) -> Sources:
    """Return where each split's rows come from.

    `data` is a file, a folder with files called train, dev (or validation) and test, or one with
    texts (.txt), each a document; `train` stands in its place. `dev` and `test` are files, rows,
    or shares of train's rows. Without them what the folder has counts, then DEFAULT_SHARE; test is
    drawn only where dev is. Where splits are to be `folded`, they
    are made of the rows for train. Raises InputError where none of it makes sense.
    """
    if (data is None) == (train is None):
        got = "neither" if data is None else "both"
        raise InputError(
            f"got {got} of --data and --train; expected one of them, with rows of your own"
        )
    given = _in_folder(Path(data)) if data is not None else {"train": _source(train)}
    if folded:
        if dev is not None or test is not None:
            raise InputError("got --dev or --test beside --folds; expected no other splits")
        return Sources({"train": given["train"]}, {})
    shares: dict[str, float] = {}
    for split, asked in (("dev", dev), ("test", test)):
        share = _share(split, asked)
        if share is None and asked is not None:
            given[split] = _source(asked)
        elif share is not None:
            given.pop(split, None)
            shares[split] = share
        elif split not in given:
            shares[split] = DEFAULT_SHARE if split == "dev" or "dev" in shares else 0.0
    if "dev" in shares and not shares["dev"] > 0:
        raise InputError("--dev is 0; expected a share above 0, as epochs are compared on it")
    if not sum(shares.values()) < 1:
        told = " and ".join(f"--{split} {share:g}" for split, share in shares.items())
        raise InputError(f"{told} leave nothing to train on; expected less than 1 together")
    return Sources(given, {split: share for split, share in shares.items() if share})


def name_of(split: str, source: Source) -> str:
    """Return what a source is called in the account of a run."""
    return source.name if isinstance(source, Path) else f"rows for {split}"


def _source(value: str | Path | Rows) -> Source:
    return Path(value) if isinstance(value, str | Path) else value


def _share(split: str, value: Any) -> float | None:
    """Return a share as a number, and None for what is none: a file, rows, nothing."""
    if not isinstance(value, str | int | float):
        return None
    try:
        share = float(value)
    except ValueError:
        return None
    if not 0 <= share < 1:
        raise InputError(f"--{split} is {value}; expected a file, or a share from 0 to below 1")
    return share


def _in_folder(data: Path) -> dict[str, Source]:
    """Return the files of a folder by their split, or the one file that `data` is."""
    if not data.is_dir():
        return {"train": data}
    found: dict[str, Source] = {}
    for split in SPLITS:
        names = [stem + suffix for stem in STEMS[split] for suffix in READERS]
        files = [data / name for name in names if (data / name).is_file()]
        if len(files) > 1:
            told = ", ".join(file.name for file in files)
            raise InputError(f"{data} has {told} for {split}; expected one of them")
        if files:
            found[split] = files[0]
    if "train" not in found and any(data.glob("*.txt")):
        return {"train": data}
    if "train" not in found:
        raise InputError(
            f"{data} has nothing to train on; expected a file called train{', train'.join(READERS)}"
        )
    return found
