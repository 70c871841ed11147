"""Log-probs, the SFT and DPO losses and references, against arithmetic written out."""

import math

import pytest
import torch
from torch.nn import functional as F

from experiments.run.reference_cache import load_or_compute, weights_fingerprint
from lora import LoRAConfig, inject
from minigpt import GPT, GPTConfig
from minigpt.errors import InputError
from objectives import (
    SFT,
    CachedReference,
    FrozenReference,
    PreferenceConfig,
    PreferenceObjective,
    dpo_loss,
    frozen_copy,
    make_batch,
    precompute,
    sequence_logps,
    sft_loss,
    token_logps,
)

TINY = GPTConfig(vocab_size=23, n_positions=16, n_layer=2, n_head=2, n_embd=8)


def tiny(seed: int = 0) -> GPT:
    return GPT(TINY, generator=torch.Generator().manual_seed(seed)).double()


def pair_batch():
    """Three pairs: two of ragged completions, and one whose sides differ in the last token only."""
    prompts = [[1, 2, 3], [4], [5, 6]]
    chosen = [[7, 8], [9, 10, 11], [12]]
    rejected = [[8], [9, 11, 10, 3], [13]]
    return make_batch(prompts * 2, chosen + rejected, index=[0, 1, 2, 0, 1, 2])


def naive_logps(model: GPT, batch_prompts, completions) -> torch.Tensor:
    """One sequence at a time through all the logits."""
    sums = []
    for prompt, completion in zip(batch_prompts, completions):
        ids = torch.tensor([prompt + completion])
        logps = model(ids)[0].log_softmax(-1)  # (T, V)
        scored = range(len(prompt), ids.size(1))
        sums.append(sum(logps[t - 1, ids[0, t]] for t in scored))
    return torch.stack(sums)


def test_sequence_logps_equal_full_logits():
    model = tiny()
    prompts, completions = [[1, 2, 3], [4], [5, 6]], [[7, 8], [9, 10, 11, 2], [12]]
    batch = make_batch(prompts, completions)
    expected = naive_logps(model, prompts, completions)
    torch.testing.assert_close(sequence_logps(model, batch), expected)
    assert batch.counts.tolist() == [2, 4, 1]


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_logits_in_bf16_are_turned_into_log_probs_in_fp32(weights):
    """By autocast, and where the weights themselves are bf16: rounded once, at the logits."""
    model, batch = tiny().to(weights), pair_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=weights == torch.float32):
        found = token_logps(model, batch)
        logits = model.head(model.states(batch.inputs, batch.row, batch.position))
    assert logits.dtype == torch.bfloat16 and found.dtype == torch.float32
    expected = logits.float().log_softmax(-1).gather(1, batch.target[:, None])[:, 0]
    assert torch.equal(found, expected)


def test_log_softmax_is_taken_in_fp32_under_bf16():
    model = tiny().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logps = sequence_logps(model, pair_batch())
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps, sequence_logps(model, pair_batch()), atol=0.1, rtol=0.02)


def test_sides_that_differ_in_their_last_token_share_a_forward():
    batch = pair_batch()
    assert len(batch) == 6 and len(batch.inputs) == 5


def test_sft_loss_is_the_token_mean():
    """(2 + 1) nats over 3 tokens and 8 over 2."""
    assert sft_loss(torch.tensor([-3.0, -8.0]), torch.tensor([3, 2])).tolist() == [1.0, 4.0]


def test_sft_gradient_equals_cross_entropy():
    model, ids = tiny(), torch.tensor([[1, 2, 3, 4, 5]])
    losses = SFT()(model, make_batch([[1, 2]], [[3, 4, 5]])).losses
    losses.sum().backward()
    ours = model.wte.weight.grad.clone()
    model.zero_grad()
    F.cross_entropy(model(ids)[0, 1:4], ids[0, 2:]).backward()
    torch.testing.assert_close(ours, model.wte.weight.grad)


def test_sft_loss_wants_one_count_for_each_log_prob():
    with pytest.raises(InputError, match="expected all alike"):
        sft_loss(torch.zeros(2), torch.ones(2, 1))


def test_dpo_loss_by_hand():
    """beta 0.5, policy (-10, -12), reference (-11, -11).

    rewards   0.5 (-10 + 11) = 0.5 and 0.5 (-12 + 11) = -0.5, margin 1
    loss      -log sigmoid(1) = log(1 + e^-1) = 0.3132617
    smoothed  0.9 log(1 + e^-1) + 0.1 log(1 + e^1) = 0.4132617
    """
    arguments = [torch.tensor([x]) for x in (-10.0, -12.0, -11.0, -11.0)]
    output = dpo_loss(*arguments, beta=0.5)
    assert output.loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)
    assert (output.chosen_rewards.item(), output.rejected_rewards.item()) == (0.5, -0.5)
    smoothed = dpo_loss(*arguments, beta=0.5, label_smoothing=0.1).loss.item()
    assert smoothed == pytest.approx(0.9 * 0.3132617 + 0.1 * 1.3132617, abs=1e-6)


def test_dpo_gradient_has_the_right_sign_and_size():
    """d loss / d log pi(chosen) = -beta sigmoid(-margin), and the opposite for the rejected."""
    chosen = torch.tensor([-3.0, -9.0], requires_grad=True)
    rejected = torch.tensor([-4.0, -2.0], requires_grad=True)
    reference = torch.tensor([-3.5, -5.0])
    dpo_loss(chosen, rejected, reference, reference, beta=0.2).loss.sum().backward()
    expected = -0.2 * torch.sigmoid(-0.2 * (chosen - rejected)).detach()
    torch.testing.assert_close(chosen.grad, expected)
    torch.testing.assert_close(rejected.grad, -expected)
    assert (chosen.grad < 0).all()  # descent makes the chosen likelier


def test_dpo_is_ln_2_while_policy_and_reference_agree():
    model = tiny()
    dpo = PreferenceObjective(PreferenceConfig(beta=0.3), FrozenReference(frozen_copy(model)))
    losses, metrics = dpo(model, pair_batch())
    torch.testing.assert_close(losses, torch.full((3,), math.log(2), dtype=torch.float64))
    assert metrics["rewards/accuracies"].tolist() == [0, 0, 0]  # a tie is not a win


def test_frozen_copy_stays_while_the_policy_moves():
    policy = tiny()
    frozen = frozen_copy(policy)
    before = sequence_logps(frozen, pair_batch())
    with torch.no_grad():
        policy.wte.weight.add_(0.1)
    torch.testing.assert_close(sequence_logps(frozen, pair_batch()), before, rtol=0, atol=0)
    assert not frozen.training and not any(p.requires_grad for p in frozen.parameters())


def test_frozen_copy_of_a_lora_policy_shares_the_base_and_keeps_the_adapters():
    policy = tiny()
    inject(policy, LoRAConfig(rank=2), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        policy.h[0].attn.c_attn.lora_B.weight.fill_(0.5)
    frozen = frozen_copy(policy)
    before = sequence_logps(frozen, pair_batch())
    with torch.no_grad():
        policy.h[0].attn.c_attn.lora_B.weight.fill_(-0.5)
    torch.testing.assert_close(sequence_logps(frozen, pair_batch()), before, rtol=0, atol=0)
    assert frozen.wte.weight is policy.wte.weight
    assert not torch.equal(sequence_logps(policy, pair_batch()), before)


def test_cached_and_frozen_references_agree():
    model, batch = tiny(), pair_batch()
    logps = precompute(model, [batch], n_prompts=3)
    for cached, frozen in zip(CachedReference(logps)(batch), FrozenReference(model)(batch)):
        torch.testing.assert_close(cached, frozen.to(cached.dtype))


def test_cache_is_computed_once_and_named_by_all_that_moves_a_logp(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return torch.tensor([[-1.0, -2.0]])

    key = {"weights": "a", "pairs": "b"}
    first = load_or_compute(tmp_path, key, compute)
    again = load_or_compute(tmp_path, key, compute)
    assert torch.equal(first, again) and len(calls) == 1
    load_or_compute(tmp_path, {**key, "weights": "c"}, compute)
    assert len(calls) == 2 and len(list(tmp_path.iterdir())) == 2


def test_a_cache_file_under_a_wrong_name_is_refused_with_the_field(tmp_path):
    load_or_compute(tmp_path, {"weights": "a", "pairs": "b"}, lambda: torch.zeros(1, 2))
    load_or_compute(tmp_path, {"weights": "c", "pairs": "b"}, lambda: torch.zeros(1, 2))
    one, other = tmp_path.iterdir()
    one.write_bytes(other.read_bytes())
    with pytest.raises(InputError, match="another weights"):
        for weights in "ac":
            load_or_compute(tmp_path, {"weights": weights, "pairs": "b"}, lambda: torch.zeros(1, 2))


def test_a_damaged_cache_file_is_refused(tmp_path):
    key = {"weights": "a"}
    load_or_compute(tmp_path, key, lambda: torch.zeros(100, 2))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_or_compute(tmp_path, key, lambda: torch.zeros(100, 2))


def test_fingerprint_changes_with_any_weight():
    model = tiny()
    before = weights_fingerprint(model)
    assert weights_fingerprint(tiny()) == before
    with torch.no_grad():
        model.h[1].mlp.c_proj.bias[3] += 1e-12
    assert weights_fingerprint(model) != before


@pytest.mark.parametrize("prompt, completion", [([], [1]), ([1], [])])
def test_empty_sides_are_refused(prompt, completion):
    with pytest.raises(ValueError, match="empty prompt or completion"):
        make_batch([prompt], [completion])
