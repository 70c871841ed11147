"""Which layers get an adapter, and a clear refusal of every target and setting without sense."""

import pytest
from torch import nn

import lora
from minigpt.errors import InputError
from tests.test_lora import ATTN, FC, make_gpt


@pytest.mark.parametrize(
    "targets, expected",
    [
        (ATTN, [ATTN]),
        (("h.*.attn.c_attn",), ["h.0.attn.c_attn", "h.1.attn.c_attn"]),
        (("h.1.*proj", FC), ["h.1.attn.c_proj", FC, "h.1.mlp.c_proj"]),  # a * spans dots
        ((FC, ATTN, "h.0.attn.*"), [ATTN, "h.0.attn.c_proj", FC]),  # once each, in model order
        (("mlp", ATTN), [ATTN, *(f"h.{i}.mlp.{x}" for i in (0, 1) for x in ("c_fc", "c_proj"))]),
    ],
)
def test_globs(targets, expected):
    model = make_gpt()
    names = lora.inject(model, lora.LoRAConfig(4, targets=targets))
    assert sorted(names) == sorted(expected)
    assert names == list(lora.lora_layers(model))
    assert names == [n for n, _ in make_gpt().named_modules() if n in expected]


def test_presets_cover_every_linear():
    linears = [n for n, m in make_gpt().named_modules() if isinstance(m, nn.Linear)]
    by_preset = {p: lora.inject(make_gpt(), lora.LoRAConfig(4, targets=p)) for p in lora.TARGETS}
    assert set(by_preset) == {"attention", "mlp", "all"}
    assert by_preset["all"] == linears
    assert sorted(by_preset["attention"] + by_preset["mlp"]) == sorted(linears)


@pytest.mark.parametrize(
    "targets", ["attn", ("attention", "h.*.attn.q_proj"), ("h.9.*",), ("c_proj",)]
)
def test_a_target_without_a_match_is_named_and_nothing_changes(targets):
    model = make_gpt()
    wrong = targets if isinstance(targets, str) else targets[-1]
    with pytest.raises(InputError) as error:
        lora.inject(model, lora.LoRAConfig(4, targets=targets))
    assert repr(wrong) in str(error.value) and "such as h.0.attn.c_attn" in str(error.value)
    assert "attention, mlp, all" in str(error.value)
    assert not lora.lora_layers(model) and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rank": 0}, "rank is 0"),
        ({"rank": 2.0}, "rank is 2.0"),
        ({"alpha": 0}, "alpha is 0"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": None}, "alpha is None"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"targets": ()}, r"targets is \(\)"),
        ({"targets": ""}, "targets is ''"),
    ],
)
def test_config_refuses(options, message):
    with pytest.raises(InputError, match=f"^{message}; expected "):
        lora.LoRAConfig(**options)


def test_a_rank_that_saves_nothing_is_refused():
    model = make_gpt()
    with pytest.raises(InputError, match="rank is 33; expected at most 32 for h.0.attn.c_attn"):
        lora.inject(model, lora.LoRAConfig(33))
    lora.inject(model, lora.LoRAConfig(32))
