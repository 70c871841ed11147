"""Which tokenizer a model has: its own, or the one whose vocabulary it has."""

import os
from pathlib import Path

from minigpt.byte_pairs import Tokenizer, gpt2_tokenizer
from minigpt.config import PRESETS
from minigpt.errors import InputError
from minigpt.tokenizer_files import tokenizer_for
from minigpt.weights.pretrained import open_stored


def get_tokenizer(model_or_name="gpt2") -> Tokenizer:
    """Return the tokenizer of a model, of a preset's name, or of a file or folder with a model.

    A model that was loaded from a folder with a byte-level tokenizer (tokenizer.json, or vocab.json
    and merges.txt) has that one, wherever it has been saved since. Any other is recognised by the
    size of its vocabulary; one that is a little larger than GPT-2's (50,257 tokens, 50,304 rows)
    has GPT-2's, and the end-of-text that its config.json names.

    Raises InputError when there is no such model, when the size of its vocabulary is unknown, and
    when its folder holds another kind of tokenizer.
    """
    if not isinstance(model_or_name, (str, os.PathLike)):
        return tokenizer_for(model_or_name.companions, model_or_name.config.vocab_size)
    if model_or_name in PRESETS:
        size = PRESETS[model_or_name].vocab_size
        return gpt2_tokenizer(size, size - 1, size)
    if not Path(model_or_name).exists():
        raise InputError(
            f"unknown model {str(model_or_name)!r}; expected one of {', '.join(PRESETS)}, "
            "or a file or folder"
        )
    stored = open_stored(Path(model_or_name))
    return tokenizer_for(stored.companions, stored.config.vocab_size)
