"""Does it matter how preference pairs are made? `python -m experiments.pair_construction`."""

from dataclasses import dataclass

from experiments.run.command import command_line
from experiments.study.arms import Arm, Study
from experiments.study.claims import MARGINS, PAPER_METRICS, Claim
from experiments.study.conduct import run_study
from tasks.registry import TASKS


@dataclass(frozen=True)
class Config(Study):
    """Compare a task's ways of making preference pairs, with one handoff for all."""

    switch_epoch: int | None = None
    """Epochs of SFT before DPO; None: three tenths of the epochs."""
    pair_samples: int = 8
    """Continuations per sonnet that best-vs-worst pairs are chosen from."""

    name = "pair-construction"
    title = "How preference pairs are made"
    question = (
        "One handoff, one loss; only the construction differs. V1 gold-vs-sample, "
        "V2 gold-vs-corrupted, V3 best-vs-worst of several samples by chrF."
    )

    def arms(self) -> list[Arm]:
        switch = self.switch_epoch or self.early_switch
        return [
            self.arm(
                name,
                switch_epoch=switch,
                pairs=name,
                **({"pair_samples": self.pair_samples} if name == "best-vs-worst" else {}),
            )
            for name in TASKS[self.task].preferences
        ]

    def claims(self) -> list[Claim]:
        names = [arm.name for arm in self.arms()]
        if len(names) < 3:
            return []
        return [
            Claim(
                "V3 pairs (best-vs-worst) do as V1 pairs (gold-vs-sample)",
                "small differences",
                names[2],
                names[0],
                metric,
                "same",
                MARGINS[metric],
            )
            for metric in PAPER_METRICS[self.task]
        ]


run = run_study


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(Config, run, argv)


if __name__ == "__main__":
    main()
