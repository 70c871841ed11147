"""Models, adapters and tokenizers to damage: how they are made, and what reading them may give.

A `check` reads the folder. It raises InputError, or else what it read is right: equal to what was
written where a name, a shape or a hash could have told, and otherwise (in files without a hash,
such as Hugging Face's) what an independent reader finds in the same damaged files.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

import lora
from minigpt import GPT, GPTConfig, get_tokenizer, load_pretrained, save_pretrained
from tests.conftest import oracle

SHAPE = GPTConfig(vocab_size=23, n_positions=8, n_layer=2, n_head=2, n_embd=8)


def random_model() -> GPT:
    return GPT(SHAPE, generator=torch.Generator().manual_seed(0))


def same_tensors(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


def make_hugging_face(folder: Path) -> None:
    save_pretrained(random_model(), folder, "hugging_face")


def make_sharded(folder: Path) -> None:
    make_hugging_face(folder)
    theirs = oracle("transformers").GPT2LMHeadModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    theirs.save_pretrained(folder, max_shard_size="5KB")


def check_native(folder: Path, changed: str) -> None:
    """Every byte is under a hash."""
    model = load_pretrained(folder)
    assert model.config == SHAPE
    assert same_tensors(model.state_dict(), random_model().state_dict())


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
        assert same_tensors(model.state_dict(), random_model().state_dict())


def check_openai(folder: Path, changed: str) -> None:
    """Every byte is under a checksum but hparams.json, which the shapes tell, n_head excepted."""
    model = load_pretrained(folder)
    assert {**model.config.to_dict(), "n_head": 2} == SHAPE.to_dict()
    assert same_tensors(model.state_dict(), random_model().state_dict())


def check_openai_with_new_sums(folder: Path, changed: str) -> None:
    """Who made the checksums anew may have changed any number, but no name and no shape."""
    model = load_pretrained(folder)
    assert {**model.config.to_dict(), "n_head": 2} == SHAPE.to_dict()


def make_adapter(folder: Path) -> None:
    model = random_model()
    lora.inject(model, lora.LoRAConfig(2, rank_pattern=(("h.1.*", 1),)))
    lora.save_adapter(model, folder)


def check_adapter(folder: Path, changed: str) -> None:
    model = random_model()
    names = lora.load_adapter(model, folder)
    file = load_file(folder / "adapter_model.safetensors")
    state = model.state_dict()
    assert names and len(file) == sum("lora_" in name for name in state)
    for name, tensor in file.items():
        ours = name.removeprefix("base_model.model.").removeprefix("transformer.")
        torch.testing.assert_close(state[ours], tensor.float(), equal_nan=True)


TEXTS = ["", "aa abab the these", " aaaaab\n\n  baba", "thethen ab ba", "über <|endoftext|>"]


def trained_tokenizer():
    tokenizers = oracle("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(["aa aaa abab baba the these then tthe"] * 5, trainer)
    return made


def make_tokenizer(folder: Path) -> None:
    save_pretrained(GPT(GPTConfig(300, 4, 1, 1, 4)), folder, "hugging_face")
    trained_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"})
    )


def make_vocabulary(folder: Path) -> None:
    save_pretrained(GPT(GPTConfig(300, 4, 1, 1, 4)), folder, "hugging_face")
    trained_tokenizer().model.save(str(folder))  # vocab.json and merges.txt


def check_tokenizer(folder: Path, changed: str) -> None:
    """The ids are those of `tokenizers`, where that reads the files too."""
    ours = get_tokenizer(folder)
    ids = [ours.encode(text) for text in TEXTS]
    assert [ours.decode(i) for i in ids] == TEXTS
    assert 0 <= ours.eot < ours.vocab_size
    tokenizers = oracle("tokenizers")
    try:
        if (folder / "vocab.json").exists():
            files = str(folder / "vocab.json"), str(folder / "merges.txt")
            theirs = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*files))
            theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # they are stricter with what means nothing to us
        return
    theirs.encode_special_tokens = True
    assert ids == [theirs.encode(text, add_special_tokens=False).ids for text in TEXTS]
