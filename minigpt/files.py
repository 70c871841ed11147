"""Files that are written whole or not at all, and read whole or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minigpt.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes `path`'s place at the end.

    A reader sees the old file or the new one, never a part, whatever interrupts the writing.
    Raises InputError when the folder or the disk refuses (unwritable, full).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
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


def make_folder(path: str | Path) -> Path:
    """The folder, made with its parents if it is not there; InputError when that is refused."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}") from error
    return Path(path)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all; errors as in `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file; raises InputError when the folder or the disk refuses."""
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise InputError(f"cannot write {path}: {error}") from error


def open_tensors(path: Path) -> safe_open:
    """Open a safetensors file; its structure and length are checked, no tensor is read yet.

    Raises InputError when it is not whole.
    """
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}") from error


def tensor_reader(path: Path) -> Callable[[str], Tensor]:
    """A function from a name in a safetensors file to its tensor; errors as in `open_tensors`.

    Every tensor is mapped by itself, so that its memory is free once it is copied: of a file that
    stays open, all that was ever read stays in memory. Raises InputError if the file is replaced
    between two tensors.
    """
    stamp = _stamp(path)

    def read(name: str) -> Tensor:
        with open_tensors(path) as file:
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
