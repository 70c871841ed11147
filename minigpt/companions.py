"""The small files beside a model's weights, which say what the tensors do not.

Hugging Face's config.json has options that GPTConfig has no field for, and a tokenizer of the
model's own is a few files more. `load_pretrained` keeps all of them, as they are, in
`model.companions`: so `get_tokenizer(model)` reads the right tokenizer, and `save_pretrained`
writes everything back.
"""

from collections.abc import Mapping
from pathlib import Path

from minigpt.files import parse_json, read_bytes, write_bytes

CONFIG, GENERATION = "config.json", "generation_config.json"
VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    # Kinds that are not read, to be refused by name and not taken for GPT-2's.
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.txt",
    "tekken.json",
)
TOKENIZER = (*VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
OPENAI = {"encoder.json": "vocab.json", "vocab.bpe": "merges.txt"}  # the release's names and these


def read_companions(folder: Path) -> dict[str, bytes]:
    """Return the companions in a folder that is not in our own format, by name."""
    places = {name: name for name in (CONFIG, GENERATION, *TOKENIZER)} | OPENAI
    found = {name: folder / there for there, name in places.items() if (folder / there).exists()}
    return {name: read_bytes(path) for name, path in found.items()}


def write_companions(folder: Path, companions: Mapping[str, bytes]) -> None:
    """Write companions into a folder, each whole or not at all."""
    for name, content in companions.items():
        write_bytes(folder / name, content)


def settings(companions: Mapping[str, bytes], name: str = CONFIG) -> dict:
    """Return what a JSON file among the companions says; {} where there is none."""
    return parse_json(companions[name], Path(name)) if name in companions else {}
