"""The last block at scored places alone: the same states and gradients as everywhere."""

import numpy as np
import pytest
import torch

from lora import FUSED, LoRAConfig, inject
from minigpt import GPT, GPTConfig, accelerate
from minigpt.fast import model as fast_model
from minigpt.model import MLP
from objectives import make_batch, make_shared_batch, sequence_logps

V = 40


def model_of(rank: int | None = None, dropout: float = 0.0, adapter_dropout: float = 0.0) -> GPT:
    generator = torch.Generator().manual_seed(0)
    model = GPT(GPTConfig(V, 32, 3, 2, 16, dropout), generator=generator).double()
    if rank:
        inject(model, LoRAConfig(rank=rank, dropout=adapter_dropout), generator=generator)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(generator=generator)
    return model


def batches():
    """Answers of one token and of several, twice at a place, in rows of several lengths."""
    draw = np.random.default_rng(0)

    def tokens(*lengths):
        return [draw.integers(1, V, n) for n in lengths]

    prompt, tail = tokens(9, 20, 4), tokens(3, 1, 2)
    yield "answers", make_batch(prompt * 2, tokens(1, 1, 1, 1, 1, 1))
    yield "texts", make_batch(prompt, tail)
    yield "shared", make_shared_batch(tokens(20, 15), tokens(3, 2), tokens(1, 4))


@pytest.fixture
def selected(monkeypatch):
    """Count the calls of the block that runs at some places alone."""
    calls = []
    block_at = fast_model.block_at
    monkeypatch.setattr(
        fast_model, "block_at", lambda *arguments: calls.append(1) or block_at(*arguments)
    )
    return calls


def logps_and_gradients(model, batch):
    model.zero_grad()
    logps = sequence_logps(model, batch)
    (logps * torch.arange(1, len(logps) + 1)).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    return logps.detach(), gradients


@pytest.mark.parametrize("rank", [None, 2])
def test_log_probs_and_gradients_are_those_of_the_plain_model(rank, selected):
    plain, fast = model_of(rank), model_of(rank)
    accelerate(fast, FUSED)
    for name, batch in batches():
        expected = logps_and_gradients(plain, batch)
        selected.clear()
        torch.testing.assert_close(
            logps_and_gradients(fast, batch), expected, rtol=1e-10, atol=1e-12, msg=name
        )
        assert selected, f"{name}: the last block ran everywhere"


def test_many_places_hooks_and_dropout_take_the_whole_block(selected):
    model = model_of()
    accelerate(model)
    sequence_logps(model, make_batch([[1, 2]], [[3, 4, 5, 6]]))
    assert not selected
    _, batch = next(batches())
    seen = []
    handle = model.h[-1].register_forward_hook(lambda *_: seen.append(1))
    sequence_logps(model, batch)
    assert seen and not selected
    handle.remove()
    model = model_of(dropout=0.1)
    accelerate(model)
    sequence_logps(model.train(), batch)
    assert not selected
    sequence_logps(model.eval(), batch)
    assert selected


def assert_plain(change, selected, **options) -> None:
    """A change makes the same of the log-probs of a plain and of a fast model, and not nothing."""
    _, batch = next(batches())
    found = []
    for fast in (False, True):
        model = model_of(**options)
        accelerate(model, FUSED) if fast else None
        untouched = sequence_logps(model, batch)
        selected.clear()
        change(model)
        torch.manual_seed(0)
        found.append(sequence_logps(model, batch))
        assert not selected and (found[-1] - untouched).abs().max() > 1e-3
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


PARTS = ("ln_1", "attn", "attn.c_proj", "attn.dropout", "ln_2", "mlp", "mlp.c_fc", "mlp.dropout")


@pytest.mark.parametrize("name", [*(f"h.2.{part}" for part in PARTS), "ln_f"])
@pytest.mark.parametrize("rank", [None, 2])
def test_a_hook_on_any_part_sees_and_changes_all_tokens(name, rank, selected):
    def shift(module, inputs, output):
        assert output.dim() == 3 and output.size(1) == 20  # of the longest row, (R, T, ...)
        late = torch.arange(output.size(1))[:, None] >= 3
        return output + late * torch.linspace(0, 9, output.size(2))

    assert_plain(
        lambda model: model.get_submodule(name).register_forward_hook(shift), selected, rank=rank
    )


def test_parts_of_the_users_own_see_all_tokens(selected):
    class Centred(MLP):
        def forward(self, x):
            return super().forward(x - x.mean(1, keepdim=True))

    def another_class(model):
        model.h[-1].mlp.__class__ = Centred

    def another_forward(model):
        mlp = model.h[-1].mlp
        mlp.forward = lambda x: MLP.forward(mlp, x - x.mean(1, keepdim=True))

    def another_norm(model):
        model.ln_f = torch.nn.Softmax(dim=1)  # over tokens

    for change in (another_class, another_forward, another_norm):
        assert_plain(change, selected)


def test_dropout_in_adapters_or_alone_draws_for_all_tokens(selected):
    def alone(model):
        model.eval().h[-1].mlp.dropout.train()

    assert_plain(alone, selected, dropout=0.5)
    assert_plain(GPT.train, selected, rank=2, adapter_dropout=0.5)
