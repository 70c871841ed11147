"""`minigpt.compile`: fused graphs compute what the plain model computes, and without Triton."""

import copy
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd

import lora
import minigpt
from minigpt.errors import InputError
from minigpt.fast.compiling import triton_kernels
from minigpt.fast.cuda_graphs import capturing
from minigpt.fast.kernels import fuse

DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]


@pytest.fixture(autouse=True)
def forget_compiled_functions():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def fused(monkeypatch):
    """The graphs that the backend rewrote, as the names of their functions."""
    graphs = []
    rewrite = fuse.fuse

    def spy(module):
        rewrite(module)
        graphs.append([getattr(node.target, "__name__", "") for node in module.graph.nodes])

    monkeypatch.setattr(fuse, "fuse", spy)
    return graphs


def make_model(adapters=False, n_layer=1):
    generator = torch.Generator().manual_seed(0)
    config = minigpt.GPTConfig(vocab_size=61, n_positions=32, n_embd=32, n_head=4, n_layer=n_layer)
    model = minigpt.GPT(config, generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():  # so that biases and norms count as well
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    if adapters:
        lora.inject(model, lora.LoRAConfig(rank=2, alpha=4.0), generator=generator)
        with torch.no_grad():
            for layer in lora.lora_layers(model).values():
                layer.lora_B.weight.normal_(std=0.1, generator=generator)
    return model


def loss_and_gradients(model, hidden, ids, precision="fp32"):
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        logits = model.head(hidden(ids[:, :-1]))
    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return loss, torch.autograd.grad(loss, parameters)


def draw_ids(B=3, T=9):
    return torch.randint(61, (B, T), generator=torch.Generator().manual_seed(T))


def compare(model, ids, precision, bound):
    loss, gradients = loss_and_gradients(model, model.hidden, ids, precision)
    compiled = minigpt.compile(model.hidden, "minigpt")
    for _ in range(3):  # on CUDA: warmed up, captured, replayed
        ours, ours_gradients = loss_and_gradients(model, compiled, ids, precision)
    assert abs(ours - loss) <= bound * loss
    assert len(gradients) == len(ours_gradients)
    for a, b in zip(ours_gradients, gradients):
        assert a.dtype == b.dtype and (a - b).norm() <= bound * b.norm()


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("adapters", [False, True])
def test_fp32_losses_and_gradients_are_those_of_eager(adapters, fast, device):
    model = make_model(adapters).to(device)
    if fast:  # as experiments compile it
        minigpt.accelerate(model, lora.FUSED)
    compare(model, draw_ids().to(device), "fp32", 1e-5)


def test_an_adapter_is_traced_without_operations_in_place():
    """From one, PyTorch 2.11 would give the adapter gradients of zero, whatever the backend."""
    graphs = []
    layer = lora.LoRALinear(torch.nn.Linear(8, 8), rank=2, alpha=4.0)
    layer.__class__ = lora.FUSED[0]
    torch.compile(layer, backend=lambda graph, _: graphs.append(graph) or graph)(torch.ones(3, 8))
    parts = [part for part in graphs[0].modules() if isinstance(part, torch.fx.GraphModule)]
    called = [getattr(n.target, "__name__", str(n.target)) for p in parts for n in p.graph.nodes]
    assert "addmm" in called and "addmm_" not in called


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("adapters", [False, True])
def test_bf16_losses_and_gradients_are_those_of_eager_up_to_rounding(adapters, device):
    compare(make_model(adapters).to(device), draw_ids().to(device), "bf16", 2e-2)


def test_bf16_is_no_further_from_the_truth_than_eager():
    model, ids = make_model(), draw_ids()
    _, truth = loss_and_gradients(model, model.hidden, ids)
    compiled = minigpt.compile(model.hidden, "minigpt")
    errors = []
    for hidden in (model.hidden, compiled):
        _, gradients = loss_and_gradients(model, hidden, ids, "bf16")
        errors.append(sum(((a - b).norm() / b.norm()).item() for a, b in zip(gradients, truth)))
    assert errors[1] <= 1.1 * errors[0]


@pytest.mark.slow
def test_every_chain_of_a_block_is_fused(fused):
    model = make_model(n_layer=2)
    minigpt.compile(model.hidden, "minigpt")(draw_ids())
    (names,) = fused
    assert names.count("linear_gelu") == 2 and "gelu" not in names
    # Two norms a block and one at the end; the first has only the embeddings before it.
    assert names.count("residual_norm") == 4 and names.count("layer_norm") == 1


@pytest.mark.slow
def test_norms_that_linears_read_are_rounded_as_they_are_written(monkeypatch):
    dtypes, operator = [], fuse.add_layer_norm
    monkeypatch.setattr(fuse, "add_layer_norm", lambda *a: dtypes.append(a[-1]) or operator(*a))
    for adapters in (False, True):
        model = make_model(adapters)
        minigpt.accelerate(
            model, lora.FUSED
        )  # as experiments compile it; plain adapters drop first
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = minigpt.compile(model.hidden, "minigpt")(draw_ids())
        assert hidden.dtype == torch.float32  # as from eager
        assert dtypes[-2:] == [torch.bfloat16, torch.float32]


def test_frozen_biases_keep_pytorchs_gelu(fused):
    model = make_model().requires_grad_(False)
    minigpt.compile(model.hidden, "minigpt")(draw_ids())
    assert "linear_gelu" not in fused[0] and fused[0].count("gelu") == 1


def test_what_only_looks_like_a_chain_is_left_alone(fused):
    weight, bias, norm = torch.ones(8, 8, requires_grad=True), torch.ones(8), torch.nn.LayerNorm(8)
    bias.requires_grad_()

    def function(x):
        h = torch.nn.functional.linear(x, weight, bias)
        erf = torch.nn.functional.gelu(h)
        read_twice = torch.nn.functional.gelu(h, approximate="tanh") + h
        broadcast = norm(x + bias)
        shifted = norm(x + 1.0)
        return erf + read_twice + broadcast + shifted

    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(minigpt.compile(function, "minigpt")(x), function(x))
    assert not {"linear_gelu", "residual_norm"} & set(fused[0])


def test_a_sum_that_others_read_before_its_norm_is_fused():
    norm = torch.nn.LayerNorm(8)

    def function(x, y):
        total = x + y
        return total * 2 + norm(total)

    x, y = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(minigpt.compile(function, "minigpt")(x, y), function(x, y))


@pytest.mark.slow
def test_every_length_gets_its_own_graph(fused):
    model = make_model()
    compiled = minigpt.compile(lambda x: model.h[0].mlp(x), "minigpt")
    for T in [*range(1, 11), 1, 5]:  # more than the eight at which TorchDynamo would give up
        x = torch.randn(T, 32, generator=torch.Generator().manual_seed(T))
        torch.testing.assert_close(compiled(x), model.h[0].mlp(x), rtol=1e-5, atol=1e-5)
    assert len(fused) == 10


@pytest.mark.slow
def test_parameters_are_captured_where_they_are(monkeypatch):
    """CUDA graphs without a GPU: what PyTorch is asked to capture, and that it would accept it."""
    from torch._dynamo.backends import cudagraphs
    from torch._inductor import cudagraph_trees

    asked = []

    def capture(run, inputs, static, **options):
        inspect.signature(cudagraph_trees.cudagraphify).bind(run, inputs, static, **options)
        fixed = {i for i, tensor in enumerate(inputs) if i in set(static)}
        asked.append((options["is_backward"], options["is_inference"], len(inputs), fixed))
        return run

    monkeypatch.setattr(cudagraph_trees, "cudagraphify_impl", capture)
    monkeypatch.setattr(cudagraphs, "check_for_skip", lambda graph, num_fixed: None)
    monkeypatch.setattr(cudagraphs, "get_device_index", lambda graph: 0)
    model = make_model()
    n_parameters = len(list(model.hidden.__self__.parameters()))
    backend = aot_autograd(**capturing())
    ids = draw_ids()
    torch.compile(model.hidden, backend=backend)(ids).sum().backward()
    ours, model.wte.weight.grad = model.wte.weight.grad, None
    model.hidden(ids).sum().backward()
    torch.testing.assert_close(ours, model.wte.weight.grad)
    (forward, backward) = asked
    assert forward == (False, False, n_parameters + 1, set(range(1, n_parameters + 1)))
    is_backward, _, n_inputs, saved = backward
    assert is_backward and saved == set(range(n_inputs - 1))  # all but the gradient of the output
    with torch.no_grad():
        torch.compile(model.hidden, backend=aot_autograd(**capturing()))(ids)
    assert asked[2][:2] == (False, True)


def test_an_uncaptured_backward_ends_the_captured_forward(monkeypatch):
    from torch._dynamo.backends import cudagraphs
    from torch._inductor import cudagraph_trees

    calls, reasons = [], iter([None, "a reason of the backward"])
    manager = SimpleNamespace(set_to_running_backward=lambda: calls.append("backward"))
    monkeypatch.setattr(cudagraph_trees, "cudagraphify_impl", lambda run, *_, **__: run)
    monkeypatch.setattr(cudagraph_trees, "get_manager", lambda *_, **__: manager)
    monkeypatch.setattr(cudagraphs, "check_for_skip", lambda graph, num_fixed: next(reasons))
    monkeypatch.setattr(cudagraphs, "get_device_index", lambda graph: 0)
    x = torch.ones(3, requires_grad=True)
    torch.compile(torch.sin, backend=aot_autograd(**capturing()))(x).sum().backward()
    torch.testing.assert_close(x.grad, x.cos())
    assert calls == ["backward"]


@pytest.mark.slow
def test_graphs_with_parts_on_the_cpu_run_uncaptured():
    model, ids = make_model(), draw_ids()
    compiled = torch.compile(model.hidden, backend=aot_autograd(**capturing()))
    torch.testing.assert_close(compiled(ids), model.hidden(ids))
    compiled(ids).sum().backward()


def test_training_through_the_compiled_model_is_training():
    results = []
    for backend in ("eager", "minigpt"):
        model = make_model()
        hidden = minigpt.compile(model.hidden, backend)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(3):
            loss, gradients = loss_and_gradients(model, hidden, draw_ids())
            for parameter, gradient in zip(model.parameters(), gradients):
                parameter.grad = gradient
            optimizer.step()
        results.append(loss.item())
    assert results[1] == pytest.approx(results[0], rel=1e-5)


@pytest.mark.slow
def test_a_compiled_model_takes_batches_of_any_shape_in_few_graphs(fused):
    model, plain = make_model(), make_model()
    minigpt.compile_model(model, "minigpt")
    for B, T in [(1, 1), (3, 9), (8, 16), (5, 17), (2, 31), (9, 3), (4, 32)]:
        ids = draw_ids(B, T)
        torch.testing.assert_close(model.hidden(ids), plain.hidden(ids), rtol=1e-5, atol=1e-5)
    assert len(fused) == 3  # rows and tokens (8, 16), (8, 32), (16, 16)
    with pytest.raises(ValueError, match="33 tokens is longer"):
        model.hidden(draw_ids(1, 33))


def test_padding_to_a_bucket_costs_no_gradient_anything():
    model, plain = make_model(), make_model()
    minigpt.compile_model(model, "minigpt")
    ids = draw_ids(3, 9)
    _, expected = loss_and_gradients(plain, plain.hidden, ids)
    _, gradients = loss_and_gradients(model, model.hidden, ids)
    for a, b in zip(gradients, expected):
        assert (a - b).norm() <= 1e-5 * b.norm()


def test_a_compiled_model_generates_as_before_and_its_copy_is_a_model_of_its_own():
    model, prompts = make_model(), [[1, 2, 3], [4]]
    expected = minigpt.generate(model, prompts, max_new_tokens=5, temperature=0)
    minigpt.compile_model(model, "minigpt")
    assert minigpt.generate(model, prompts, max_new_tokens=5, temperature=0) == expected
    ids, twin = draw_ids(), copy.deepcopy(model)
    before = model.hidden(ids).detach()
    with torch.no_grad():
        twin.ln_f.weight.zero_()
    assert not torch.allclose(twin.hidden(ids), before)
    torch.testing.assert_close(model.hidden(ids), before)
    minigpt.compile_model(model, "minigpt")  # once more, over the first
    torch.testing.assert_close(model.hidden(ids), before)
    torch.testing.assert_close(pickle.loads(pickle.dumps(model)).hidden(ids), before)


def test_an_eager_model_stays_as_it_is():
    model = make_model()
    minigpt.compile_model(model, "eager")
    assert model.hidden.__func__ is minigpt.GPT.hidden
    with pytest.raises(InputError, match="no backend 'triton'"):
        minigpt.compile_model(model, "triton")


def test_the_default_on_a_cpu_and_eager_change_nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = make_model()
    assert minigpt.compile(model) is model
    assert minigpt.compile(model, "eager") is model


def test_an_unknown_backend_is_refused():
    with pytest.raises(InputError, match="no backend 'tensorrt'; expected one of minigpt, induc"):
        minigpt.compile(make_model(), "tensorrt")


@pytest.mark.slow
def test_triton_kernels_are_told_by_their_names():
    def launch():
        for name in ("triton_poi_fused_add_0", "add_layer_norm"):
            with torch.profiler.record_function(name):
                pass

    assert triton_kernels(launch) == ["triton_poi_fused_add_0"]
    model = make_model()
    hidden = minigpt.compile(model.hidden, "minigpt")
    assert triton_kernels(lambda: hidden(draw_ids()).sum().backward()) == []


WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # from here on, importing it fails
import minigpt
assert "torch._dynamo" not in sys.modules  # importing the project does not load the compiler
import torch
device = "cuda" if torch.cuda.is_available() else "cpu"
config = minigpt.GPTConfig(vocab_size=61, n_positions=32, n_embd=32, n_head=4, n_layer=1)
model = minigpt.GPT(config).to(device)
hidden = minigpt.compile(model.hidden, "minigpt")
for _ in range(4):  # compiled, warmed up, captured, replayed
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = hidden(torch.ones(2, 8, dtype=torch.long, device=device)).square().mean()
    loss.backward()
    model.zero_grad()
print(loss.item() > 0)
"""


@pytest.mark.slow
def test_the_backend_works_where_triton_cannot_be_imported():
    root = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", WITHOUT_TRITON]
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout == "True\n", done.stderr
