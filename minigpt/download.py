"""Fetch a file once: resumed after a break, checked, and put in its place only when right."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from tqdm import tqdm

from minigpt.errors import InputError
from minigpt.files import hash_file, read_bytes
from minigpt.web import Broken, Failed, Promised, Unreachable, request

CHUNK = 1 << 16  # bytes taken from the network at once
MOST = 16 << 30  # bytes of a file of which no size is known; GPT-2 XL has 6.4 GB
ETAG_BYTES = 1000

_offline = ContextVar("offline", default=False)


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

    def __or__(self, promised: Promised) -> "Expected":
        """The same, and what the server says where nothing was known beforehand."""
        sha256, sha1 = promised.sha256, promised.git_blob_sha1
        if self.sha256 or self.git_blob_sha1:
            sha256 = sha1 = None  # what is known need not be believed
        return Expected(
            promised.size if self.size is None else self.size,
            self.sha256 or sha256,
            self.git_blob_sha1 or sha1,
        )


class Places(NamedTuple):
    """The files beside a file while it is fetched."""

    part: Path  # what has arrived
    etag: Path  # the version of the file that the part is of
    lock: Path  # held by the process that fetches

    @classmethod
    def of(cls, path: Path) -> "Places":
        """The places for `path`; InputError if one is a link, which leads elsewhere."""
        places = cls(*(path.with_name(path.name + end) for end in (".part", ".etag", ".lock")))
        for place in places:
            if place.is_symlink():
                raise InputError(f"{place} is a link; expected none, so delete it")
        return places

    def forget(self) -> None:
        """Remove what has arrived, so that the next transfer starts at the beginning."""
        for place in (self.part, self.etag):
            place.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where downloads are kept: $MINIGPT_CACHE, else minigpt-lab in the user's cache folder."""
    if chosen := os.environ.get("MINIGPT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigpt-lab"


class Absent(InputError):
    """A file that is not here yet, where nothing may be fetched."""


@contextmanager
def offline() -> Iterator[None]:
    """Within, `fetch` returns the files that are here and raises Absent for others."""
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


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

    A server may promise a size and a hash itself, as the Hub does: what is not given is taken from
    there. A redirect from https to http is not followed, nor a link in the place of a part.

    Raises InputError when the file cannot be had (Absent, if `offline`), is not the expected one
    (by size, SHA-256 or git blob hash, as far as known; MOST bytes if not), or cannot be written.
    """
    path = Path(path)
    expected = Expected(size, sha256, git_blob_sha1)
    try:
        if not path.exists():
            if _offline.get():
                raise Absent(f"{path} is not here, and will be fetched from {url}")
            path.parent.mkdir(parents=True, exist_ok=True)
            places = Places.of(path)
            with FileLock(places.lock):
                if not path.exists():  # else another process has brought it in the meantime
                    _download(url, places, expected, timeout, attempts, pause)
                    os.replace(places.part, path)
                    places.forget()
                with suppress(OSError):  # Windows removes no file that is open
                    places.lock.unlink()
    except Failed as error:
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


def _download(
    url: str, places: Places, expected: Expected, timeout: float, attempts: int, pause: float
) -> None:
    """Fill the part file, in as many transfers as it takes, and check it."""
    part = places.part
    most, failures, reached = _length(part), 0, False
    while expected.size is None or _length(part) != expected.size:
        try:
            expected |= _transfer(url, places, expected, timeout)
            break
        except Broken as error:
            reached = reached or not isinstance(error, Unreachable)
            failures = 0 if _length(part) > most else failures + 1
            most = max(most, _length(part))
            if failures == attempts or not reached:
                raise
            time.sleep(pause * 2**failures)
    if difference := expected.difference(part):
        places.forget()
        raise Failed(f"the bytes it gave are wrong ({difference}) and were not kept")


def _transfer(url: str, places: Places, expected: Expected, timeout: float) -> Promised:
    """One request for what is still missing, added to the part as it arrives."""
    part = places.part
    etag = read_bytes(places.etag, ETAG_BYTES).decode() if places.etag.exists() else ""
    checkable = etag or expected.sha256 or expected.git_blob_sha1
    offset = _length(part) if checkable else 0
    response, promised = request(url, places.forget, offset, etag, timeout)
    with response:
        if response.status != 206:
            offset = 0  # the server sends the file from its beginning
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            places.forget()
            raise Broken("the server sent another range than it was asked for")
        expected |= promised
        total = expected.size if response.length is None else offset + response.length
        limit = _limit(places, expected, total)
        _remember(places.etag, response.headers.get("ETag", ""))
        with (
            part.open("ab" if offset else "wb") as file,
            tqdm(desc=part.stem, total=total or limit, initial=offset, unit="B", unit_scale=True)
            as bar,
        ):  # fmt: skip
            for chunk in _chunks(response):
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > limit:
                    break  # a server that never ends must not fill the disk
            file.flush()
            os.fsync(file.fileno())
    if _length(part) > MOST:
        places.forget()
        raise Failed(f"it sends more than {MOST:,} bytes, of which nothing was kept")
    if total is not None and _length(part) < total:
        raise Broken(f"the connection ended after {_length(part):,} of {total:,} bytes")
    return promised


def _limit(places: Places, expected: Expected, total: int | None) -> int:
    """How many bytes may arrive; Failed if the server offers another number than expected."""
    if expected.size is None:
        if total is not None and total > MOST:
            places.forget()
            raise Failed(f"it offers a file of {total:,} bytes, expected at most {MOST:,}")
        return MOST
    if total not in (None, expected.size):
        places.forget()
        raise Failed(f"it offers a file of {total:,} bytes, expected {expected.size:,}")
    return expected.size


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives, as far as the connection holds."""
    remaining = response.length  # None when the server does not tell
    while remaining is None or remaining > 0:
        try:
            chunk = response.read1(CHUNK if remaining is None else min(CHUNK, remaining))
        except (OSError, HTTPException) as error:
            raise Broken(f"the connection broke ({error})") from error
        if not chunk:
            return
        if remaining is not None:
            remaining -= len(chunk)
        yield chunk


def _remember(place: Path, etag: str) -> None:
    """Keep the version for a later call; a weak ETag does not promise the same bytes."""
    place.write_text("" if etag.startswith("W/") else etag[:ETAG_BYTES])


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
