"""Does it matter how preference pairs are made? `python -m experiments.pair_construction`."""

from dataclasses import dataclass
from itertools import combinations

from experiments.run.command import command_line
from experiments.study.arms import SFT_ALONE, Arm, Study
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
    def _makers(self) -> list[str]:
        return list(task_class(self.task).preferences)

    @property
    def question(self) -> str:
        """What is compared, and what is held equal."""
        makers = ", ".join(
            f"V{n} {name}{MORE.get(name, '')}" for n, name in enumerate(self._makers, 1)
        )
        return f"One handoff, one loss; only the construction differs. {makers}."

    def arms(self) -> list[Arm]:
        switch = self.handoff(self.switch_epoch)
        makers = [
            self.arm(
                name,
                switch_epoch=switch,
                pairs=name,
                **({"pair_samples": self.pair_samples} if name == "best-vs-worst" else {}),
            )
            for name in self._makers
        ]
        return [*makers, self.arm(SFT_ALONE)]

    def claims(self) -> list[Claim]:
        pairs = {name: f"V{n} pairs ({name})" for n, name in enumerate(self._makers, 1)}
        each_other = [
            (f"{pairs[later]} do as {pairs[earlier]}", "small differences", later, earlier)
            for earlier, later in combinations(pairs, 2)
        ]
        sft = [
            (f"DPO on {shown} does as SFT alone", "about nothing", name, SFT_ALONE)
            for name, shown in pairs.items()
        ]
        return [
            Claim(*said, metric, "same") for metric in self.judged for said in (*each_other, *sft)
        ]


run = run_study


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(PairConstructionStudy, run, argv)


if __name__ == "__main__":
    main()
