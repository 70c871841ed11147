"""What a run found, as a notebook gets it."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from experiments.run.curves import curves
from experiments.run.evaluation import evaluations
from experiments.run.metrics_log import STEP, read_finished
from experiments.run.page import result_page
from experiments.run.record import read_run
from experiments.run.score_table import score_rows
from minigpt.errors import InputError
from minigpt.files import reading
from tasks import Task
from tasks.registry import task_class


@dataclass(frozen=True, repr=False)
class Result:
    """What a finished run found. `epochs` are the evaluations on dev, the untuned model's first.

    `steps`, `scores` and `samples` return flat rows, which `pandas.DataFrame` takes as they are.
    """

    folder: Path
    epochs: list[dict]
    best: dict
    test: dict | None
    floors: dict[str, dict[str, float]]
    task: Task | type[Task]  # which says how scores are called and shown

    @classmethod
    def read(cls, folder: str | Path, task: Task | None = None) -> "Result":
        """Return what the finished run in `folder` found; InputError where there is none.

        `task` is needed for a task of one's own alone, which no name leads to.
        """
        folder = Path(folder)
        record = read_run(folder)
        if record.get("status") != "finished":
            raise InputError(
                f"the run in {folder} is {record.get('status')}; expected a finished one, "
                "resume it with --resume (in a notebook resume=True)"
            )
        with reading(folder / "run.json", "the record of a handoff"):
            return cls(
                folder,
                evaluations(read_finished(folder, record)),
                record["best"],
                record.get("test"),
                record["floors"],
                task or task_class(record["config"]["task"]),
            )

    @property
    def last(self) -> dict:
        return self.epochs[-1]

    def record(self) -> dict:
        """Return what run.json holds: options, versions, machine, times, memory."""
        return read_run(self.folder)

    def steps(self) -> list[dict]:
        """Return a row for each optimizer step: step, epoch, phase, loss and what else was logged.

        The metrics are named as TRL names them (rewards/chosen, ...).
        """
        return [row for row in self._log() if row["kind"] == STEP]

    def scores(self) -> list[dict]:
        """Return a row for each evaluation and metric: the value and its 95 % interval.

        Columns: step, epoch, phase, split, metric, value, low, high, larger_is_better.
        """
        return [
            {
                **_place(record),
                "metric": name,
                "value": score["value"],
                "low": score["interval"][0],
                "high": score["interval"][1],
                "larger_is_better": score["larger_is_better"],
            }
            for record in self._evaluations()
            for name, score in record["scores"].items()
        ]

    def samples(self) -> list[dict]:
        """Return a row for each text of each evaluation.

        Columns: step, epoch, phase, split, number, text.
        """
        return [
            {**_place(record), "number": number, "text": text}
            for record in self._evaluations()
            for number, text in enumerate(record.get("samples", ()))  # records are kept without
        ]

    def plot(self) -> Figure:
        """Return the figure of the run: losses, scores beside their floors, rewards."""
        return curves(self._log(), self.floors, self.task)

    def _log(self) -> list[dict]:
        return read_finished(self.folder, self.record())

    def _evaluations(self) -> list[dict]:
        """Return every evaluation's record, the one on test last, which is the best epoch's."""
        test = [{**self.best, **self.test, "split": "test"}] if self.test else []
        return [*self.epochs, *test]

    def __repr__(self) -> str:
        score = self.best["scores"][self.task.headline]
        shown = self.task.metrics[self.task.headline]
        return (
            f"Result({str(self.folder)!r}, {self.last['epoch']} epochs, best "
            f"{self.best['epoch']}: {shown.short} {shown.show(score['value'])})"
        )

    def _repr_html_(self) -> str:
        """Return the run as a notebook shows it: a summary, the scores, the figure."""
        metrics = {name: self.task.metrics[name] for name in self.epochs[0]["scores"]}
        rows = score_rows(self.epochs, self.best, self.test, self.floors, metrics)
        return result_page(self.folder, self.record(), rows, self.plot())


def _place(record: dict) -> dict:
    """Return where in the run an evaluation belongs."""
    return {key: record[key] for key in ("step", "epoch", "phase", "split")}
