"""What DPO's options and its relatives do: `python -m experiments.dpo_hyperparameters`."""

from dataclasses import dataclass

from experiments.run.command import command_line
from experiments.run.plan import with_defaults
from experiments.study.arms import SFT_ALONE, Arm, Study
from experiments.study.claims import Claim
from experiments.study.conduct import run_study
from objectives import PREFERENCE_LOSSES

AS_TUNED = "DPO as tuned"


@dataclass(frozen=True)
class DPOHyperparametersStudy(Study):
    """Cross beta with DPO's learning rate; then label smoothing, an SFT term and other losses."""

    seeds: tuple[int, ...] = (0,)
    """Every arm is run once with each."""
    switch_epoch: int | None = None
    """Epochs of SFT before DPO, 0 is DPO alone; None: three tenths of the epochs."""
    betas: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
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
        "from the defaults, or from what was tuned."
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
        changes = ({AS_TUNED: {}} if self.tuned else {}) | self._changes()
        others = [
            self.arm(name, switch_epoch=switch, **options) for name, options in changes.items()
        ]
        return [*cells, *others, self.arm(SFT_ALONE)]

    def claims(self) -> list[Claim]:
        metric = self.judged[0]
        names = [arm.name for arm in self.arms() if arm.name != SFT_ALONE]
        usual = self._usual()
        against = [(name, usual) for name in names if usual and name != usual]
        return [
            Claim(f"{a} does as {b}", "not told", a, b, metric, "same")
            for a, b in [*((name, SFT_ALONE) for name in names), *against]
        ]

    def _usual(self) -> str | None:
        """Return what changes are held against: the tuned arm, or the default's cell if any."""
        if self.tuned:
            return AS_TUNED
        usual = with_defaults(self.arm("").config)
        cells = {(beta, rate): name for beta, rate, name in self.heat_map()}
        return cells.get((usual.preference.beta, usual.dpo_learning_rate))

    def _changes(self) -> dict[str, dict]:
        """Return what is changed one at a time from the defaults, by the arm's name."""
        smoothed = {f"label smoothing {v:g}": {"label_smoothing": v} for v in self.label_smoothings}
        held_up = {f"SFT weight {v:g}": {"sft_weight": v} for v in self.sft_weights}
        return smoothed | held_up | {name: {"loss": name} for name in self.losses}


run = run_study


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(DPOHyperparametersStudy, run, argv)


if __name__ == "__main__":
    main()
