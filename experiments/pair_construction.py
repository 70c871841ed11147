"""Does it matter how preference pairs are made? `python -m experiments.pair_construction`."""

from dataclasses import dataclass

from experiments.run.command import command_line
from experiments.study.arms import Arm, Study
from experiments.study.claims import Claim
from experiments.study.conduct import run_study
from tasks.registry import task_class

MORE = {"best-vs-worst": " of several samples by chrF"}  # what a name does not say


@dataclass(frozen=True)
class PairConstructionStudy(Study):
    """Compare a task's ways of making preference pairs, with one handoff for all."""

    switch_epoch: int | None = None
    """Epochs of SFT before DPO, 0 is DPO alone; None: three tenths of the epochs."""
    pair_samples: int = 8
    """Continuations per sonnet that best-vs-worst pairs are chosen from."""

    name = "pair-construction"
    title = "How preference pairs are made"

    @property
    def question(self) -> str:
        """What is compared, and what is held equal."""
        names = task_class(self.task).preferences
        makers = ", ".join(f"V{n} {name}{MORE.get(name, '')}" for n, name in enumerate(names, 1))
        return f"One handoff, one loss; only the construction differs. {makers}."

    def arms(self) -> list[Arm]:
        switch = self.handoff(self.switch_epoch)
        return [
            self.arm(
                name,
                switch_epoch=switch,
                pairs=name,
                **({"pair_samples": self.pair_samples} if name == "best-vs-worst" else {}),
            )
            for name in task_class(self.task).preferences
        ]

    def claims(self) -> list[Claim]:
        first, third = "gold-vs-sample", "best-vs-worst"
        if not {first, third} <= task_class(self.task).preferences.keys():
            return []
        return [
            Claim(
                "V3 pairs (best-vs-worst) do as V1 pairs (gold-vs-sample)",
                "small differences",
                third,
                first,
                metric,
                "same",
            )
            for metric in self.judged
        ]


run = run_study


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(PairConstructionStudy, run, argv)


if __name__ == "__main__":
    main()
