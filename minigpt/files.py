"""Files that are written whole or not at all, and read whole or not at all."""

import json
import math
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minigpt.errors import InputError, shown

# The largest files and headers of their kind that make sense; more is not even read.
TEXT_BYTES = 1 << 26  # 64 MiB: a tokenizer.json of 250,000 tokens has a quarter of that
HEADER_BYTES = 1 << 22  # 4 MiB: the names and places of 40,000 tensors
ABANDONED = 24 * 3600  # seconds after which a temporary file of another machine is in use no more
TEMPORARY = re.compile(r"\..+\.([^.]*)\.(\d+)\.tmp")  # .<name>.<machine>.<process>.tmp


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes `path`'s place at the end.

    A reader sees the old file or the new one, never a part, whatever interrupts the writing. The
    new file has the old one's mode. A link planted under the temporary name is not followed, and
    what killed processes have left in the folder is removed.
    Raises InputError when the folder or the disk refuses (unwritable, full).
    """
    temporary = path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.tmp")
    try:
        _sweep(path.parent)
        temporary.unlink(missing_ok=True)  # of an earlier process with our number, or a link
        temporary.touch(exist_ok=False)
        mode = (path if path.is_file() else temporary).stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors makes files that only their owner can read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):  # it is gone, or could never be made
            temporary.unlink()


def _machine() -> str:
    return platform.node().replace(".", "-")


def _sweep(folder: Path) -> None:
    """Remove the temporary files of processes that have ended without doing so."""
    for entry in os.scandir(folder):
        with suppress(OSError):  # another process was faster
            if (name := TEMPORARY.fullmatch(entry.name)) and _abandoned(entry, *name.groups()):
                os.unlink(entry.path)


def _abandoned(entry: os.DirEntry, machine: str, process: str) -> bool:
    """Whether the process that made a temporary file can no longer come back to it."""
    if machine == _machine() and os.name == "posix":  # elsewhere kill(0) would end the process
        try:
            os.kill(int(process), 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            return False
        return False
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED


def make_folder(path: str | Path) -> Path:
    """The folder, made with its parents if it is not there; InputError when that is refused."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}") from error
    return Path(path)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all; errors as in `replacing`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; errors as in `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, values: dict) -> None:
    """Write one JSON object, whole or not at all; errors as in `replacing`."""
    write_text(path, json.dumps(values, indent=2) + "\n")


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a reader raises over a missing or damaged file into an InputError.

    `what` says what was expected, such as "a whole safetensors file". This is the only place that
    catches every exception: damaged bytes can make a parser raise any.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {shown(error)}"
        raise InputError(f"{path} cannot be read, it is not {what} ({reason})") from error


def read_bytes(path: Path, most: int = TEXT_BYTES) -> bytes:
    """Return a file's bytes; raises InputError if it has more than `most`, or is no plain file."""
    with reading(path, "a plain file"):
        if path.exists() and not path.is_file():
            raise ValueError("a folder, a pipe or a device")  # the last two need never end
        with path.open("rb") as file:
            content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes; expected at most {most:,}")
    return content


def read_json(path: Path, most: int = TEXT_BYTES) -> dict:
    """Read a file of at most `most` bytes that holds one JSON object; InputError for any other."""
    return parse_json(read_bytes(path, most), path)


def parse_json(content: bytes, path: Path) -> dict:
    """Return one JSON object, by the letter of the standard: finite numbers, no name twice.

    Raises InputError, in which `path` is where the content comes from, for anything else.
    """
    with reading(path, "JSON"):
        value = json.loads(
            content.decode(),
            object_pairs_hook=_without_repeats,
            parse_float=_finite,
            parse_constant=_finite,
        )
    if not isinstance(value, dict):
        raise InputError(f"{path} holds {type(value).__name__}, expected a JSON object")
    return value


def _without_repeats(pairs: list[tuple[str, object]]) -> dict:
    values = dict(pairs)
    if len(values) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it names {name!r} twice")
    return values


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"it holds the number {number}")
    return value


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file; raises InputError when the folder or the disk refuses."""
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise InputError(f"cannot write {path}: {error}") from error


def open_tensors(path: Path) -> safe_open:
    """Open a safetensors file; its structure and length are checked, no tensor is read yet.

    Raises InputError when it is not whole, or its header is absurdly long.
    """
    with reading(path, "a whole safetensors file"):
        if path.exists() and not path.is_file():
            raise ValueError("a folder, a pipe or a device")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > HEADER_BYTES:
            raise ValueError(f"a header of {length:,} bytes, expected at most {HEADER_BYTES:,}")
        return safe_open(path, framework="pt")


def tensor_shapes(path: Path, file: safe_open) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in an open safetensors file, by name."""
    with reading(path, "a whole safetensors file"):
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}


def tensor_reader(path: Path) -> Callable[[str], Tensor]:
    """A function from a name in a safetensors file to its tensor; errors as in `open_tensors`.

    Every tensor is mapped by itself, so that its memory is free once it is copied: of a file that
    stays open, all that was ever read stays in memory. Raises InputError if the file is replaced
    between two tensors, or cannot be mapped into memory.
    """
    stamp = _stamp(path)

    def read(name: str) -> Tensor:
        with reading(path, "a safetensors file that memory can hold"), open_tensors(path) as file:
            tensor = file.get_tensor(name)
        if _stamp(path) != stamp:
            raise InputError(f"{path} was replaced while it was read; expected it to stay")
        return tensor

    return read


def _stamp(path: Path) -> tuple[int, ...]:
    """What another file in the same place would not have in common."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def hash_file(path: Path, digest) -> str:
    """Feed a file to a digest of hashlib's, fresh or begun; the result in hexadecimal."""
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
