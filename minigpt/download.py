"""Fetch a file once: resumed after a break, checked, and put in its place only when right."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from minigpt.errors import InputError
from minigpt.files import hash_file

CHUNK = 1 << 16  # bytes taken from the network at once


class Expected(NamedTuple):
    """What is known of a file beforehand."""

    size: int | None
    sha256: str | None
    git_blob_sha1: str | None  # git's name of a file: SHA-1 of "blob <size>", a zero, the content

    def difference(self, path: Path) -> str | None:
        """What is wrong with a file, or None."""
        size = path.stat().st_size
        if self.size not in (None, size):
            return f"it has {size:,} bytes, expected {self.size:,}"
        if self.sha256 and (found := hash_file(path, hashlib.sha256())) != self.sha256:
            return f"its SHA-256 is {found}, expected {self.sha256}"
        blob = hashlib.sha1(b"blob %d\0" % size)
        if self.git_blob_sha1 and (found := hash_file(path, blob)) != self.git_blob_sha1:
            return f"its git blob hash is {found}, expected {self.git_blob_sha1}"
        return None


class _Failed(Exception):
    """The file cannot be had; the text says why."""


class _Broken(_Failed):
    """A transfer ended early; a new try may help, and goes on from what has arrived."""


class _Unreachable(_Broken):
    """No connection; a new try may help if there was one before."""


def cache_folder() -> Path:
    """Where downloads are kept: $MINIGPT_CACHE, else minigpt-lab in the user's cache folder."""
    if chosen := os.environ.get("MINIGPT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigpt-lab"


def fetch(
    url: str,
    path: str | Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    git_blob_sha1: str | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
    pause: float = 0.5,
) -> Path:
    """Return `path`, once it holds what `url` gives; a file that is there is checked, not fetched.

    What has arrived waits in `<name>.part` and a later call goes on from there. A connection that
    is silent for `timeout` seconds counts as broken; after `attempts` breaks in a row without
    progress the call gives up. Before the k-th new try it waits `pause` * 2^k seconds. Processes
    that want the same file wait for the one that came first.

    Raises InputError when the file cannot be had, is not the expected one (by its size in bytes,
    SHA-256 or git blob hash, as far as given), or cannot be written.
    """
    path = Path(path)
    expected = Expected(size, sha256, git_blob_sha1)
    part, lock = (path.with_name(path.name + ending) for ending in (".part", ".lock"))
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(lock) as memory:
                if not path.exists():  # else another process has brought it in the meantime
                    _download(url, part, memory, expected, timeout, attempts, pause)
                    os.replace(part, path)
                    lock.unlink()
                    return path
    except _Failed as error:
        raise InputError(
            f"cannot download {url}: {error}; try again later, or put the file at {path} by hand"
        ) from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    if difference := expected.difference(path):
        raise InputError(
            f"{path} is not the expected file: {difference}; delete it and it is fetched again"
        )
    return path


@contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """Wait for a lock that ends with its process, however that ends; gives the lock's file."""
    import fcntl  # not on Windows, where all but downloads should work

    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _download(
    url: str,
    part: Path,
    memory: IO[str],
    expected: Expected,
    timeout: float,
    attempts: int,
    pause: float,
) -> None:
    """Fill the part file, in as many transfers as it takes, and check it."""
    most, failures, reached = _length(part), 0, False
    while expected.size is None or _length(part) != expected.size:
        try:
            _transfer(url, part, memory, expected, timeout)
            break
        except _Broken as error:
            reached = reached or not isinstance(error, _Unreachable)
            failures = 0 if _length(part) > most else failures + 1
            most = max(most, _length(part))
            if failures == attempts or not reached:
                raise
            time.sleep(pause * 2**failures)
    if difference := expected.difference(part):
        part.unlink(missing_ok=True)
        raise _Failed(f"the bytes it gave are wrong ({difference}) and were not kept")


def _transfer(url: str, part: Path, memory: IO[str], expected: Expected, timeout: float) -> None:
    """One request for what is still missing, added to the part file as it arrives."""
    memory.seek(0)
    etag = memory.read()  # the version of the file that the part is of
    checkable = etag or expected.sha256 or expected.git_blob_sha1
    offset = _length(part) if checkable else 0
    with _request(url, part, offset, etag, timeout) as response:
        if response.status != 206:
            offset = 0  # the server sends the file from its beginning
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            part.unlink(missing_ok=True)
            raise _Broken("the server sent another range than it was asked for")
        total = expected.size if response.length is None else offset + response.length
        if expected.size not in (None, total):
            raise _Failed(f"it offers a file of {total:,} bytes, expected {expected.size:,}")
        _remember(memory, response.headers.get("ETag", ""))
        with (
            part.open("ab" if offset else "wb") as file,
            tqdm(desc=part.stem, total=total, initial=offset, unit="B", unit_scale=True) as bar,
        ):
            for chunk in _chunks(response):
                file.write(chunk)
                bar.update(len(chunk))
                if expected.size is not None and file.tell() > expected.size:
                    break  # a server that never ends must not fill the disk
            file.flush()
            os.fsync(file.fileno())
    if total is not None and _length(part) < total:
        raise _Broken(f"the connection ended after {_length(part):,} of {total:,} bytes")


def _request(url: str, part: Path, offset: int, etag: str, timeout: float) -> HTTPResponse:
    """Ask for the bytes from `offset` on, if they are still of the same file."""
    headers = {"User-Agent": "minigpt-lab"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if etag:
            headers["If-Range"] = etag
    try:
        return urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        answer = f"the server answers {error.code} {error.reason}"
        if error.code == 416:  # there is nothing from there on: the part is of something else
            part.unlink(missing_ok=True)
        if error.code in (408, 416, 429) or error.code >= 500:
            raise _Broken(answer) from error
        raise _Failed(answer) from error
    except URLError as error:
        raise _Unreachable(f"no connection ({error.reason})") from error
    except (OSError, HTTPException) as error:
        raise _Broken(f"the connection broke ({error})") from error


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives, as far as the connection holds."""
    remaining = response.length  # None when the server does not tell
    while remaining is None or remaining > 0:
        try:
            chunk = response.read1(CHUNK if remaining is None else min(CHUNK, remaining))
        except (OSError, HTTPException) as error:
            raise _Broken(f"the connection broke ({error})") from error
        if not chunk:
            return
        if remaining is not None:
            remaining -= len(chunk)
        yield chunk


def _remember(memory: IO[str], etag: str) -> None:
    """Keep the version for a later call; a weak ETag does not promise the same bytes."""
    memory.seek(0)
    memory.truncate()
    memory.write("" if etag.startswith("W/") else etag)
    memory.flush()


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
