"""Full fine-tuning against LoRA at matched epochs: `python -m experiments.parameterization`."""

from dataclasses import dataclass

from experiments.run.command import command_line
from experiments.study.arms import Arm, Study
from experiments.study.claims import SECONDS, Claim
from experiments.study.conduct import run_study

PAPER_FIGURES = {("paraphrase", "accuracy"): "89.87 against 87.70 % accuracy"}


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
        lora = [
            self.arm(f"LoRA r = {rank}", parameterization="lora", rank=rank) for rank in self.ranks
        ]
        return [self.arm("full"), *lora]

    def claims(self) -> list[Claim]:
        better = [
            Claim(
                f"full fine-tuning is better than LoRA r = {rank}",
                PAPER_FIGURES.get((self.task, metric), "better"),
                "full",
                f"LoRA r = {rank}",
                metric,
                "more",
                primary=metric == self.judged[0],
            )
            for metric in self.judged
            for rank in self.ranks
        ]
        faster = [
            Claim(
                f"LoRA r = {rank} is faster than full fine-tuning",
                "it is not",
                f"LoRA r = {rank}",
                "full",
                SECONDS,
                "more",
            )
            for rank in self.ranks
        ]
        return better + faster


run = run_study


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(ParameterizationStudy, run, argv)


if __name__ == "__main__":
    main()
