"""GPT-2's tokenizer as files for `transformers`."""

import json

from minigpt.byte_pairs import END_OF_TEXT, byte_symbols, gpt2_merges, gpt2_ranks


def gpt2_files(size: int, n_positions: int) -> dict[str, bytes]:
    """Return the files from which `transformers` makes `gpt2_tokenizer(size, ...)`."""
    symbols = {byte: symbol for symbol, byte in byte_symbols().items()}
    ranks = list(gpt2_ranks())[: size - 1]
    vocabulary = {"".join(symbols[byte] for byte in token): i for i, token in enumerate(ranks)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    added = {"id": size - 1, "content": END_OF_TEXT, "special": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    whole = {
        "version": "1.0",
        "added_tokens": [{**added, **flags}],
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": vocabulary | {END_OF_TEXT: size - 1},
            "merges": gpt2_merges()[: size - 257],
        },
    }
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": n_positions,
        "add_prefix_space": False,
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT),
    }
    files = {"tokenizer.json": whole, "tokenizer_config.json": config}
    return {name: json.dumps(values, ensure_ascii=False).encode() for name, values in files.items()}
