"""Reading text that somebody else made."""

import re
from pathlib import Path

from minigpt.errors import InputError

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


def read_text(path: Path, errors: str = "strict") -> str:
    """Return the text of a UTF-8 file, with or without a byte-order mark.

    `errors` says what becomes of bytes that are not UTF-8, as in Python's `bytes.decode`.

    Raises InputError, which names the line, when the file is missing or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); expected a text file") from error
    try:
        return data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; "
            "expected a text file in UTF-8"
        ) from error


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation but inner apostrophes."""
    return _WORD.findall(text.lower().replace("’", "'"))


def text_key(text: str) -> str:
    """Return what texts have in common that are the same but for case and punctuation."""
    return " ".join(re.findall(r"\w+", text.lower()))
