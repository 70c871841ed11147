"""More data or more epochs: `python -m experiments.data_scale`."""

from dataclasses import dataclass
from functools import cached_property

from experiments.run.command import command_line
from experiments.study.arms import Arm, Study
from experiments.study.claims import Claim
from experiments.study.conduct import run_study
from minigpt.errors import InputError


@dataclass(frozen=True)
class DataScaleStudy(Study):
    """Compare subsets of the training data at an equal number of training steps."""

    shares: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Shares of the training examples; an arm on half of them makes twice the epochs."""

    name = "data-scale"
    title = "More data against more epochs"
    question = "SFT at an equal budget of steps: fewer examples are seen more often."

    def check(self) -> None:
        if len(set(self.shares)) < 2:
            raise InputError(
                f"--shares is {' '.join(map(str, self.shares)) or 'empty'}; expected two or more "
                "different shares of the training examples"
            )
        super().check()
        for share in self.shares:
            if abs(share * round(1 / share) - 1) > 0.02:
                raise InputError(
                    f"--shares has {share}, and no number of its epochs is as long as one of all "
                    "examples; expected one over a whole number, 0.5 or 0.25 say"
                )

    @cached_property
    def sizes(self) -> list[int]:
        """Training examples of each arm."""
        examples = len(self.read_task().examples("train"))
        return [max(1, round(share * examples)) for share in sorted(self.shares)]

    def arms(self) -> list[Arm]:
        arms = []
        for share, size in zip(sorted(self.shares), self.sizes):
            repeats = round(1 / share)
            arms.append(
                self.arm(
                    f"{size:,} examples x {repeats * self.epochs}",
                    train_examples=size,
                    epochs=repeats * self.epochs,
                    switch_epoch=repeats * self.epochs,
                    evaluate_every=repeats,
                )
            )
        return arms

    def claims(self) -> list[Claim]:
        few, *_, all_of_them = (arm.name for arm in self.arms())
        return [
            Claim(
                f"more data beat more epochs on less{when}",
                "diversity beats repetition",
                all_of_them,
                few,
                metric,
                "more",
                at=at,
            )
            for when, at in (("", "end"), (", each stopped at its best epoch", "best"))
            for metric in self.judged
        ]


run = run_study


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(DataScaleStudy, run, argv)


if __name__ == "__main__":
    main()
