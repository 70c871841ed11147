"""From the shell: signals end a run as Ctrl-C does, and nothing that is printed can fail it."""

import ast
import configparser
import io
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from experiments import handoff
from experiments.run.command import command_line
from experiments.run.display import printable
from experiments.run.folder import open_run
from experiments.run.interruption import STOPPING, Interruption, signals_interrupt, signals_wait
from experiments.run.tables import Table
from experiments.study.document import Heading, Paragraph, write_document

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


@pytest.fixture(autouse=True)
def as_a_shell_starts_us():
    """No signal is ignored, as under nohup SIGHUP is."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("begun", [True, False])
def test_a_signal_is_an_interruption(number, code, begun, tmp_path, capsys):
    def run(_):
        if not begun:
            os.kill(os.getpid(), number)
        with open_run(tmp_path / "run", {}, resume=False):
            os.kill(os.getpid(), number)

    before = [signal.getsignal(number) for number in STOPPING]
    with pytest.raises(SystemExit) as exit:
        command_line(Options, run, [])
    assert exit.value.code == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("interrupted; ")
    assert ("--resume" in error) == begun == (tmp_path / "run" / "run.json").exists()
    assert not begun or '"status": "interrupted"' in (tmp_path / "run" / "run.json").read_text()
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_in_another_thread_no_signal_is_waited_for():
    def wait() -> None:
        with signals_wait() as noted:
            seen.append(noted)

    seen: list[list[int]] = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert seen == [[]] and signal.getsignal(signal.SIGINT) is before


def test_a_second_signal_does_not_wait():
    with pytest.raises(Interruption), signals_wait() as noted:
        signal.raise_signal(signal.SIGINT)
        assert noted == [signal.SIGINT]
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_promises_no_resume_before_there_is_a_run(capsys):
    def run(_):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit:
        command_line(Options, run, [])
    assert exit.value.code == 130
    assert capsys.readouterr().err == "interrupted; what was finished is kept\n"


def test_the_version_is_the_packages(capsys):
    assert command_line(Options, lambda _: pytest.fail("it runs"), ["--version"]) is None
    assert capsys.readouterr().out == f"minigpt-lab {metadata.version('minigpt-lab')}\n"


def test_every_command_has_a_script_which_can_be_loaded():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    scripts = dict(line.split(" = ") for line in lines if line)
    commands = {path.stem for path in (ROOT / "experiments").glob("[a-z]*.py")}
    commands.remove("handoff_grid")  # which is handoff --grid
    expected = {f"minigpt-{c.replace('_', '-')}": f"experiments.{c}:main" for c in commands}
    assert scripts == expected
    for name, value in scripts.items():
        main = metadata.EntryPoint(name, value, "console_scripts").load()
        assert main.__module__ == value.split(":")[0]


COMMANDS = sorted(path.stem for path in (ROOT / "experiments").glob("[a-z]*.py"))


@pytest.mark.parametrize(
    "command, number, code",
    [
        ("handoff", signal.SIGTERM, 143),
        ("handoff", signal.SIGHUP, 129),
        *((command, signal.SIGINT, 130) for command in COMMANDS),
    ],
)
def test_a_signal_during_the_imports_ends_in_one_line(command, number, code, tmp_path):
    slow = "import time; print('importing', flush=True); time.sleep(60)"
    (tmp_path / "torch.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", f"experiments.{command}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (code, "interrupted; nothing was begun\n")


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)  # as nohup asks for
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_a_terminal_cannot_show_is_escaped(monkeypatch):
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding="cp1252"))
    command_line(Options, lambda _: print("\u0939\u093f", "caf\xe9", flush=True), [])
    assert terminal.getvalue().split() == [rb"\u0939\u093f", "café".encode("cp1252")]


def test_samples_are_shown_without_what_steers_a_terminal():
    assert printable("\u0939\u093f\tcaf\u00e9\n") == "\u0939\u093f\tcaf\u00e9\n"
    assert printable("\x1b[2Ja\rb\x00\u202e") == r"\x1b[2Ja\rb\x00\u202e"


def test_both_reports_escape_alike(tmp_path):
    text = "<script>x</script> & a|b"
    blocks = [Heading(text), Paragraph(text), Table([text], [[text]])]
    write_document(tmp_path, text, blocks)
    for name in ("report.md", "report.html"):
        written = (tmp_path / name).read_text()
        assert "<script>" not in written
        assert written.count("&lt;script&gt;x&lt;/script&gt; &amp; a") >= 4
    assert r"| &lt;script&gt;x&lt;/script&gt; &amp; a\|b |" in (tmp_path / "report.md").read_text()


def test_the_grid_is_told_of_and_no_bar_goes_into_a_file(capsys):
    with pytest.raises(SystemExit):
        handoff.main(["--help"])
    assert "--grid" in capsys.readouterr().out
    bars = [
        call
        for path in (ROOT / "experiments").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "tqdm"
    ]
    assert len(bars) >= 3
    for bar in bars:
        assert "disable" in {keyword.arg for keyword in bar.keywords}
