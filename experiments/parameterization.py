"""Full fine-tuning against LoRA at matched epochs: `python -m experiments.parameterization`."""

from dataclasses import dataclass

from experiments.run.command import command_line
from experiments.study.arms import Arm, Study
from experiments.study.claims import MEMORY, SECONDS, Claim
from experiments.study.conduct import run_study

PAPER_FIGURES = {("paraphrase", "accuracy"): "89.87 against 87.70 % accuracy"}
COSTS = (("is faster than", "it is not", SECONDS), ("needs less memory than", "not told", MEMORY))


@dataclass(frozen=True)
class ParameterizationStudy(Study):
    """Compare full fine-tuning with LoRA of several ranks, by score, seconds and memory."""

    ranks: tuple[int, ...] = (4, 8, 16)
    """Ranks r of the LoRA arms; alpha is the same for all, so that one rate can serve them."""

    name = "parameterization"
    title = "Full fine-tuning against LoRA"
    question = (
        "SFT alone, matched in epochs, data and batch size; learning rates by parameterization."
    )

    def arms(self) -> list[Arm]:
        lora = [self.arm(_name(rank), parameterization="lora", rank=rank) for rank in self.ranks]
        return [self.arm("full"), *lora]

    def claims(self) -> list[Claim]:
        better = [claim for metric in self.judged for claim in self._better(metric)]
        costs = [
            Claim(f"{lora} {text} full fine-tuning", paper, lora, "full", metric, "more")
            for text, paper, metric in COSTS
            for lora in map(_name, self.ranks)
        ]
        return better + costs + [claim for rank in self.ranks for claim in self._on_the_way(rank)]

    def _better(self, metric: str) -> list[Claim]:
        """Return that full fine-tuning is better in the end; of the middle rank it is primary."""
        paper = PAPER_FIGURES.get((self.task, metric), "better")
        middle = sorted(self.ranks)[len(self.ranks) // 2] if self.ranks else None
        return [
            Claim(
                f"full fine-tuning is better than {_name(rank)}",
                paper,
                "full",
                _name(rank),
                metric,
                "more",
                primary=metric == self.judged[0] and rank == middle,
            )
            for rank in self.ranks
        ]

    def _on_the_way(self, rank: int) -> list[Claim]:
        """Return the same by the headline after each epoch but the last, and at the best ones.

        Nothing where the last epoch alone is evaluated.
        """
        evaluated = range(self.evaluate_every, self.epochs, self.evaluate_every)
        places = [(f"after epoch {epoch}", epoch) for epoch in evaluated]
        if places:
            places.append(("where each stops at its best epoch", "best"))
        return [
            Claim(
                f"full fine-tuning is better than {_name(rank)} {when}",
                "better",
                "full",
                _name(rank),
                self.judged[0],
                "more",
                at=at,
            )
            for when, at in places
        ]


def _name(rank: int) -> str:
    return f"LoRA r = {rank}"


run = run_study


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(ParameterizationStudy, run, argv)


if __name__ == "__main__":
    main()
