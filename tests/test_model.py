"""GPT is what GPT-2 is: sizes, initialisation, causality, dropout, and one way to its logits."""

import math

import pytest
import torch
from torch import nn

from minigpt import GPT, PRESETS, GPTConfig
from minigpt.errors import InputError

SMALL = GPTConfig(vocab_size=1000, n_positions=50, n_layer=3, n_head=4, n_embd=64)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_ids(shape: tuple[int, int], seed: int = 1) -> torch.Tensor:
    return torch.randint(SMALL.vocab_size, shape, generator=seeded(seed))


# Sizes

PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "verse": 8_998_912,
}


@pytest.mark.parametrize("name", PRESETS)
def test_parameter_counts(name):
    config = PRESETS[name]
    C = config.n_embd
    block = 12 * C * C + 13 * C  # 3 + 1 + 4 + 4 matrices, as many biases, two norms of 2C
    formula = (config.vocab_size + config.n_positions) * C + config.n_layer * block + 2 * C
    with torch.device("meta"):
        model = GPT(config)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert sum(parameter.numel() for parameter in model.parameters()) == formula
    assert formula == PARAMETERS[name]


@pytest.mark.parametrize(
    ("field", "value"),
    [("vocab_size", 0), ("n_layer", -1), ("n_head", 2.0), ("n_embd", 30), ("dropout", 1.0)],
)
def test_impossible_shapes(field, value):
    with pytest.raises(InputError, match=f"{field} .*expected"):
        GPTConfig(**{"n_head": 4, "n_embd": 32, field: value})


# Initialisation


def test_weights_start_as_in_gpt2():
    model = GPT(SMALL, generator=seeded(0))
    seen = 0
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            seen += 1
            weight = module.weight
            expected = 0.02 / math.sqrt(2 * 3) if name.endswith("c_proj") else 0.02
            error = expected / math.sqrt(weight.numel())  # standard error of the mean
            assert abs(weight.mean().item()) < 5 * error
            assert abs(weight.std().item() - expected) < 5 * error / math.sqrt(2)
        if isinstance(module, nn.Linear):
            assert not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
            assert not module.bias.any()
    assert seen == 2 + 3 * 4
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_generator_decides_the_weights_and_the_global_one_is_untouched():
    before = torch.get_rng_state()
    one, same, other = (GPT(SMALL, generator=seeded(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["wte.weight"], other["wte.weight"])


def test_without_a_generator_torchs_own_decides():
    torch.manual_seed(3)
    one = GPT(SMALL).state_dict()
    torch.manual_seed(3)
    same = GPT(SMALL).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)


# From tokens to logits


@torch.no_grad()
def test_logits_are_the_head_of_the_hidden_states():
    model = GPT(SMALL, generator=seeded(0)).eval()
    ids = some_ids((2, 7))
    hidden = model.hidden(ids)
    assert hidden.shape == (2, 7, 64)
    assert torch.equal(model(ids), model.head(hidden))
    torch.testing.assert_close(model(ids), hidden @ model.wte.weight.T)
    torch.testing.assert_close(model.head(hidden[:, -1]), model(ids)[:, -1])  # any leading shape


@torch.no_grad()
def test_a_token_changes_nothing_before_it_and_something_from_it_on():
    model = GPT(SMALL, generator=seeded(0)).eval()
    ids = some_ids((1, 12))
    logits = model(ids)
    for t in range(12):
        changed = ids.clone()
        changed[0, t] = (changed[0, t] + 1) % SMALL.vocab_size
        difference = (model(changed) - logits).abs().amax(dim=(0, 2))  # (T,)
        assert (difference[:t] < 1e-6).all()
        assert (difference[t:] > 1e-5).all()


@torch.no_grad()
def test_order_and_position_matter():
    model = GPT(SMALL, generator=seeded(0)).eval()
    same_tokens = model(torch.tensor([[5, 5, 5]]))
    assert not torch.allclose(same_tokens[0, 0], same_tokens[0, 2], atol=1e-4)
    swapped = model(torch.tensor([[1, 2, 3], [2, 1, 3]]))[:, -1]
    assert not torch.allclose(swapped[0], swapped[1], atol=1e-4)


@torch.no_grad()
def test_the_context_may_be_filled_but_not_exceeded():
    model = GPT(SMALL, generator=seeded(0))
    assert model(some_ids((1, 50))).shape == (1, 50, 1000)
    with pytest.raises(ValueError, match="sequence of 51 tokens .*expected at most 50"):
        model(some_ids((1, 51)))


# Dropout


@torch.no_grad()
def test_dropout_acts_in_training_only():
    without = GPT(SMALL, generator=seeded(0))
    config = GPTConfig(**{**SMALL.to_dict(), "dropout": 0.3})
    model = GPT(config, generator=seeded(0))
    ids = some_ids((2, 7))
    torch.manual_seed(0)
    assert not torch.equal(model.train()(ids), model(ids))
    assert torch.equal(model.eval()(ids), model(ids))
    assert torch.equal(model(ids), without.train()(ids))


@torch.no_grad()
@pytest.mark.parametrize(
    "place", ["dropout", "h.1.attn.weight_dropout", "h.1.attn.dropout", "h.1.mlp.dropout"]
)
def test_dropout_acts_in_each_of_its_places(place):
    config = GPTConfig(**{**SMALL.to_dict(), "dropout": 0.3})
    model = GPT(config, generator=seeded(0)).eval()
    ids = some_ids((2, 7))
    still = model(ids)
    model.get_submodule(place).train()
    torch.manual_seed(0)
    assert not torch.equal(model(ids), still)


def test_attention_weights_are_dropped():
    """With zero values but for the bias, attention is the sum of its weights: 1 without dropout."""
    config = GPTConfig(**{**SMALL.to_dict(), "dropout": 0.5})
    attention = GPT(config, generator=seeded(0)).h[0].attn
    with torch.no_grad():
        attention.c_attn.weight[128:] = 0
        attention.c_attn.bias[128:] = 1
        attention.c_proj.weight.copy_(torch.eye(64))
        x = torch.randn(2, 40, 64, generator=seeded(1))
        torch.testing.assert_close(attention.eval()(x), torch.ones(2, 40, 64))
        attention.train()
        attention.dropout.eval()  # only what comes after the projection
        torch.manual_seed(0)
        kept = attention(x)
    assert not torch.allclose(kept, torch.ones(2, 40, 64))
    assert abs(kept.mean().item() - 1) < 0.1  # what remains is scaled up
