"""Who watches a run: a callable that gets each row of its log, a dict, as soon as it is logged.

`handoff.run(config, observer=...)` takes any. Here are a figure that grows in a notebook and, for
`--log`, thin bridges to TensorBoard and Trackio.
"""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from matplotlib.figure import Figure

from experiments.run.curves import curves
from experiments.run.metrics_log import EVALUATION
from minigpt.errors import InputError
from tasks import Task
from tasks.registry import task_class

Observer = Callable[[dict], None]


class LivePlot:
    """The figure of a run, drawn anew while it trains: `handoff.run(config, observer=LivePlot())`.

    It is drawn after every evaluation, and at most once in so many `seconds` between. `task` is the
    run's, or its name; `show` gets each figure, and by default puts it into the notebook's cell, in
    the place of the one before.
    """

    def __init__(
        self,
        task: str | Task = "sonnet",
        *,
        seconds: float = 5.0,
        show: Callable[[Figure], None] | None = None,
    ):
        self.task = task_class(task) if isinstance(task, str) else task
        self.seconds = seconds
        self.show = show or _in_the_cell()
        self.rows: list[dict] = []
        self.drawn_at = time.monotonic()

    def __call__(self, row: dict) -> None:
        self.rows.append(row)
        if row["kind"] == EVALUATION or time.monotonic() - self.drawn_at > self.seconds:
            self.show(curves(self.rows, {}, self.task))
            self.drawn_at = time.monotonic()


def _in_the_cell() -> Callable[[Figure], None]:
    """Return what shows figures in a notebook's cell, each in the place of the one before."""
    from IPython.display import HTML, Image, display  # only a notebook needs it, and has it

    handle = display(HTML(""), display_id=True)

    def show(figure: Figure) -> None:
        picture = io.BytesIO()
        figure.savefig(picture, dpi=80, format="png")
        handle.update(Image(picture.getvalue()))

    return show


def scalars(row: dict) -> dict[str, float]:
    """Return the numbers of a row under the names that loggers group: train/loss, dev/chrf."""
    plain = {name: v for name, v in row.items() if isinstance(v, float | int) and name != "step"}
    scores = {name: score["value"] for name, score in row.get("scores", {}).items()}
    split = row.get("split", "train")
    return {f"{split}/{name}": value for name, value in (plain | scores).items()}


@contextmanager
def tensorboard(folder: Path, config: dict) -> Iterator[Observer]:
    """Write TensorBoard's event file into the run's folder."""
    writer = import_module("torch.utils.tensorboard").SummaryWriter(folder / "tensorboard")
    with writer:

        def observe(row: dict) -> None:
            for name, value in scalars(row).items():
                writer.add_scalar(name, value, row["step"])

        yield observe


@contextmanager
def trackio(folder: Path, config: dict) -> Iterator[Observer]:
    """Log to Trackio's local store, as a run called like the folder; `trackio show` shows it."""
    module = import_module("trackio")
    run = module.init(project="minigpt-lab", name=folder.name, config=config, resume="allow")
    try:
        yield lambda row: run.log(scalars(row), step=row["step"])
    finally:
        run.finish()


LOGS = {"tensorboard": tensorboard, "trackio": trackio}  # each named as the package that it needs


def check_log(log: str | None) -> None:
    """Raise InputError if the package that a log needs is not installed."""
    if log and not find_spec(log):
        raise InputError(
            f"--log {log} needs the package {log}, which is not installed; "
            f"expected it, pip install {log}"
        )


def open_log(
    log: str | None, folder: Path, config: dict
) -> AbstractContextManager[Observer | None]:
    """Return the observer of `--log`, open until the run ends; None without one."""
    return LOGS[log](folder, config) if log else nullcontext()
