"""LoRA against PEFT on transformers' GPT-2 with the same weights: outputs, gradients, files."""

import pytest
import torch
from torch import nn

import lora
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.model import GPT
from tests.conftest import oracle
from tests.test_lora import CONFIG, FC, assert_close, ids, make_gpt, seeded, stir

pytestmark = pytest.mark.parity
transformers = oracle("transformers")
peft = oracle("peft")

PRESETS = {  # preset: (PEFT's regular expression for the same layers, layers in a block)
    "attention": (r".*\.attn\.(c_attn|c_proj)", 2),
    "mlp": (r".*\.mlp\.(c_fc|c_proj)", 2),
    "all": (r".*\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)", 4),
}


def make_hugging_face(model: GPT):
    """transformers' GPT-2 with the weights of ours: its Conv1D stores (in, out)."""
    c = model.config
    config = transformers.GPT2Config(
        vocab_size=c.vocab_size, n_positions=c.n_positions, n_embd=c.n_embd,
        n_layer=c.n_layer, n_head=c.n_head, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).eval()
    linears = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    weights = {
        f"transformer.{name}": tensor.T if name.endswith(linears) else tensor
        for name, tensor in model.state_dict().items()
    }
    missing, surplus = theirs.load_state_dict(weights, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not surplus
    return theirs


def make_peft(model: GPT, targets, **options):
    """PEFT around transformers' GPT-2 with the weights of the (plain) model, B not zero."""
    settings = peft.LoraConfig(
        target_modules=targets, fan_in_fan_out=True, task_type="CAUSAL_LM", **options
    )
    theirs = peft.get_peft_model(make_hugging_face(model), settings).eval()
    stir(theirs, 3)
    return theirs


def peft_name(name: str) -> str:
    """What PEFT calls our parameter h.0.attn.c_attn.lora_A.weight or ... .lora_magnitude_vector."""
    return f"base_model.model.transformer.{name.removesuffix('.weight')}.default.weight"


def copy_adapters(theirs, ours: nn.Module) -> int:
    """Give ours the adapters of theirs; how many layers were met."""
    parameters = dict(theirs.named_parameters())
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "lora_" in name:
                parameter.copy_(parameters[peft_name(name)])
    return len(lora.lora_layers(ours))


def assert_forward_and_gradients_agree(ours: nn.Module, theirs, n_trained: int) -> None:
    logits, expected = ours(ids()), theirs(ids()).logits  # (B, T, V)
    assert_close(logits, expected)
    weight = torch.randn(logits.shape, generator=seeded(5)) / logits.numel() ** 0.5
    (logits * weight).sum().backward()
    (expected * weight).sum().backward()
    gradients = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    compared = 0
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            assert_close(parameter.grad, gradients[peft_name(name)])
            assert parameter.grad.abs().max() > 1e-3  # or the tolerance would prove nothing
            compared += 1
        else:
            assert parameter.grad is None  # the frozen base is given no gradient
    assert compared == len(gradients) == n_trained


@pytest.mark.parametrize("rank_stabilised", [False, True])
@pytest.mark.parametrize("rank", [4, 8, 16])
@pytest.mark.parametrize("preset", PRESETS)
def test_forward_and_gradients_equal_peft(preset, rank, rank_stabilised):
    pattern, per_block = PRESETS[preset]
    ours = make_gpt()
    theirs = make_peft(ours, pattern, r=rank, lora_alpha=12, use_rslora=rank_stabilised)
    lora.inject(ours, lora.LoRAConfig(rank, 12.0, 0.0, preset, rank_stabilised))
    assert copy_adapters(theirs, ours) == per_block * CONFIG.n_layer
    assert_forward_and_gradients_agree(ours, theirs, 2 * per_block * CONFIG.n_layer)


@pytest.mark.parametrize("dora", [False, True])
def test_dropout_equals_peft_under_one_seed_and_is_off_in_eval(dora):
    ours = make_gpt()
    theirs = make_peft(ours, PRESETS["all"][0], r=4, lora_dropout=0.5, use_dora=dora)
    lora.inject(ours, lora.LoRAConfig(4, 8.0, 0.5, dora=dora))
    assert copy_adapters(theirs, ours) == 8
    quiet = ours(ids())
    assert_close(quiet, theirs(ids()).logits)
    logits = []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(6)
        output = model(ids())
        logits.append(output if model is ours else output.logits)
    assert_close(*logits)
    assert (logits[0] - quiet).abs().max() > 1e-2


@pytest.mark.parametrize("n_layer", [2, 6])  # 6: PEFT abbreviates lists of 20 names and more
@pytest.mark.parametrize("targets", ["attention", "mlp", "all", ("h.*.c_proj", FC)])
def test_peft_loads_our_files(tmp_path, n_layer, targets):
    config = GPTConfig(**{**CONFIG.to_dict(), "n_layer": n_layer})
    ours = make_gpt(config)
    theirs = make_hugging_face(ours)
    names = lora.inject(ours, lora.LoRAConfig(4, 9.5, 0.1, targets, rank_stabilised=True))
    stir(ours, 7)
    lora.save_adapter(ours, tmp_path / "new" / "folder", base_model_name="gpt2")
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 2  # no temporary file stays
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "new" / "folder").eval()
    hit = {n for n, m in theirs.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    assert hit == {f"base_model.model.transformer.{name}" for name in names}
    assert_close(ours(ids()), theirs(ids()).logits)
    assert theirs.peft_config["default"].base_model_name_or_path == "gpt2"
    assert theirs.peft_config["default"].lora_dropout == 0.1


PEFT_TARGETS = {  # what PEFT writes into target_modules: (targets and options, layers hit)
    "suffixes": (["c_proj"], {}, 4),
    "regex": (r"transformer\.h\.1\.mlp\.c_.*", {}, 2),
    "all-linear": ("all-linear", {}, 8),
    "excluded": (["c_proj"], {"exclude_modules": ["mlp.c_proj"]}, 2),
    "one layer": (["c_attn"], {"layers_to_transform": [1], "layers_pattern": "h"}, 1),
    "gaussian": (["c_attn"], {"init_lora_weights": "gaussian"}, 2),
    "rank-stabilised": (["c_fc"], {"use_rslora": True, "lora_alpha": 3}, 2),
}


@pytest.mark.parametrize("case", PEFT_TARGETS)
def test_we_load_peft_files(tmp_path, case):
    targets, options, count = PEFT_TARGETS[case]
    ours = make_gpt()
    base = ours(ids())
    theirs = make_peft(ours, targets, r=5, lora_dropout=0.25, **options)
    theirs.save_pretrained(tmp_path)
    state = torch.get_rng_state()
    names = lora.load_adapter(ours, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    layers = lora.lora_layers(ours)
    assert names == list(layers) and len(names) == count
    assert {layer.dropout.p for layer in layers.values()} == {0.25}
    assert_close(ours(ids()), theirs(ids()).logits)
    assert (ours(ids()) - base).abs().max() > 1e-2
    trainable = {name for name, p in ours.named_parameters() if p.requires_grad}
    assert trainable == {f"{name}.lora_{x}.weight" for name in names for x in "AB"}


RANKS = (("h.1.*proj", 3), ("h.0.attn.c_attn", 2), ("mlp", 6))  # h.1.mlp.c_proj: the first wins
PEFT_RANKS = {r"^transformer\.h\.1\..*proj": 3, r"h\.0\.attn\.c_attn": 2, r"mlp\.c_(fc|proj)": 6}
FAMILY = {  # case: (our options, PEFT's for the same)
    "dora": ({"dora": True}, {"use_dora": True}),
    "rank-stabilised dora": (
        {"dora": True, "rank_stabilised": True},
        {"use_dora": True, "use_rslora": True},
    ),
    "layers": ({"layers": (1,)}, {"layers_to_transform": [1]}),
    "ranks": ({"rank_pattern": RANKS}, {"rank_pattern": PEFT_RANKS}),
    "all together": (
        {"dora": True, "rank_stabilised": True, "layers": (1,), "rank_pattern": RANKS[::2]},
        {
            "use_dora": True, "use_rslora": True, "layers_to_transform": [1],
            "rank_pattern": PEFT_RANKS,
        },
    ),
}  # fmt: skip
EVERY = ["c_attn", "c_proj", "c_fc"]


@pytest.mark.parametrize("case", FAMILY)
def test_the_family_equals_peft(case):
    options, their_options = FAMILY[case]
    ours = make_gpt()
    theirs = make_peft(ours, EVERY, r=4, lora_alpha=12, **their_options)
    lora.inject(ours, lora.LoRAConfig(4, 12.0, **options))
    count = copy_adapters(theirs, ours)
    assert count == (4 if "layers" in options else 8)
    assert_forward_and_gradients_agree(ours, theirs, count * (3 if "dora" in options else 2))


@pytest.mark.parametrize("n_layer", [2, 6])  # 6: PEFT abbreviates lists of 20 names and more
@pytest.mark.parametrize("case", FAMILY)
def test_peft_loads_our_files_of_the_family(tmp_path, case, n_layer):
    options = dict(FAMILY[case][0])
    if "layers" in options:
        options["layers"] = tuple(range(1, n_layer))
    ours = make_gpt(GPTConfig(**{**CONFIG.to_dict(), "n_layer": n_layer}))
    theirs = make_hugging_face(ours)
    names = lora.inject(ours, lora.LoRAConfig(4, 12.0, **options))
    stir(ours, 7)
    lora.save_adapter(ours, tmp_path)
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path, is_trainable=True).eval()
    hit = {n for n, m in theirs.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    assert hit == {f"base_model.model.transformer.{name}" for name in names}
    assert_close(ours(ids()), theirs(ids()).logits)
    trained = {n for n, p in ours.named_parameters() if p.requires_grad}
    assert {peft_name(name) for name in trained} == {
        name for name, p in theirs.named_parameters() if p.requires_grad
    }
    settings = theirs.peft_config["default"]
    assert settings.layers_to_transform == list(options.get("layers", range(n_layer)))
    assert settings.use_dora == ("dora" in options)


@pytest.mark.parametrize("case", FAMILY)
def test_we_load_peft_files_of_the_family(tmp_path, case):
    options, their_options = FAMILY[case]
    ours = make_gpt()
    theirs = make_peft(ours, EVERY, r=4, lora_alpha=12, **their_options)
    theirs.save_pretrained(tmp_path)
    injected = make_gpt()
    lora.inject(injected, lora.LoRAConfig(4, 12.0, **options))
    for model in (ours, injected):
        lora.load_adapter(model, tmp_path)
        assert_close(model(ids()), theirs(ids()).logits)
    kinds = {type(layer) for layer in lora.lora_layers(ours).values()}
    assert kinds == {lora.DoRALinear if "dora" in options else lora.LoRALinear}


def test_a_file_whose_patterns_contradict_its_tensors_is_refused_as_by_peft(tmp_path):
    """PEFT sorts the patterns when it saves, and so may lose which of two came first."""
    ours = make_gpt()
    patterns = {r"h\.0\.mlp\..*": 2, r".*c_fc": 6}
    theirs = make_peft(ours, EVERY, r=4, rank_pattern=patterns)
    theirs.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="size mismatch"):
        peft.PeftModel.from_pretrained(make_hugging_face(ours), tmp_path)
    with pytest.raises(InputError, match=r"h.0.mlp.c_fc.lora_A.weight has shape \(2, 32\), exp"):
        lora.load_adapter(ours, tmp_path)


def test_merged_dora_equals_peft_merged():
    ours = make_gpt()
    theirs = make_peft(ours, EVERY, r=4, lora_alpha=12, use_dora=True)
    lora.inject(ours, lora.LoRAConfig(4, 12.0, dora=True))
    copy_adapters(theirs, ours)
    theirs.merge_adapter()
    lora.merge(ours)
    weights = dict(theirs.named_parameters())
    for name, layer in lora.lora_layers(ours).items():
        expected = weights[f"base_model.model.transformer.{name}.base_layer.weight"].T
        assert_close(layer.base.weight, expected)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "pattern",
    [r"^transformer\.h\.0\.attn\.c_attn", r"^h\.0\.attn\.c_attn", r"h\.0\.attn\.c_attn", "^.*c_fc",
     "c_attn", r"mlp\.c_(fc|proj)", "attn.c_attn", "[a-z]_attn", r"^(transformer\.)?h\.\d\..*attn"],
)  # fmt: skip
def test_patterns_mean_the_names_of_the_adapters_own_model(tmp_path, whole, pattern):
    """PEFT on GPT2LMHeadModel, whose layers begin with transformer., and on GPT2Model."""
    ours = make_gpt()
    theirs = make_hugging_face(ours)
    settings = peft.LoraConfig(
        target_modules=EVERY, fan_in_fan_out=True, r=4, rank_pattern={pattern: 2}
    )
    theirs = peft.get_peft_model(theirs if whole else theirs.transformer, settings).eval()
    stir(theirs, 3)
    theirs.save_pretrained(tmp_path)
    lora.load_adapter(ours, tmp_path)
    prefix = "base_model.model." + ("transformer." if whole else "")
    modules = dict(theirs.named_modules())
    for name, layer in lora.lora_layers(ours).items():
        assert layer.rank == modules[prefix + name].r["default"]
    expected = theirs(ids())
    if whole:
        assert_close(ours(ids()), expected.logits)
    else:
        assert_close(ours.hidden(ids()), expected.last_hidden_state)
