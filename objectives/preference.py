"""Training on preference pairs: a loss chosen by name, with its options, run on batches."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from minigpt.errors import InputError
from minigpt.model import GPT
from objectives.batch import Batch
from objectives.dpo import PairLosses, check_options, dpo_loss, dpo_weight
from objectives.logps import sequence_logps
from objectives.objective import ExampleLosses
from objectives.reference import Reference
from objectives.relatives import hinge_loss, ipo_loss, ipo_mean_loss, orpo_loss, simpo_loss
from objectives.sft import sft_loss

# The options that each loss uses, with their defaults. These are TRL's, but for simpo, whose
# authors ask for a far larger beta and for a margin of about half of it: 2 and 1 are their
# Llama-3-Base. orpo has an SFT term of its own.
PREFERENCE_OPTIONS: dict[str, dict[str, float]] = {
    "sigmoid": {"beta": 0.1, "label_smoothing": 0.0, "sft_weight": 0.0},
    "ipo": {"beta": 0.1, "sft_weight": 0.0},
    "ipo-mean": {"beta": 0.1, "sft_weight": 0.0},
    "hinge": {"beta": 0.1, "sft_weight": 0.0},
    "simpo": {"beta": 2.0, "target_margin": 1.0, "sft_weight": 0.0},
    "orpo": {"beta": 0.1},
}
PREFERENCE_LOSSES = tuple(PREFERENCE_OPTIONS)
REFERENCE_FREE = ("simpo", "orpo")


@dataclass(frozen=True)
class PreferenceConfig:
    """A loss by name, and its options; None is replaced by the loss's own default.

    Raises InputError for an unknown name, an option that the loss does not use, or a value out of
    range. relatives.py tells the losses apart.
    """

    loss: str = "sigmoid"
    beta: float | None = None  # 0.1; simpo: 2.0
    label_smoothing: float = 0.0  # sigmoid: probability that a preference is the wrong way round
    sft_weight: float = 0.0  # all but orpo: weight of the chosen completion's mean NLL
    target_margin: float | None = None  # simpo: 1.0, the margin of rewards to reach

    def __post_init__(self):
        if self.loss not in PREFERENCE_OPTIONS:
            raise InputError(
                f"unknown loss {self.loss!r}; expected one of {', '.join(PREFERENCE_LOSSES)}"
            )
        used = PREFERENCE_OPTIONS[self.loss]
        _, *options = fields(self)
        for option in options:
            value = getattr(self, option.name)
            if option.name not in used and value != option.default:
                users = [loss for loss, names in PREFERENCE_OPTIONS.items() if option.name in names]
                raise InputError(
                    f"the loss {self.loss} does not use {option.name}, got {value}; "
                    f"expected it with {' or '.join(users)} only"
                )
            if option.name in used and value is None:
                object.__setattr__(self, option.name, used[option.name])
        check_options(**{name: getattr(self, name) for name in used})

    @property
    def uses_reference(self) -> bool:
        """Whether the loss compares the policy with a frozen reference."""
        return self.loss not in REFERENCE_FREE


@dataclass(frozen=True)
class PreferenceObjective:
    """A preference loss on batches of pairs: the first half of the sequences are chosen.

    `config.sft_weight` adds that many times the chosen completion's mean negative log-likelihood,
    which holds up log p(chosen): a margin often grows while both sides sink. Every pair counts
    alike in it; in TRL every token of the batch does. logps/* are sums under every loss, where TRL
    logs means for simpo and orpo. The metric "weights", of the sigmoid loss alone, is `dpo_weight`
    of the margins, without label smoothing, with which the gradient's factor would be that minus
    `label_smoothing`. Raises ValueError unless a reference is given exactly where the loss uses
    one.
    """

    config: PreferenceConfig
    reference: Reference | None = None

    def __post_init__(self):
        loss = self.config.loss
        if self.config.uses_reference and self.reference is None:
            raise ValueError(f"the loss {loss} needs a reference, got None; expected one")
        if not self.config.uses_reference and self.reference is not None:
            raise ValueError(f"the loss {loss} uses no reference, got one; expected None")

    def example_weights(self, batch: Batch) -> Tensor:
        return torch.ones(len(batch) // 2, device=batch.counts.device)

    def __call__(self, model: GPT, batch: Batch) -> ExampleLosses:
        return self.of_logps(sequence_logps(model, batch), batch)

    def of_logps(self, logps: Tensor, batch: Batch) -> ExampleLosses:
        """Return the same for a policy that gives the sequences these log-probs, (2B,)."""
        chosen, rejected = logps.chunk(2)  # (B,) each
        losses, chosen_rewards, rejected_rewards = self._pair_losses(chosen, rejected, batch)
        if self.config.sft_weight:
            chosen_counts, _ = batch.counts.chunk(2)
            losses = losses + self.config.sft_weight * sft_loss(chosen, chosen_counts)
        metrics = {
            "rewards/chosen": chosen_rewards,
            "rewards/rejected": rejected_rewards,
            "rewards/margins": chosen_rewards - rejected_rewards,
            # Ties do not win.
            "rewards/accuracies": (chosen_rewards > rejected_rewards).float(),
            "logps/chosen": chosen.detach(),
            "logps/rejected": rejected.detach(),
        }
        if self.config.loss == "sigmoid":
            metrics["weights"] = dpo_weight(metrics["rewards/margins"])
        return ExampleLosses(losses, metrics)

    def _pair_losses(self, chosen: Tensor, rejected: Tensor, batch: Batch) -> PairLosses:
        config, beta = self.config, self.config.beta
        policy, counts = (chosen, rejected), batch.counts.chunk(2)  # (B,) each
        reference = self.reference(batch) if config.uses_reference else ()
        match config.loss:
            case "sigmoid":
                smoothing = config.label_smoothing
                return dpo_loss(*policy, *reference, beta=beta, label_smoothing=smoothing)
            case "ipo":
                return ipo_loss(*policy, *reference, beta=beta)
            case "ipo-mean":
                return ipo_mean_loss(*policy, *reference, *counts, beta=beta)
            case "hinge":
                return hinge_loss(*policy, *reference, beta=beta)
            case "simpo":
                return simpo_loss(*policy, *counts, beta=beta, target_margin=config.target_margin)
            case "orpo":
                return orpo_loss(*policy, *counts, beta=beta)
