"""`minigpt.trace` and `minigpt.attention`: what they show is what transformers computes."""

import pytest
import torch

import lora
from minigpt import accelerate, attention, trace
from minigpt.errors import InputError
from tests.conftest import oracle
from tests.test_accelerate import METHODS, SHAPE, ids, make_model

L, B, T, C, H, V = SHAPE.n_layer, 3, 9, SHAPE.n_embd, SHAPE.n_head, SHAPE.vocab_size
both = pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
everywhere = pytest.mark.parametrize("method", METHODS)


@pytest.mark.parity
@both
@torch.no_grad()
def test_attentions_and_hidden_states_are_those_of_transformers(fast):
    oracle("transformers")
    from tests.test_lora_peft import make_hugging_face

    ours = make_model("full", fast=False)
    theirs = make_hugging_face(ours)
    theirs.config._attn_implementation = "eager"
    accelerate(ours) if fast else None
    expected = theirs(ids(), output_attentions=True, output_hidden_states=True)
    seen = trace(ours, ids())
    torch.testing.assert_close(
        attention(ours, ids()), torch.stack(expected.attentions), rtol=0, atol=1e-5
    )
    # Their last hidden state is behind the final norm; the others are the residual stream.
    *residual, final = expected.hidden_states
    torch.testing.assert_close(seen.residual[:-1], torch.stack(residual), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.outputs["ln_f"], final, rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.logits[-1], expected.logits, rtol=0, atol=1e-5)


@both
@everywhere
@torch.no_grad()
def test_a_trace_is_what_the_model_computes(method, fast):
    model = make_model(method, fast=fast, dropout=0.5).train()
    seen = trace(model, ids())
    assert model.training and not any(m._forward_hooks for m in model.modules())
    model.eval()
    assert seen.residual.shape == (L + 1, B, T, C) and seen.logits.shape == (L + 1, B, T, V)
    torch.testing.assert_close(seen.logits[-1], model(ids()), rtol=1e-4, atol=1e-5)
    embedded = model.wte(ids()) + model.wpe(torch.arange(T))
    torch.testing.assert_close(seen.residual[0], embedded)
    # The lens at depth 1 is the model whose second block is left out.
    lens = model.head(model.ln_f(model.h[0](embedded)))
    torch.testing.assert_close(seen.logits[1], lens, rtol=1e-4, atol=1e-5)


@both
@everywhere
def test_attention_looks_back_and_sums_to_one(method, fast):
    weights = attention(make_model(method, fast=fast).train(), ids())
    assert weights.shape == (L, B, H, T, T) and not weights.requires_grad
    assert not weights.triu(1).any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(L, B, H, T))


def test_names_and_shapes_in_the_order_in_which_they_are_computed():
    model = make_model("lora", fast=True)
    seen = trace(model, ids())
    names = list(seen.outputs)
    assert names[:4] == ["wte", "wpe", "dropout", "h.0.ln_1"] and names[-1] == "ln_f"
    assert seen.outputs["h.0.attn.c_attn"].shape == (B, T, 3 * C)
    assert seen.outputs["h.1.attn.weight_dropout"].shape == (B, H, T, T)
    assert seen.outputs["h.1.mlp.c_fc.lora_A"].shape == (B, T, 3)
    assert "h.1.mlp.c_fc.lora_A" not in trace_without_adapters(model)
    assert repr(seen).splitlines()[-1].split() == ["logits", "(3,", "9,", "64)"]


def trace_without_adapters(model) -> dict:
    with lora.disabled(model):
        return trace(model, ids()).outputs


def test_a_compiled_model_is_seen_as_well():
    model = make_model("full", fast=False)
    expected = attention(model, ids())
    model.hidden = lambda *_: pytest.fail("what is compiled calls no hooks")
    torch.testing.assert_close(attention(model, ids()), expected)
    assert len(trace(model, ids()).residual) == L + 1


def test_a_list_is_one_sequence_or_several():
    model = make_model("full", fast=False)
    row = ids()[0].tolist()
    assert attention(model, row).shape == (L, 1, H, T, T)
    torch.testing.assert_close(attention(model, [row, row])[:, 1], attention(model, row)[:, 0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[1, 2], [3]], "ids are no table"),
        ("text", "ids are no table"),
        ([], "of the shape"),
        (torch.ones(1, 2), "float32 of the shape"),
        (torch.ones(1, 1, 2, dtype=torch.long), r"\(1, 1, 2\); expected whole numbers \(B, T\)"),
        ([0, 64], "ids range from 0 to 64; expected numbers from 0 to 63"),
        ([-1], "ids range from -1 to -1"),
        ([0] * 25, "ids are 25 tokens a sequence; expected at most the model's 24"),
    ],
)
@pytest.mark.parametrize("window", [trace, attention])
def test_ids_that_cannot_be_read_are_refused(window, wrong, message):
    with pytest.raises(InputError, match=message):
        window(make_model("full", fast=False), wrong)
