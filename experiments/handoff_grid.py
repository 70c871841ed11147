"""When SFT should hand over to DPO: `python -m experiments.handoff --grid`."""

from dataclasses import dataclass

from experiments.run.command import command_line
from experiments.study.arms import Arm, Study
from experiments.study.claims import Claim
from experiments.study.conduct import run_study
from minigpt.errors import InputError

SHOWN = {"full": "full", "lora": "LoRA"}


@dataclass(frozen=True)
class HandoffGridStudy(Study):
    """Compare SFT alone, DPO alone, and DPO after some epochs of SFT, for full and LoRA."""

    switch_epochs: tuple[int, ...] | None = None
    """Epochs of SFT before DPO; None: 0, three tenths of the epochs, and all but one."""
    methods: tuple[str, ...] = ("full", "lora")
    """Parameterizations to cross them with; SFT alone is run with both."""

    name = "handoff-grid"
    title = "SFT, DPO, and the handoff between them"
    question = (
        "The same number of epochs in every arm: SFT alone, DPO alone, or SFT for some "
        "epochs and DPO for the rest. Scores are those after the last epoch."
    )

    def check(self) -> None:
        for switch in self.switch_epochs or ():
            if not 0 <= switch <= self.epochs:
                raise InputError(
                    f"--switch-epochs is {switch}; expected 0 (DPO only) to {self.epochs} (SFT "
                    "only)"
                )
        super().check()

    def switches(self) -> tuple[int, ...]:
        """Return the handoffs, without SFT alone."""
        if self.switch_epochs is not None:
            return self.switch_epochs
        return tuple(sorted({0, self.early_switch, self.epochs - 1} - {self.epochs}))

    def arms(self) -> list[Arm]:
        return [
            self.arm(_name(method, switch), parameterization=method, switch_epoch=switch)
            for method in SHOWN
            for switch in (self.epochs, *(self.switches() if method in self.methods else ()))
        ]

    def claims(self) -> list[Claim]:
        return [
            claim
            for method in self.methods
            for metric in self.judged
            for claim in (*self._claims(method, metric), *self._matters_more(method, metric))
        ]

    def _claims(self, method: str, metric: str) -> list[Claim]:
        """Return what is said of one method by one metric; of the first it is primary.

        A handoff is held against SFT to the end, which it gives up for DPO, and against its own
        reference, which tells what DPO did by itself.
        """
        shown, alone = SHOWN[method], _name(method, self.epochs)
        primary = self._is_primary(method, metric)
        claims = []
        for switch in self.switches():
            arm = _name(method, switch)
            text = (
                f"{shown}: DPO alone does as SFT alone"
                if switch == 0
                else f"{shown}: SFT to epoch {switch}, then DPO, does as SFT to the end"
            )
            claims.append(Claim(text, "it does", arm, alone, metric, "same", primary))
            if switch:
                text = f"{shown}: DPO itself, after epoch {switch}, changes about nothing"
                claims.append(Claim(text, "not told", arm, arm, metric, "same", primary, own=True))
        after_sft = [switch for switch in self.switches() if switch]
        if len(after_sft) > 1:
            late, early = max(after_sft), min(after_sft)
            text = f"{shown}: a late handoff ({late}) does as an early one ({early})"
            arms = _name(method, late), _name(method, early)
            claims.append(Claim(text, "about the same", *arms, metric, "same"))
        return claims

    def _matters_more(self, method: str, metric: str) -> list[Claim]:
        """Return that LoRA and full fine-tuning lie further apart than a handoff and SFT alone."""
        alone = [_name(each, self.epochs) for each in SHOWN]
        early = min((switch for switch in self.switches() if switch), default=None)
        return [
            Claim(
                f"LoRA or not matters more than {_handoff(SHOWN[method], switch)}",
                "it does",
                *alone,
                metric,
                "more",
                primary=switch == early and self._is_primary(method, metric),
                beyond=(_name(method, switch), _name(method, self.epochs)),
            )
            for switch in self.switches()
        ]

    def _is_primary(self, method: str, metric: str) -> bool:
        return method == self.methods[0] and metric == self.judged[0]


def _handoff(shown: str, switch: int) -> str:
    return f"DPO from epoch {switch + 1} on ({shown})" if switch else f"DPO alone ({shown})"


def _name(method: str, switch: int) -> str:
    return f"{SHOWN[method]}, switch {switch}"


run = run_study


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    command_line(HandoffGridStudy, run, argv)


if __name__ == "__main__":
    main()
