"""What a run tells of DPO on held-out pairs, against log-probs written out one pair at a time."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.run.data import PhaseData
from experiments.run.handover import some_of
from experiments.run.held_out import diagnose
from experiments.run.policy import save_policy
from experiments.run.reference_cache import weights_fingerprint
from minigpt import GPT
from minigpt.errors import InputError
from objectives import (
    FrozenReference,
    PreferenceConfig,
    PreferenceObjective,
    frozen_copy,
    make_batch,
)
from tasks import Example
from tests.test_accelerate import METHODS, make_model, seeded, trained

PROMPTS = [[1, 2, 3], [4], [5, 6], [7, 8], [9], [10, 11]]  # more pairs than a batch holds
CHOSEN = [[7, 8], [9, 10, 11], [12], [3, 1, 4], [1], [2, 7]]
REJECTED = [[8], [9, 11, 10, 3], [13], [3, 1, 5], [6, 2], [2, 8, 1]]
NAMES = {"loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"}
NAMES |= {"logps/chosen", "logps/rejected", "kl/chosen", "kl/rejected"}
WEIGHTS = {"weights", "weights/q10", "weights/q50", "weights/q90"}
BETA = 0.7


@pytest.fixture(params=METHODS)
def policies(request, tmp_path) -> tuple[GPT, GPT]:
    """A policy and its reference, which is kept in tmp_path; full, with LoRA, with DoRA."""
    policy = make_model(request.param, fast=True, dropout=0.3)
    save_policy(policy, tmp_path, base_model_name="none")
    reference = frozen_copy(policy)
    with torch.no_grad():
        for parameter in trained(policy).values():
            parameter.add_(torch.randn(parameter.shape, generator=seeded(5)), alpha=0.2)
    return policy.train(), reference


def found(policies: tuple[GPT, GPT], folder, loss: str = "sigmoid", **changed) -> dict[str, float]:
    policy, reference = policies
    config = PreferenceConfig(loss, beta=BETA)
    pairs = PhaseData(
        PreferenceObjective(config, FrozenReference(reference) if config.uses_reference else None),
        np.array([len(p) + max(len(c), len(r)) for p, c, r in zip(PROMPTS, CHOSEN, REJECTED)]),
        lambda index: make_batch(
            [PROMPTS[i] for i in [*index, *index]],
            [*(CHOSEN[i] for i in index), *(REJECTED[i] for i in index)],
        ),
    )
    weights = weights_fingerprint(reference)
    return diagnose(policy, pairs, folder, **{"weights": weights, "precision": "fp32", **changed})


def ratios_and_kl(policies: tuple[GPT, GPT], texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """log p - log q of each text (N,), and the KL at each of its tokens, one after the other."""
    ratios, divergences = [], []
    for prompt, text in zip(PROMPTS, texts):
        ids = torch.tensor([prompt + text])
        p, q = (m(ids)[0, len(prompt) - 1 : -1].double().log_softmax(-1) for m in policies)
        ratios.append((p - q)[range(len(text)), text].sum())
        divergences.append((p.exp() * (p - q)).sum(-1))
    return torch.stack(ratios), torch.cat(divergences)


@torch.no_grad()
def test_they_are_what_pairs_one_at_a_time_give(policies, tmp_path):
    told = found(policies, tmp_path)
    assert all(module.training for module in policies[0].modules())
    policies[0].eval()
    (chosen, kl_chosen), (rejected, kl_rejected) = (
        ratios_and_kl(policies, side) for side in (CHOSEN, REJECTED)
    )
    margins = BETA * (chosen - rejected)
    weights = 1 / (1 + margins.exp())
    expected = {
        "loss": (1 + (-margins).exp()).log().mean(),
        "rewards/chosen": BETA * chosen.mean(),
        "rewards/rejected": BETA * rejected.mean(),
        "rewards/margins": margins.mean(),
        "rewards/accuracies": (margins > 0).double().mean(),
        "kl/chosen": kl_chosen.mean(),  # of tokens, not of pairs
        "kl/rejected": kl_rejected.mean(),
        "weights": weights.mean(),
        "weights/q10": np.quantile(weights, 0.1),
        "weights/q90": np.quantile(weights, 0.9),
    }
    assert told.keys() == {f"eval_{name}" for name in NAMES | WEIGHTS}
    for name, value in expected.items():
        assert told[f"eval_{name}"] == pytest.approx(float(value), rel=1e-4, abs=1e-5), name
    assert told["eval_kl/chosen"] > 1e-3 and weights.max() - weights.min() > 0.1


def test_a_loss_without_a_reference_has_a_kl_and_no_weights(policies, tmp_path):
    told, with_reference = (found(policies, tmp_path, loss) for loss in ("simpo", "sigmoid"))
    assert told.keys() == {f"eval_{name}" for name in NAMES}
    assert told["eval_kl/chosen"] == with_reference["eval_kl/chosen"]


def test_another_reference_than_the_handoffs_is_refused(policies, tmp_path):
    with pytest.raises(InputError, match="are not those that the run wrote"):
        found(policies, tmp_path, weights=weights_fingerprint(policies[0]))


def test_a_large_dev_gives_the_same_few_to_every_run():
    examples = [Example(str(i), "") for i in range(1000)]
    few = some_of(examples, 256)
    assert len(few) == 256 and few[0] == examples[0]
    assert {int(b.prompt) - int(a.prompt) for a, b in pairwise(few)} == {3, 4}
    assert some_of(few, 256) == few
