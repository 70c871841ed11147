"""The paper's own study: `python -m experiments.reproduce --paper`.

GPT-2 124M, all of Quora's training pairs (283,003 in the course's split) and the sonnets, and the
comparisons that the paper's headline is made of. Rates are tuned, and seeds repeated, as always.
"""

MODELS = ("gpt2",)
PLAN = {"experiments": ("parameterization", "handoff_grid"), "epochs": 10}
OPTIONS = {
    "parameterization": {"ranks": (4, 8, 16)},
    "handoff_grid": {"switch_epochs": (0, 3, 9)},
}
