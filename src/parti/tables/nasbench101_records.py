"""Reading the official files of NAS-Bench-101 (Ying et al., ICML 2019).

A record of `nasbench_only108.tfrecord` or `nasbench_full.tfrecord` is a JSON list: the cell's
hash, the number of epochs, the adjacency matrix as digits row by row, the operations with commas
between, and, in base 64, a protocol buffer of what one training measured: `ModelMetrics` of
nasbench/lib/model_metrics.proto, which has one `EvaluationData` before training, one half-way, and
one at the end. Only these fields are read:

    ModelMetrics      1 evaluation_data (message, repeated)   2 trainable_parameters (varint)
    EvaluationData    2 training_time   4 validation_accuracy   5 test_accuracy (doubles)
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parti.core.errors import InvalidData
from parti.tables.tfrecord import read_records

__all__ = ["Training", "fields", "read_trainings"]

VARINT, DOUBLE, BYTES, SINGLE = 0, 1, 2, 5
"""Wire types of protocol buffers."""


@dataclass(frozen=True, slots=True)
class Training:
    """What one training of one cell measured, at its end.

    Args:
        cell: the hash of the cell.
        epochs: of the whole training.
        adjacency: digits of the matrix, row by row.
        operations: with commas between, those of input and output included.
        parameters: that were trained.
        seconds: of training.
        validation: accuracy, from 0 to 1.
        test: accuracy, from 0 to 1.
    """

    cell: str
    epochs: int
    adjacency: str
    operations: str
    parameters: int
    seconds: float
    validation: float
    test: float


def read_trainings(file: Path) -> Iterator[Training]:
    """Yield all trainings of a file, in order.

    Raises:
        InvalidData: the file is missing or damaged, or is another one.
    """
    for number, record in enumerate(read_records(file)):
        try:
            yield _training(record)
        except (ValueError, TypeError, KeyError, IndexError, struct.error) as error:
            raise InvalidData(
                f"{file}: record {number} is no training of NAS-Bench-101 ({error!r}); its files "
                "are nasbench_full.tfrecord and nasbench_only108.tfrecord"
            ) from error


def fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield the fields of a protocol buffer: number, and an integer, a double or bytes.

    Raises:
        ValueError: the message is cut off, or has a wire type that is not in use.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        size = {DOUBLE: 8, SINGLE: 4}.get(kind)
        if kind == BYTES:
            size, place = _varint(message, place)
        if size is None:
            raise ValueError(f"wire type {kind}")
        content = message[place : place + size]
        if len(content) < size:
            raise ValueError("a field is cut off")
        place += size
        if kind == BYTES:
            yield key >> 3, content
        else:
            yield key >> 3, float(struct.unpack("<d" if kind == DOUBLE else "<f", content)[0])


def _training(record: bytes) -> Training:
    cell, epochs, adjacency, operations, metrics = json.loads(record)
    parameters, evaluations = 0, []
    for number, value in fields(base64.b64decode(metrics, validate=True)):
        if number == 1 and isinstance(value, bytes):
            evaluations.append(value)
        elif number == 2 and isinstance(value, int):
            parameters = value
    final = dict(fields(evaluations[-1]))
    seconds, validation, test = (float(final[number]) for number in (2, 4, 5))
    return Training(cell, int(epochs), adjacency, operations, parameters, seconds, validation, test)


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(message) or shift > 63:
            raise ValueError("a number is cut off")
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
