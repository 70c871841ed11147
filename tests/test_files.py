"""Files are replaced whole or stay as they were."""

import os
import subprocess
import sys

import pytest
import torch

from minigpt.errors import InputError
from minigpt.files import read_json, replacing, save_tensors, tensor_reader, write_text


def test_a_file_is_replaced_only_at_the_end(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["file/below", "missing/below"])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, place):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot write .*below: "):
        write_text(tmp_path / place, "text")


def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"a": torch.ones(2), "b": torch.ones(2)}, {})
    read = tensor_reader(path)
    assert read("a").tolist() == [1.0, 1.0]
    save_tensors(path, {"a": torch.zeros(2), "b": torch.zeros(2)}, {})
    with pytest.raises(InputError, match="was replaced while it was read"):
        read("b")


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(tmp_path):
    code = (
        "import os; from pathlib import Path; from minigpt.files import replacing\n"
        f"with replacing(Path({str(tmp_path / 'other.txt')!r})): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()})
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".other.txt.") and left.name.endswith(".tmp")
    in_use = left.with_name(left.name.replace(left.name.split(".")[-2], str(os.getppid())))
    elsewhere = tmp_path / ".other.txt.another-machine.1.tmp"
    elsewhere_old = tmp_path / ".other.txt.another-machine.2.tmp"
    mine = tmp_path / ".my.notes.tmp"
    for path in (in_use, elsewhere, elsewhere_old, mine):
        path.touch()
    os.utime(elsewhere_old, (0, 0))
    write_text(tmp_path / "file.txt", "new")
    assert set(tmp_path.iterdir()) == {in_use, elsewhere, mine, tmp_path / "file.txt"}


def test_what_another_process_sweeps_first_is_nobodys_error(tmp_path, monkeypatch):
    """Both list the folder; then the other one, of another machine, is the faster."""
    left = tmp_path / ".other.txt.another-machine.1.tmp"
    left.touch()
    entries = list(os.scandir(tmp_path))
    left.unlink()
    monkeypatch.setattr("minigpt.files.os.scandir", lambda folder: entries)
    write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "new"


def test_links_planted_under_the_temporary_name_are_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "file.txt"
    victim.write_text("precious")
    with replacing(path) as temporary:
        pass
    temporary.symlink_to(victim)
    write_text(path, "new")
    assert victim.read_text() == "precious" and path.read_text() == "new"
    assert set(tmp_path.iterdir()) == {victim, path}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_mode_of_a_replaced_file_is_kept(tmp_path, mode):
    write_text(tmp_path / "file.txt", "old")
    save_tensors(tmp_path / "file.safetensors", {"a": torch.ones(2)}, {})
    for path in tmp_path.iterdir():
        path.chmod(mode)
    write_text(tmp_path / "file.txt", "new")
    save_tensors(tmp_path / "file.safetensors", {"a": torch.ones(3)}, {})
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}


@pytest.mark.parametrize(
    "content",
    [
        '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": 1, "a": 2}', "[" * 100_000,
        '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}", "[1]", "{", "\ud800",
    ],
)  # fmt: skip
def test_json_by_the_letter_of_the_standard(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(InputError, match="file.json") as caught:
        read_json(path)
    assert len(str(caught.value)) < 500


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InputError, match="a folder, a pipe or a device"):
        read_json(tmp_path / "config.json")


def test_an_error_is_one_short_printable_line():
    message = str(InputError("a\nb\x1b[31mc\u202e" + "x" * 100_000))
    assert message.startswith("a\\nb\\x1b[31mc\\u202exxx") and message.isprintable()
    assert len(message) <= 1000
