"""Where a run took place: commit, versions, machine."""

import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import torch

from minigpt import parallel

PACKAGES = ("torch", "numpy", "tiktoken", "sacrebleu", "safetensors")


def environment(device: str | None = None) -> dict:
    """What a reader needs to judge or repeat a run on `device`: commit, versions, machine."""
    on_gpu = torch.device(device or "cpu").type == "cuda"
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "processes": parallel.place().size,
        "cuda": torch.cuda.get_device_name(device) if on_gpu else None,
    }


def _git(*arguments: str) -> str | None:
    """The output of git in this source tree; None without git or outside a checkout."""
    source = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", source, *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
