"""`minigpt.accelerate`: fast classes compute what the plain ones compute, and go again."""

import pytest
import torch
from torch import Tensor, nn

import lora
from minigpt import GPT, GPTConfig, KVCache, accelerate, decelerate, generate
from minigpt.fast import compiling
from minigpt.fast.attention import FastAttention
from minigpt.fast.fallback import Fast
from minigpt.fast.linear import FastLinear
from minigpt.fast.model import FastGPT

SHAPE = GPTConfig(vocab_size=64, n_positions=24, n_layer=2, n_head=2, n_embd=16)
METHODS = ("full", "lora", "dora")
# fp32: other orders of summation; bf16: 8 bits a number, through two blocks and back.
TOLERANCE = {"fp32": 2e-5, "bf16": 4e-2}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ids(rows: int = 3, length: int = 9) -> Tensor:
    return torch.randint(SHAPE.vocab_size, (rows, length), generator=seeded(1))


def make_model(method: str, *, fast: bool, dropout: float = 0.0) -> GPT:
    """A model whose every weight counts, biases and B included."""
    model = GPT(SHAPE, generator=seeded(0))
    if method != "full":
        config = lora.LoRAConfig(rank=3, alpha=6.0, dropout=dropout, dora=method == "dora")
        lora.inject(model, config, generator=seeded(2))
    draw = seeded(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    if fast:
        accelerate(model, lora.FUSED)
    return model


def trained(model: GPT) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def logits_of(model: GPT, precision: str) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return model(ids()).float()  # (B, T, V)


def measured(model: GPT, precision: str) -> dict[str, Tensor]:
    """Logits, the loss's gradients, and the gradients of their inner product with a direction."""
    parameters = trained(model)
    logits = logits_of(model, precision)
    loss = logits.log_softmax(-1).square().mean()
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    draw = seeded(4)
    along = sum((g * torch.randn(g.shape, generator=draw)).sum() for g in gradients)
    products = torch.autograd.grad(along, list(parameters.values()))
    found = {"logits": logits.detach()}
    for name, gradient, product in zip(parameters, gradients, products):
        found[f"gradient of {name}"] = gradient.detach()
        found[f"Hessian's product of {name}"] = product
    return found


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp(min=1e-6))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_logits_gradients_and_second_derivatives_are_the_plain_ones(method, precision):
    plain, fast = (measured(make_model(method, fast=fast), precision) for fast in (False, True))
    assert plain.keys() == fast.keys() and len(plain) > 16
    for name, expected in plain.items():
        assert relative_error(fast[name], expected) < TOLERANCE[precision], name


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_with_a_cache_too(method, precision):
    """Six tokens at once, then three by what the cache holds of those before."""
    plain, fast = (make_model(method, fast=fast) for fast in (False, True))
    cache = KVCache(fast, *ids().shape)
    with fast.sampling(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        parts = [fast.hidden(ids()[:, :6], cache)]
        parts += [fast.hidden(ids()[:, [t]], cache) for t in (6, 7, 8)]
        logits = fast.head(torch.cat(parts, dim=1)).float()
    assert relative_error(logits, logits_of(plain, precision)) < TOLERANCE[precision]


@pytest.mark.parametrize("method", METHODS)
def test_weights_kept_in_bf16_compute_the_same(method):
    """Without autocast, as models are sampled, and beside adapters that stay in fp32."""
    plain, fast = (make_model(method, fast=fast).to(torch.bfloat16) for fast in (False, True))
    for model in (plain, fast):
        for name, parameter in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                parameter.data = parameter.data.float()
    with torch.no_grad(), fast.sampling():
        assert relative_error(fast(ids()).float(), plain(ids()).float()) < TOLERANCE["bf16"]


@pytest.mark.parametrize("method", METHODS)
def test_the_same_tokens_are_sampled(method):
    written = [
        generate(
            make_model(method, fast=fast),
            ids().tolist(),
            max_new_tokens=8,
            generator=seeded(5),
        )
        for fast in (False, True)
    ]
    assert written[0] == written[1]


def test_what_is_swapped():
    model = make_model("lora", fast=True)
    classes = {type(module) for module in model.modules()}
    assert {FastGPT, FastAttention, FastLinear, lora.fast.FusedLoRALinear} <= classes
    fast = [module for module in model.modules() if isinstance(module, Fast)]
    assert len(fast) == 1 + 2 + 8 * 4  # a linear with its adapter is four modules


@pytest.mark.parametrize("method", METHODS)
def test_a_swap_is_no_more_than_that_and_can_be_undone(method):
    model = make_model(method, fast=False)
    names, parameters = list(model.state_dict()), dict(model.named_parameters())
    expected = model(ids())
    model.eval().h[0].train()
    accelerate(model, lora.FUSED)
    accelerate(model, lora.FUSED)  # a second time changes nothing
    assert list(model.state_dict()) == names
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert model.h[0].training and not model.h[1].training
    decelerate(model)
    assert not any(isinstance(module, Fast) for module in model.modules())
    assert torch.equal(model(ids()), expected)


def test_a_compiled_model_is_plain_again_too():
    model = make_model("full", fast=False)
    expected = model(ids())
    accelerate(model, backend="minigpt")
    assert "hidden" in vars(model)
    decelerate(model)
    assert torch.equal(model(ids()), expected) and type(model) is GPT


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("method", METHODS)
def test_a_class_of_the_users_own_stays(method):
    """It is called, under an adapter too."""
    model = make_model(method, fast=False)
    name = "h.0.mlp.c_fc" if method == "full" else "h.0.mlp.c_fc.base"
    plain = model.get_submodule(name)
    own = Doubled(16, 64).requires_grad_(plain.weight.requires_grad)
    own.load_state_dict(plain.state_dict())
    model.set_submodule(name, own)
    expected = model(ids())
    accelerate(model, lora.FUSED)
    assert type(model.get_submodule(name)) is Doubled
    torch.testing.assert_close(model(ids()), expected)


def test_a_model_of_the_users_own_is_compiled_as_it_is(monkeypatch):
    monkeypatch.setattr(compiling, "compile", lambda function, backend: function)  # takes seconds

    class Own(GPT):
        def hidden(self, ids, cache=None):
            return 2 * super().hidden(ids, cache)

    model = Own(SHAPE, generator=seeded(0))
    expected = model(ids())
    accelerate(model, backend="minigpt")
    torch.testing.assert_close(model(ids()), expected)


@pytest.mark.parametrize("part", ["base", "dropout", "lora_A", "lora_B"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_hook_within_an_adapter_is_called_and_heeded(method, part):
    plain, fast = make_model(method, fast=False), make_model(method, fast=True)
    untouched = fast(ids())
    for model in (plain, fast):
        layer = model.get_submodule(f"h.0.attn.c_attn.{part}")
        layer.register_forward_hook(lambda module, inputs, output: 0.5 * output)
    assert not torch.allclose(fast(ids()), untouched, atol=1e-4)
    torch.testing.assert_close(fast(ids()), plain(ids()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["attn.c_attn.base", "attn.c_attn.lora_A", "mlp.c_fc.lora_B"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_forward_put_on_a_part_is_called(method, name):
    found = []
    for fast in (False, True):
        model = make_model(method, fast=fast)
        part = model.h[0].get_submodule(name)
        part.forward = lambda x, forward=part.forward: 0.5 * forward(x)
        found.append(model(ids()))
    torch.testing.assert_close(*found)


def test_a_hook_on_the_dropout_of_attention_is_heeded():
    plain, fast = make_model("full", fast=False), make_model("full", fast=True)
    for model in (plain, fast):
        model.h[0].attn.weight_dropout.register_forward_hook(lambda m, i, output: 2 * output)
    torch.testing.assert_close(fast(ids()), plain(ids()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_another_module_in_the_place_of_a_dropout_is_called(method):
    class Half(nn.Module):
        def forward(self, x):
            return 0.5 * x

    found = []
    for fast in (False, True):
        model = make_model(method, fast=fast)
        model.h[0].attn.weight_dropout = Half()
        if method != "full":
            model.h[0].mlp.c_fc.dropout = Half()
        found.append(model(ids()))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_dropout_alone_in_training_mode_draws(method):
    """As for Monte-Carlo dropout in a model that is in eval mode."""
    found = []
    for fast in (False, True):
        model = make_model(method, fast=fast, dropout=0.5).eval()
        model.h[0].mlp.c_fc.dropout.train()
        torch.manual_seed(0)
        found.append(model(ids()))
    torch.testing.assert_close(*found)


def test_dropout_in_adapters_draws_the_same():
    losses = []
    for fast in (False, True):
        model = make_model("lora", fast=fast, dropout=0.5).train()
        torch.manual_seed(0)
        losses.append(model(ids()).square().mean())
    torch.testing.assert_close(*losses)
