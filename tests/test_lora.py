"""What must hold of any LoRA adapter: at the start, in training, merged, disabled."""

import copy

import pytest
import torch
from torch import nn

import lora
from minigpt import accelerate, load_pretrained, save_pretrained
from minigpt.config import GPTConfig
from minigpt.model import GPT

CONFIG = GPTConfig(vocab_size=61, n_positions=16, n_layer=2, n_head=2, n_embd=32)
ATTN, FC = "h.0.attn.c_attn", "h.1.mlp.c_fc"  # two of its eight linears


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_gpt(config: GPTConfig = CONFIG) -> GPT:
    """A random GPT in eval mode with weights large enough for differences to show."""
    model = GPT(config, generator=seeded(0)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=seeded(1)), alpha=0.05)
    return model


def make_adapted(seed: int = 2, **options) -> GPT:
    """The same GPT with adapters whose B is not zero, as after some training."""
    model = make_gpt()
    lora.inject(model, lora.LoRAConfig(**options), generator=seeded(seed))
    stir(model, seed)
    return model


def stir(model: nn.Module, seed: int) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=seeded(seed))
            elif "lora_magnitude_vector" in name:
                parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=seeded(seed)))


def ids() -> torch.Tensor:
    return torch.randint(0, CONFIG.vocab_size, (3, 11), generator=seeded(4))  # (B, T)


def assert_close(got: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(got, expected, atol=atol, rtol=0)


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def train(model: nn.Module, steps: int = 3) -> None:
    """A few AdamW steps on next-token loss, weight decay included: it must not touch the base."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(steps):
        logits = model(ids())
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids()[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_dropout_keeps_the_mean():
    base = nn.Linear(8, 5)
    layer = lora.LoRALinear(base, 2, 4.0, 0.4, generator=seeded(0)).train()
    layer.lora_B.weight.data.normal_(generator=seeded(1))
    x = torch.randn(1, 8, generator=seeded(2))
    torch.manual_seed(0)
    with torch.no_grad():
        noisy = layer(x.expand(20000, 8))
        error = (noisy.mean(0) - layer.eval()(x)[0]) / (noisy.std(0) / 20000**0.5)
    assert noisy.std(0).min() > 0.01 and error.abs().max() < 4.5  # in standard errors


def test_step_zero_equals_the_base_exactly():
    model = make_gpt()
    expected = model(ids())
    lora.inject(model, lora.LoRAConfig(4, dropout=0.5), generator=seeded(0))
    assert torch.equal(model(ids()), expected)
    assert torch.equal(model.train()(ids()), expected)  # whatever is dropped, B is zero


def test_only_adapters_move():
    model = make_gpt().train()
    names = lora.inject(model, lora.LoRAConfig(4, dropout=0.1), generator=seeded(0))
    before = snapshot(model)
    train(model)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {f"{name}.lora_{x}.weight" for name in names for x in "AB"}
    assert len(moved) == 16


@pytest.mark.parametrize("preset", ["attention", "mlp", "all"])
@pytest.mark.parametrize("rank", [1, 8])
def test_trainable_parameters_are_r_times_in_plus_out(preset, rank):
    model = make_gpt()
    total = sum(p.numel() for p in model.parameters())
    assert lora.trainable_parameters(model) == (total, total)
    lora.inject(model, lora.LoRAConfig(rank, targets=preset))
    C = CONFIG.n_embd
    attention, mlp = (C + 3 * C) + (C + C), (C + 4 * C) + (4 * C + C)
    block = {"attention": attention, "mlp": mlp, "all": attention + mlp}[preset]
    adapters = rank * block * CONFIG.n_layer
    assert lora.trainable_parameters(model) == (adapters, total + adapters)


# Merging rounds W + delta once more than the sum of two products: the stated tolerance on logits
# of size 1 is a few of the type's epsilons.
@pytest.mark.parametrize(
    "dtype, atol", [(torch.float64, 1e-14), (torch.float32, 1e-5), (torch.bfloat16, 0.05)]
)
def test_merged_equals_unmerged_and_unmerge_is_bit_exact(dtype, atol):
    model = make_adapted(rank=4).to(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = model(ids())
    with lora.disabled(model):
        assert (model(ids()) - expected).abs().max() > 5 * atol  # the adapters do something
    lora.merge(model)
    assert all(layer.merged for layer in lora.lora_layers(model).values())
    assert_close(model(ids()), expected, atol)
    changed = [n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])]
    assert changed == [f"{name}.base.weight" for name in lora.lora_layers(model)]
    lora.unmerge(model)
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())
    assert torch.equal(model(ids()), expected)


def test_merge_is_the_fp32_product_rounded_once():
    base = nn.Linear(32, 24, dtype=torch.bfloat16)
    layer = lora.LoRALinear(base, 4, 6.0, generator=seeded(0)).eval()
    layer.lora_B.weight.data.normal_(generator=seeded(1))
    A, B = layer.lora_A.weight.float(), layer.lora_B.weight.float()
    assert_close(layer.delta(), 1.5 * B @ A, 1e-6)
    expected = (base.weight.float() + layer.delta()).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.delta().dtype == torch.float32
        layer.merge()
    assert torch.equal(layer.base.weight, expected)


def test_unmerge_is_bit_exact_though_the_adapters_moved():
    """A stale optimiser step may move A and B while merged; the base comes back all the same."""
    model = make_adapted(rank=4)
    before = snapshot(model)
    model(ids()).sum().backward()
    lora.merge(model)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    lora.unmerge(model)
    after = snapshot(model)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert len(moved) == 16 and all("lora_" in name for name in moved)


def test_merged_layers_are_not_trained():
    model = make_adapted(rank=4)
    lora.merge(model)
    assert not model(ids()).requires_grad
    with pytest.raises(RuntimeError, match="merged adapter cannot be trained"):
        model.train()(ids())
    lora.unmerge(model)
    train(model)


def test_a_copy_of_a_merged_model_unmerges_on_its_own():
    model = make_adapted(rank=4)
    before = snapshot(model)
    lora.merge(model)
    twin = copy.deepcopy(model)
    lora.unmerge(twin)
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(twin).items())
    assert all(layer.merged for layer in lora.lora_layers(model).values())


def test_disabled_is_the_base_nests_and_restores():
    base, model = make_gpt(), make_adapted(rank=4)
    expected = model(ids())
    layers = list(lora.lora_layers(model).values())
    layers[1].enabled = False
    partly = model(ids())
    assert not torch.equal(partly, expected)
    with lora.disabled(model):
        with lora.disabled(model):
            assert torch.equal(model(ids()), base(ids()))
        assert torch.equal(model(ids()), base(ids()))  # the inner block does not switch on
    assert [layer.enabled for layer in layers] == [i != 1 for i in range(8)]
    assert torch.equal(model(ids()), partly)
    with pytest.raises(KeyError), lora.disabled(model):
        raise KeyError
    assert torch.equal(model(ids()), partly)


def test_draws_come_from_the_generator():
    state = torch.get_rng_state()
    one, two, other = (make_adapted(seed, rank=4) for seed in (2, 2, 3))
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (snapshot(model) for model in (one, two, other))
    drawn = [name for name in a if "lora_" in name]
    assert len(drawn) == 16
    assert all(torch.equal(a[name], b[name]) for name in drawn)
    assert not any(torch.equal(a[name], c[name]) for name in drawn)


def test_initial_values_and_scaling():
    layer = lora.LoRALinear(nn.Linear(400, 30), 9, 6.0, generator=seeded(0))
    A, bound = layer.lora_A.weight, 400**-0.5  # U(-bound, bound) is Kaiming with a = sqrt(5)
    assert A.shape == (9, 400) and layer.lora_B.weight.shape == (30, 9)
    assert 0.99 * bound < A.abs().max() <= bound
    assert abs(A.std() / (bound / 3**0.5) - 1) < 0.05
    assert not layer.lora_B.weight.any()
    assert layer.scaling == pytest.approx(6 / 9)
    stabilised = lora.LoRALinear(nn.Linear(400, 30), 9, 6.0, rank_stabilised=True)
    assert stabilised.scaling == pytest.approx(6 / 3)


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_takes_mode_and_type_of_its_base(training):
    layer = lora.LoRALinear(nn.Linear(4, 4, dtype=torch.bfloat16).train(training), 2, 4.0, 0.5)
    assert all(module.training == training for module in layer.modules())
    assert {p.dtype for p in layer.parameters()} == {torch.bfloat16}


def test_illegal_states_are_refused():
    plain, model = make_gpt(), make_adapted(rank=4)
    for act in (lora.merge, lora.unmerge, lambda m: lora.disabled(m).__enter__()):
        with pytest.raises(RuntimeError, match="no LoRA adapters"):
            act(plain)
    with pytest.raises(RuntimeError, match="has LoRA adapters already"):
        lora.inject(model, lora.LoRAConfig(4))
    with pytest.raises(RuntimeError, match="not merged"):
        lora.unmerge(model)
    with lora.disabled(model), pytest.raises(RuntimeError, match="disabled adapter"):
        lora.merge(model)
    lora.merge(model)
    with pytest.raises(RuntimeError, match="merged already"):
        lora.merge(model)
    with pytest.raises(RuntimeError, match="cannot be disabled"), lora.disabled(model):
        pass
    assert all(x.merged and x.enabled for x in lora.lora_layers(model).values())


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("accelerated", [False, True])
@torch.no_grad()
def test_unload_leaves_a_plain_model_that_computes_exactly_the_same(accelerated, dora, tmp_path):
    model, plain = make_adapted(rank=4, dora=dora), make_gpt()
    if accelerated:
        accelerate(model, lora.FUSED)
        accelerate(plain, lora.FUSED)
    with pytest.raises(RuntimeError, match=r"h\.0\.attn\.c_attn.*5 more are not merged"):
        lora.unload(model)
    assert len(lora.lora_layers(model)) == 8
    lora.merge(model)
    merged = model(ids())
    lora.unload(model)
    assert torch.equal(model(ids()), merged)
    assert (merged - plain(ids())).abs().max() > 1e-2
    types = [(name, type(module)) for name, module in model.named_modules()]
    assert types == [(name, type(module)) for name, module in plain.named_modules()]
    assert all(parameter.requires_grad for parameter in model.parameters())
    save_pretrained(model, tmp_path)  # which takes nothing but a plain GPT
    loaded = load_pretrained(tmp_path).eval()
    assert torch.equal(loaded.h[0].attn.c_attn.weight, model.h[0].attn.c_attn.weight)
    assert_close(loaded(ids()), merged)
    lora.inject(model, lora.LoRAConfig(2))  # as a model that was never adapted
    assert torch.equal(model(ids()), merged)


def test_unload_refuses_a_model_without_adapters_and_one_half_merged():
    with pytest.raises(RuntimeError, match="no LoRA adapters"):
        lora.unload(make_gpt())
    model = make_adapted(rank=4)
    lora.lora_layers(model)[FC].merge()
    with pytest.raises(RuntimeError, match="are not merged"):
        lora.unload(model)
    assert len(lora.lora_layers(model)) == 8
