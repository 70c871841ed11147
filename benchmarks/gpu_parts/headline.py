"""The paper's headline run, 283,003 question pairs for ten epochs, with the real command."""

import time

from benchmarks.gpu_parts.part import Report, Settings, read_rows
from benchmarks.gpu_parts.questions import train_on_questions

EARLIER = "projection"  # the part that projects
SAMPLE_EPOCHS = 4  # of it: two a phase, as the first of a phase also compiles
WINS = 0.98  # of eager's time, below which the whole run is compiled
MARGIN = 20.0  # seconds before the part's time is out


class OutOfTimeError(Exception):
    """Raised by the observer of a run, which ends it."""


def project(settings: Settings, report: Report) -> None:
    """Report what the whole run will take, by a short one in each backend but inductor."""
    for backend in settings.backends[:2]:
        started, rows = time.monotonic(), []
        train_on_questions(
            settings,
            settings.sample_pairs,
            settings.dev_pairs,
            rows.append,
            epochs=SAMPLE_EPOCHS,
            switch_epoch=SAMPLE_EPOCHS // 2,
            precision=settings.precision,
            compile=backend,
        )
        epochs = [row for row in rows if "scores" in row and row["epoch"]]
        seconds = projected(epochs, time.monotonic() - started, settings)
        report(backend=backend, minutes=seconds / 60, projected=True)


def projected(epochs: list[dict], wall: float, settings: Settings) -> float:
    """Return the seconds of the whole run, from a short one's evaluations and its wall time.

    An epoch takes what the second of its phase took, per pair; what the first took more is taken
    once. An evaluation is of all dev pairs in both. All else (reading, tokenising, the reference's
    log-probs) is taken to grow with the pairs.
    """
    factor = settings.pairs / settings.sample_pairs
    sft, dpo = ([e["seconds"] for e in epochs if e["phase"] == phase] for phase in ("sft", "dpo"))
    evaluations = [epoch["evaluation_seconds"] for epoch in epochs]
    once = max(0.0, sft[0] - sft[1]) + max(0.0, dpo[0] - dpo[1])
    other = max(0.0, wall - sum(sft + dpo + evaluations))
    steps = settings.switch_epoch * sft[1] + (settings.epochs - settings.switch_epoch) * dpo[1]
    return factor * (steps + other) + once + (settings.epochs + 1) * evaluations[-1]


def run_headline(settings: Settings, report: Report) -> None:
    """Report every epoch of the whole run, as far as the time allows, and the whole if it ends."""
    started = time.monotonic()
    backend = faster_backend(settings)

    def since() -> float:
        return round(time.monotonic() - started, 1)

    def observe(row: dict) -> None:
        if "scores" in row:
            report(backend=backend, epoch=row["epoch"], phase=row["phase"], seconds=since())
        if since() > settings.seconds - MARGIN:
            raise OutOfTimeError

    try:
        train_on_questions(
            settings,
            settings.pairs,
            settings.dev_pairs,
            observe,
            epochs=settings.epochs,
            switch_epoch=settings.switch_epoch,
            precision=settings.precision,
            compile=backend,
        )
    except OutOfTimeError:
        report(backend=backend, stopped_after=since())
    else:
        report(backend=backend, minutes=since() / 60, projected=False)


def faster_backend(settings: Settings) -> str:
    """Return the backend that the projection found to be faster; eager without one."""
    minutes = {row["backend"]: row["minutes"] for row in read_rows(settings.out, EARLIER)}
    wins = len(minutes) == 2 and minutes["minigpt"] < WINS * minutes["eager"]
    return "minigpt" if wins else "eager"
