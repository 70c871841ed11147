"""Damaged files of every format: an InputError, or a load that nothing in the files contradicts.

Seeded; FUZZ_CASES (300) is how many damaged copies are made of each format.
"""

import copy
import json
import os
import random
import resource
import signal
import struct
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import lora
from minigpt import GPT, GPTConfig, get_tokenizer, load_pretrained, save_pretrained
from minigpt.errors import LONGEST, InputError
from minigpt.weights import tensor_bundle
from tests.conftest import oracle
from tests.tensorflow_checkpoint import write_checkpoint

CASES = int(os.environ.get("FUZZ_CASES", "300"))
CPU_SECONDS = 3  # of one case, most of which take a hundredth of one
WALL_SECONDS = 60
EXTRA_MEMORY = 150 << 20  # bytes, of all cases of a format together
SHAPE = GPTConfig(vocab_size=23, n_positions=8, n_layer=2, n_head=2, n_embd=8)

VALUES = [
    -1, 0, 1, 2, 3, 1e300, -1e300, 10**15, 10**30, 2**63, 0.5, None, True, False, "", "x", "1",
    "\x1b[31m\u202e", [], [1], {}, {"a": 1}, ["a", "b"], "../x", "(a+)+",
]  # fmt: skip
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "[" * 50_000, '{"a":' * 50_000, "9" * 6000, "01"]


# --- Damage.


def damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, cut, repeat, blank or insert a few bytes."""
    at, size = rng.randrange(len(data) + 1), rng.choice([1, 2, 8, 100])
    kind = rng.choice(["flip", "flip", "cut", "repeat", "blank", "insert", "head"])
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == "head":  # where lengths stand
        return rng.choice([0, 1, 2**31, 2**32, 2**63, 2**64 - 1]).to_bytes(8, "little") + data[8:]
    middle = {
        "cut": b"",
        "repeat": data[at : at + size] * 2,
        "blank": rng.choice([b"\0", b"\xff"]) * size,
        "insert": rng.randbytes(size) + data[at : at + size],
    }
    if kind == "cut" and rng.random() < 0.5:
        return data[:at]
    return data[:at] + middle[kind] + data[at + size :]


def places(value: object) -> list:
    """Every container within a JSON value, with each of its keys."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [p for key in keys for p in places(value[key])]


def damage_values(rng: random.Random, values: dict) -> str:
    """Replace, remove, rename, exchange or make unparsable one value somewhere in a JSON object."""
    found = places(values)
    container, key = rng.choice(found[:40] if rng.random() < 0.5 else found)
    kind = rng.choice(["replace", "replace", "replace", "remove", "rename", "exchange", "raw"])
    if kind == "replace":
        container[key] = rng.choice(VALUES)
    elif kind == "remove":
        del container[key]
    elif kind == "rename" and isinstance(container, dict):
        container[rng.choice(["x", "", f"{key}.", "h.0.x", "a" * 3000])] = container.pop(key)
    elif kind == "exchange":
        other, place = rng.choice(found)
        container[key] = copy.deepcopy(other[place])
    else:
        container[key] = "@@"
        return json.dumps(values).replace('"@@"', rng.choice(RAW))
    return json.dumps(values)


def damage_json(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.2:
        return damage_bytes(rng, data)
    return damage_values(rng, json.loads(data)).encode()


def damage_tensors(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file with damaged bytes, or with a header that was changed with skill."""
    if rng.random() < 0.4:
        return damage_bytes(rng, data)
    length = int.from_bytes(data[:8], "little")
    header = damage_values(rng, json.loads(data[8 : 8 + length])).encode()
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


DAMAGE = {".json": damage_json, ".safetensors": damage_tensors}


# --- The formats: how a folder is made, and how it is read and judged.


def random_model() -> GPT:
    return GPT(SHAPE, generator=torch.Generator().manual_seed(0))


def make_hugging_face(folder: Path) -> None:
    save_pretrained(random_model(), folder, "hugging_face")


def make_sharded(folder: Path) -> None:
    make_hugging_face(folder)
    transformers = oracle("transformers")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    theirs.save_pretrained(folder, max_shard_size="5KB")


def adapted() -> GPT:
    model = random_model()
    lora.inject(model, lora.LoRAConfig(2, rank_pattern=(("h.1.*", 1),)))
    return model


def make_tokenizer(folder: Path) -> None:
    tokenizers = oracle("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(["aa aaa abab baba the these then tthe"] * 5, trainer)
    model = GPT(GPTConfig(300, 4, 1, 1, 4))
    save_pretrained(model, folder, "hugging_face")
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"})
    )


def same_state(model: GPT) -> bool:
    expected = random_model().state_dict()
    found = model.state_dict()
    return expected.keys() == found.keys() and all(
        torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


def check_native(folder: Path, changed: str) -> None:
    """Every byte is under a hash."""
    model = load_pretrained(folder)
    assert model.config == SHAPE and same_state(model)


def check_hugging_face(folder: Path, changed: str) -> None:
    """The numbers are those that the safetensors library finds under the same names."""
    model = load_pretrained(folder)
    assert {**model.config.to_dict(), "n_head": 2} == SHAPE.to_dict()  # no shape tells n_head
    found = {}
    for path in folder.glob("*.safetensors"):
        found |= {name.replace("transformer.", ""): t for name, t in load_file(path).items()}
    for name, tensor in model.state_dict().items():
        linear = name.endswith("weight") and ("attn" in name or "mlp" in name)
        theirs = found.get(name, found.get("lm_head.weight")).float()
        torch.testing.assert_close(tensor, theirs.T if linear else theirs, equal_nan=True)
    if changed.endswith(".json"):
        assert same_state(model)


def check_openai(folder: Path, changed: str) -> None:
    """Every byte is under a checksum but hparams.json, which the shapes tell, n_head excepted."""
    model = load_pretrained(folder)
    assert {**model.config.to_dict(), "n_head": 2} == SHAPE.to_dict() and same_state(model)


def check_openai_with_sums(folder: Path, changed: str) -> None:
    model = load_pretrained(folder)
    assert {**model.config.to_dict(), "n_head": 2} == SHAPE.to_dict()


def check_adapter(folder: Path, changed: str) -> None:
    model = random_model()
    names = lora.load_adapter(model, folder)
    file = load_file(folder / "adapter_model.safetensors")
    state = model.state_dict()
    assert names and len(file) == sum("lora_" in name for name in state)
    for name, tensor in file.items():
        ours = name.removeprefix("base_model.model.").removeprefix("transformer.")
        torch.testing.assert_close(state[ours], tensor.float(), equal_nan=True)


def check_tokenizer(folder: Path, changed: str) -> None:
    """The ids are those of `tokenizers`, where that reads the file too."""
    ours = get_tokenizer(folder)
    texts = ["", "aa abab the these", " aaaaab\n\n  baba", "thethen ab ba", "über <|endoftext|>"]
    ids = [ours.encode(text) for text in texts]
    assert [ours.decode(i) for i in ids] == texts
    assert 0 <= ours.eot < ours.vocab_size
    try:
        theirs = oracle("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # they are stricter with what means nothing to us
        return
    theirs.encode_special_tokens = True
    assert ids == [theirs.encode(text, add_special_tokens=False).ids for text in texts]


FORMATS = {
    "native": (lambda folder: save_pretrained(random_model(), folder), check_native),
    "hugging_face": (make_hugging_face, check_hugging_face),
    "sharded": (make_sharded, check_hugging_face),
    "openai": (lambda folder: write_checkpoint(random_model(), folder), check_openai),
    "openai with new sums": (
        lambda folder: write_checkpoint(random_model(), folder),
        check_openai_with_sums,
    ),
    "adapter": (lambda folder: lora.save_adapter(adapted(), folder), check_adapter),
    "tokenizer": (make_tokenizer, check_tokenizer),
}


class AnySum:
    """A checksum that fits: whoever changed the bytes has made it anew."""

    def __ne__(self, other: object) -> bool:
        return False


@contextmanager
def within_time():
    """End a case that hangs, and fail one that computes for long."""

    def end(*_):
        raise AssertionError(f"a case takes more than {WALL_SECONDS} seconds")

    before, start = signal.signal(signal.SIGALRM, end), time.process_time()
    signal.alarm(WALL_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.process_time() - start < CPU_SECONDS


def memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_refused_or_load_right(tmp_path, format, monkeypatch):
    make, check = FORMATS[format]
    make(tmp_path)
    if "sums" in format:
        monkeypatch.setattr(tensor_bundle, "masked_crc32c", lambda data: AnySum())
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if format == "tokenizer":
        whole = {name: content for name, content in whole.items() if "tokenizer" in name}
    check(tmp_path, "")
    before, refused = memory(), 0
    for case in range(CASES):
        rng = random.Random(f"{format} {case}")
        name = rng.choice(sorted(whole))
        damaged = DAMAGE.get(Path(name).suffix, damage_bytes)(rng, whole[name])
        (tmp_path / name).write_bytes(damaged)
        try:
            with within_time():
                check(tmp_path, name)
        except InputError as error:
            refused += 1
            assert len(str(error)) <= LONGEST and str(error).isprintable(), (case, name)
        except BaseException as error:
            error.add_note(f"case {case} of {format}, {name}: {damaged[:300]!r}")
            raise
        (tmp_path / name).write_bytes(whole[name])
    assert memory() - before < EXTRA_MEMORY
    assert refused > CASES / 4
    check(tmp_path, "")
