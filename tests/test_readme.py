"""What the README shows works as it stands there."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from experiments import handoff

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(
    r"^(?:\.venv/bin/)?python -m experiments\.handoff(.*?)(?:#.*)?$",
    README.replace("\\\n", " "),
    re.MULTILINE,
)
# These need the network, data, a run, time.
ELSEWHERE = ("--help", "gpt2", "DIR", "--resume", "--config", "--model runs", "--grid")
CASES = Path(__file__).parent / "cases" / "own-data"
MODULES = sorted(set(re.findall(r"python -m ((?:experiments|benchmarks)\.\w+)", README)))


def test_all_examples_are_seen():
    assert len(PYTHON) == 3 and len(COMMANDS) == 15


@pytest.mark.slow
@pytest.mark.parametrize("code", PYTHON, ids=["notebook", "parts", "windows"])
def test_python_examples_run(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # Fewer epochs and sonnets, so that the test is short; the rest is as shown.
    short = "switch_epoch=1, epochs=2, train_examples=16"
    exec(code.replace("switch_epoch=3, epochs=4", short), {})
    assert "print" not in code or capsys.readouterr().out


@pytest.mark.parametrize("command", [c for c in COMMANDS if not any(e in c for e in ELSEWHERE)])
def test_commands_are_accepted(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_bytes((CASES / "preferences.jsonl").read_bytes())
    reviews = (CASES / "sentiment.csv").read_text(encoding="utf-8")
    (tmp_path / "reviews.csv").write_text(reviews.replace("sentence,", "text,", 1))
    poems = "".join(f"The quiet work of number {i}\nOutlasts the day.\n\n" for i in range(40))
    (tmp_path / "poems.txt").write_text(poems)
    arguments = [a for a in shlex.split(command) if a != "--dry-run"]
    handoff.main([*arguments, "--dry-run"])
    assert "phase" in capsys.readouterr().out


@pytest.mark.parametrize("module", MODULES)
def test_every_command_explains_itself(module, capsys):
    with pytest.raises(SystemExit) as exit:
        importlib.import_module(module).main(["--help"])
    assert exit.value.code == 0 and "--" in capsys.readouterr().out


def test_the_map_names_what_is_there_and_every_room():
    root = Path(__file__).parent.parent
    tree = re.search(r"## What is where\n\n```\n(.*?)```", README, re.DOTALL).group(1)
    package = room = root
    named, missing = {root}, []
    for line in tree.splitlines():
        if top := re.match(r"(\w+)/", line):
            package = room = root / top.group(1)
        elif inner := re.match(r"  (\w+)/", line):
            room = package / inner.group(1)
        elif re.match(r"  \w", line):  # a file of the package, on a line of its own
            room = package
        named.add(room)
        files = re.findall(r"\b\w+\.py\b", line)
        missing += [f"{room}/{file}" for file in files if not (room / file).is_file()]
        named |= {room / file for file in files}
    assert not missing and len(named) > 40
    tracked = [path.parent for path in root.rglob("__init__.py") if ".venv" not in path.parts]
    rooms = {path for path in tracked if len(path.relative_to(root).parts) <= 2}
    assert rooms <= named  # kernels/ is a room of fast/ and has its word there
    commands = set((root / "experiments").glob("[a-z]*.py"))
    assert commands <= named and len(commands) >= 9
