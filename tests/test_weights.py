"""Weights in three formats: equal to transformers' model, equal to each other, or refused."""

import copy
import hashlib
import json
import math
import pickle
import resource
import shutil
import struct
import tempfile
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model

from minigpt import (
    GPT,
    PRESETS,
    GPTConfig,
    generate,
    get_tokenizer,
    load_pretrained,
    pretrained_config,
    save_pretrained,
)
from minigpt.errors import InputError
from minigpt.weights import pretrained
from minigpt.weights.crc32c import crc32c
from tests.conftest import oracle
from tests.tensorflow_checkpoint import (
    crc32c_by_bits,
    openai_arrays,
    write_bundle,
    write_checkpoint,
)

pytestmark = pytest.mark.parity
transformers = oracle("transformers")

TINY = GPTConfig(vocab_size=101, n_positions=32, n_layer=2, n_head=4, n_embd=48)
WEIGHTS = "model.safetensors"
INDEX, DATA = "model.ckpt.index", "model.ckpt.data-00000-of-00001"


def random_model(config: GPTConfig, seed: int = 0) -> GPT:
    """A model in which every parameter counts: biases and norms are random too."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT(config, generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def random_ids(config: GPTConfig, B: int, T: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(config.vocab_size, (B, T), generator=generator)


def same(one: GPT, other: GPT) -> bool:
    """Whether two models have the same parameters, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def their_logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder)
    return theirs.eval()(ids).logits


def edit_json(path: Path, **changes) -> None:
    """Set fields of a JSON file; a field set to ... is removed."""
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: v for name, v in values.items() if v is not ...}))


def edit_tensors(path: Path, change) -> None:
    """Rewrite a safetensors file with what `change` makes of its tensors."""
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def flip_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.fixture
def model():
    return random_model(TINY)


@pytest.fixture
def native(model, tmp_path):
    save_pretrained(model, tmp_path / "native")
    return tmp_path / "native"


@pytest.fixture
def hugging_face(model, tmp_path):
    save_pretrained(model, tmp_path / "hugging_face", "hugging_face")
    return tmp_path / "hugging_face"


@pytest.fixture
def openai(model, tmp_path):
    (tmp_path / "openai").mkdir()
    write_checkpoint(model, tmp_path / "openai")
    return tmp_path / "openai"


# --- Equal to transformers, and the three formats to each other.


@pytest.mark.slow
@torch.no_grad()
def test_the_full_size_equals_transformers_and_is_the_same_in_all_formats():
    config = GPTConfig()
    model, ids = random_model(config), random_ids(config, 1, 64)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        save_pretrained(model, here, "hugging_face")
        difference = (their_logits(here, ids) - model(ids)).abs().max().item()
        assert difference <= 1e-4
        assert same(load_pretrained(here), model)
        save_pretrained(model, here, "native")
        assert same(load_pretrained(here), model)
        (here / "model.safetensors").unlink()
        write_checkpoint(model, here)
        assert same(load_pretrained(here), model)


@torch.no_grad()
def test_transformers_reads_ours(model, hugging_face):
    ids = random_ids(TINY, 3, 32)
    torch.testing.assert_close(their_logits(hugging_face, ids), model(ids), rtol=0, atol=1e-5)


@torch.no_grad()
def test_we_read_transformers(tmp_path):
    config = transformers.GPT2Config(
        vocab_size=101, n_positions=32, n_layer=2, n_head=4, n_embd=48,
        bos_token_id=100, eos_token_id=100,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    ours, ids = load_pretrained(tmp_path), random_ids(TINY, 3, 32)
    assert ours.config == TINY
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-5)


def test_the_three_formats_hold_the_same_model(model, native, hugging_face, openai):
    write_checkpoint(model, openai, crc32c_by_bits)  # sums made apart from those that check them
    for folder in (native, hugging_face, openai):
        loaded = load_pretrained(folder)
        assert loaded.config == TINY
        assert same(loaded, model)


@pytest.mark.parametrize("format", ["native", "hugging_face"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_saved_comes_back_bit_for_bit(model, tmp_path, format, dtype):
    model.to(dtype)
    save_pretrained(model, tmp_path, format)
    assert load_file(tmp_path / "model.safetensors").popitem()[1].dtype == dtype
    assert same(load_pretrained(tmp_path, dtype=dtype), model)


# --- Variants of Hugging Face's files.


def without_prefix(tensors):
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def with_masks(tensors):
    masks = {}
    for layer in range(TINY.n_layer):
        masks[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 32, 32, dtype=torch.uint8)
        masks[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return {**tensors, **masks}


def with_head(tensors):
    return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"].clone()}


def with_head_alone(tensors):
    tensors["lm_head.weight"] = tensors.pop("transformer.wte.weight")
    return tensors


def all_at_once(tensors):
    return without_prefix(with_masks(with_head(tensors)))


@pytest.mark.parametrize(
    "change", [without_prefix, with_masks, with_head, with_head_alone, all_at_once]
)
def test_variants_of_hugging_face(model, hugging_face, change):
    edit_tensors(hugging_face / "model.safetensors", change)
    assert same(load_pretrained(hugging_face), model)


def test_the_file_that_safetensors_makes_of_transformers_model(model, hugging_face):
    theirs = transformers.GPT2LMHeadModel.from_pretrained(hugging_face)
    save_model(theirs, str(hugging_face / "model.safetensors"))  # keeps one of the tied two
    assert same(load_pretrained(hugging_face), model)


def test_another_head_is_refused(hugging_face):
    def change(tensors):
        return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"] + 1}

    edit_tensors(hugging_face / "model.safetensors", change)
    with pytest.raises(InputError, match="lm_head.weight .* differs from wte.weight"):
        load_pretrained(hugging_face)


@pytest.mark.parametrize(
    "option, value",
    [
        ("model_type", "llama"),
        ("activation_function", "relu"),
        ("activation_function", "gelu"),  # the exact form
        ("layer_norm_epsilon", 1e-6),
        ("n_inner", 64),
        ("scale_attn_weights", False),
        ("tie_word_embeddings", False),
    ],
)
def test_what_gpt2_does_not_do_is_refused(hugging_face, option, value):
    edit_json(hugging_face / "config.json", **{option: value})
    with pytest.raises(InputError, match=f"{option} is {value!r}, expected"):
        load_pretrained(hugging_face)


def test_an_inner_width_of_four_times_the_width_is_gpt2s(hugging_face):
    edit_json(hugging_face / "config.json", n_inner=4 * TINY.n_embd)
    load_pretrained(hugging_face)


# --- A file alone, a preset.


@pytest.mark.parametrize("format", ["native", "hugging_face"])
@pytest.mark.parametrize("n_head", [4, 8])  # the width of verse, its number of heads and another
def test_a_file_without_configuration_is_refused_since_its_heads_are_not_told(
    tmp_path, format, n_head
):
    config = GPTConfig(vocab_size=60, n_positions=16, n_layer=1, n_head=n_head, n_embd=256)
    model = random_model(config)
    save_pretrained(model, tmp_path, format)
    with_config = load_pretrained(tmp_path / "model.safetensors")
    assert with_config.config == config and same(with_config, model)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="no config.json beside it.* number of heads.* n_head"):
        load_pretrained(tmp_path / "model.safetensors")


def test_a_preset_needs_no_configuration_beside_its_weights(hugging_face, monkeypatch):
    model = random_model(TINY)
    (hugging_face / "config.json").unlink()
    monkeypatch.setattr(pretrained, "fetch", lambda *args, **known: hugging_face / WEIGHTS)
    monkeypatch.setitem(pretrained.PRESETS, "gpt2", TINY)
    loaded = load_pretrained("gpt2")
    assert loaded.config == TINY and same(loaded, model)


@pytest.mark.parametrize("change", [{"n_head": 2}, {"n_positions": 31}, {"files": {"x": "0"}}])
def test_a_changed_native_configuration_is_refused(native, change):
    edit_json(native / "config.json", **change)
    with pytest.raises(InputError, match="config.json was changed"):
        load_pretrained(native)


def test_a_native_configuration_leads_to_no_file_elsewhere(native, tmp_path):
    (tmp_path / "secret").write_text("x")
    values = json.loads((native / "config.json").read_text())
    del values["config_sha256"]
    values["files"] = {"../secret": hashlib.sha256(b"x").hexdigest()}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    (native / "config.json").write_text(json.dumps({**values, "config_sha256": digest}))
    with pytest.raises(InputError, match="lists '../secret', which lies beside no model"):
        load_pretrained(native)


def test_native_folders_from_before_the_configuration_had_a_hash(model, native):
    edit_json(native / "config.json", files=..., config_sha256=...)
    assert same(load_pretrained(native), model)
    assert load_pretrained("verse").config == PRESETS["verse"]


def test_gpt2_is_fetched_by_its_pinned_hash(hugging_face, tmp_path, monkeypatch):
    calls = []

    def fetch(url, path, **expected):
        calls.append((url, path, expected))
        return hugging_face / "model.safetensors"

    monkeypatch.setattr(pretrained, "fetch", fetch)
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path))
    load_pretrained("gpt2")
    with pytest.warns(UserWarning, match="gpt2-large have no pinned hash"):
        load_pretrained("gpt2-large")
    (url, path, expected), (large_url, _, large_expected) = calls
    assert url.endswith(
        "/openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/model.safetensors"
    )
    assert path == tmp_path / "gpt2" / "model.safetensors"
    assert expected["size"] == 548_105_171 and expected["sha256"].startswith("248dfc39")
    assert large_url.endswith("/openai-community/gpt2-large/resolve/main/model.safetensors")
    assert large_expected == {}


def test_verse_comes_from_the_package(model, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "VERSE", tmp_path)
    with pytest.raises(InputError, match="verse weights are not in this copy"):
        load_pretrained("verse")
    save_pretrained(model, tmp_path, dtype=torch.float16)
    assert same(load_pretrained("verse"), model.half().float())


# --- The loaded model.


@torch.no_grad()
def test_bfloat16_stays_close(hugging_face):
    ids = random_ids(TINY, 2, 32)
    exact = load_pretrained(hugging_face)
    coarse = load_pretrained(hugging_face, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in coarse.parameters()} == {torch.bfloat16}
    difference = (exact(ids) - coarse(ids).float()).abs().max()
    # bfloat16 has 8 significant bits: one rounding errs by up to 1/512, and a few dozen of them
    # follow one another from the embedding to the logits.
    assert 0 < difference < 0.05 * exact(ids).abs().max()


@pytest.mark.parametrize("format", ["native", "hugging_face", "openai"])
def test_parameters_can_be_trained_and_are_not_the_file(model, request, format):
    folder = request.getfixturevalue(format)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    loaded = load_pretrained(folder, dropout=0.25)
    assert loaded.config.dropout == loaded.h[0].mlp.dropout.p == 0.25
    loaded(random_ids(TINY, 1, 8)).sum().backward()
    with torch.no_grad():
        for parameter in loaded.parameters():
            assert parameter.grad is not None and parameter.is_contiguous()
            parameter.zero_()
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    assert same(load_pretrained(folder), model)


def test_no_random_number_is_drawn(native):
    state = torch.get_rng_state()
    load_pretrained(native)
    assert torch.equal(torch.get_rng_state(), state)


# --- What does not fit: all of it in one error.


def spoil_state(state, c_attn):
    """Take one tensor away, add one, and give one another shape."""
    del state[next(name for name in state if "ln_f" in name and name[-1] in "sb")]
    state["extra"] = torch.zeros(3)
    state[c_attn] = state[c_attn][..., :-1].contiguous()
    return state


@pytest.mark.parametrize(
    "format, name, is_, expected",
    [
        ("hugging_face", "h.1.attn.c_attn.weight", "(48, 143)", "(48, 144)"),
        ("openai", "model/h1/attn/c_attn/w", "(48, 143)", "(48, 144)"),
    ],
)
def test_all_that_does_not_fit_is_listed_at_once(model, request, format, name, is_, expected):
    folder = request.getfixturevalue(format)
    if format == "openai":
        arrays = {key: torch.from_numpy(a.copy()) for key, a in openai_arrays(model).items()}
        write_bundle({key: t.numpy() for key, t in spoil_state(arrays, name).items()}, folder)
    else:
        path = folder / "model.safetensors"
        edit_tensors(path, lambda tensors: spoil_state(tensors, f"transformer.{name}"))
    with pytest.raises(InputError) as caught:
        load_pretrained(folder)
    assert "\n" not in str(caught.value)
    problems = str(caught.value).split("; ")
    assert [text.split()[0] for text in problems[1:]] == ["missing:", "surplus:", "misshapen:"]
    assert "ln_f" in problems[1] and "(48,)" in problems[1]
    assert "extra (3,)" in problems[2]
    assert f"{name} is {is_}, expected {expected}" in problems[3]


@pytest.mark.parametrize("format", ["hugging_face", "openai"])
def test_weights_of_another_shape_are_listed(request, format):
    folder = request.getfixturevalue(format)
    edit_json(folder / ("hparams.json" if format == "openai" else "config.json"), n_layer=3)
    with pytest.raises(InputError, match="missing: [^;]*h.?2.*, and 9 more$"):
        load_pretrained(folder)


@pytest.mark.parametrize("format", ["hugging_face", "openai"])
@pytest.mark.parametrize("size", [100_000, 4 * 10**15])
@pytest.mark.parametrize("name", ["n_layer", "n_embd"])
def test_absurd_sizes_are_compared_with_the_file_first(request, format, size, name):
    folder = request.getfixturevalue(format)
    name_there = f"n_{name.split('_')[1]}"
    file = folder / ("hparams.json" if format == "openai" else "config.json")
    edit_json(file, **{name_there: size}, **({"n_inner": None} if format != "openai" else {}))
    start = time.process_time()
    with pytest.raises(InputError, match=f"{name} is {size} in the configuration of"):
        load_pretrained(folder)
    assert time.process_time() - start < 1


def test_thousands_of_surplus_tensors_make_one_short_sentence(hugging_face):
    surplus = {f"extra.{i}.\x1b[31m" + "a" * 50: torch.zeros(1) for i in range(20_000)}
    edit_tensors(hugging_face / "model.safetensors", lambda tensors: {**tensors, **surplus})
    with pytest.raises(InputError, match="and 19,997 more$") as caught:
        load_pretrained(hugging_face)
    assert len(str(caught.value)) < 800 and str(caught.value).isprintable()
    assert r"\x1b[31m" in str(caught.value)


def test_weights_that_are_no_floats_are_refused(hugging_face):
    def change(tensors):
        return {**tensors, "transformer.ln_f.bias": torch.zeros(48, dtype=torch.int64)}

    edit_tensors(hugging_face / "model.safetensors", change)
    with pytest.raises(InputError, match="ln_f.bias .* holds torch.int64"):
        load_pretrained(hugging_face)


# --- Damage.


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
@pytest.mark.parametrize("format", ["native", "hugging_face"])
def test_a_truncated_safetensors_file(request, format, kept):
    path = request.getfixturevalue(format) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_pretrained(path.parent)


@pytest.mark.parametrize("at", [0, 3, 7, 9])
def test_a_tampered_header(hugging_face, at):
    path = hugging_face / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match="model.safetensors"):
        load_pretrained(hugging_face)


def test_a_pickle_under_a_false_name(hugging_face):
    (hugging_face / "model.safetensors").write_bytes(pickle.dumps({"wte.weight": [1.0]}))
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_pretrained(hugging_face)


def test_one_changed_byte_of_native_weights_is_found(native):
    flip_byte(native / "model.safetensors", -100)
    with pytest.raises(InputError, match="was changed"):
        load_pretrained(native)


def test_native_files_of_two_savings_are_found(native, tmp_path):
    save_pretrained(random_model(TINY, seed=5), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "config.json", native)
    with pytest.raises(InputError, match="belongs to other weights"):
        load_pretrained(native)


def test_every_changed_byte_of_a_checkpoint_is_found(openai):
    """In the index each byte is covered but the footer's padding; in the data each byte is."""
    index, data = openai / INDEX, openai / DATA
    size = index.stat().st_size
    places = [(index, at) for at in (*range(0, size - 48, 61), size - 1, size - 8)]
    places += [(data, at) for at in range(0, data.stat().st_size, 40_001)]
    for path, at in places:
        flip_byte(path, at)
        with pytest.raises(InputError, match="model.ckpt"):
            load_pretrained(openai)
        flip_byte(path, at)
    load_pretrained(openai)


@pytest.mark.parametrize("name", [INDEX, DATA])
@pytest.mark.parametrize("kept", [0, 20, 500, -1])
def test_a_truncated_checkpoint(openai, name, kept):
    path = openai / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=f"{INDEX}|{DATA}"):
        load_pretrained(openai)


@pytest.mark.parametrize("format", ["native", "hugging_face", "openai"])
def test_the_shape_is_told_without_reading_a_weight(request, format):
    folder = request.getfixturevalue(format)
    weights = folder / (DATA if format == "openai" else "model.safetensors")
    flip_byte(weights, -100)  # which only a reader of weights could notice
    assert pretrained_config(folder) == TINY


def test_a_presets_shape_is_told_without_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "nothing"))
    assert {name: pretrained_config(name) for name in PRESETS} == PRESETS
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", [DATA, "hparams.json"])
def test_a_checkpoint_without_one_of_its_files(openai, name):
    (openai / name).unlink()
    with pytest.raises(InputError, match=name):
        load_pretrained(openai)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"n_layer": 2}'])
@pytest.mark.parametrize("format", ["native", "hugging_face", "openai"])
def test_a_damaged_configuration(request, format, content):
    folder = request.getfixturevalue(format)
    name = "hparams.json" if format == "openai" else "config.json"
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=name):
        load_pretrained(folder)


def test_a_configuration_that_makes_no_model(native):
    edit_json(native / "config.json", n_head=5, files=..., config_sha256=...)
    with pytest.raises(InputError, match="5 heads"):
        load_pretrained(native)


# --- What is no model at all.


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickles_are_refused_by_file_and_by_folder(model, tmp_path, name):
    torch.save(model.state_dict(), tmp_path / name)
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(InputError, match=f"{name} may be a pickle"):
            load_pretrained(place)


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no model gpt5; expected .* gpt2-xl"):
        load_pretrained("gpt5")
    with pytest.raises(InputError, match="holds no model"):
        load_pretrained(tmp_path)
    (tmp_path / "model.txt").write_text("text")
    with pytest.raises(InputError, match="not a .safetensors file"):
        load_pretrained(tmp_path / "model.txt")


# --- Saving.


def test_only_a_plain_model_is_saved(model, tmp_path):
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(InputError, match="extra.bias, extra.weight"):
        save_pretrained(model, tmp_path)
    with pytest.raises(InputError, match="expected one of native, hugging_face"):
        save_pretrained(model, tmp_path, "pickle")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(model, native):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match="cannot write .*model.safetensors"):
            save_pretrained(random_model(TINY, seed=5), native)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same(load_pretrained(native), model)
    assert {path.name for path in native.iterdir()} == {"model.safetensors", "config.json"}


def test_a_folder_that_cannot_be_made(model, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot make the folder"):
        save_pretrained(model, tmp_path / "file")


def test_files_can_be_read_by_others(native):
    assert {oct(path.stat().st_mode & 0o777) for path in native.iterdir()} == {
        oct((native / "config.json").stat().st_mode & 0o777)
    }


# --- The checksum.


def test_crc32c_of_published_examples():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4, as the next two
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("size", [4, 5, 63, 64, 65, 1000, 262_143, 262_144, 262_149, 525_000])
def test_crc32c_equals_its_definition(size):
    data = struct.pack("<Q", size) * (size // 8 + 1)
    assert crc32c(data[:size]) == crc32c_by_bits(data[:size])


# --- What a Hugging Face folder is given and gives back.


def companions(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".safetensors"}


@pytest.mark.parametrize("rows", [50257, 50258, 50304, 16384])
def test_an_export_has_its_tokenizer_and_its_own_end_of_text(tmp_path, rows, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = random_model(GPTConfig(rows, n_positions=32, n_layer=1, n_head=2, n_embd=8))
    eot = 16383 if rows == 16384 else 50256
    save_pretrained(model, tmp_path, "hugging_face")
    for name in ("config.json", "generation_config.json"):
        values = json.loads((tmp_path / name).read_text())
        assert values["eos_token_id"] == values["bos_token_id"] == eot
    tokenizer, theirs = get_tokenizer(model), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token_id == tokenizer.eot == eot and theirs.model_max_length == 32
    for text in ("Shall I compare thee\n\nto a  summer's day? 1609 \t", "über 漢字 😀", " ", ""):
        assert theirs.encode(text) == tokenizer.encode(text)
        assert theirs.decode(theirs.encode(text), clean_up_tokenization_spaces=False) == text
    assert theirs.encode("a<|endoftext|>") == [*tokenizer.encode("a"), eot]
    pipeline = transformers.pipeline("text-generation", model=str(tmp_path))
    assert pipeline.model.generation_config.eos_token_id == eot
    prompt, new = "Shall I compare", 5
    (answer,) = pipeline(prompt, max_new_tokens=new, do_sample=False)
    (ids,) = generate(model, [tokenizer.encode(prompt)], max_new_tokens=new, temperature=0)
    if max(ids) < eot:  # else transformers stops, or has no text for a row of the padding
        assert answer["generated_text"] == prompt + tokenizer.decode(ids)


def test_all_that_config_json_says_survives_every_way_round(model, hugging_face, tmp_path):
    said = {
        "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_pytorch_tanh",
        "resid_pdrop": 0.1, "eos_token_id": [7, 9], "bos_token_id": 3, "pad_token_id": 5,
        "task_specific_params": {"text-generation": {"max_length": 50}}, "summary_type": "mean",
        "n_ctx": 32, "transformers_version": "4.2", "torch_dtype": "float32", "mine": {"a": [1.5]},
    }  # fmt: skip
    edit_json(hugging_face / "config.json", **said, dtype=...)
    (hugging_face / "generation_config.json").write_text('{"eos_token_id": 7, "top_k": 11}')
    before = companions(hugging_face)
    for step, format in enumerate(["native", "native", "hugging_face"]):
        loaded = load_pretrained(hugging_face if step == 0 else tmp_path / str(step - 1))
        assert same(loaded, model)
        save_pretrained(copy.deepcopy(loaded), tmp_path / str(step), format)
    after = companions(tmp_path / "2")
    assert json.loads(after.pop("config.json")) == json.loads(before.pop("config.json"))
    assert after == before
    assert same(load_pretrained(tmp_path / "2"), model)


def test_an_export_says_what_the_model_is_now(model, hugging_face, tmp_path):
    loaded = load_pretrained(hugging_face)
    save_pretrained(loaded, tmp_path / "out", "hugging_face", dtype=torch.bfloat16)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert config["eos_token_id"] is None  # no tokenizer has 101 tokens, and none is made up
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out")
    assert theirs.dtype == torch.bfloat16


@torch.no_grad()
@pytest.mark.parametrize("size", ["20KB", "100KB"])
def test_shards(model, hugging_face, tmp_path, size):
    theirs = transformers.GPT2LMHeadModel.from_pretrained(hugging_face)
    theirs.save_pretrained(tmp_path / "shards", max_shard_size=size)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert same(load_pretrained(tmp_path / "shards"), model)
    assert same(load_pretrained(tmp_path / "shards" / "model.safetensors.index.json"), model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.popitem(), "differ in where tensors are"),
        (lambda m: m.update(more=next(iter(m.values()))), "differ in where tensors are: more in"),
        (lambda m: m.update({next(iter(m)): "../model.safetensors"}), "no weight_map"),
        (lambda m: m.update({next(iter(m)): "/etc/passwd"}), "no weight_map"),
        (lambda m: m.update({next(iter(m)): 5}), "no weight_map"),
        (
            lambda m: m.update({next(iter(m)): "none.safetensors"}),
            "none.safetensors cannot be read",
        ),
    ],
)
def test_an_index_that_does_not_fit_its_shards(hugging_face, tmp_path, change, message):
    theirs = transformers.GPT2LMHeadModel.from_pretrained(hugging_face)
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    path = tmp_path / "shards" / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        load_pretrained(tmp_path / "shards")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.", "module._orig_mod.model."])
def test_what_wrappers_put_before_the_names(model, hugging_face, prefix):
    path = hugging_face / "model.safetensors"
    edit_tensors(path, lambda tensors: {prefix + name: t for name, t in tensors.items()})
    assert same(load_pretrained(hugging_face), model)

    def twice(tensors):
        (name, tensor), *_ = tensors.items()
        return {**tensors, name.replace("transformer.", "module."): tensor.clone()}

    edit_tensors(path, twice)
    with pytest.raises(InputError, match="holds .* twice, as .* and as "):
        load_pretrained(hugging_face)


@pytest.mark.parametrize("format", ["native", "hugging_face"])
def test_a_sparse_file_that_memory_cannot_hold(request, format):
    """A terabyte that takes no place on the disk, as its header says, and so does config.json."""
    folder = request.getfixturevalue(format)
    tensors = load_file(folder / "model.safetensors")
    header, at = {"__metadata__": {"format": "minigpt" if format == "native" else "pt"}}, 0
    for name, tensor in tensors.items():
        shape = [2**32 if size == 101 else size for size in tensor.shape]
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    old = {"files": ..., "config_sha256": ...} if format == "native" else {}
    edit_json(folder / "config.json", vocab_size=2**32, **old)
    with pytest.raises(InputError, match=r"model.safetensors cannot be read.*memory"):
        load_pretrained(folder)


# --- Folders that hold no model, but something like one.


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "a LoRA adapter, not a model"),
        (["adapter_config.json", "adapter_model.bin"], "a LoRA adapter, not a model"),
        (["training_args.bin", "checkpoint-500/x", "checkpoint-1000/x"], "checkpoint-1000, check"),
        (["checkpoint-5/model.safetensors"], "output of a Trainer .* checkpoint-5"),
        (["training_args.bin", "trainer_state.json", "optimizer.pt"], "a Trainer's settings and"),
        (["training_args.bin", "pytorch_model.bin"], "pytorch_model.bin may be a pickle"),
    ],
)
def test_a_folder_says_what_it_holds_instead(tmp_path, files, message):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=message):
        load_pretrained(tmp_path)


def test_a_checkpoint_of_a_trainer_loads(model, hugging_face):
    for name in ("training_args.bin", "optimizer.pt", "trainer_state.json"):
        (hugging_face / name).touch()
    assert same(load_pretrained(hugging_face), model)
