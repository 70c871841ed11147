"""GPT-2's byte-pair encoding as a tiktoken Encoding, built from a file in the package.

The merges file lists pairs of symbols in the order in which they were learnt; a token's number is
its place in that order (256 single bytes first). A smaller vocabulary is therefore simply a prefix
of the larger one: "verse" keeps the first 16,383 tokens and spends the last number on end-of-text.
"""

from functools import cache
from importlib.resources import files

import tiktoken

from minigpt.config import PRESETS
from minigpt.errors import InputError

END_OF_TEXT = "<|endoftext|>"

# Where GPT-2 cuts text into words before it merges bytes: contractions, then letters, digits or
# punctuation with at most one leading space, then white space (Radford et al., 2019, section 2.2).
WORD_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


class Tokenizer:
    """Text to token numbers and back; `eot` is the end-of-text number, `vocab_size` is V."""

    def __init__(self, encoding: tiktoken.Encoding):
        self.encoding = encoding
        self.eot: int = encoding.eot_token
        self.vocab_size: int = encoding.n_vocab

    def encode(self, text: str) -> list[int]:
        """Plain text to tokens; a literal "<|endoftext|>" in the text gets no special meaning."""
        return self.encoding.encode_ordinary(text)

    def decode(self, tokens: list[int]) -> str:
        """Tokens to text; bytes that are not UTF-8 become the replacement character."""
        return self.encoding.decode(tokens)


def get_tokenizer(model_or_name="gpt2") -> Tokenizer:
    """The tokenizer of a preset's name or of a model (recognised by its vocabulary's size).

    Raises InputError when the name, or the size of the model's vocabulary, is unknown.
    """
    if isinstance(model_or_name, str):
        if model_or_name not in PRESETS:
            raise InputError(
                f"unknown model {model_or_name!r}; expected one of {', '.join(PRESETS)}"
            )
        return _build(PRESETS[model_or_name].vocab_size)
    vocab_size = model_or_name.config.vocab_size
    known = {config.vocab_size for config in PRESETS.values()}
    if vocab_size not in known:
        raise InputError(
            f"no tokenizer has a vocabulary of {vocab_size} tokens; expected one of {sorted(known)}"
        )
    return _build(vocab_size)


@cache
def _build(vocab_size: int) -> Tokenizer:
    ranks = _ranks()
    kept = {token: rank for token, rank in ranks.items() if rank < vocab_size - 1}
    encoding = tiktoken.Encoding(
        name=f"gpt2-{vocab_size}",
        pat_str=WORD_PATTERN,
        mergeable_ranks=kept,
        special_tokens={END_OF_TEXT: vocab_size - 1},
        explicit_n_vocab=vocab_size,
    )
    return Tokenizer(encoding)


@cache
def _ranks() -> dict[bytes, int]:
    """Every token's bytes and number, from the merges file."""
    symbols = _byte_symbols()
    ranks = {bytes([byte]): rank for rank, byte in enumerate(symbols.values())}
    merges = files("minigpt").joinpath("assets/merges.txt").read_text(encoding="utf-8")
    for line in merges.splitlines()[1:]:  # the first line names the file's version
        left, right = (bytes(symbols[s] for s in part) for part in line.split(" "))
        ranks[left + right] = len(ranks)
    return ranks


def _byte_symbols() -> dict[str, int]:
    """The printable character that stands for each byte in the merges file, in rank order.

    GPT-2 writes printable Latin-1 bytes as themselves and shifts the others past U+0100, so that
    the file holds no white space or control characters.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {
        **{chr(byte): byte for byte in printable},
        **{chr(0x100 + shift): byte for shift, byte in enumerate(hidden)},
    }
