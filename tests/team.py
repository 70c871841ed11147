"""What torchrun starts in the tests: commands one after the other, all of them in fp64.

The one argument is a JSON file with a list of command lines, each a list of words: "handoff" or
"pretrain", and its options. They train in fp64, so that rounding does not hide what differs.
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch

from experiments import handoff, pretrain
from experiments.run import loop, policy
from experiments.verse import corpus
from minigpt import PRESETS, GPTConfig, load_pretrained
from minigpt.parallel import joined

COMMANDS = {"handoff": handoff.main, "pretrain": pretrain.main}
TINY_VERSE = GPTConfig(16384, 32, n_layer=1, n_head=2, n_embd=16)


def prepare(patch=setattr) -> None:
    """Let the commands train in fp64, and pretraining a tiny shape on a tiny corpus."""
    make_policy, accelerate = loop.make_policy, pretrain.accelerate

    def in_fp64(*arguments, **options):
        model, adapted = make_policy(*arguments, **options)
        return model.double(), adapted

    patch(loop, "make_policy", in_fp64)
    patch(policy, "load_pretrained", partial(load_pretrained, dtype=torch.float64))
    patch(pretrain, "accelerate", lambda model, **how: accelerate(model.double(), **how))
    patch(pretrain, "PRESETS", {**PRESETS, "verse": TINY_VERSE})
    patch(corpus, "HELD_OUT", 2)


def run_all(commands: list[list[str]]) -> None:
    """Run the commands, one after the other."""
    for command, *options in commands:
        COMMANDS[command](options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    prepare()
    with joined():
        run_all(json.loads(Path(sys.argv[1]).read_text()))
