"""Byte-pair encoding of bytes (Sennrich et al., 2016; Radford et al., 2019), by tiktoken.

A merges file lists pairs of symbols in the order in which they were learnt; GPT-2's tokens are
numbered in that order (256 single bytes first). A smaller vocabulary is therefore simply a prefix
of the larger one: "verse" keeps the first 16,383 tokens and spends the last number on end-of-text.
"""

import re
from functools import cache
from importlib.resources import files

import tiktoken

from minigpt.errors import InputError

END_OF_TEXT = "<|endoftext|>"

# Where GPT-2 cuts text into words before it merges bytes: contractions, then letters, digits or
# punctuation with at most one leading space, then white space (Radford et al., 2019, section 2.2).
WORD_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# White space as Unicode defines it; Python's \s has four control characters more. So long a run of
# it ends tiktoken's stack, which goes one frame deeper at every character before `(?!\S)`.
_SPACE = r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
LONG_RUN = re.compile(_SPACE + "{10000,}")


class Tokenizer:
    """Text to token numbers and back; `eot` is the end-of-text number, `vocab_size` is V.

    A model may have more rows than its tokenizer has tokens, padded to a round number: V is the
    model's. `words` are added tokens that a text may spell, each one token wherever it stands.
    """

    def __init__(
        self,
        encoding: tiktoken.Encoding,
        eot: int,
        vocab_size: int,
        words: dict[str, int] | None = None,
    ):
        self.encoding = encoding
        self.eot = eot
        self.vocab_size = vocab_size
        self.words = words or {}
        longest_first = sorted(self.words, key=len, reverse=True)
        self._words = re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    def encode(self, text: str) -> list[int]:
        """Plain text to tokens; a literal "<|endoftext|>" in the text gets no special meaning."""
        if not self.words:
            return self._encode(text)
        ids = []
        for i, piece in enumerate(self._words.split(text)):  # every second one is a word
            ids += [self.words[piece]] if i % 2 else self._encode(piece)
        return ids

    def _encode(self, text: str) -> list[int]:
        """The same without added tokens: tiktoken's, but for what is too much for it.

        By the word pattern a run of white space that starts after something else is one word, less
        its last character if something follows. So the cuts here are the ones it makes.
        """
        ids, start = [], 0
        for run in LONG_RUN.finditer(text):
            end = run.end() - (run.end() < len(text))
            ids += self.encoding.encode_ordinary(text[start : run.start()])
            ids += self.encoding._encode_single_piece(text[run.start() : end])
            start = end
        return ids + self.encoding.encode_ordinary(text[start:])

    def decode(self, tokens: list[int]) -> str:
        """Tokens to text; bytes that are not UTF-8 become the replacement character.

        A number that the model has and the tokenizer has not reads <|50300|>. Raises InputError
        for one that neither has.
        """
        try:
            return self.encoding.decode(tokens)
        except (KeyError, OverflowError):
            return b"".join(map(self._bytes_of, tokens)).decode(errors="replace")

    def _bytes_of(self, token: int) -> bytes:
        if not 0 <= token < self.vocab_size:
            raise InputError(
                f"there is no token {token}; expected numbers from 0 to {self.vocab_size - 1}"
            )
        try:
            return self.encoding.decode_single_token_bytes(token)
        except KeyError:
            return f"<|{token}|>".encode()


@cache
def gpt2_tokenizer(size: int, eot: int, vocab_size: int) -> Tokenizer:
    """Return the tokenizer of the first `size` - 1 tokens of GPT-2 and end-of-text.

    A model of `vocab_size` rows ends its texts with `eot`, mostly the last of the tokens.
    """
    kept = {token: rank for token, rank in gpt2_ranks().items() if rank < size - 1}
    encoding = tiktoken.Encoding(
        name=f"gpt2-{size}",
        pat_str=WORD_PATTERN,
        mergeable_ranks=kept,
        special_tokens={END_OF_TEXT: size - 1},
        explicit_n_vocab=size,
    )
    return Tokenizer(encoding, eot, vocab_size)


@cache
def gpt2_merges() -> list[str]:
    """Return GPT-2's merges in their order, two symbols and a space between them each."""
    merges = files("minigpt").joinpath("assets/merges.txt").read_text(encoding="utf-8")
    return merges.splitlines()[1:]  # the first line names the file's version


@cache
def gpt2_ranks() -> dict[bytes, int]:
    """Return every token's bytes and number, but for end-of-text."""
    tokens = [bytes([byte]) for byte in byte_symbols().values()]
    tokens += [left + right for left, right in gpt2_pairs()]
    return {token: rank for rank, token in enumerate(tokens)}


@cache
def gpt2_pairs() -> list[tuple[bytes, bytes]]:
    """Return the bytes of what each of GPT-2's merges joins."""
    symbols = byte_symbols()
    pairs = (line.split(" ") for line in gpt2_merges())
    return [tuple(bytes(symbols[s] for s in part) for part in pair) for pair in pairs]


@cache
def byte_symbols() -> dict[str, int]:
    """Return the printable character that stands for each byte in the files, in rank order.

    GPT-2 writes printable Latin-1 bytes as themselves and shifts the others past U+0100, so that
    the files hold no white space or control characters.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {
        **{chr(byte): byte for byte in printable},
        **{chr(0x100 + shift): byte for shift, byte in enumerate(hidden)},
    }
