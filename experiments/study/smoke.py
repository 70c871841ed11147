"""The study in small: `python -m experiments.reproduce --smoke`.

Every experiment, table and figure on a handful of examples, with made-up question pairs where
Quora's are not at hand. It shows that everything works; its scores mean nothing.
"""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from experiments.study.search import FIRST
from minigpt.files import make_folder, write_text

Whole = TypeVar("Whole")  # the options of `experiments.reproduce`

PLAN = {"epochs": 2, "seeds": (0,), "train_examples": 8, "dev_examples": 2, "batch_size": 4}
OPTIONS = {  # fewer arms, where there are many of a kind
    "parameterization": {"ranks": (8,)},  # that of the handoffs, too
    "adapters": {"rank": 8},
    "handoff_grid": {"methods": ("full",)},
    "dpo_hyperparameters": {
        "betas": (0.1,),
        "rate_factors": (1.0, 3.0),
        "losses": ("ipo",),
    },
    "data_scale": {"shares": (0.5, 1.0)},
}

SAME = ("How do I learn {}?", "What is the best way to learn {}?")
OTHER = "Why is {} hard?"
SUBJECTS = ("Python", "chess", "Greek", "to swim", "the violin", "to cook", "algebra", "to sail")
NEW_SUBJECTS = ("Latin", "to dance", "physics", "to knit")


def made_up_questions(folder: Path) -> Path:
    """Write training and dev pairs in the course's form into a folder, and return the folder.

    Training asks of every subject twice. Pairs of dev share no question, with each other, which
    would make them one unit of an interval, or with training, as claims are on what is new.
    """
    asked = {"train": [(SUBJECTS, 0), (SUBJECTS, 1)], "dev": [(NEW_SUBJECTS, 0)]}
    for split, turns in asked.items():
        lines = ["id\tsentence1\tsentence2\tis_duplicate"]
        for subjects, turn in turns:
            for number, subject in enumerate(subjects, start=turn):
                second = SAME[1] if number % 2 else OTHER
                questions = f"{SAME[0].format(subject)}\t{second.format(subject)}"
                lines.append(f"{len(lines):x}\t{questions}\t{number % 2}")
        write_text(folder / f"quora-{split}.csv", "\n".join([*lines, ""]))
    return folder


MADE_UP = {"paraphrase": made_up_questions}  # data of the tasks that do not bring their own

ALREADY = ("adapters", "dpo_hyperparameters")  # experiments that the sonnets have shown to work


def planned(config: Whole, root: Path) -> Whole:
    """Return the plan of a whole study cut down; made-up data go into a folder under `root`."""
    small = {task: replace(config.plan(task), **PLAN) for task in config.tasks}
    for task in MADE_UP.keys() & small.keys():
        data = MADE_UP[task](make_folder(root / "made-up-questions"))
        left = tuple(name for name in small[task].experiments if name not in ALREADY)
        small[task] = replace(small[task], data=data, experiments=left or small[task].experiments)
    return replace(config, device="cpu", plans=small, tuning_runs=FIRST)
