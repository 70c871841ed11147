"""Downloads against a local server that cuts, stalls, lies and serves the wrong bytes."""

import email.message
import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.request import Request

import numpy as np
import pytest

from minigpt import download
from minigpt.download import cache_folder, fetch
from minigpt.errors import InputError
from minigpt.web import Failed, Redirects

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = {"timeout": 20, "attempts": 3, "pause": 0.01}
CHECKED = {"size": len(CONTENT), "sha256": SHA256, **QUICK}
IMPATIENT = {**CHECKED, "timeout": 0.3}


def send(handler, body, *, status=200, length=None, stop=None, **headers):
    """Answer with `body`, of which only the first `stop` bytes are sent."""
    handler.send_response(status)
    if length != "untold":
        handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body[:stop])
    handler.wfile.flush()


def whole(handler, content=CONTENT, etag='"1"', ranges=True, stop=None):
    """A good server, which may still cut the connection after `stop` bytes."""
    start = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start = int(start[1]) if start else 0
    if ranges and start >= len(content):
        return send(handler, b"", status=416, Content_Range=f"bytes */{len(content)}")
    if not ranges or start == 0 or handler.headers.get("If-Range", etag) != etag:
        return send(handler, content, stop=stop, ETag=etag)
    place = f"bytes {start}-{len(content) - 1}/{len(content)}"
    send(handler, content[start:], status=206, stop=stop, Content_Range=place, ETag=etag)


def stalled(handler, after):
    """Send a beginning, then nothing for as long as the client has patience."""
    send(handler, CONTENT, stop=after, ETag='"1"')
    handler.server.closing.wait(3)


def silent(handler):
    """Take the request and never answer."""
    handler.server.closing.wait(3)


def error(handler, status):
    send(handler, b"no", status=status)


cut = partial(whole, stop=100_000)


@pytest.fixture
def server(monkeypatch, downloads):
    """A server whose n-th answer is the n-th of `plan`, then the last one again."""
    monkeypatch.setenv("no_proxy", "*")
    state = SimpleNamespace(plan=[whole], requests=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append(dict(self.headers))
            answer = state.plan[min(len(state.requests), len(state.plan)) - 1]
            with suppress(ConnectionError):  # the client has had enough
                answer(self)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.closing = threading.Event()
    state.url = f"http://127.0.0.1:{http.server_port}/model.safetensors"
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}).start()
    yield state
    http.closing.set()
    http.shutdown()
    http.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "model.safetensors"


def ranges(server):
    return [request.get("Range") for request in server.requests]


def left_over(path):
    """What lies in the folder beside the lock."""
    return {entry.name for entry in path.parent.iterdir()} - {path.name + ".lock"}


def test_brings_the_file_once_and_leaves_nothing_else(server, path):
    assert fetch(server.url, path, **CHECKED) == path
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    fetch(server.url, path, **CHECKED)
    assert len(server.requests) == 1


def test_git_blob_hash(server, path):
    blob = hashlib.sha1(f"blob {len(CONTENT)}\0".encode() + CONTENT).hexdigest()
    fetch(server.url, path, git_blob_sha1=blob, **QUICK)
    assert path.read_bytes() == CONTENT
    with pytest.raises(InputError, match="git blob hash"):
        fetch(server.url, path, git_blob_sha1="0" * 40, **QUICK)


def test_a_cut_connection_is_resumed_for_the_rest_alone(server, path):
    server.plan = [cut, cut, whole]
    fetch(server.url, path, **CHECKED)
    assert path.read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-", "bytes=200000-"]
    assert server.requests[1]["If-Range"] == '"1"'


def test_progress_renews_the_attempts(server, path):
    server.plan = [partial(whole, stop=40_000)]  # eight transfers, more than the attempts
    fetch(server.url, path, **CHECKED)
    assert len(server.requests) == 8


def test_a_later_call_resumes(server, path):
    server.plan = [cut, partial(error, status=500)]
    with pytest.raises(InputError, match="500"):
        fetch(server.url, path, **CHECKED)
    assert not path.exists()
    server.requests.clear()
    server.plan = [whole]
    fetch(server.url, path, **CHECKED)
    assert ranges(server) == ["bytes=100000-"]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("known", [CHECKED, QUICK])
def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server, path, known):
    older = partial(whole, content=bytes(300_000), etag='"0"', stop=100_000)
    server.plan = [older, whole]
    fetch(server.url, path, **known)
    assert path.read_bytes() == CONTENT


def test_without_hash_and_version_nothing_is_resumed(server, path):
    def cut_without_version(handler):
        send(handler, CONTENT, stop=100_000)

    server.plan = [cut_without_version, whole]
    fetch(server.url, path, **QUICK)
    assert ranges(server) == [None, None]
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server, path):
    server.plan = [cut, partial(whole, ranges=False)]
    fetch(server.url, path, **CHECKED)
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges_that_always_cuts_ends_the_call(server, path):
    server.plan = [partial(whole, ranges=False, stop=100_000)]
    with pytest.raises(InputError, match="ended after 100,000 of 300,000 bytes"):
        fetch(server.url, path, **CHECKED)
    assert len(server.requests) == 4  # one with progress, three attempts without
    assert not path.exists()


def test_another_range_than_asked_for_is_not_believed(server, path):
    def shifted(handler):
        send(handler, CONTENT[5:], status=206, Content_Range="bytes 5-299999/300000")

    server.plan = [cut, shifted, whole]
    fetch(server.url, path, **CHECKED)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("nonsense", [416, 206])
def test_an_answer_about_ranges_without_a_question(server, path, nonsense):
    server.plan = [partial(error, status=nonsense), whole]
    fetch(server.url, path, **CHECKED)
    assert path.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_given_up(server, path):
    path.parent.mkdir()
    path.with_name(path.name + ".part").write_bytes(bytes(400_000))
    fetch(server.url, path, sha256=SHA256, **QUICK)
    assert ranges(server) == ["bytes=400000-", None]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("bad", [partial(stalled, after=50_000), silent])
def test_a_stall_counts_as_a_break(server, path, bad):
    server.plan = [bad, whole]
    fetch(server.url, path, **IMPATIENT)
    assert path.read_bytes() == CONTENT


def test_a_server_that_only_stalls_ends_the_call(server, path):
    server.plan = [silent]
    with pytest.raises(InputError, match="timed out"):
        fetch(server.url, path, **IMPATIENT)
    assert len(server.requests) == 3


@pytest.mark.parametrize("length", [200_000, 400_000])
def test_a_length_that_is_not_the_expected_one_is_refused(server, path, length):
    server.plan = [partial(send, body=CONTENT, length=length)]
    with pytest.raises(InputError, match=f"a file of {length:,} bytes, expected 300,000"):
        fetch(server.url, path, **CHECKED)
    assert left_over(path) == set()


def test_a_length_beyond_the_content_is_a_break(server, path):
    server.plan = [partial(send, body=CONTENT, length=400_000)]
    with pytest.raises(InputError, match="300,000 of 400,000"):
        fetch(server.url, path, sha256=SHA256, **QUICK)
    assert not path.exists()


def test_a_length_short_of_the_content_fails_the_hash(server, path):
    server.plan = [partial(send, body=CONTENT, length=200_000)]
    with pytest.raises(InputError, match="SHA-256"):
        fetch(server.url, path, sha256=SHA256, **QUICK)
    assert left_over(path) == set()


def test_an_untold_length_is_checked_by_the_expected_one(server, path):
    server.plan = [partial(send, body=CONTENT, length="untold", stop=1000), whole]
    fetch(server.url, path, **CHECKED)
    assert path.read_bytes() == CONTENT


def test_a_server_that_sends_more_than_expected_is_stopped(server, path):
    server.plan = [partial(send, body=CONTENT * 20, length="untold")]
    with pytest.raises(InputError, match="bytes, expected 300,000"):
        fetch(server.url, path, **CHECKED)
    assert left_over(path) == set()


def test_wrong_bytes_are_deleted(server, path):
    server.plan = [partial(whole, content=bytes(300_000))]
    with pytest.raises(InputError, match="wrong .*SHA-256 is .*, expected"):
        fetch(server.url, path, **CHECKED)
    assert left_over(path) == set()
    server.plan = [whole]
    fetch(server.url, path, **CHECKED)
    assert path.read_bytes() == CONTENT


def test_not_found_is_not_tried_again(server, path):
    server.plan = [partial(error, status=404)]
    with pytest.raises(InputError, match="404"):
        fetch(server.url, path, **CHECKED)
    assert len(server.requests) == 1
    assert left_over(path) == set()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_tried_again(server, path, status):
    server.plan = [partial(error, status=status), whole]
    fetch(server.url, path, **CHECKED)
    assert path.read_bytes() == CONTENT


def test_without_a_server_the_message_tells_what_to_do(path, monkeypatch, downloads):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/model.safetensors"
    with pytest.raises(InputError) as caught:
        fetch(url, path, pause=1e9)  # it must not even wait for a second try
    assert url in str(caught.value) and f"put the file at {path} by hand" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_in_the_place_is_refused_and_kept(server, path):
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="4 bytes, expected 300,000; delete it"):
        fetch(server.url, path, **CHECKED)
    assert path.read_bytes() == b"mine"
    assert not server.requests


def test_an_unwritable_place_is_named(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot write"):
        fetch(server.url, tmp_path / "file" / "model", **CHECKED)


def test_two_that_want_the_same_file_share_one_transfer(server, path):
    def slow(handler):
        send(handler, CONTENT, stop=1000)
        handler.server.closing.wait(0.2)
        handler.wfile.write(CONTENT[1000:])

    server.plan = [slow]
    threads = [threading.Thread(target=fetch, args=(server.url, path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert len(server.requests) == 1


@pytest.mark.slow
def test_a_killed_process_leaves_a_part_to_go_on_from(server, path):
    server.plan = [partial(stalled, after=200_000), whole]
    code = f"from minigpt.download import fetch; fetch({server.url!r}, {str(path)!r}, timeout=60)"
    process = subprocess.Popen([sys.executable, "-c", code])
    part = path.with_name(path.name + ".part")
    while not (part.exists() and part.stat().st_size > 100_000):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    fetch(server.url, path, **QUICK)  # without a hash: the version it remembers must do
    assert path.read_bytes() == CONTENT
    assert server.requests[1]["If-Range"] == '"1"'


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("MINIGPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "minigpt-lab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "minigpt-lab"
    assert os.listdir(tmp_path) == []


# What a server says of the file itself, and what a hostile one tries.


def redirect(headers, url="https://huggingface.co/a", to="https://store.example/b"):
    handler = Redirects()
    new = handler.redirect_request(Request(url), None, 302, "Found", Message(headers), to)
    return handler.promised, new


def Message(headers):
    message = email.message.Message()
    for name, value in headers.items():
        message[name] = value
    return message


def test_no_redirect_leads_from_https_to_http():
    for to in ("http://store.example/b", "ftp://store.example/b"):
        with pytest.raises(Failed, match="not encrypted"):
            redirect({}, to=to)
    assert redirect({})[1].full_url == "https://store.example/b"
    assert redirect({}, url="http://a.example/", to="http://b.example/")[1] is not None


def test_what_the_hub_says_in_a_redirect():
    promised, _ = redirect({"X-Linked-Size": "12", "X-Linked-ETag": f'"{SHA256}"'})
    assert promised == (12, SHA256, None)
    assert redirect({"X-Linked-ETag": f'"{"a" * 40}"'})[0] == (None, None, "a" * 40)
    for nonsense in ({"X-Linked-Size": "-1"}, {"X-Linked-ETag": f'W/"{SHA256}"'}, {}):
        assert redirect(nonsense)[0] == (None, None, None)


@pytest.mark.parametrize("through", ["redirect", "ETag"])
@pytest.mark.parametrize("right", [True, False])
def test_a_file_of_which_nothing_is_known_is_checked_by_what_the_server_says(
    server, path, through, right
):
    content = CONTENT if right else CONTENT[:-1] + b"?"

    def to_the_store(handler):
        headers = {"X_Linked_ETag": f'"{SHA256}"', "X_Linked_Size": str(len(CONTENT))}
        send(handler, b"", status=302, Location="/store", **headers)

    etag = '"1"' if through == "redirect" else f'"{SHA256}"'
    store = partial(whole, content=content, etag=etag)
    server.plan = [to_the_store, store] if through == "redirect" else [store]
    if right:
        fetch(server.url, path, **QUICK)
        assert path.read_bytes() == CONTENT
    else:
        with pytest.raises(InputError, match="SHA-256 is .* and were not kept"):
            fetch(server.url, path, **QUICK)
        assert left_over(path) == set()


def test_another_length_than_the_hub_says_is_refused(server, path):
    def to_the_store(handler):
        send(handler, b"", status=302, Location="/store", X_Linked_Size="12")

    server.plan = [to_the_store, whole]
    with pytest.raises(InputError, match="offers a file of 300,000 bytes, expected 12"):
        fetch(server.url, path, **QUICK)
    assert left_over(path) == set()


@pytest.mark.parametrize("length", [None, "untold"])
def test_a_file_without_end_does_not_fill_the_disk(server, path, monkeypatch, length):
    monkeypatch.setattr(download, "MOST", 100_000)
    server.plan = [partial(send, body=CONTENT, length=length)]
    with pytest.raises(InputError, match="300,000 bytes, expected at most|more than 100,000 bytes"):
        fetch(server.url, path, **QUICK)
    assert left_over(path) == set()


@pytest.mark.parametrize("ending", [".part", ".etag", ".lock"])
def test_planted_links_are_not_followed(server, path, ending):
    path.parent.mkdir()
    victim = path.parent / "victim"
    victim.write_text("precious")
    path.with_name(path.name + ending).symlink_to(victim)
    with pytest.raises(InputError, match=f"{path.name}{ending} is a link; expected none"):
        fetch(server.url, path, **CHECKED)
    assert victim.read_text() == "precious" and not server.requests


def test_a_test_without_a_server_fetches_nothing(path):
    with pytest.raises(pytest.fail.Exception, match=r"a test fetches https://example\.org/a"):
        fetch("https://example.org/a", path)
    assert not path.exists() and not os.listdir(cache_folder())


@pytest.mark.slow
def test_a_process_that_a_test_starts_fetches_nothing(path):
    code = f"from minigpt.download import fetch; fetch('https://example.org/a', {str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Connection refused" in done.stderr and not path.exists()
