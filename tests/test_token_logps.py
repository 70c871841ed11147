"""Log-probs and KL token by token, and how DPO weighs a pair: against transformers and autograd."""

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from objectives import (
    dpo_loss,
    dpo_weight,
    frozen_copy,
    kl_per_token,
    make_batch,
    sequence_logps,
    sequence_logps_and_kl,
    token_logps,
)
from tests.conftest import oracle
from tests.test_accelerate import make_model
from tests.test_objectives import pair_batch, tiny


@pytest.mark.parity
@torch.no_grad()
def test_token_logps_are_those_of_transformers():
    oracle("transformers")
    from tests.test_lora_peft import make_hugging_face

    ours = make_model("full", fast=False)
    logps = make_hugging_face(ours)(torch.tensor([[3, 1, 4, 1, 5, 9]])).logits.log_softmax(-1)
    expected = [logps[0, t - 1, token] for t, token in [(3, 1), (4, 5), (5, 9)]]
    found = token_logps(ours, make_batch([[3, 1, 4]], [[1, 5, 9]]))
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-5)


@torch.no_grad()
def test_sequence_logps_are_their_sums():
    model, batch = tiny(), pair_batch()
    by_token = token_logps(model, batch)
    assert by_token.shape == batch.target.shape == (12,)
    parts = by_token.split(batch.counts.tolist())
    torch.testing.assert_close(sequence_logps(model, batch), torch.stack([p.sum() for p in parts]))


@torch.no_grad()
def test_kl_per_token_is_torchs_own_kl_of_two_distributions():
    policy, reference, batch = tiny(0), tiny(1), pair_batch()
    found = kl_per_token(policy, reference, batch)
    p, q = (
        torch.distributions.Categorical(logits=m(batch.inputs)[batch.row, batch.position])
        for m in (policy, reference)
    )
    torch.testing.assert_close(found, torch.distributions.kl_divergence(p, q), rtol=1e-9, atol=0)
    assert found.shape == batch.target.shape and (found > 0).all()
    assert not torch.allclose(found, kl_per_token(reference, policy, batch))
    assert not kl_per_token(policy, frozen_copy(policy), batch).any()
    logps, kl = sequence_logps_and_kl(policy, reference, batch)
    torch.testing.assert_close(logps, sequence_logps(policy, batch))
    assert torch.equal(kl, found)


@torch.no_grad()
def test_kl_is_taken_in_fp32_under_bf16():
    policy, reference, batch = tiny(0).float(), tiny(1).float(), pair_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = kl_per_token(policy, reference, batch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, kl_per_token(policy, reference, batch), rtol=0.2, atol=1e-3)


def test_the_weight_is_half_at_zero_and_falls_with_the_margin():
    weights = dpo_weight(torch.tensor([-1e3, -1.0, 0.0, 1.0, 1e3], dtype=torch.double))
    assert weights[[0, 2, 4]].tolist() == [1.0, 0.5, 0.0]
    assert weights[1] + weights[3] == pytest.approx(1)


def test_dpos_gradient_is_the_weighted_difference_of_two_gradients():
    """dL = -beta sigma(-margin) (grad logp_chosen - grad logp_rejected), pair by pair, in fp64."""
    policy, batch, beta = tiny(0), pair_batch(), 3.0
    parameters = list(policy.parameters())

    def gradient(value: torch.Tensor) -> torch.Tensor:
        return parameters_to_vector(torch.autograd.grad(value, parameters, retain_graph=True))

    with torch.no_grad():
        reference = sequence_logps(tiny(1), batch).chunk(2)
    chosen, rejected = sequence_logps(policy, batch).chunk(2)
    losses = dpo_loss(chosen, rejected, *reference, beta=beta)
    weights = dpo_weight(losses.chosen_rewards - losses.rejected_rewards)
    assert weights.max() - weights.min() > 0.01
    for i, weight in enumerate(weights):
        expected = -beta * weight * (gradient(chosen[i]) - gradient(rejected[i]))
        torch.testing.assert_close(gradient(losses.loss[i]), expected, rtol=1e-6, atol=1e-9)
        assert expected.norm() > 0.1
