"""Which numbers the options can be: checked before a model is loaded or a folder is taken."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

from minigpt.errors import InputError


class Bounds(NamedTuple):
    """The numbers from `least` to `most`; the ends themselves only where they are not open."""

    least: float
    most: float
    least_open: bool = False
    most_open: bool = False

    def hold(self, value: Any) -> bool:
        """Return whether `value` is a number within; nan never is."""
        if not isinstance(value, Real):
            return False
        above = self.least < value if self.least_open else self.least <= value
        below = value < self.most if self.most_open else value <= self.most
        return above and below

    def __str__(self) -> str:
        least = "a number above" if self.least_open else "at least"
        most = "below" if self.most_open else "at most"
        return f"{least} {self.least:,}, {most} {self.most:,}"


COUNT = Bounds(1, 1_000_000_000)
WEIGHT = Bounds(0, 1_000_000)
RATE = Bounds(0, 1_000, least_open=True)
PROBABILITY = Bounds(0, 1, most_open=True)
MINUTES = Bounds(0, 1_000_000, least_open=True)

SEED = Bounds(0, 2**63 - 1)
BETA = Bounds(0, 1_000_000, least_open=True)
SMOOTHING = Bounds(0, 0.5, most_open=True)

# Every number, or list of them, among the options of all commands has its bounds here, but for the
# switch, which is bounded by the epochs. The upper bounds lie far beyond what is of use, and where
# single precision still holds all products.
BOUNDS = {
    # a run
    "rank": COUNT,
    "alpha": Bounds(0, 1_000_000, least_open=True),
    "lora_dropout": PROBABILITY,
    "layers": Bounds(0, 1_000_000),
    "rank_pattern": COUNT,
    "lora_plus": Bounds(1, 1_000_000),
    "epochs": Bounds(1, 1_000_000),
    "pair_samples": Bounds(2, 1_000_000),  # the best and the worst of them
    "beta": BETA,
    "label_smoothing": SMOOTHING,
    "sft_weight": WEIGHT,
    "target_margin": WEIGHT,
    "sft_learning_rate": RATE,
    "dpo_learning_rate": RATE,
    "weight_decay": Bounds(0, 1_000),
    "batch_size": COUNT,
    "accumulation": COUNT,
    "dropout": PROBABILITY,
    "train_examples": COUNT,
    "dev_examples": COUNT,
    "folds": Bounds(2, 1_000_000),
    "fold": Bounds(0, 1_000_000),
    "held_back": Bounds(0, 1_000_000),
    "evaluate_every": COUNT,
    "samples": Bounds(1, 100_000),  # which are written together
    "temperature": WEIGHT,
    "top_p": Bounds(0, 1, least_open=True),
    "seed": SEED,
    # a study
    "seeds": SEED,
    "jobs": Bounds(1, 10_000),
    "ranks": COUNT,
    "betas": BETA,
    "rate_factors": RATE,
    "label_smoothings": SMOOTHING,
    "sft_weights": WEIGHT,
    "sft_learning_rates": RATE,
    "shares": Bounds(0.001, 1),
    "tuning_runs": Bounds(3, 12),  # the first grid; closer than that, values have no digits for
    # writing
    "max_new_tokens": COUNT,
    "top_k": COUNT,
    # pretraining
    "tokens": COUNT,
    "batch_tokens": COUNT,
    "learning_rate": RATE,
    "warmup": Bounds(0, 1_000_000_000),
    # simulated studies
    "trials": COUNT,
    "n_seeds": Bounds(2, 1_000),
    "n_units": Bounds(2, 10_000_000),
    "claims": Bounds(1, 1_000),
    # measuring speed
    "steps": COUNT,
    "rounds": COUNT,
    "lengths": Bounds(3, 1_000_000_000),  # a token to read, and two to score
    "batches": COUNT,
    "examples": COUNT,
    "processes": Bounds(1, 1_000),
    "minutes": MINUTES,
    "pretrain_minutes": MINUTES,
}


def check_bounds(options: Mapping[str, Any], *, group: str = "") -> None:
    """Raise InputError for an option, named as its flag is, that lies outside its bounds.

    Each of several numbers has to lie within, and the last element of each pair. None stands for a
    default and passes. `group` is what the flags' names begin with, "sonnet." say.
    """
    for name, bounds in BOUNDS.items():
        value = options.get(name)
        for item in value if isinstance(value, (tuple, list)) else (value,):
            number = item[-1] if isinstance(item, tuple) else item
            if number is not None and not bounds.hold(number):
                raise InputError(f"{flag(group + name)} is {number}; expected {bounds}")


def flag(name: str) -> str:
    """Return the command line's flag of an option."""
    return "--" + name.replace("_", "-")
