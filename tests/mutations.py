"""Damage of files, as disks, editors and strangers do it: bytes, text, JSON, headers of tensors.

Every function takes a `random.Random` and a sound file's bytes, and returns those of a damaged one.
"""

import copy
import json
import struct
from pathlib import Path
from random import Random

NUMBERS = [-1, 0, 1, 2, 3, 1e300, -1e300, 10**15, 10**30, 2**63, 0.5]
OTHERS = ["", "x", "1", "\x1b[31m\u202e", [], [1], {}, {"a": 1}, ["a", "b"], "../x", "(a+)+"]
VALUES = [*NUMBERS, None, True, False, *OTHERS]
# What json.dumps would not write: beyond floats, deeper than recursion, longer than int reads.
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "[" * 50_000, '{"a":' * 50_000, "9" * 6000, "01"]
NAMES = ["x", "", "h.0.x", "a" * 3000]
PIECES = [b'"', b'""', b"\t", b"\n", b"\r", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"\xff", b"\0"]
PIECES += ["न".encode(), "\u2028".encode(), "٣".encode(), b"7" * 5000, b"\n154\n", b"\n1\n"]


def damage(rng: Random, name: str, data: bytes) -> bytes:
    """Damage a file as its name says that it is made."""
    return BY_SUFFIX.get(Path(name).suffix, damage_bytes)(rng, data)


def damage_bytes(rng: Random, data: bytes) -> bytes:
    """Flip, cut, insert, blank, repeat or exchange a few bytes, or end the file early."""
    size = rng.choice([1, 2, 8, 100])
    at, other = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    chunk, rest = data[at : at + size], data[at + size :]
    kind = rng.choice(["flip"] * 3 + ["end", "cut", "insert", "blank", "repeat", "swap", "length"])
    if kind == "flip":
        return _flipped(rng, data)
    changed = {
        "end": data[:at],
        "cut": data[:at] + rest,
        "insert": data[:at] + rng.randbytes(size) + chunk + rest,
        "blank": data[:at] + rng.choice([b"\0", b"\xff"]) * size + rest,
        "repeat": data[:at] + chunk * 2 + rest,
        "swap": data[:at] + data[other : other + size] + data[at + size : other] + chunk
        + data[other + size :],
        # Many formats begin with a length.
        "length": rng.choice([0, 1, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little") + data[8:],
    }  # fmt: skip
    return changed[kind]


def _flipped(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def damage_text(rng: Random, data: bytes) -> bytes:
    """Cut, put in, double, move or turn one to four pieces."""
    for _ in range(rng.randint(1, 4)):
        start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        end = min(end, start + rng.choice([1, 3, 30, 3000]))
        piece, rest = data[start:end], data[:start] + data[end:]
        at = rng.randrange(len(rest) + 1)
        data = rng.choice(
            [
                rest,
                data[:start],
                data[:end] + data[start:],
                rest[:at] + piece + rest[at:],
                data[:start] + piece.swapcase()[::-1] + data[end:],
                *[data[:start] + rng.choice(PIECES) + data[start:]] * 4,
            ]
        )
    return data


def damage_json(rng: Random, data: bytes) -> bytes:
    """Damage one value of a JSON object, or any bytes."""
    return damage_bytes(rng, data) if rng.random() < 0.2 else _other_values(rng, data)


def damage_lines(rng: Random, data: bytes) -> bytes:
    """Drop, double or exchange lines of JSON, damage one of them, or any bytes."""
    lines = data.splitlines(keepends=True)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.choice(["drop", "double", "exchange", "value", "value", "value", "bytes"])
    if kind == "bytes":
        return damage_bytes(rng, data)
    if kind == "drop":
        del lines[one]
    elif kind == "double":
        lines.insert(other, lines[one])
    elif kind == "exchange":
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines[one] = _other_values(rng, lines[one]) + b"\n"
    return b"".join(lines)


def damage_tensors(rng: Random, data: bytes) -> bytes:
    """A safetensors file with damaged bytes, or with a header that was changed with skill."""
    if rng.random() < 0.4:
        return damage_bytes(rng, data)
    length = int.from_bytes(data[:8], "little")
    header = _other_values(rng, data[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def _other_values(rng: Random, data: bytes) -> bytes:
    """Replace, remove, rename, exchange or make unparsable one value somewhere in a JSON object."""
    values = json.loads(data)
    found = _places(values)
    container, key = rng.choice(found[:40] if rng.random() < 0.5 else found)
    kind = rng.choice(["replace", "replace", "replace", "remove", "rename", "exchange", "raw"])
    if kind == "replace":
        container[key] = rng.choice(VALUES)
    elif kind == "remove":
        del container[key]
    elif kind == "rename" and isinstance(container, dict):
        container[rng.choice([*NAMES, f"{key}."])] = container.pop(key)
    elif kind == "exchange":
        other, place = rng.choice(found)
        container[key] = copy.deepcopy(other[place])
    else:
        container[key] = "@@"
        return json.dumps(values).replace('"@@"', rng.choice(RAW)).encode()
    return json.dumps(values).encode()


def _places(value: object) -> list:
    """Every container within a JSON value, with each of its keys."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [p for key in keys for p in _places(value[key])]


BY_SUFFIX = {
    ".json": damage_json,
    ".jsonl": damage_lines,
    ".safetensors": damage_tensors,
    ".tsv": damage_text,
    ".csv": damage_text,
    ".txt": damage_text,
}
