"""LoRA's family at one rank: `python -m experiments.adapters`."""

from dataclasses import dataclass

from experiments.run.command import command_line
from experiments.study.arms import Arm, Study
from experiments.study.claims import Claim
from experiments.study.conduct import run_study

# Of Kalajdzievski (2023), arXiv 2312.03732; Liu et al. (2024), arXiv 2402.09353; and Hayou et al.
# (2024), arXiv 2402.12354. The papers say that each is better than LoRA.
VARIANTS = ("rsLoRA", "DoRA", "LoRA+")


@dataclass(frozen=True)
class AdaptersStudy(Study):
    """Compare LoRA, rsLoRA, DoRA and LoRA+ at one rank, and full fine-tuning."""

    rank: int = 16
    """Rank r of all adapters."""
    lora_plus: float = 16.0
    """LoRA+: its B learns so many times as fast as its A."""

    name = "adapters"
    title = "LoRA's family"
    question = (
        "SFT alone, matched in epochs, data, batch size and rank. rsLoRA divides alpha by the root "
        "of the rank, DoRA trains the lengths of the weights' rows too, LoRA+ lets B learn faster "
        "than A."
    )

    def arms(self) -> list[Arm]:
        def lora(name: str, **options) -> Arm:
            return self.arm(name, parameterization="lora", rank=self.rank, **options)

        return [
            self.arm("full"),
            lora("LoRA"),
            lora("rsLoRA", rank_stabilised=True),
            lora("DoRA", dora=True),
            lora("LoRA+", lora_plus=self.lora_plus),
        ]

    def claims(self) -> list[Claim]:
        better = [(f"{name} is better than LoRA", name, "LoRA") for name in VARIANTS]
        full = [(f"full fine-tuning is better than {name}", "full", name) for name in VARIANTS]
        return [
            Claim(text, "not in it", a, b, metric, "more")
            for metric in self.judged
            for text, a, b in (*better, *full)
        ]


run = run_study


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(AdaptersStudy, run, argv)


if __name__ == "__main__":
    main()
