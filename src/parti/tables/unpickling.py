"""Reading pickles without executing code.

A pickle can call anything. Those of benchmarks hold containers and numbers; so only these are
built here, arrays and scalars of numpy as lists and numbers of Python, and all else is refused.
"""

from __future__ import annotations

import bz2
import io
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidData

__all__ = ["read_pickle"]


def read_pickle(file: Path) -> Any:
    """Read a pickle of containers and numbers; one that ends in .pbz2 is decompressed.

    Returns:
        Dicts, lists, tuples, sets, texts and numbers; what numpy wrote is made of these, too.

    Raises:
        InvalidData: the file is missing or broken, or holds anything else, which is not built.
    """
    try:
        content = file.read_bytes()
        if file.suffix == ".pbz2":
            content = bz2.decompress(content)
        return _Plain(io.BytesIO(content)).load()
    except InvalidData as error:
        raise InvalidData(f"{file}: {error}") from None
    except (OSError, EOFError, ValueError, TypeError, pickle.UnpicklingError) as error:
        raise InvalidData(f"{file} cannot be read ({error}); fetch it again") from error
    except Exception as error:  # a broken pickle can raise anything; it must not look like a bug
        raise InvalidData(f"{file} is no pickle that can be read ({error!r})") from error


class _Dtype:
    """Stands for a dtype of numbers while a pickle is read."""

    def __init__(self, name: str, *_: bool) -> None:
        self.dtype = np.dtype(name)
        if self.dtype.kind not in "biufcSU":
            raise InvalidData(f"it holds an array of {name!r}, which is not of numbers or text")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, subarray, names, fields, *_ = state
        if subarray is not None or names is not None or fields is not None:
            raise InvalidData("it holds a structured array; only plain arrays are read")
        if self.dtype.kind == "U":
            raise InvalidData("it holds an array of text; only arrays of numbers are read")
        self.dtype = self.dtype.newbyteorder(order)

    def read(self, content: bytes) -> NDArray[Any]:
        """Return the numbers in a string of bytes."""
        return np.frombuffer(content, self.dtype)


class _Array(list[Any]):
    """Stands for an array: a list of its numbers."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_column, content = state
        flat = dtype.read(content)
        self[:] = flat.reshape(shape, order="F" if by_column else "C").tolist()


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> list[Any]:
    return [*dtype.read(bytes(content)).reshape(shape, order="F" if order == "F" else "C").tolist()]


def _scalar(dtype: _Dtype, content: bytes) -> Any:
    return dtype.read(content)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise InvalidData(f"it holds bytes written as {encoding!r}; only latin1 is read")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """What old pickles write for no bytes at all."""
    return b""


class _Type:
    """Stands for the type of arrays, which `_reconstruct` is given."""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Type,
}
for _module in ("builtins", "__builtin__"):
    _ALLOWED[_module, "bytes"] = _no_bytes
    for _kind in (dict, float, frozenset, int, list, set):
        _ALLOWED[_module, _kind.__name__] = _kind
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module, name))
        if found is None:
            raise InvalidData(
                f"it asks for {module}.{name}; only containers and numbers are read, for anything "
                "else could run code"
            )
        return found
