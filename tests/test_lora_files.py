"""Adapter files: round trips, and a clear refusal of every file that does not fit."""

import json
import time

import pytest
import safetensors.torch
import torch

import lora
from minigpt.errors import InputError
from tests.test_lora import ATTN, FC, ids, make_adapted, make_gpt, snapshot


def test_files_round_trip_and_survive_merging(tmp_path):
    model = make_adapted(rank=4, rank_stabilised=True, targets=("mlp",))
    expected = model(ids())
    lora.merge(model)
    lora.save_adapter(model, tmp_path)
    fresh = make_gpt()
    lora.load_adapter(fresh, tmp_path)  # a model without adapters
    assert torch.equal(fresh(ids()), expected)
    injected = make_gpt()
    config = lora.LoRAConfig(4, dropout=0.3, targets="mlp", rank_stabilised=True)
    lora.inject(injected, config)
    lora.load_adapter(injected, tmp_path)
    assert torch.equal(injected(ids()), expected)
    assert {x.dropout.p for x in lora.lora_layers(injected).values()} == {0.3}
    with pytest.raises(RuntimeError, match="merged"):
        lora.load_adapter(model, tmp_path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rank": 8}, "rank 4; expected the model's 8"),
        ({"alpha": 8.0}, "alpha 16.0; expected the model's 8.0"),
        ({"rank_stabilised": True}, "rank_stabilised False; expected the model's True"),
        ({"dora": True}, "dora False; expected the model's True"),
        ({"rank_pattern": ((FC, 2),)}, f"for {FC} rank 4; expected the model's 2"),
        ({"targets": "attention"}, "h.0.mlp.c_fc.lora_A.weight fits nothing.* and 5 more"),
        ({"targets": ("mlp", ATTN)}, "h.0.attn.c_attn.lora_A.weight is missing"),
    ],
)
def test_loading_into_another_config_is_refused(tmp_path, options, message):
    lora.save_adapter(make_adapted(rank=4, targets="mlp"), tmp_path)
    model = make_adapted(**{"rank": 4, "targets": "mlp", **options})
    before = snapshot(model)
    with pytest.raises(InputError, match=message):
        lora.load_adapter(model, tmp_path)
    assert all(torch.equal(p, before[name]) for name, p in snapshot(model).items())


FAMILY = {
    "dora": {"dora": True, "rank_stabilised": True},
    "layers": {"layers": (1,)},
    "ranks": {"rank_pattern": (("mlp", 2), (FC, 6), ("h.0.*", 3))},
    "all": {"dora": True, "layers": (1,), "rank_pattern": ((FC, 1),), "dropout": 0.1},
}


@pytest.mark.parametrize("case", FAMILY)
def test_the_family_round_trips(tmp_path, case):
    model = make_adapted(rank=4, **FAMILY[case])
    expected = model(ids())
    lora.merge(model)  # DoRA's delta depends on the weight, its file must not
    lora.save_adapter(model, tmp_path)
    fresh, injected = make_gpt(), make_adapted(seed=9, rank=4, **FAMILY[case])
    for other in (fresh, injected):
        assert lora.load_adapter(other, tmp_path) == list(lora.lora_layers(model))
        assert torch.equal(other(ids()), expected)
    assert {n for n, p in fresh.named_parameters() if p.requires_grad} == {
        n for n, p in injected.named_parameters() if p.requires_grad
    }
    lora.save_adapter(fresh, tmp_path / "again")
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_a_dora_file_is_no_lora_file(tmp_path):
    lora.save_adapter(make_adapted(rank=4, dora=True), tmp_path)
    model = make_adapted(rank=4)
    with pytest.raises(InputError, match="dora True; expected the model's False"):
        lora.load_adapter(model, tmp_path)
    edit_config(tmp_path, use_dora=False)
    assert_refused(tmp_path, f"{ATTN}.lora_magnitude_vector fits nothing")
    edit_config(tmp_path, use_dora=True)
    key = f"base_model.model.transformer.{ATTN}.lora_magnitude_vector"
    edit_tensors(tmp_path, lambda tensors: tensors.update({key: torch.ones(32)}))
    assert_refused(tmp_path, f"{ATTN}.lora_magnitude_vector has shape (32,), expected (96,)")


def edit_tensors(folder, edit) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    edit(tensors)
    safetensors.torch.save_file(tensors, path)


def edit_config(folder, **settings) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def assert_refused(folder, *messages) -> None:
    model = make_gpt()
    with pytest.raises(InputError) as error:
        lora.load_adapter(model, folder)
    for message in messages:
        assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not lora.lora_layers(model) and all(p.requires_grad for p in model.parameters())


def test_tensors_that_do_not_fit_are_all_named(tmp_path):
    lora.save_adapter(make_adapted(rank=4), tmp_path)
    prefix = "base_model.model.transformer."

    def spoil(tensors):
        del tensors[f"{prefix}{ATTN}.lora_B.weight"]
        tensors[f"{prefix}{FC}.lora_A.weight"] = torch.zeros(4, 31)
        tensors[f"{prefix}h.7.mlp.c_fc.lora_A.weight"] = torch.zeros(4, 32)
        tensors["base_model.model.lm_head.lora_A.weight"] = torch.zeros(4, 32)

    edit_tensors(tmp_path, spoil)
    assert_refused(
        tmp_path,
        f"{ATTN}.lora_B.weight is missing",
        f"{FC}.lora_A.weight has shape (4, 31), expected (4, 32)",
        "h.7.mlp.c_fc.lora_A.weight fits nothing",
        "lm_head.lora_A.weight fits nothing",
    )


@pytest.mark.parametrize("spoil", [dict.clear, lambda t: (t.clear(), t.update(x=torch.ones(1)))])
def test_a_file_without_an_adapter_is_refused(tmp_path, spoil):
    lora.save_adapter(make_adapted(rank=4), tmp_path)
    edit_tensors(tmp_path, spoil)
    assert_refused(tmp_path, "adapter_model.safetensors")


def test_damaged_and_missing_files_are_refused(tmp_path):
    assert_refused(tmp_path / "nowhere", "adapter_config.json cannot be read")
    lora.save_adapter(make_adapted(rank=4), tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for content in (b"", whole[:100], whole[:-1], b"\x80\x04" + whole):
        weights.write_bytes(content)
        assert_refused(tmp_path, "adapter_model.safetensors cannot be read")
    weights.unlink()
    assert_refused(tmp_path, "adapter_model.safetensors cannot be read")
    for content in (b"", b"{", b"\xff\xff", b"[]", b'{"peft_type": "LOHA"}'):
        (tmp_path / "adapter_config.json").write_bytes(content)
        assert_refused(tmp_path, "adapter_config.json")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"use_dora": True}, f"{ATTN}.lora_magnitude_vector is missing"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"lora_bias": True}, "lora_bias = True"),
        ({"modules_to_save": ["wte"]}, "modules_to_save = ['wte']"),
        ({"rank_pattern": {ATTN: 2}}, "shape (4, 32), expected (2, 32)"),
        ({"rank_pattern": {ATTN: "2"}}, f"rank_pattern for '{ATTN}' is '2'"),
        ({"rank_pattern": {"(": 2}}, "rank_pattern {'(': 2}"),
        ({"rank_pattern": [ATTN, 2]}, "rank_pattern ["),
        ({"alpha_pattern": {ATTN: 2}}, "alpha_pattern = {"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = 'pissa_niter_4'"),
        ({"init_lora_weights": "olora"}, "init_lora_weights = 'olora'"),
        ({"layer_replication": [[0, 2]]}, "layer_replication = [[0, 2]]"),
        ({"an_option_of_tomorrow": 1.5}, "an_option_of_tomorrow = 1.5"),
        ({"r": None}, "rank is None"),
        ({"r": 3}, "expected (3, 32)"),
        ({"lora_alpha": "16"}, "alpha is '16'"),
        ({"lora_dropout": 2}, "dropout is 2"),
    ],
)
def test_settings_that_we_lack_are_named(tmp_path, settings, message):
    lora.save_adapter(make_adapted(rank=4), tmp_path)
    edit_config(tmp_path, **settings)
    assert_refused(tmp_path, message)


def test_saving_refuses_what_the_format_cannot_hold(tmp_path):
    with pytest.raises(RuntimeError, match="no LoRA adapters"):
        lora.save_adapter(make_gpt(), tmp_path)
    mixed = make_adapted(rank=4, targets=ATTN)
    mixed.h[1].mlp.c_fc = lora.LoRALinear(mixed.h[1].mlp.c_fc, 2, 4.0)
    with pytest.raises(InputError, match="2 different settings"):
        lora.save_adapter(mixed, tmp_path)
    mixed = make_adapted(rank=4, targets=ATTN)
    mixed.h[1].mlp.c_fc = lora.DoRALinear(mixed.h[1].mlp.c_fc, 2, 16.0)
    with pytest.raises(InputError, match="2 different settings"):
        lora.save_adapter(mixed, tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot make the folder"):
        lora.save_adapter(make_adapted(rank=4), tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    lora.save_adapter(make_adapted(rank=4), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(InputError, match="No space left on device"):
        lora.save_adapter(make_adapted(rank=2), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_one_tensor_under_two_prefixes_is_refused(tmp_path):
    lora.save_adapter(make_adapted(rank=4), tmp_path)
    key = f"base_model.model.transformer.{ATTN}.lora_A.weight"
    twin = f"base_model.model.{ATTN}.lora_A.weight"
    edit_tensors(tmp_path, lambda tensors: tensors.update({twin: tensors[key] + 1}))
    assert_refused(tmp_path, f"holds {ATTN}.lora_A.weight twice", key, twin)


def test_adapters_of_other_numbers_are_refused(tmp_path):
    lora.save_adapter(make_adapted(rank=4), tmp_path)
    key = f"base_model.model.transformer.{ATTN}.lora_A.weight"
    edit_tensors(tmp_path, lambda tensors: tensors.update({key: tensors[key].int()}))
    assert_refused(tmp_path, f"other numbers than floats in {ATTN}.lora_A.weight")


def test_an_alpha_pattern_that_changes_nothing_is_accepted(tmp_path):
    model = make_adapted(rank=4, alpha=16.0)
    lora.save_adapter(model, tmp_path)
    for pattern in ({}, {ATTN: 16}, {"h.7.mlp.c_fc": 2}, {r"^h\.0\.attn\.c_attn": 2}):
        edit_config(tmp_path, alpha_pattern=pattern)
        fresh = make_gpt()
        lora.load_adapter(fresh, tmp_path)
        assert torch.equal(fresh(ids()), model(ids()))
    edit_config(tmp_path, alpha_pattern={".*": 32})  # one for all is as good as lora_alpha
    lora.load_adapter(fresh := make_gpt(), tmp_path)
    assert {layer.alpha for layer in lora.lora_layers(fresh).values()} == {32}


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+", "(h|h.0)*x", "(.*)(.*)(.*)(.*)(.*)(.*)x", ".*.*.*.*.*.*.*x", "(?=h)h", "(?i)h",
        r"(h)\1", "h*+", "(?:.*){9}", ".?" * 40 + "x", "(a|a)" * 30, "x" * 1000, "[" * 400,
        "(" * 400, r"(.*\.)*(h|a)\\",
    ],
)  # fmt: skip
@pytest.mark.parametrize("setting", ["rank_pattern", "alpha_pattern"])
def test_expressions_that_need_not_return_are_refused_at_once(tmp_path, setting, pattern):
    lora.save_adapter(make_adapted(rank=4), tmp_path)
    edit_config(tmp_path, **{setting: {pattern: 4}})
    start = time.process_time()
    assert_refused(tmp_path, setting)
    assert time.process_time() - start < 2


def test_thousands_of_surplus_tensors_make_one_short_sentence(tmp_path):
    lora.save_adapter(make_adapted(rank=4), tmp_path)
    surplus = {f"{i}\x1b[31m" + "a" * 40: torch.zeros(1) for i in range(20_000)}
    edit_tensors(tmp_path, lambda tensors: tensors.update(surplus))
    with pytest.raises(InputError, match="and 19,99. more$") as caught:
        lora.load_adapter(make_gpt(), tmp_path)
    assert len(str(caught.value)) <= 1000 and str(caught.value).isprintable()
