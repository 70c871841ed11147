"""CRC-32C, the checksum in TensorFlow's files, at about a gigabyte per second in numpy.

A CRC is the remainder of the message, read as a polynomial over GF(2), divided by a fixed one. So
a long message may be folded like paper: its first half, multiplied by the right power of x, is
added (XOR) to its second half without changing the remainder. A multiplication is linear in the 32
bits of a word, hence two look-ups in tables of 65,536 words, and numpy does a whole row at once.
"""

from functools import cache

import numpy as np

POLYNOMIAL = 0x82F63B78  # Castagnoli's, with the highest power in the lowest bit (RFC 3720, B.4)
LOG2_ROW = 16
ROW = 1 << LOG2_ROW  # words of 4 bytes that are worked on at once


def crc32c(data) -> int:
    """The CRC-32C of a bytes-like object of at least 4 bytes."""
    message = np.frombuffer(data, np.uint8)
    row_bytes = 4 * ROW
    head_length = (len(message) - 4) % row_bytes + 4  # at least 4 bytes, and whole rows remain
    head = np.zeros(2 * row_bytes, np.uint8)  # zeros in front do not change a remainder
    head[-head_length:] = message[:head_length]
    head[-head_length:][:4] ^= 0xFF  # a CRC starts from 32 ones, which amounts to this
    folded = np.zeros(ROW, np.uint32)
    for part in (head, message[head_length:]):
        for row in part.view("<u4").reshape(-1, ROW):
            folded = _shift(folded, LOG2_ROW) ^ row
    for log2 in reversed(range(LOG2_ROW)):
        first, second = np.split(folded, 2)
        folded = _shift(first, log2) ^ second
    return int(_shift(folded, 0)[0]) ^ 0xFFFFFFFF


def masked_crc32c(data) -> int:
    """The CRC as TensorFlow and LevelDB store it, so that a CRC over CRCs stays meaningful."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _shift(words: np.ndarray, log2: int) -> np.ndarray:
    """Multiply each word by x^(32 * 2^log2): move it that many words towards the front."""
    low, high = _shift_tables(log2)
    return low[words & 0xFFFF] ^ high[words >> 16]


@cache
def _shift_tables(log2: int) -> tuple[np.ndarray, np.ndarray]:
    """What `_shift` makes of every lower half and of every upper half of a word."""
    images = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))  # each bit alone
    if log2 == 0:
        for _ in range(32):
            images = (images >> 1) ^ np.where(images & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    else:
        images = _shift(_shift(images, log2 - 1), log2 - 1)
    return _sums(images[:16]), _sums(images[16:])


def _sums(images: np.ndarray) -> np.ndarray:
    """The XOR of every subset of 16 words; bit i of the index says whether word i is in it."""
    sums = np.zeros(1, np.uint32)
    for image in images:
        sums = np.concatenate([sums, sums ^ image])
    return sums
