"""What DPO's options and its relatives do: `python -m experiments.dpo_hyperparameters`."""

from dataclasses import dataclass

from experiments.run.command import command_line
from experiments.run.plan import with_defaults
from experiments.study.arms import Arm, Study
from experiments.study.conduct import run_study
from objectives import PREFERENCE_LOSSES


@dataclass(frozen=True)
class DPOHyperparametersStudy(Study):
    """Cross beta with DPO's learning rate; then label smoothing, an SFT term and other losses."""

    seeds: tuple[int, ...] = (0,)
    """Every arm is run once with each."""
    switch_epoch: int | None = None
    """Epochs of SFT before DPO, 0 is DPO alone; None: three tenths of the epochs."""
    betas: tuple[float, ...] = (0.03, 0.1, 0.3)
    """Values of beta, for the sigmoid loss."""
    rate_factors: tuple[float, ...] = (1 / 3, 1.0, 3.0)
    """DPO's learning rates, as multiples of the default."""
    label_smoothings: tuple[float, ...] = (0.1,)
    """Conservative DPO's probabilities of a wrong preference, at the default beta and rate."""
    sft_weights: tuple[float, ...] = (0.1,)
    """Weights of an SFT term, at the default beta and rate."""
    losses: tuple[str, ...] = tuple(name for name in PREFERENCE_LOSSES if name != "sigmoid")
    """Other losses, each at its own defaults."""

    name = "dpo-hyperparameters"
    title = "DPO's options and relatives"
    question = (
        "One handoff; beta against the learning rate of DPO, then one change at a time "
        "from the defaults."
    )

    def heat_map(self) -> list[tuple[float, float, str]]:
        """Return beta, learning rate and the arm's name of every cell."""
        rate = with_defaults(self.arm("").config).dpo_learning_rate
        return [
            (beta, factor * rate, f"beta {beta:g}, rate {factor * rate:.2g}")
            for beta in self.betas
            for factor in self.rate_factors
        ]

    def arms(self) -> list[Arm]:
        switch = self.handoff(self.switch_epoch)
        cells = [
            self.arm(name, switch_epoch=switch, beta=beta, dpo_learning_rate=rate)
            for beta, rate, name in self.heat_map()
        ]
        smoothed = [
            self.arm(f"label smoothing {value:g}", switch_epoch=switch, label_smoothing=value)
            for value in self.label_smoothings
        ]
        held_up = [
            self.arm(f"SFT weight {value:g}", switch_epoch=switch, sft_weight=value)
            for value in self.sft_weights
        ]
        others = [self.arm(name, switch_epoch=switch, loss=name) for name in self.losses]
        return cells + smoothed + held_up + others


run = run_study


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(DPOHyperparametersStudy, run, argv)


if __name__ == "__main__":
    main()
