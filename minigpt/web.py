"""Requests over HTTP: for the rest of a file, and for what the server promises of the whole."""

import re
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener


class Failed(Exception):
    """The file cannot be had; the text says why."""


class Broken(Failed):
    """A transfer ended early; a new try may help, and goes on from what has arrived."""


class Unreachable(Broken):
    """No connection; a new try may help if there was one before."""


class Promised(NamedTuple):
    """What a server says of the whole file, in the headers of its answer or of a redirect."""

    size: int | None = None
    sha256: str | None = None
    git_blob_sha1: str | None = None


class Redirects(HTTPRedirectHandler):
    """Follows redirects, but never from https to http, and keeps what the Hub says in them.

    The Hub sends a reader of a large file on to a store, and says which file it will be: its size
    in X-Linked-Size, and its SHA-256 in X-Linked-ETag.
    """

    def __init__(self) -> None:
        self.promised = Promised()

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """Return the request for the new address; raises Failed where that is not encrypted."""
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise Failed("the server redirects from https to a connection that is not encrypted")
        size = headers.get("X-Linked-Size", "")
        promised = promised_by(headers.get("X-Linked-ETag", ""), size)
        self.promised = promised if any(promised) else self.promised
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def promised_by(etag: str, size: str = "") -> Promised:
    """Return what an ETag says: the Hub's is the SHA-256 of large files, git's hash of small ones.

    Elsewhere an ETag can be anything, but 64 hexadecimal digits are a SHA-256.
    """
    digest = etag.strip('"') if not etag.startswith("W/") else ""
    sha256, sha1 = (digest if re.fullmatch(f"[0-9a-f]{{{n}}}", digest) else None for n in (64, 40))
    return Promised(int(size) if re.fullmatch(r"\d{1,18}", size) else None, sha256, sha1)


def request(
    url: str, forget: Callable[[], None], offset: int, etag: str, timeout: float
) -> tuple[HTTPResponse, Promised]:
    """Ask for the bytes from `offset` on, if they are still of the same file.

    `forget` is called when there is nothing from there on. Raises Failed.
    """
    headers = {"User-Agent": "minigpt-lab"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if etag:
            headers["If-Range"] = etag
    redirects = Redirects()
    try:
        response = build_opener(redirects).open(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        answer = f"the server answers {error.code} {error.reason}"
        if error.code == 416:  # there is nothing from there on: the part is of something else
            forget()
        if error.code in (408, 416, 429) or error.code >= 500:
            raise Broken(answer) from error
        raise Failed(answer) from error
    except URLError as error:
        raise Unreachable(f"no connection ({error.reason})") from error
    except (OSError, HTTPException) as error:
        raise Broken(f"the connection broke ({error})") from error
    if any(redirects.promised):
        return response, redirects.promised
    return response, Promised(sha256=promised_by(response.headers.get("ETag", "")).sha256)
