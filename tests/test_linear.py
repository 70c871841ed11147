"""`minigpt.linear`: F.linear and its gradients, whatever library computes them."""

import pytest
import torch
from torch.nn import functional as F

from minigpt.fast import linear as module
from minigpt.fast.linear import Linear, addmm, linear, mm, packed

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
    layer = Linear(48, 64).to(torch.bfloat16).requires_grad_(False)
    x = draw(3, 2, 48, dtype=torch.bfloat16)
    plain = layer(x)
    with packed(layer.parameters()), torch.no_grad():
        assert torch.equal(layer(x), plain) or (layer(x) - plain).abs().max() < 0.02
        assert calls[-1][1].is_mkldnn
        assert layer(x.float().requires_grad_().to(torch.bfloat16)).dtype == torch.bfloat16
    before = len(calls)
    assert torch.equal(layer(x), plain) and len(calls) == before


def test_packed_takes_up_bf16_matrices_on_a_cpu_alone():
    weights = [
        draw(4, 4),
        draw(4, dtype=torch.bfloat16),
        torch.empty(4, 4, dtype=torch.bfloat16, device="meta"),
    ]
    with packed(weights):
        assert module._PACKED == {}
    with pytest.raises(KeyError), packed([draw(4, 4, dtype=torch.bfloat16)]):
        assert len(module._PACKED) == module._BF16
        raise KeyError
    assert module._PACKED == {}


def test_a_pack_within_a_pack_leaves_the_outer_one_alone():
    weight = draw(4, 4, dtype=torch.bfloat16)
    with packed([weight]):
        with packed([weight]):
            pass
        assert len(module._PACKED) == module._BF16


def test_where_bf16_cannot_be_packed_it_is_not(monkeypatch):
    monkeypatch.setattr(module, "_BF16", False)
    with packed([draw(4, 4, dtype=torch.bfloat16)]):
        assert module._PACKED == {}
