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
        ({"layers": ()}, r"layers is \(\)"),
        ({"layers": 1}, "layers is 1"),
        ({"rank_pattern": (("mlp", 0),)}, "rank_pattern for 'mlp' is 0"),
        ({"rank_pattern": (("mlp", 2.5),)}, "rank_pattern for 'mlp' is 2.5"),
        ({"rank_pattern": ("mlp", 2)}, "rank_pattern has 'mlp'"),
        ({"rank_pattern": {"mlp": 2}}, "rank_pattern has 'mlp'"),
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
    other = make_gpt()
    with pytest.raises(InputError, match="rank is 33; expected at most 32 for h.1.mlp.c_fc"):
        lora.inject(other, lora.LoRAConfig(4, rank_pattern=((FC, 33),)))
    assert not lora.lora_layers(other) and all(p.requires_grad for p in other.parameters())


@pytest.mark.parametrize(
    "targets, layers, expected",
    [
        ("attention", None, [ATTN, "h.0.attn.c_proj", "h.1.attn.c_attn", "h.1.attn.c_proj"]),
        ("attention", (1,), ["h.1.attn.c_attn", "h.1.attn.c_proj"]),
        ("attention", (1, 0), [ATTN, "h.0.attn.c_proj", "h.1.attn.c_attn", "h.1.attn.c_proj"]),
        (("attention", FC), (0,), [ATTN, "h.0.attn.c_proj"]),
    ],
)
def test_layers(targets, layers, expected):
    assert lora.inject(make_gpt(), lora.LoRAConfig(4, targets=targets, layers=layers)) == expected


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layers": (0, 2)}, "layers has 2, .* expected some of 0, 1$"),
        ({"layers": (-1,)}, "layers has -1, .* expected some of 0, 1$"),
        ({"layers": ("1",)}, "layers has '1', .* expected some of 0, 1$"),
        ({"layers": (0,), "targets": FC}, "layers has 0, .* expected some of 1$"),
        ({"rank_pattern": (("h.2.*", 2),)}, "rank_pattern has 'h.2.*', which matches no layer"),
        ({"rank_pattern": (("mlp", 2),), "targets": "attention"}, "rank_pattern has 'mlp'"),
        ({"rank_pattern": (("h.0.*", 2),), "layers": (1,)}, r"rank_pattern has 'h\.0\.\*'"),
    ],
)
def test_layers_and_patterns_without_a_match_are_named_and_nothing_changes(options, message):
    model = make_gpt()
    with pytest.raises(InputError, match=message):
        lora.inject(model, lora.LoRAConfig(4, **options))
    assert not lora.lora_layers(model) and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("dora", [False, True])
def test_the_first_pattern_gives_the_rank_and_the_rank_the_scaling(dora):
    model = make_gpt()
    pattern = (("h.1.attn.*", 2), ("attention", 16), ("h.1.*", 8))
    lora.inject(model, lora.LoRAConfig(4, 12.0, rank_pattern=pattern, dora=dora))
    layers = lora.lora_layers(model)
    expected = {"h.0.attn": 16, "h.0.mlp": 4, "h.1.attn": 2, "h.1.mlp": 8}
    assert {name.rpartition(".")[0]: layer.rank for name, layer in layers.items()} == expected
    assert all(layer.lora_A.weight.size(0) == layer.rank for layer in layers.values())
    assert all(layer.scaling == pytest.approx(12 / layer.rank) for layer in layers.values())
    assert all(isinstance(layer, lora.DoRALinear) == dora for layer in layers.values())
