"""`lora.delta` and `lora.spectrum`: against the dense difference and PyTorch's own SVD."""

import pytest
import torch

import lora
from minigpt import GPT, GPTConfig, accelerate
from minigpt.errors import InputError
from tests.test_lora import CONFIG, FC, assert_close, make_adapted, make_gpt

both = pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])


def merged_weights(model: GPT) -> dict[str, torch.Tensor]:
    lora.merge(model)
    weights = {name: layer.base.weight.clone() for name, layer in lora.lora_layers(model).items()}
    lora.unmerge(model)
    return weights


@both
@torch.no_grad()
def test_a_delta_is_what_merging_adds(dora):
    model, base = make_adapted(rank=3, dora=dora), make_gpt()
    found, after = lora.delta(model), merged_weights(model)
    assert list(found) == list(lora.lora_layers(model)) and len(found) == 8
    for name, change in found.items():
        assert_close(base.get_submodule(name).weight + change, after[name])
        assert change.abs().max() > 1e-2 and not change.requires_grad


@both
@torch.no_grad()
def test_merged_disabled_and_accelerated_adapters_have_the_same_delta(dora):
    model = make_adapted(rank=3, dora=dora)
    expected = lora.delta(model)
    lora.merge(model)
    merged = lora.delta(model)
    lora.unmerge(model)
    with lora.disabled(model):
        disabled = lora.delta(model)
    accelerate(model, lora.FUSED)
    for found in (merged, disabled, lora.delta(model)):
        torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_between_two_full_models():
    base, model = make_gpt(), make_gpt()
    assert all(not change.any() for change in lora.delta(model, base).values())
    model.get_submodule(FC).weight.add_(2.0)
    found = lora.delta(model, base)
    assert len(found) == 8
    assert_close(found[FC], torch.full_like(found[FC], 2.0))
    assert not any(change.any() for name, change in found.items() if name != FC)
    model.get_submodule(FC).to(torch.bfloat16)
    assert lora.delta(model, base)[FC].dtype == torch.float32


def test_models_that_cannot_be_compared_are_refused():
    smaller = GPT(GPTConfig(**{**vars(CONFIG), "n_embd": 16}))
    fewer = GPT(GPTConfig(**{**vars(CONFIG), "n_layer": 1}))
    with pytest.raises(InputError, match=r"h.0.attn.c_attn is \(96, 32\) in the model and \(48"):
        lora.delta(make_gpt(), smaller)
    with pytest.raises(InputError, match=r"h.1.attn.c_attn is \(96, 32\) .* absent in the base"):
        lora.delta(make_gpt(), fewer)
    with pytest.raises(InputError, match="expected two models without"):
        lora.delta(make_adapted(rank=2), make_gpt())
    with pytest.raises(RuntimeError, match="no LoRA adapters"):
        lora.delta(make_gpt())


@both
@pytest.mark.parametrize("name", [FC, "h.0.attn.c_proj"])
@torch.no_grad()
def test_singular_values_are_those_of_the_dense_difference(dora, name):
    model = make_adapted(rank=3, dora=dora)
    layer, change = model.get_submodule(name), lora.delta(model)[name]
    expected = torch.linalg.svdvals(change)
    for found in (lora.spectrum(layer), lora.spectrum(change)):
        K = len(found.values)
        torch.testing.assert_close(found.values, expected[:K], rtol=1e-5, atol=1e-5)
        assert expected[K:].sum() < 1e-4 and torch.all(found.values.diff() <= 0)
        assert_close(found.truncate(K), change)
        assert_close(found.left.T @ found.left, torch.eye(K))
        assert_close(found.right @ found.right.T, torch.eye(K))
    assert len(lora.spectrum(layer).values) == (32 if dora else 3)


@torch.no_grad()
def test_energy_and_truncation_by_arithmetic():
    """Squares 16, 8 and 1 are 64, 96 and 100 % of 25; what is cut is what is missing."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, 3, generator=generator))[0] for n in (7, 5))
    matrix = left * torch.tensor([4.0, 8**0.5, 1.0]) @ right.T
    found = lora.spectrum(matrix)
    assert_close(found.energy[:3], torch.tensor([0.64, 0.96, 1.0]))
    cut = found.truncate(1)
    assert torch.linalg.matrix_rank(cut, rtol=1e-5) == 1
    assert (matrix - cut).square().sum() == pytest.approx(9, rel=1e-5)
    assert not found.truncate(0).any()
    assert not lora.spectrum(torch.zeros(4, 3)).energy.any()


def test_an_untrained_adapter_has_changed_nothing():
    model = make_gpt()
    lora.inject(model, lora.LoRAConfig(rank=2))
    assert lora.spectrum(model.get_submodule(FC)).values.tolist() == [0.0, 0.0]
    assert not any(change.any() for change in lora.delta(model).values())


@pytest.mark.parametrize("wrong", [torch.ones(3), torch.full((2, 2), torch.nan)])
def test_what_is_no_matrix_is_refused(wrong):
    with pytest.raises(InputError, match=r"expected a finite \(out, in\)"):
        lora.spectrum(wrong)


@pytest.mark.parametrize("k", [-1, 4])
def test_a_rank_out_of_range_is_refused(k):
    with pytest.raises(InputError, match=f"k is {k}; expected a rank from 0 to 3"):
        lora.spectrum(torch.eye(3)).truncate(k)


@both
def test_repr_tells_rank_alpha_scaling_and_state(dora):
    model = make_gpt()
    lora.inject(model, lora.LoRAConfig(rank=4, alpha=16.0, dora=dora))
    layer = model.get_submodule(FC)
    assert "rank=4, alpha=16, scaling=4, enabled" in repr(layer)
    assert repr(model).count("rank=4") == 4  # equal blocks are shown once
    with lora.disabled(model):
        assert "scaling=4, disabled" in repr(layer)
    layer.merge()
    assert "scaling=4, merged" in repr(layer)
