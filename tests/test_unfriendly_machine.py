"""The README's first command and its notebook cell where terminal and home are of no help."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from tests.test_readme import PYTHON, README

ROOT = Path(__file__).parent.parent
FIRST = re.findall(r"^\.venv/bin/python (-m experiments\.handoff .*)$", README, re.MULTILINE)[0]
SMALL = "--epochs 4 --train-examples 8 --dev-examples 2 --samples 1 --batch-size 4"
# Run again, the cell is refused; with resume=True it reports the finished run again. Neither may
# leave the folder locked.
CELL_TWICE = """
import sys
from pathlib import Path
from minigpt.errors import InputError

cell = Path(sys.argv[1]).read_text(encoding="utf-8")
first, second = {}, {}
exec(cell, first)
try:
    exec(cell, {})
except InputError as error:
    print("refused:", error)
exec(cell.replace("out=", "resume=True, out="), second)
assert first["result"].best["scores"] == second["result"].best["scores"]
"""


def unfriendly(folder: Path) -> dict[str, str]:
    """An environment whose terminal lacks most characters, and whose home is no folder."""
    nowhere = folder / "file"
    nowhere.write_text("")
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    temporary = folder / "tmp"
    temporary.mkdir()
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "cp1252",
        "LC_ALL": "C",
        "HOME": str(nowhere),
        "MINIGPT_CACHE": str(nowhere / "cache"),
        "TMPDIR": str(temporary),
    }


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    (folder / "work").mkdir()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder / "work",
        env=unfriendly(folder),
        capture_output=True,
        timeout=300,
    )
    errors = done.stderr.decode("cp1252")
    assert done.returncode == 0, errors
    lines = errors.splitlines()  # matplotlib says, once, that it keeps its fonts elsewhere
    assert len(lines) <= 3 and all("matplotlib" in line.lower() for line in lines), errors
    for lock in (folder / "work").rglob("lock"):
        filelock.FileLock(lock).acquire(blocking=False)  # raises Timeout if it is held
    assert not [path for path in (folder / "work").rglob("*") if path.suffix in (".tmp", ".part")]
    return done


@pytest.mark.slow
def test_the_first_command(model, tmp_path):
    done = run(tmp_path, *shlex.split(FIRST), *SMALL.split(), "--model", str(model))
    assert b"record: " in done.stdout
    (report,) = (tmp_path / "work" / "runs").glob("*/report.txt")
    assert "best: epoch" in report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_notebook_cell_twice_in_one_kernel(model, tmp_path):
    small = f"switch_epoch=1, epochs=2, train_examples=8, dev_examples=2, model={str(model)!r}"
    (cell,) = (code for code in PYTHON if "handoff.run" in code)
    assert "switch_epoch=3, epochs=4" in cell
    path = tmp_path / "cell.py"
    path.write_text(cell.replace("switch_epoch=3, epochs=4", small), encoding="utf-8")
    done = run(tmp_path, "-c", CELL_TWICE, str(path))
    assert b"refused: " in done.stdout and b"resume=True" in done.stdout
