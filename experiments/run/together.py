"""The folder of a run that several processes share: the first one holds it, the others read it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from experiments.run.folder import RunFolder, open_run
from experiments.run.interruption import Interruption, signal_of
from minigpt import parallel
from minigpt.errors import InputError


class FollowedFolder(RunFolder):
    """A run's folder as a process sees it that is not the first: it knows the record, and reads."""

    def log(self, *, kind: str, **values) -> None:
        """Leave the log to the first process, as all that is written."""

    def flush(self) -> None:
        pass

    def log_extent(self) -> dict:
        return {}

    def update(self, **values) -> None:
        self.record |= values

    def _cut_log(self, progress: dict | None) -> None:
        pass


@contextmanager
def open_together(
    path: Path, config: dict, *, resume: bool, contents: dict[str, str] | None = None
) -> Iterator[RunFolder]:
    """Open a run's folder as `open_run` does, for all processes that share the run.

    They have to see the same folder. Raises InputError in those whose data, weights or task's
    options are not those of the first.
    """
    found = parallel.told_by_all(contents)
    if contents != found[0]:
        raise InputError(
            f"process {parallel.place().rank} has other data, weights or task's options than the "
            "first one; expected the same for all processes"
        )
    with ExitStack() as held:
        folder: RunFolder = FollowedFolder(path)

        @parallel.by_first
        def hold() -> dict:
            nonlocal folder
            folder = held.enter_context(open_run(path, config, resume=resume, contents=contents))
            return folder.record

        record = hold()
        if isinstance(folder, FollowedFolder):
            folder.record = record
        try:
            yield folder
        except parallel.ProcessLost:
            folder.drop_waiting()  # a GPU waits for the lost process, and who asks it waits as well
            raise
        except KeyboardInterrupt as stop:
            raise Interruption(signal_of(stop), resumable=True) from stop
