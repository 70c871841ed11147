"""What PyTorch promises for a module holds for ours: plain, and accelerated, with adapters or not.

The right values come from transformers and PEFT, or from PyTorch itself on the plain parts.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

import lora
from minigpt import GPT, GPTConfig, accelerate, generate
from tests.conftest import oracle
from tests.test_accelerate import METHODS, SHAPE, ids, make_model, seeded, trained
from tests.test_lora_peft import copy_adapters, make_hugging_face, make_peft

transformers = oracle("transformers")
oracle("peft")

ROOT = Path(__file__).parent.parent
both = pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
everywhere = pytest.mark.parametrize("method", METHODS)


def loss_of(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1).square().mean()


# Second derivatives

NAMES = {  # ours: theirs
    "wte.weight": "transformer.wte.weight",
    "h.0.attn.c_attn.bias": "transformer.h.0.attn.c_attn.bias",
    "h.1.ln_2.weight": "transformer.h.1.ln_2.weight",
}


def hessian_vector_norms(logits: Tensor, parameters: list[Tensor]) -> list[float]:
    """Of the loss's Hessian times a random vector, for each parameter alone."""
    norms = []
    for parameter in parameters:
        vector = torch.randn(parameter.shape, generator=seeded(6))
        (gradient,) = torch.autograd.grad(loss_of(logits), parameter, create_graph=True)
        (product,) = torch.autograd.grad((gradient * vector).sum(), parameter, retain_graph=True)
        norms.append(product.norm().item())
    return norms


@both
def test_second_derivatives_are_those_of_transformers(fast):
    ours = make_model("full", fast=False)
    theirs = make_hugging_face(ours)
    theirs.config._attn_implementation = "eager"
    accelerate(ours) if fast else None
    found = hessian_vector_norms(ours(ids()), [ours.get_parameter(name) for name in NAMES])
    logits = theirs(ids()).logits
    expected = hessian_vector_norms(logits, [theirs.get_parameter(n) for n in NAMES.values()])
    assert found == pytest.approx(expected, rel=1e-4) and min(found) > 1e-4


# torch.func


@both
@everywhere
def test_per_example_gradients_by_vmap(method, fast):
    model = make_model(method, fast=fast)
    parameters = {name: p.detach() for name, p in trained(model).items()}

    def loss(values: dict[str, Tensor], row: Tensor) -> Tensor:
        return loss_of(functional_call(model, values, (row[None],)))

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, ids())
    for i, row in enumerate(ids()):
        model.zero_grad()
        loss_of(model(row[None])).backward()
        for name, parameter in trained(model).items():
            torch.testing.assert_close(found[name][i], parameter.grad, rtol=1e-3, atol=1e-5)


@both
@everywhere
def test_forward_mode_agrees_with_backward(method, fast):
    model = make_model(method, fast=fast)
    values = {name: p.detach() for name, p in trained(model).items()}
    along = {name: torch.randn(v.shape, generator=seeded(7)) for name, v in values.items()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return loss_of(functional_call(model, parameters, (ids(),)))

    _, forward = jvp(loss, (values,), (along,))
    gradients = grad(loss)(values)
    backward = sum((gradients[name] * along[name]).sum() for name in values)
    torch.testing.assert_close(forward, backward, rtol=1e-3, atol=1e-5)


# Hooks


@both
@pytest.mark.parametrize("dora", [False, True])
def test_a_hook_that_was_there_before_inject_counts_at_step_0(fast, dora):
    model = make_model("full", fast=False)
    model.h[0].attn.c_attn.register_forward_hook(lambda module, x, y: torch.zeros_like(y))
    expected = model(ids())
    lora.inject(model, lora.LoRAConfig(rank=3, dora=dora), generator=seeded(2))
    accelerate(model, lora.FUSED) if fast else None
    torch.testing.assert_close(model(ids()), expected, rtol=1e-4, atol=1e-4)


@both
@everywhere
def test_backward_hooks_see_the_gradients(method, fast):
    model = make_model(method, fast=fast)
    seen = []
    for module in (model.h[0].mlp, model.h[0].mlp.c_fc, model.h[1].ln_1):
        module.register_full_backward_hook(lambda module, x, y: seen.append(y[0].shape))
    loss_of(model(ids())).backward()
    assert sorted(map(tuple, seen)) == [(3, 9, 16), (3, 9, 16), (3, 9, 64)]


# Base parameters that train beside adapters


@both
def test_an_unfrozen_bias_has_pefts_gradient(fast):
    ours = make_model("full", fast=False)
    theirs = make_peft(ours, r".*\.c_attn", r=3, lora_alpha=6)
    config = lora.LoRAConfig(rank=3, alpha=6.0, targets=("h.*.c_attn",))
    lora.inject(ours, config, generator=seeded(2))
    assert copy_adapters(theirs, ours) == SHAPE.n_layer
    accelerate(ours, lora.FUSED) if fast else None
    name = "transformer.h.0.attn.c_attn.base_layer.bias"
    bias = ours.h[0].attn.c_attn.base.bias.requires_grad_()
    expected = theirs.get_base_model().get_parameter(name).requires_grad_()
    loss_of(ours(ids())).backward()
    loss_of(theirs(ids()).logits).backward()
    torch.testing.assert_close(bias.grad, expected.grad, rtol=1e-4, atol=1e-6)
    assert bias.grad.norm() > 1e-3


@both
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_unfrozen_weight_gets_a_gradient(method, fast):
    plain, model = make_model(method, fast=False), make_model(method, fast=fast)
    gradients = []
    for each in (plain, model):
        weight = each.h[0].mlp.c_fc.base.weight.requires_grad_()
        loss_of(each(ids())).backward()
        gradients.append(weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


# Compilers


@pytest.mark.slow
@both
@everywhere
def test_torch_compile(method, fast):
    model = make_model(method, fast=fast)
    torch.testing.assert_close(
        torch.compile(model, backend="aot_eager")(ids()), model(ids()), rtol=1e-4, atol=1e-5
    )


@both
@everywhere
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_jit_trace(method, fast):
    model = make_model(method, fast=fast).eval()
    traced = torch.jit.trace(model, ids())
    others = ids().flip(1)
    torch.testing.assert_close(traced(others), model(others), rtol=1e-4, atol=1e-5)


# Shapes and types


@both
@everywhere
def test_an_empty_batch(method, fast):
    model = make_model(method, fast=fast)
    logits = model(ids()[:0])
    assert logits.shape == (0, 9, SHAPE.vocab_size)
    logits.sum().backward()
    assert all(not p.grad.any() for p in trained(model).values() if p.grad is not None)


@both
@pytest.mark.parametrize("dora", [False, True])
def test_adapters_in_fp32_beside_a_base_in_bf16_without_autocast(dora, fast):
    """As PEFT computes it: the base in its type, the adapter in its own, the sum in the base's."""
    ours = make_model("full", fast=False)
    theirs = make_peft(ours, r".*\.c_fc", r=3, lora_alpha=6, use_dora=dora)
    config = lora.LoRAConfig(rank=3, alpha=6.0, targets=("h.*.c_fc",), dora=dora)
    lora.inject(ours, config, generator=seeded(2))
    copy_adapters(theirs, ours)
    accelerate(ours, lora.FUSED) if fast else None
    for model in (ours, theirs):
        model.to(torch.bfloat16)
        for name, parameter in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                parameter.data = parameter.data.float()
    found, expected = ours(ids()), theirs(ids()).logits
    assert found.dtype == expected.dtype == torch.bfloat16
    assert (found - expected).float().norm() / expected.float().norm() < 2e-2
    loss_of(found.float()).backward()
    grads = [p.grad for n, p in ours.named_parameters() if "lora_B" in n]
    assert all(grad.dtype == torch.float32 and grad.any() for grad in grads)


@both
@everywhere
def test_activations_in_fp32_over_a_frozen_base_in_bf16(method, fast):
    """How the experiments keep a policy, here without their autocast."""
    model = make_model(method, fast=fast)
    expected = model(ids())
    for layer in lora.lora_layers(model).values():
        layer.cast_base(torch.bfloat16)
    assert (model(ids()) - expected).norm() / expected.norm() < 2e-2
    if method != "full":
        with lora.disabled(model):
            assert model(ids()).dtype == torch.float32


@pytest.fixture
def default_dtype(request):
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@both
@pytest.mark.parametrize("default_dtype", [torch.bfloat16, torch.float64], indirect=True)
def test_any_default_dtype(default_dtype, fast):
    """4,000 draws among 5,000 equal tokens meet about 5,000 (1 - 1/e^0.8) = 2,753 of them."""
    shape = GPTConfig(vocab_size=5000, n_positions=4, n_layer=1, n_head=1, n_embd=4)
    model = GPT(shape, generator=seeded(0))
    assert model.wte.weight.dtype == default_dtype
    nn.init.zeros_(model.wte.weight)
    accelerate(model) if fast else None
    new = generate(model, [[0]] * 4000, max_new_tokens=1, generator=seeded(1))
    assert 2650 < len({row[0] for row in new}) < 2850
    lora.inject(model, lora.LoRAConfig(rank=2), generator=seeded(2))
    assert model(torch.zeros(1, 3, dtype=torch.long)).dtype == default_dtype


# The plain classes know nothing of the fast ones

HIDDEN = """
import sys, types
for package in ("minigpt", "lora"):  # their modules without what __init__ hands on
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = [package]
sys.modules["minigpt.fast"] = sys.modules["lora.fast"] = None  # an import of them fails

import torch
from lora.dora import DoRALinear
from lora.layer import LoRALinear
from minigpt.config import GPTConfig
from minigpt.model import GPT

model = GPT(GPTConfig(vocab_size=16, n_positions=8, n_layer=1, n_head=2, n_embd=8))
ids = torch.zeros(1, 4, dtype=torch.long)
expected = model(ids)
model.h[0].mlp.c_fc = LoRALinear(model.h[0].mlp.c_fc, 2, 4.0)
model.h[0].mlp.c_proj = DoRALinear(model.h[0].mlp.c_proj, 2, 4.0)
torch.testing.assert_close(model(ids), expected)
project = {name for name in sys.modules if name.split(".")[0] in ("minigpt", "lora")}
print(sorted(project - {"minigpt", "lora", "minigpt.fast", "lora.fast"}))
"""


@pytest.mark.slow
def test_the_plain_model_and_layer_run_without_the_fast_path():
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(
        ["lora.dora", "lora.layer", "minigpt.config", "minigpt.errors", "minigpt.model"]
    )
