"""An earlier commit of ours, as a side to measure beside the present one."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.job import ROOT
from minigpt.errors import InputError


def unpack(commit: str, folder: Path) -> Path:
    """Write the files of a commit of this repository into a new folder; return the folder.

    Raises InputError for a commit that git does not know here.
    """
    archive = folder.with_suffix(".tar")
    command = ["git", "-C", ROOT, "archive", "--output", archive, commit]
    try:
        subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(
            f"--against is {commit!r}, which git does not know here; expected a commit of this "
            "repository"
        ) from error
    shutil.unpack_archive(archive, folder, filter="data")
    return folder
