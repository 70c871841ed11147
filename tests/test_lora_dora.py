"""What must hold of DoRA: its equation, where gradients go, and all that holds of LoRA."""

import copy

import pytest
import torch
from torch import nn

import lora
from tests.test_lora import assert_close, ids, make_adapted, make_gpt, seeded, snapshot, train


def make_layer(bias: bool = True, dropout: float = 0.0, dtype=torch.float64) -> lora.DoRALinear:
    """A layer of 7 inputs and 5 outputs with B and m away from where they start."""
    base = nn.Linear(7, 5, bias=bias, dtype=dtype)
    layer = lora.DoRALinear(base, 2, 3.0, dropout, generator=seeded(0)).eval()
    layer.lora_B.weight.data.normal_(generator=seeded(1))
    layer.lora_magnitude_vector.data.mul_(1 + torch.rand(5, generator=seeded(2), dtype=dtype))
    return layer


@pytest.mark.parametrize("bias", [True, False])
def test_forward_is_the_equation_and_the_norm_is_a_constant_to_the_gradient(bias):
    layer = make_layer(bias)
    x = torch.randn(4, 7, generator=seeded(3), dtype=torch.float64)
    W, A, B = layer.base.weight, layer.lora_A.weight, layer.lora_B.weight
    m = layer.lora_magnitude_vector
    turned = W + 1.5 * B @ A
    weight = m[:, None] * turned / turned.detach().norm(dim=1, keepdim=True)
    expected = nn.functional.linear(x, weight, layer.base.bias)
    assert_close(layer(x), expected, 1e-12)
    assert_close(layer.delta(), weight - W, 1e-12)
    direction = torch.randn(4, 5, generator=seeded(4), dtype=torch.float64)
    got = torch.autograd.grad((layer(x) * direction).sum(), (A, B, m))
    for gradient, other in zip(got, torch.autograd.grad((expected * direction).sum(), (A, B, m))):
        assert_close(gradient, other, 1e-12)


def test_nothing_of_the_weights_size_is_kept_for_the_backward_pass():
    layer, kept = make_layer().train(), []
    x = torch.randn(4, 7, generator=seeded(3), dtype=torch.float64, requires_grad=True)
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    with hooks:
        layer(x)
    weight = layer.base.weight.data_ptr()
    assert kept and all(t.numel() < 35 for t in kept if t.data_ptr() != weight)


def test_dropout_thins_out_the_correction_only_and_keeps_the_mean():
    layer = make_layer(dropout=0.4, dtype=torch.float32).train()
    x = torch.randn(1, 7, generator=seeded(3))
    torch.manual_seed(0)
    with torch.no_grad():
        noisy = layer(x.expand(20000, 7))
        error = (noisy.mean(0) - layer.eval()(x)[0]) / (noisy.std(0) / 20000**0.5)
    assert noisy.std(0).min() > 0.01 and error.abs().max() < 4.5  # in standard errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_step_zero_equals_the_base_exactly(dtype):
    model = make_gpt().to(dtype)
    expected = model(ids())
    lora.inject(model, lora.LoRAConfig(4, dropout=0.5, dora=True), generator=seeded(0))
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert torch.equal(model(ids()), expected)
    assert torch.equal(model.train()(ids()), expected)  # whatever is dropped, g is 1 and B zero
    base = {name: layer.base.weight.clone() for name, layer in lora.lora_layers(model).items()}
    lora.merge(model.eval())
    layers = lora.lora_layers(model)
    assert all(torch.equal(layers[name].base.weight, weight) for name, weight in base.items())


def test_a_cast_base_leaves_the_gain_and_what_m_is():
    """Also beside a base in bf16, m is the rows' length: so it is for who loads them in fp32."""

    def gain(layer: lora.DoRALinear) -> torch.Tensor:
        BA = layer.lora_B.weight @ layer.lora_A.weight
        turned = layer.base.weight.float() + layer.scaling * BA
        return layer.lora_magnitude_vector / turned.norm(dim=1)

    for layer in lora.lora_layers(make_adapted(rank=4, dora=True)).values():
        expected = gain(layer)
        layer.cast_base(torch.bfloat16)
        assert {p.dtype for p in layer.base.parameters()} == {torch.bfloat16}
        assert layer.lora_magnitude_vector.dtype == layer.lora_A.weight.dtype == torch.float32
        torch.testing.assert_close(gain(layer), expected, rtol=1e-6, atol=0)
        lengths = (layer.base.weight.float() + layer.delta()).norm(dim=1)
        torch.testing.assert_close(lengths, layer.lora_magnitude_vector, rtol=1e-6, atol=0)


def test_autocast_keeps_the_bases_type_and_an_fp32_norm():
    model = make_adapted(rank=4, dora=True)
    expected = model(ids())
    layer = next(iter(lora.lora_layers(model).values()))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 32)).dtype == layer.base(torch.randn(2, 32)).dtype
        assert layer.delta().dtype == torch.float32
        assert_close(model(ids()).float(), expected, 0.1)


def test_only_adapters_move_and_their_number_is_known():
    model = make_gpt().train()
    names = lora.inject(model, lora.LoRAConfig(4, dropout=0.1, dora=True), generator=seeded(0))
    before = snapshot(model)
    train(model)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    factors = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
    assert moved == {f"{name}.{factor}" for name in names for factor in factors}
    assert len(moved) == 24
    outputs = 2 * (3 * 32 + 32 + 4 * 32 + 32)  # one magnitude each
    plain = make_gpt()
    lora.inject(plain, lora.LoRAConfig(4))
    count = lora.trainable_parameters(plain)[0] + outputs
    assert lora.trainable_parameters(model)[0] == count


@pytest.mark.parametrize(
    "dtype, atol", [(torch.float64, 1e-14), (torch.float32, 1e-5), (torch.bfloat16, 0.06)]
)
def test_merged_equals_unmerged_and_unmerge_is_bit_exact(dtype, atol):
    model = make_adapted(rank=4, dora=True, rank_stabilised=True).to(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = model(ids())
    layer = next(iter(lora.lora_layers(model).values()))
    delta = layer.delta()
    with lora.disabled(model):
        assert (model(ids()) - expected).abs().max() > 5 * atol  # the adapters do something
    lora.merge(model)
    assert_close(model(ids()), expected, atol)
    assert torch.equal(layer.delta(), delta)  # of the base's own weight, merged or not
    changed = [n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])]
    assert changed == [f"{name}.base.weight" for name in lora.lora_layers(model)]
    twin = copy.deepcopy(model)
    for merged in (model, twin):
        lora.unmerge(merged)
        assert list(before) == list(merged.state_dict())
        assert all(torch.equal(t, before[n]) for n, t in merged.state_dict().items())
        assert torch.equal(merged(ids()), expected)


def test_disabled_is_the_base_and_restores():
    base, model = make_gpt(), make_adapted(rank=4, dora=True)
    expected = model(ids())
    with lora.disabled(model):
        assert torch.equal(model(ids()), base(ids()))
    assert torch.equal(model(ids()), expected)


def test_illegal_states_are_refused():
    model = make_adapted(rank=4, dora=True)
    with pytest.raises(RuntimeError, match="has LoRA adapters already"):
        lora.inject(model, lora.LoRAConfig(4))
    with lora.disabled(model), pytest.raises(RuntimeError, match="disabled adapter"):
        lora.merge(model)
    lora.merge(model)
    with pytest.raises(RuntimeError, match="merged already"):
        lora.merge(model)
    with pytest.raises(RuntimeError, match="merged base cannot be cast"):
        lora.lora_layers(model)["h.0.attn.c_attn"].cast_base(torch.bfloat16)
    with pytest.raises(RuntimeError, match="merged adapter cannot be trained"):
        model.train()(ids())
