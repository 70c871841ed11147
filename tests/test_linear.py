"""`minigpt.fast.linear`: F.linear and its gradients, whatever library computes them."""

import pytest
import torch
from torch.nn import functional as F

from minigpt import GPT, GPTConfig, accelerate
from minigpt.fast import linear as module
from minigpt.fast.linear import FastLinear, addmm, linear, mm, pack

OURS = torch.backends.mkldnn.is_available()


def draw(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.fixture
def calls(monkeypatch):
    """The calls of oneDNN."""
    if not OURS:
        pytest.skip("this PyTorch comes without oneDNN")
    made, original = [], module._ONEDNN

    class Spy:
        def __call__(self, *arguments):
            made.append(arguments)
            return original(*arguments)

        def binary(self, *arguments):
            made.append(arguments)
            return original.binary(*arguments)

    monkeypatch.setattr(module, "_ONEDNN", Spy())
    monkeypatch.setattr(module, "_AVX512", True)  # whatever this processor does best
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 5), (2, 3, 5), (2, 1, 4, 5)])
def test_values_and_gradients_are_those_of_pytorch(shape, bias, calls):
    ours = [draw(*shape), draw(7, 5), draw(7) if bias else None]
    theirs = [None if t is None else t.clone() for t in ours]
    for tensors, function in ((ours, linear), (theirs, F.linear)):
        for tensor in filter(lambda t: t is not None, tensors):
            tensor.requires_grad_()
        y = function(*tensors)
        (y * y.detach().cos()).sum().backward()
        tensors.append(y)
    assert len(calls) == 3  # forward, and the gradients of x and W
    torch.testing.assert_close(ours[3], theirs[3], rtol=1e-5, atol=1e-5)
    for a, b in zip(ours[:3], theirs[:3]):
        if a is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)


def test_gradients_that_nobody_needs_are_not_made(calls):
    x, W = draw(4, 5), draw(7, 5)
    linear(x.requires_grad_(), W).sum().backward()
    assert len(calls) == 2 and W.grad is None
    linear(x.detach(), W.requires_grad_(), draw(7)).sum().backward()
    assert len(calls) == 4


def test_only_what_a_gradient_needs_is_kept(calls):
    def kept(x, W):
        product = linear(x, W).grad_fn.next_functions[0][0]  # before the view
        return [tensor is not None for tensor in product.saved_tensors]

    x, W = draw(4, 5), draw(7, 5)
    assert kept(x.clone().requires_grad_(), W) == [False, True]
    assert kept(x, W.clone().requires_grad_()) == [True, False]


def test_wrong_shapes_are_refused_in_pytorchs_words():
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        linear(draw(4, 5), draw(7, 6))


def test_a_pytorch_that_is_told_to_do_without_onednn_does(calls):
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(linear(draw(4, 5), draw(7, 5)), F.linear(draw(4, 5), draw(7, 5)))
    assert calls == []


def test_inputs_may_be_views_in_any_order(calls):
    x = draw(5, 6).T  # (6, 5), columns first
    torch.testing.assert_close(linear(x, draw(7, 5)), F.linear(x, draw(7, 5)))
    wide = draw(3, 1, 5).expand(3, 4, 5)
    torch.testing.assert_close(linear(wide, draw(7, 5)), F.linear(wide, draw(7, 5)))
    a, b = draw(4, 3).T, draw(6, 4).T  # (3, 4), (4, 6)
    torch.testing.assert_close(mm(a, b), a @ b)
    torch.testing.assert_close(addmm(draw(3, 6), a, b), draw(3, 6) + a @ b)
    assert len(calls) == 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_pytorch(dtype, calls):
    x, W, y = draw(4, 5, dtype=dtype), draw(7, 5, dtype=dtype), draw(4, 7, dtype=dtype)
    assert torch.equal(linear(x, W), F.linear(x, W))
    assert torch.equal(mm(x, W.T), x @ W.T)
    assert torch.equal(addmm(y.clone(), x, W.T), torch.addmm(y, x, W.T))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(draw(4, 5), draw(7, 5)).dtype == torch.bfloat16
    assert linear(draw(4, 5)[:0], draw(7, 5)).shape == (0, 7)
    assert calls == []


def test_without_onednn_nothing_changes(monkeypatch):
    monkeypatch.setattr(module, "_ONEDNN", None)
    x, W = draw(4, 5), draw(7, 5)
    assert torch.equal(linear(x, W), F.linear(x, W)) and torch.equal(mm(x, W.T), x @ W.T)


@pytest.mark.skipif(not module._BF16, reason="this processor has no bf16")
def test_packed_weights_compute_the_same(calls):
    layer = FastLinear(48, 64).to(torch.bfloat16).requires_grad_(False)
    x = draw(3, 2, 48, dtype=torch.bfloat16)
    plain = layer(x)
    layer.packed = pack(layer.weight)
    with torch.no_grad():
        assert torch.equal(layer(x), plain) or (layer(x) - plain).abs().max() < 0.02
        assert calls[-1][1].is_mkldnn
        assert layer(x.float().requires_grad_().to(torch.bfloat16)).dtype == torch.bfloat16
    before = len(calls)
    assert torch.equal(layer(x), plain) and len(calls) == before  # a gradient may be asked for


def test_only_bf16_matrices_on_a_cpu_are_packed(monkeypatch):
    assert pack(draw(4, 4)) is None
    assert pack(torch.empty(4, 4, dtype=torch.bfloat16, device="meta")) is None
    assert (pack(draw(4, 4, dtype=torch.bfloat16)) is not None) == module._BF16
    monkeypatch.setattr(module, "_BF16", False)
    assert pack(draw(4, 4, dtype=torch.bfloat16)) is None


def test_a_model_packs_while_it_samples_and_a_second_time_changes_nothing():
    config = GPTConfig(vocab_size=32, n_positions=8, n_layer=1, n_head=2, n_embd=16)
    model = GPT(config, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    accelerate(model)

    def packed() -> int:
        return sum(getattr(m, "packed", None) is not None for m in model.modules())

    with pytest.raises(KeyError), model.sampling():
        assert packed() == (5 if module._BF16 else 0)  # four linears and the head
        with model.sampling():
            pass
        assert packed() == (5 if module._BF16 else 0)
        raise KeyError
    assert packed() == 0


def test_gradients_have_gradients(monkeypatch):
    monkeypatch.setattr(module, "_forward", F.linear)  # oneDNN has no fp64
    values = [draw(*shape, dtype=torch.float64) for shape in ((4, 5), (7, 5), (7,))]
    values = [tensor.requires_grad_() for tensor in values]
    assert torch.autograd.gradgradcheck(module._Linear.apply, values)
