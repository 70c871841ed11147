"""Rows as dicts, one by one, from JSONL, CSV, TSV, Parquet and text files.

A file that somebody else made has lines that are not what they should be. Each is left out,
counted and told, the first of a kind with its line; `check_read` refuses a file with many.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minigpt.errors import InputError
from tasks.accounts import FileAccount
from tasks.own.passages import FEWEST, MARK, documents, parts
from tasks.table import TAB, read_table, stray_note
from tasks.text import read_text

MALFORMED_SHARE = 0.1  # of a file's rows; beyond it the file is something else
_UTF8_MARK = b"\xef\xbb\xbf"
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how Python keeps bytes that are not


class Entry(NamedTuple):
    """One row: its values by column, and where it stands."""

    where: str  # "line 3"
    values: dict[str, Any]


def read_rows(path: Path, account: FileAccount) -> Iterator[Entry]:
    """Yield the rows of a file whose name's end says its format.

    Rows that are left out are counted in `account`; whoever uses a row counts that. Raises
    InputError for another format, a file that cannot be read, and a header without sense.
    """
    if not path.exists():
        raise InputError(f"there is no file {path}; expected one with rows")
    reader = _read_texts if path.is_dir() else READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path} is in no format that is known; expected its name to end in "
            f"{', '.join(READERS)}"
        )
    try:
        yield from reader(path, account)
    except OSError as error:
        raise InputError(
            f"cannot read {path} ({error.strerror or error}); expected a file"
        ) from error


def rows_in_memory(rows: Iterable[Mapping[str, Any]], name: str) -> Iterator[Entry]:
    """Yield rows that are there already; InputError for one that is no mapping."""
    for number, values in enumerate(rows, start=1):
        if not isinstance(values, Mapping):
            raise InputError(
                f"row {number} of {name} is a {type(values).__name__}; expected a dict "
                "(of a pandas DataFrame, df.to_dict('records'))"
            )
        yield Entry(f"row {number}", dict(values))


def check_read(name: str, account: FileAccount) -> None:
    """Raise InputError for a file of which too much is malformed, or nothing of use."""
    reasons = "; ".join(account.notes) or "it is empty"
    if account.malformed > MALFORMED_SHARE * account.rows:
        raise InputError(
            f"{name}: {account.malformed:,} of {account.rows:,} {account.unit} are malformed "
            f"({reasons}); expected no more than a tenth"
        )
    if not account.used:
        raise InputError(
            f"{name} has no row of use among {account.rows:,} ({reasons}); expected some"
        )


def _read_jsonl(path: Path, account: FileAccount) -> Iterator[Entry]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            line = line.removeprefix(_UTF8_MARK) if number == 1 else line
            where = f"line {number:,}"
            if not line.strip():
                account.skipped["blank line"] += 1
                continue
            try:
                values = json.loads(line.decode())
            except UnicodeDecodeError as error:
                account.skip_malformed("not UTF-8", where, f"byte 0x{line[error.start]:02x}")
            except (ValueError, RecursionError) as error:
                account.skip_malformed("not JSON", where, str(error))
            else:
                if isinstance(values, dict):
                    yield Entry(where, values)
                else:
                    account.skip_malformed("not a JSON object", where, type(values).__name__)


def _read_table(path: Path, account: FileAccount) -> Iterator[Entry]:
    text = read_text(path, errors="surrogateescape")
    rows = read_table(text, TAB if path.suffix.lower() == ".tsv" else _separator(text))
    header = next(rows).fields if text else []
    _check_header(path, header)
    stray = []
    for row in rows:
        where = f"line {row.line:,}"
        stray += row.stray_quotes
        if len(row.fields) == 1 and not row.fields[0].strip():
            account.skipped["blank line"] += 1
        elif row.fields == header:
            account.skipped["header again"] += 1
        elif len(row.fields) != len(header):
            found = f"{len(row.fields)} instead of {len(header)}"
            account.skip_malformed("wrong number of fields", where, found)
        elif any(map(_NOT_UTF8.search, row.fields)):
            account.skip_malformed("not UTF-8", where)
        else:
            yield Entry(where, dict(zip(header, row.fields)))
    if stray:
        account.notes.append(stray_note(stray))


def _separator(text: str) -> str:
    """Return what separates the header's fields: a file called .csv may have tabs, too."""
    header = re.match(r"[^\r\n]*", text)[0]
    return max(",", TAB, ";", key=header.count)


def _check_header(path: Path, header: list[str]) -> None:
    if _NOT_UTF8.search("".join(header)):
        raise InputError(f"{path}, line 1 is not UTF-8; expected a header in UTF-8")
    for name in header:
        if header.count(name) > 1:
            raise InputError(
                f"{path}, line 1: {header.count(name)} columns are called {name!r}; expected one"
            )


def _read_parquet(path: Path, account: FileAccount) -> Iterator[Entry]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{path} cannot be read without pyarrow; expected it installed, "
            "by pip install -e '.[data]'"
        ) from error
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield Entry(f"row {number:,}", values)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} is no sound Parquet file ({error}); expected one") from error


def _read_texts(path: Path, account: FileAccount) -> Iterator[Entry]:
    """Yield the documents of a text file, or of all text files in a folder, in a column text."""
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    found = documents([read_text(file) for file in files])
    if 0 < len(found) < FEWEST:
        n_documents, found = len(found), [part for text in found for part in parts(text)]
        account.notes.append(
            f"of documents, which files and {MARK} part, there are {n_documents}, too few to be "
            f"split; they are cut into {len(found)} parts, each taken for one"
        )
    for number, text in enumerate(found, start=1):
        yield Entry(f"document {number:,}", {"text": text})


READERS: dict[str, Callable[[Path, FileAccount], Iterator[Entry]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".parquet": _read_parquet,
    ".txt": _read_texts,
}
