"""The paper's claims, in a form that an interval can answer."""

from dataclasses import dataclass
from typing import Literal

from tasks import Score, Task
from tasks.base import UNSEEN
from tasks.metric import ratio

PAPER = (
    'Feng and Yang, "An Empirical Study of SFT-DPO Interaction and Parameterization in Small '
    'Language Models" (2026), arxiv.org/abs/2603.20100'
)

SECONDS = "seconds"  # of training per epoch, a metric of every task's runs
SECONDS_PER_EPOCH = Score(
    ratio,
    short="s/epoch",
    long="seconds of training per epoch, without making pairs",
    larger_is_better=False,
    margin=0.1,  # a tenth of the other arm's time
    relative=True,
    decimals=2,
    suffix=" s",
    unit="epochs",
)
MEMORY = "memory"  # at its peak, a metric of every task's runs
PEAK_MEMORY = Score(
    ratio,
    short="peak MiB",
    long="peak memory of the process, evaluations included, MiB",
    larger_is_better=False,
    margin=0.1,  # a tenth of the other arm's memory
    relative=True,
    decimals=0,
    suffix=" MiB",
    unit="runs",
)


@dataclass(frozen=True)
class Claim:
    """What the paper says of two arms.

    `expects` "more": `a` is better than `b`; "same": there is no difference between them that
    matters. The metric's score says from where on it does. With `beyond`, "more" says that `a` and
    `b` lie further apart than those two arms do, whichever of each two is the better. With `own`,
    `b` is `a` too, and stands for its reference, the policy at its handoff.
    """

    text: str
    paper: str  # the paper's own figures, or what it says
    a: str
    b: str
    metric: str  # of the task, SECONDS or MEMORY
    expects: Literal["more", "same"]
    primary: bool = False  # one of the few that are fixed before the runs; others are exploratory
    at: int | Literal["end", "best"] = "end"  # after which epoch; best: each arm's own
    beyond: tuple[str, str] | None = None
    own: bool = False


def judged_by(task: Task | type[Task]) -> tuple[str, ...]:
    """Return the metrics that claims are judged by, the headline's first.

    Those on what training has not seen, where the task tells it apart: on the rest a lookup may
    score as well as a model.
    """
    return tuple(n + UNSEEN if n + UNSEEN in task.metrics else n for n in task.judged)


def scores_of(task: Task | type[Task]) -> dict[str, Score]:
    """Return what is said of every metric of a task's runs, time and memory included."""
    return {**task.metrics, SECONDS: SECONDS_PER_EPOCH, MEMORY: PEAK_MEMORY}
