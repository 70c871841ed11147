"""TensorFlow's checkpoint files, read without TensorFlow.

Two files make a checkpoint of one shard. The data file is the tensors' bytes, one after another.
The index says which bytes are which tensor: it is a LevelDB table, a sorted list of (key, value)
pairs in blocks, where a key is a tensor's name and a value a small protocol buffer.
Formats: LevelDB's doc/table_format.md; TensorFlow's tensor_bundle.proto.
"""

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigpt.errors import InputError
from minigpt.files import read_bytes, reading
from minigpt.weights.crc32c import masked_crc32c

FOOTER_BYTES = 48  # two block handles, padding, and the magic number
TABLE_MAGIC = 0xDB4775248B80FB57
BLOCK_TRAILER_BYTES = 5  # how the block is compressed, and its checksum
INDEX_BYTES = 1 << 20  # more than an index can sensibly have: the largest release's has 25,000
NAME_BYTES = 256  # the same of a tensor's name, of which each pair may hold a copy
DT_FLOAT = 1  # float32 in TensorFlow's list of types


class Entry(NamedTuple):
    """Where one tensor lies in the data file, and what it is."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int
    crc32c: int
    partitioned: bool


def read_index(index_path: Path, data_path: Path) -> dict[str, Entry]:
    """What a checkpoint holds, by name.

    Checked here: the table's structure, the checksum of each of its blocks, and that the data file
    is as long as its tensors. `read_tensor` checks the bytes of the tensors that are read.
    Raises InputError when either file is damaged, or of a kind that this reader does not know.
    """
    with reading(index_path, "a whole TensorFlow index"):
        pairs = _table(read_bytes(index_path, INDEX_BYTES))
        header = _fields(pairs.pop(b""))
        entries = {name.decode(): _entry(value) for name, value in pairs.items()}
        expected = max((entry.offset + entry.size for entry in entries.values()), default=0)
    if header.get(1) != [1] or header.get(2, [0]) != [0]:
        raise InputError(f"{index_path}: expected one shard of little-endian data")
    actual = data_path.stat().st_size
    if actual != expected:
        raise InputError(f"{data_path} has {actual:,} bytes; its index expects {expected:,}")
    return entries


def read_tensor(data_path: Path, name: str, entry: Entry) -> np.ndarray:
    """One float32 tensor in memory of its own; raises InputError when its bytes were changed."""
    if entry.dtype != DT_FLOAT or entry.partitioned:
        raise InputError(f"{name} in {data_path} is not one whole tensor of float32")
    if entry.size != 4 * math.prod(entry.shape):
        raise InputError(f"{name} in {data_path} has {entry.size} bytes, not {entry.shape} floats")
    values = np.fromfile(data_path, "<f4", entry.size // 4, offset=entry.offset)
    if masked_crc32c(values) != entry.crc32c:
        raise InputError(f"{name} in {data_path} was changed: its checksum does not fit")
    return values.reshape(entry.shape)


def _table(data: bytes) -> dict[bytes, bytes]:
    """All pairs of a LevelDB table; its footer points at a block that points at the others."""
    footer = data[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != TABLE_MAGIC:
        raise ValueError("it does not end as one")
    start, size, at = _handle(footer, 0)
    _block(data, start, size)  # LevelDB's statistics: empty in TensorFlow, but checked
    start, size, _ = _handle(footer, at)
    pairs = {}
    for _, handle in _pairs(_block(data, start, size)):
        start, size, _ = _handle(handle, 0)
        pairs.update(_pairs(_block(data, start, size)))
    return pairs


def _block(data: bytes, start: int, size: int) -> bytes:
    """A block's content, once its checksum has been found right."""
    end = start + size
    kind, checksum = struct.unpack("<BI", data[end : end + BLOCK_TRAILER_BYTES])
    if masked_crc32c(data[start : end + 1]) != checksum:
        raise ValueError("the checksum of a block does not fit")
    if kind != 0:
        raise ValueError("it is compressed; TensorFlow writes checkpoints uncompressed")
    return data[start:end]


def _pairs(block: bytes) -> list[tuple[bytes, bytes]]:
    """A block's pairs; each key gives only what differs from the end of the key before it."""
    restarts = struct.unpack("<I", block[-4:])[0]  # places for a binary search, not needed here
    end = len(block) - 4 * (restarts + 1)
    pairs, key, at = [], b"", 0
    while at < end:
        shared, at = _varint(block, at)
        added, at = _varint(block, at)
        value_size, at = _varint(block, at)
        if shared + added > NAME_BYTES:
            raise ValueError(f"a name of {shared + added:,} bytes")
        key = key[:shared] + block[at : at + added]
        at += added + value_size
        pairs.append((key, block[at - value_size : at]))
    return pairs


def _entry(value: bytes) -> Entry:
    """Read a BundleEntryProto; a field that is zero or empty is left out of a protocol buffer."""
    fields = _fields(value)
    number = {field: values[-1] for field, values in fields.items()}
    dimensions = _fields(number.get(2, b"")).get(2, [])  # TensorShapeProto.dim
    shape = tuple(_fields(dimension).get(1, [0])[-1] for dimension in dimensions)
    return Entry(
        dtype=number[1],
        shape=shape,
        offset=number.get(4, 0),
        size=number.get(5, 0),
        crc32c=number.get(6, 0),
        partitioned=7 in fields,
    )


def _fields(message: bytes) -> dict[int, list]:
    """A protocol buffer's fields by number: integers, or the bytes of strings and messages."""
    fields: dict[int, list] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
        elif kind == 2:
            size, at = _varint(message, at)
            value, at = message[at : at + size], at + size
        elif kind == 5:
            value, at = struct.unpack("<I", message[at : at + 4])[0], at + 4
        else:
            raise ValueError(f"a protocol buffer has a field of the unexpected kind {kind}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    """A block's place in the file, its size, and where the handle ends."""
    start, at = _varint(data, at)
    size, at = _varint(data, at)
    return start, size, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned integer, seven bits a byte, the lowest first; and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")
