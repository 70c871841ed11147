"""SFT, then DPO from a given epoch on: `python -m experiments.handoff --switch-epoch 3`.

`--grid` compares handoffs (`experiments.handoff_grid`); its own options follow it.

Epochs 1..switch_epoch train on gold completions. Then the policy as it stands becomes the frozen
reference, preference pairs are made, and the remaining epochs train on DPO. Switching at 0 is DPO
alone, at the last epoch SFT alone.
"""

import sys

from experiments import handoff_grid
from experiments.run.command import command_line
from experiments.run.config import Config
from experiments.run.loop import run
from experiments.run.options_file import parse_options
from experiments.run.result import Result

__all__ = ["Config", "Result", "main", "run"]


def main(argv: list[str] | None = None) -> None:
    """Run from the command line; with --grid, every handoff that the paper compares."""
    argv = sys.argv[1:] if argv is None else argv
    if "--grid" in argv:
        handoff_grid.main([argument for argument in argv if argument != "--grid"])
    else:
        command_line(Config, run, argv, parse=parse_options, shared=True)


if __name__ == "__main__":
    main()
