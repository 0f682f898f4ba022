"""Reading TFRecord files, TensorFlow's container of byte strings.

A record is its length (8 bytes, little-endian), a checksum of these, the content, and a checksum
of it. Checksums are CRC-32C, rotated right by 15 bits plus a constant.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidData

__all__ = ["checksums", "read_records"]

POLYNOMIAL = 0x82F63B78
"""Of CRC-32C (Castagnoli), bits reversed."""

MASK = 0xA282EAD8
AT_ONCE = 4096
LONGEST = 1 << 16
"""No record of a benchmark has so many bytes; a broken length is noticed before it is read."""


def read_records(file: Path) -> Iterator[bytes]:
    """Yield the contents of all records, in order.

    Raises:
        InvalidData: the file is missing, ends within a record, or has a wrong checksum.
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        raise InvalidData(f"{file} cannot be read: {error}") from error
    with stream:
        number = 0
        while batch := _batch(stream, file, number):
            heads, contents, sums = zip(*batch, strict=True)
            lengths = np.array([int.from_bytes(head[8:], "little") for head in heads])
            wrong = (checksums([head[:8] for head in heads]) != lengths) | (
                checksums(contents) != np.array(sums)
            )
            if wrong.any():
                raise InvalidData(
                    f"{file}: record {number + int(wrong.argmax())} has a wrong checksum; the file "
                    "is damaged: fetch it again"
                )
            yield from contents
            number += len(batch)


def checksums(contents: Sequence[bytes]) -> NDArray[np.uint32]:
    """Masked CRC-32C of each of several byte strings, computed side by side."""
    order = sorted(range(len(contents)), key=lambda place: -len(contents[place]))
    lengths = np.array([len(contents[place]) for place in order], dtype=np.int64)
    grid = np.zeros((len(order), int(lengths[0]) if len(order) else 0), dtype=np.uint8)
    for row, place in enumerate(order):
        grid[row, : lengths[row]] = np.frombuffer(contents[place], dtype=np.uint8)
    columns = np.ascontiguousarray(grid.T)
    crc = np.full(len(order), 0xFFFFFFFF, dtype=np.uint32)
    active = len(order)
    for place, column in enumerate(columns):
        while lengths[active - 1] <= place:  # the longest stand first
            active -= 1
        part = crc[:active]
        crc[:active] = _TABLE[(part ^ column[:active]) & 0xFF] ^ (part >> 8)
    crc ^= np.uint32(0xFFFFFFFF)
    masked = ((crc >> 15) | (crc << 17)) + np.uint32(MASK)
    result = np.empty_like(masked)
    result[order] = masked
    return result


def _batch(stream: BinaryIO, file: Path, number: int) -> list[tuple[bytes, bytes, int]]:
    """Up to `AT_ONCE` records as head, content and checksum."""
    batch: list[tuple[bytes, bytes, int]] = []
    while len(batch) < AT_ONCE and (head := stream.read(12)):
        length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else LONGEST
        rest = stream.read(length + 4) if length < LONGEST else b""
        if len(rest) < length + 4:
            raise InvalidData(
                f"{file}: record {number + len(batch)} is cut off, or its length is damaged: fetch "
                "the file again"
            )
        batch.append((head, rest[:length], int.from_bytes(rest[length:], "little")))
    return batch


def _table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table


_TABLE = _table()
