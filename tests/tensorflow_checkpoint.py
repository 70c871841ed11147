"""Writes a GPT as OpenAI released GPT-2, a TensorFlow checkpoint, to test the reader against.

Written from the formats' descriptions and not from the reader: small blocks (several in a table),
shared key prefixes, restart points, and a CRC that takes one bit at a time where it can afford it.
"""

import json
import struct
from pathlib import Path

import numpy as np

from minigpt.model import GPT
from minigpt.weights.crc32c import crc32c

NAMES = {"wte.weight": "wte", "wpe.weight": "wpe", "ln_f.weight": "ln_f/g", "ln_f.bias": "ln_f/b"}
for part in ("ln_1", "ln_2", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
    for kind, letter in (("weight", "g" if part.startswith("ln") else "w"), ("bias", "b")):
        NAMES[f"{part}.{kind}"] = f"{part.replace('.', '/')}/{letter}"


def write_checkpoint(model: GPT, folder: Path, crc=crc32c, extra: dict | None = None) -> None:
    """Write the three files that the reader wants; `extra` are further arrays by name."""
    config = model.config
    hparams = {
        "n_vocab": config.vocab_size,
        "n_ctx": config.n_positions,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_layer": config.n_layer,
    }
    (folder / "hparams.json").write_text(json.dumps(hparams))
    write_bundle({**openai_arrays(model), **(extra or {})}, folder, crc)


def openai_arrays(model: GPT) -> dict[str, np.ndarray]:
    """A model's parameters under OpenAI's names and in their shapes."""
    arrays = {}
    for name, tensor in model.state_dict().items():
        prefix = "model/"
        if name.startswith("h."):
            _, layer, name = name.split(".", 2)
            prefix = f"model/h{layer}/"
        array = tensor.detach().float().numpy()
        if NAMES[name].endswith("/w"):
            array = array.T[np.newaxis]  # (1, in, out)
        arrays[prefix + NAMES[name]] = array
    return arrays


def write_bundle(arrays: dict[str, np.ndarray], folder: Path, crc=crc32c) -> None:
    """Write model.ckpt.data-00000-of-00001 and model.ckpt.index."""
    version = field(1, 1)
    pairs = {b"": field(1, 1) + field(3, version)}  # BundleHeaderProto: one shard, little-endian
    offset = 0
    with (folder / "model.ckpt.data-00000-of-00001").open("wb") as file:
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            dtype = {"float32": 1, "int64": 9}[str(array.dtype)]
            shape = b"".join(field(2, field(1, size)) for size in array.shape)
            content = array.tobytes()
            pairs[name.encode()] = (
                field(1, dtype)
                + field(2, shape)
                + (field(4, offset) if offset else b"")
                + field(5, len(content))
                + varint(6 << 3 | 5)
                + masked(crc(content))
            )
            offset += file.write(content)
    (folder / "model.ckpt.index").write_bytes(table(pairs, crc))


def table(pairs: dict[bytes, bytes], crc=crc32c, per_block: int = 7) -> bytes:
    """A LevelDB table: data blocks, an empty meta block, the block of handles, the footer."""
    out, handles, keys = b"", {}, sorted(pairs)

    def add(block: bytes) -> bytes:
        nonlocal out
        handle = varint(len(out)) + varint(len(block))
        out += block + b"\0" + masked(crc(block + b"\0"))
        return handle

    for start in range(0, len(keys), per_block):
        chosen = keys[start : start + per_block]
        handles[chosen[-1]] = add(block({key: pairs[key] for key in chosen}))
    footer = add(block({})) + add(block(handles))
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def block(pairs: dict[bytes, bytes], interval: int = 3) -> bytes:
    """Sorted pairs, each key without what it shares with the one before, but at restart points."""
    out, restarts, last = b"", [0], b""
    for number, (key, value) in enumerate(pairs.items()):
        shared = 0
        if number and number % interval == 0:
            restarts.append(len(out))
        elif number:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        last = key
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def field(number: int, value: int | bytes) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    if number < 0x80:
        return bytes([number])
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7)


def masked(crc: int) -> bytes:
    """A CRC as the files store it."""
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c_by_bits(data: bytes) -> int:
    """CRC-32C by its definition, a bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
