"""What stays in the folder of a finished run, whose records always do."""

from pathlib import Path
from shutil import rmtree

from experiments.run.source import POLICIES
from minigpt.parallel import by_first

TO_RESUME = ("checkpoint.safetensors", "reference-*.safetensors")  # and the reference's log-probs
REMOVED = {"checkpoint": (), "weights": TO_RESUME, "nothing": (*TO_RESUME, *POLICIES)}


@by_first
def clear(folder: Path, keep: str) -> int:
    """Remove all that `keep` does not name from a finished run; return how many bytes it had."""
    freed = 0
    for path in (path for pattern in REMOVED[keep] for path in sorted(folder.glob(pattern))):
        freed += sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
        rmtree(path) if path.is_dir() else path.unlink()
    return freed
