"""The head in chunks: the log-probs and gradients are those of all logits at once."""

import pytest
import torch
from torch.nn import functional as F

from minigpt import GPT, GPTConfig, accelerate, decelerate
from minigpt.fast import head
from objectives import SFT, make_batch

P, C, V = 16, 4, 20
# Weights of the positions in the loss: SFT's, one number with a mean's rounding in it, DPO's.
EVEN = torch.full((P,), -1.0 / P, dtype=torch.float64)
WEIGHTS = {
    "even": EVEN,
    "rounded": EVEN * (1 + 2e-16 * torch.arange(P).remainder(2)),
    "uneven": torch.linspace(-1, 1, P, dtype=torch.float64),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of seven positions, of which the last has two."""
    monkeypatch.setattr(head, "CHUNK", 7 * V)
    monkeypatch.setattr(head, "TWICE", 7 * V)


def inputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(P, C, generator=generator, dtype=torch.float64).to(dtype)
    W = torch.randn(V, C, generator=generator, dtype=torch.float64).to(dtype)
    target = torch.randint(V, (P,), generator=generator)
    return hidden.requires_grad_(), W.requires_grad_(), target


def written_out(hidden, W, target):
    return (hidden @ W.T).log_softmax(1)[torch.arange(len(target)), target]


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_log_probs_and_gradients_are_those_of_the_formula(weights, even):
    hidden, W, target = inputs()
    logps, expected = head.log_prob(hidden, W, target, even), written_out(hidden, W, target)
    torch.testing.assert_close(logps, expected, rtol=1e-13, atol=1e-13)
    g = WEIGHTS[weights]
    found = torch.autograd.grad(logps @ g, (hidden, W))
    torch.testing.assert_close(
        found, torch.autograd.grad(expected @ g, (hidden, W)), rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_side_gets_no_gradient_and_the_other_its_own(frozen):
    tensors = list(inputs())
    tensors[frozen].requires_grad_(False)
    trained = tensors[1 - frozen]
    found = torch.autograd.grad(head.log_prob(*tensors, True).sum(), trained)
    torch.testing.assert_close(found, torch.autograd.grad(written_out(*tensors).sum(), trained))


def test_a_second_backward_is_the_first_again():
    hidden, W, target = inputs()
    loss = head.log_prob(hidden, W, target, True).mean()
    first = [g.clone() for g in torch.autograd.grad(loss, (hidden, W), retain_graph=True)]
    torch.testing.assert_close(torch.autograd.grad(loss, (hidden, W)), tuple(first))


@pytest.mark.parametrize("frozen", [None, 0, 1])
def test_gradients_of_gradients(frozen):
    *tensors, target = inputs()
    if frozen is not None:
        tensors[frozen].requires_grad_(False)
    assert torch.autograd.gradgradcheck(lambda h, w: head.log_prob(h, w, target, True), tensors)


def test_bf16_is_no_further_from_the_truth_than_all_logits_at_once():
    hidden, W, target = inputs()
    truth = torch.autograd.grad(written_out(hidden, W, target).mean(), (hidden, W))
    low = [t.detach().float().requires_grad_() for t in (hidden, W)]
    with torch.autocast("cpu", torch.bfloat16):
        chunked = head.log_prob(*low, target, True)
        at_once = -F.cross_entropy(F.linear(*low).float(), target, reduction="none")
    assert chunked.dtype == torch.float32
    errors = [
        [(g.double() - t).norm() for g, t in zip(torch.autograd.grad(logps.mean(), low), truth)]
        for logps in (chunked, at_once)
    ]
    assert all(ours <= 1.5 * plain for ours, plain in zip(*errors)), errors


def test_an_accelerated_model_trains_on_the_same_gradients(monkeypatch):
    model = GPT(GPTConfig(V, 16, 2, 2, C), generator=torch.Generator().manual_seed(1)).double()
    batch = make_batch([[1, 2], [3]], [[4, 5, 6, 7, 8, 9], [10, 11, 12, 13, 14]])

    def gradients():
        model.zero_grad()
        losses, _ = SFT()(model, batch)
        (losses * batch.counts / batch.counts.sum()).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    plain = gradients()
    accelerate(model)
    chunks = []
    monkeypatch.setattr(
        head, "_chunks", lambda *args, chunks_of=head._chunks: chunks.append(1) or chunks_of(*args)
    )
    torch.testing.assert_close(gradients(), plain, rtol=1e-10, atol=1e-12)
    assert len(chunks) == 1, "the gradient took a second pass"
    decelerate(model)
