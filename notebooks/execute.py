"""Run the notebooks from top to bottom and keep their outputs: `python execute.py [NAME ...]`.

Whoever changes a code cell runs this: each notebook carries a hash of the code that its outputs
come from, and a test compares the two. It needs the extra `test`, and `parity` for notebook 6.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
SECONDS = 600  # for one cell, on a machine that does other work as well
# Progress bars, and what other libraries warn of, change with their versions and with the machine.
QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}


def notebooks() -> list[Path]:
    """Return the paths of all notebooks, in the order in which they are read."""
    return sorted(FOLDER.glob("[0-9]*.ipynb"))


def code_hash(notebook: nbformat.NotebookNode) -> str:
    """Return a hash of all code cells, in their order."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()


def execute(notebook: nbformat.NotebookNode) -> None:
    """Replace all outputs by those of a fresh kernel; raises CellExecutionError if a cell fails."""
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute(env={**os.environ, **QUIET})
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "executed": code_hash(notebook),
    }


def main(names: list[str]) -> None:
    for path in [FOLDER / name for name in names] or notebooks():
        notebook = nbformat.read(path, as_version=4)
        started = time.monotonic()
        execute(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
