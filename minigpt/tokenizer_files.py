"""A model's own tokenizer: byte-level BPE as Hugging Face's files describe it, and nothing else.

    tokenizer.json                vocabulary, merges, added tokens, and all steps around them
    vocab.json and merges.txt     the same before there was tokenizer.json
    tokenizer_config.json, special_tokens_map.json, added_tokens.json      what was added

Hugging Face merges the pairs that a list names; tiktoken merges any two neighbours that make a
token. `_check_merges` refuses every vocabulary for which the two could differ.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import tiktoken

from minigpt.byte_pairs import (
    END_OF_TEXT,
    WORD_PATTERN,
    Tokenizer,
    byte_symbols,
    gpt2_pairs,
    gpt2_tokenizer,
)
from minigpt.companions import CONFIG, TOKENIZER, VOCABULARIES, settings
from minigpt.config import PRESETS
from minigpt.errors import InputError, listed, shown
from minigpt.files import reading

CLASSES = (
    None,
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
)
MOST_PADDED = 51200  # rows for GPT-2's 50,257 tokens; the multiples people pad to end there
MOST_STEPS = 30_000_000  # of checking merges; GPT-2's take 4 million
OFF = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")


class Parts(NamedTuple):
    """What makes a byte-level BPE."""

    vocabulary: dict[str, int]  # spelt in `byte_symbols`
    merges: list[tuple[str, str]]
    special: dict[str, int]  # added tokens that no text spells
    words: dict[str, int]  # added tokens that a text may spell


def tokenizer_for(companions: Mapping[str, bytes], vocab_size: int) -> Tokenizer:
    """Return the tokenizer that a model's companions hold, else the one of its vocabulary's size.

    Raises InputError for an unknown size, and for any tokenizer that is no byte-level BPE.
    """
    files = {name: companions[name] for name in (CONFIG, *TOKENIZER) if name in companions}
    with reading(Path("tokenizer.json"), "a byte-level BPE"):
        _check_class(files)
        if any(name in files for name in VOCABULARIES):
            return _own_tokenizer(frozenset(files.items()), vocab_size)
        known = sorted({config.vocab_size for config in PRESETS.values()})
        size = known[-1] if known[-1] < vocab_size <= MOST_PADDED else vocab_size
        if size not in known:
            raise InputError(
                f"no tokenizer has a vocabulary of {vocab_size} tokens; expected one of {known}, "
                "or a tokenizer.json beside the model's weights"
            )
        eot = _end_of_text(files, vocab_size)
        return gpt2_tokenizer(size, size - 1 if eot is None else eot, vocab_size)


def _check_class(files: Mapping[str, bytes]) -> None:
    config = settings(files, "tokenizer_config.json")
    for option, expected in (("tokenizer_class", CLASSES), ("add_prefix_space", (None, False))):
        if config.get(option) not in expected:
            raise _refused(f"{option} {config[option]!r}")


def _end_of_text(files: Mapping[str, bytes], vocab_size: int) -> int | None:
    """The end-of-text of config.json, which may be a list of which the first counts."""
    value = settings(files).get("eos_token_id")
    value = value[0] if isinstance(value, list) and value else value
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < vocab_size
    return value if known else None


@lru_cache(maxsize=4)
def _own_tokenizer(companions: frozenset[tuple[str, bytes]], vocab_size: int) -> Tokenizer:
    files = dict(companions)
    parts = _read_parts(files)
    ranks = _ranks(parts)
    added = parts.special | parts.words
    numbers = sorted([*ranks.values(), *added.values()])
    if len(set(numbers)) < len(numbers) or not 0 <= numbers[0] <= numbers[-1] < vocab_size:
        raise InputError(
            f"the tokenizer has {len(numbers)} tokens with numbers from {numbers[0]} to "
            f"{numbers[-1]}; expected different ones below the model's {vocab_size}"
        )
    eot = _end_of_text(files, vocab_size)
    if eot is None:
        eot = added.get(_special_names(files).get("eos_token", END_OF_TEXT))
    if eot is None:
        raise InputError("the tokenizer has no end-of-text; expected an eos_token among its tokens")
    name = hashlib.sha256(repr(sorted(ranks.items())).encode()).hexdigest()[:16]
    encoding = tiktoken.Encoding(
        name, pat_str=WORD_PATTERN, mergeable_ranks=ranks, special_tokens=added
    )
    return Tokenizer(encoding, eot, vocab_size, parts.words)


def _read_parts(files: Mapping[str, bytes]) -> Parts:
    """Take the files apart; InputError unless the vocabulary and its merges are among them."""
    if "tokenizer.json" in files:
        parts = _from_tokenizer_json(settings(files, "tokenizer.json"))
    elif "vocab.json" in files and "merges.txt" in files:
        lines = files["merges.txt"].decode(errors="replace").splitlines()
        merges = [line for line in lines if line and not line.startswith("#version")]
        parts = Parts(settings(files, "vocab.json"), _pairs(merges), {}, {})
    else:
        raise _refused(f"only {listed(name for name in VOCABULARIES if name in files)}")
    config = settings(files, "tokenizer_config.json")
    added = config.get("added_tokens_decoder", {}).items()
    _add(parts, [{**token, "id": int(number)} for number, token in added])
    plain = settings(files, "added_tokens.json")
    _add(parts, [{"id": number, "content": content} for content, number in plain.items()])
    for name in (END_OF_TEXT, *_special_names(files).values()):
        if name in parts.vocabulary:
            parts.special.setdefault(name, parts.vocabulary[name])
    return parts


def _from_tokenizer_json(values: dict) -> Parts:
    """Read a tokenizer.json; what a post-processor adds to a text is not added here."""
    model = values.get("model") or {}
    steps = {
        "model type": (model.get("type", "BPE"), ("BPE",)),
        "normalizer": (_kind(values.get("normalizer")), (None,)),
        "pre_tokenizer": (_kind(values.get("pre_tokenizer")), ("ByteLevel",)),
        **{name: (model.get(name), (None, "", 0)) for name in OFF},
    }
    before = values.get("pre_tokenizer") or {}
    steps["add_prefix_space"] = (before.get("add_prefix_space"), (False,))
    steps["use_regex"] = (before.get("use_regex", True), (True,))
    for name, (value, expected) in steps.items():
        if value not in expected:
            raise _refused(f"{name} {value!r}")
    parts = Parts(model["vocab"], _pairs(model["merges"]), {}, {})
    _add(parts, values.get("added_tokens") or [])
    return parts


def _refused(what: str) -> InputError:
    return InputError(
        f"the model's tokenizer has {shown(what)}; expected a byte-level BPE of GPT-2's kind, with "
        "a tokenizer.json or vocab.json and merges.txt"
    )


def _kind(step: dict | None) -> str | None:
    return None if step is None else step["type"]


def _pairs(merges: list) -> list[tuple[str, str]]:
    """Merges as pairs; files have them as "a b" or as ["a", "b"]."""
    pairs = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]
    if wrong := [pair for pair in pairs if [type(part) for part in pair] != [str, str]]:
        raise _refused(f"the merge {wrong[0]}")
    return pairs


def _special_names(files: Mapping[str, bytes]) -> dict[str, str]:
    """The tokens with a part to play: eos_token and its like."""
    both = settings(files, "tokenizer_config.json") | settings(files, "special_tokens_map.json")
    found = {name: value for name, value in both.items() if name.endswith("_token") and value}
    contents = {n: v["content"] if isinstance(v, dict) else v for n, v in found.items()}
    return {name: content for name, content in contents.items() if isinstance(content, str)}


def _add(parts: Parts, tokens: Iterable[dict]) -> None:
    """Sort added tokens into those that a text may spell and those that none does."""
    for token in tokens:
        content, number = token["content"], token["id"]
        known = {group.get(content, number) for group in (*parts[::2], parts.words)}
        if not content or known != {number}:
            raise _refused(f"the added token {content!r} with the numbers {listed(known)}")
        if token.get("special"):
            parts.words.pop(content, None)
            parts.special[content] = number
        elif content not in parts.special:
            if flags := [flag for flag in ("lstrip", "rstrip", "single_word") if token.get(flag)]:
                raise _refused(f"{flags[0]} for the added token {content!r}")
            parts.words[content] = number


def _ranks(parts: Parts) -> dict[bytes, int]:
    """Every token's bytes and number, without those that were added, as tiktoken wants them."""
    symbols, added = byte_symbols(), parts.special | parts.words
    plain = {name: number for name, number in parts.vocabulary.items() if name not in added}
    if wrong := [name for name in plain if not name or not symbols.keys() >= set(name)]:
        raise _refused(f"tokens that are not spelt in bytes ({listed(wrong)})")
    numbers = [*plain.values(), *added.values()]
    if wrong := [number for number in numbers if type(number) is not int]:
        raise _refused(f"the token number {wrong[0]!r}")
    ranks = {bytes(symbols[s] for s in name): number for name, number in plain.items()}
    if missing := 256 - sum(len(token) == 1 for token in ranks):
        raise _refused(f"no token for {missing} of the 256 bytes")
    merges = [tuple(bytes(symbols[s] for s in part) for part in pair) for pair in parts.merges]
    # What no merge makes no text is cut into: special tokens that no file calls so.
    for token in ranks.keys() - {left + right for left, right in merges}:
        if len(token) > 1:
            parts.special[token.decode(errors="replace")] = ranks.pop(token)
    _check_merges(ranks, merges)
    return ranks


def _check_merges(ranks: dict[bytes, int], merges: list[tuple[bytes, bytes]]) -> None:
    """Refuse merges that are not those which the tokens' numbers alone imply.

    When the lowest-numbered merges first, up to each token's own, leave just its two parts, then
    every way to that token goes through these two, and a list of pairs adds nothing.
    """
    numbers = [ranks.get(left + right, -1) for left, right in merges]
    if numbers != sorted(numbers) or {*numbers} != {n for t, n in ranks.items() if len(t) > 1}:
        raise _refused("tokens that are not one merge each, numbered in the merges' order")
    if sum(len(token) ** 2 for token in ranks) > MOST_STEPS:
        raise _refused("tokens that are too long to be checked")
    if merges == gpt2_pairs()[: len(merges)]:
        return  # which is known, and takes a second or two to find out
    for (left, right), number in zip(merges, numbers):
        if _merge(left + right, ranks, number) != [left, right]:
            raise _refused(f"the merge {left} {right}, which cannot come about")


def _merge(token: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """Merge the bytes of a token by the merges numbered below `below`, the lowest first."""
    parts = [bytes([byte]) for byte in token]
    while True:
        found = [ranks.get(a + b, below) for a, b in pairwise(parts)]
        best = min(found, default=below)
        if best == below:
            return parts
        i = found.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
