"""Encoded images become one array: decoded by several threads, repaired where it is safe."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from os import cpu_count
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from parti.core.errors import InvalidData
from parti.tasks.found import Picture, Pictures, few
from parti.tasks.storage import allocate
from parti.tasks.values import Indices, Pixels

__all__ = ["Decoded", "decode", "resize"]

LARGEST_COMMON = 256
"""Images of one size keep it when no side is longer; otherwise they are shrunk."""
LARGEST_SIDE = 224
"""The longest side of images that had to be resized."""
UNREADABLE_SHARE = 0.05
"""More images than this that cannot be read are refused."""
CHUNK = 64
"""Images decoded in one go by one thread."""

UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    OverflowError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises on a broken file."""

ORIENTATION = 0x0112
Kind = Literal["grey", "colour", "deep"]
"""Deep: one channel of more than 8 bits."""
_X = TypeVar("_X")
_Y = TypeVar("_Y")


@dataclass(frozen=True, slots=True)
class _Look:
    """What an image looks like from outside, upright."""

    width: int
    height: int
    kind: Kind
    alpha: bool
    turned: bool


@dataclass(frozen=True, slots=True)
class _Target:
    """What every image is made into."""

    width: int
    height: int
    kind: Kind

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, 3 if self.kind == "colour" else 1

    @property
    def dtype(self) -> type[Any]:
        return np.float32 if self.kind == "deep" else np.uint8


@dataclass(frozen=True, eq=False)
class Decoded:
    """The images that could be read.

    Args:
        images: (n, height, width, channels), uint8, or float32 for more than 8 bits.
        kept: (n,) which of the pictures they are.
        notes: what was repaired.
    """

    images: Pixels
    kept: Indices
    notes: tuple[str, ...]


class _Unequal(Exception):
    """An image differs from the first one."""


def decode(
    pictures: Pictures,
    *,
    origin: str,
    image_size: int | None = None,
    cache: Path | None = None,
    workers: int | None = None,
) -> Decoded:
    """Decode images to one size and one number of channels.

    Images of one size keep it, up to 256 pixels a side. Of mixed sizes, all become squares with
    the median of their sides, at most 224. Grey and colour together become colour.

    Args:
        pictures: the encoded images.
        origin: what to call the source in messages.
        image_size: height and width to resize to, instead.
        cache: the folder for images that do not fit in memory.
        workers: threads; None for one for each processor, at most 8.

    Returns:
        The images, which of them could be read, and notes on every repair.

    Raises:
        InvalidData: more than 5 % of the images cannot be read.
    """
    with (
        # Pillow warns of odd metadata and of very large images: the images are usable all the
        # same. The filter is set here, around all threads, because it is global.
        warnings.catch_warnings(),
        ThreadPoolExecutor(workers or min(8, cpu_count() or 1)) as pool,
    ):
        warnings.simplefilter("ignore")
        first = next((look for look in map(_look_or_none, pictures) if look), None)
        if first is None:
            raise _unreadable(origin, [name for name, _ in pictures], len(pictures))
        target, notes = _plan([first], image_size)
        try:
            return _fill(pictures, target, notes, pool, origin, cache, only=first)
        except _Unequal:
            looks = [
                look
                for chunk in _in_order(pool, _look_at_all, _chunks(pictures))
                for look in chunk
                if look
            ]
            target, notes = _plan(looks, image_size)
            return _fill(pictures, target, notes, pool, origin, cache)


def resize(images: Pixels, size: int, cache: Path | None = None) -> Pixels:
    """Resize an array of images to squares, by Pillow's bilinear filter with antialiasing.

    Args:
        images: (n, height, width, channels), uint8 or float32.
        size: the new height and width.
        cache: the folder for images that do not fit in memory.

    Returns:
        (n, size, size, channels) of the same type.
    """
    n, _, _, channels = images.shape
    resized = allocate((n, size, size, channels), images.dtype, cache)
    for i in range(n):
        for c in range(channels):
            plane = Image.fromarray(np.ascontiguousarray(images[i, :, :, c]))
            resized[i, :, :, c] = np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR))
    return resized


def _plan(looks: list[_Look], image_size: int | None) -> tuple[_Target, list[str]]:
    """Decide on the size and the channels of all images, and say what that changes."""
    notes = []
    kinds = {look.kind for look in looks}
    kind: Kind = "colour" if "colour" in kinds else "grey" if "grey" in kinds else "deep"
    if kind == "colour" and len(kinds) > 1:
        grey = sum(look.kind != "colour" for look in looks)
        notes.append(f"{grey} of {len(looks)} images are grey, the others colour: all became RGB.")
    if "deep" in kinds and kind != "deep":
        notes.append("Images of 16 bits were scaled to 8 bits, like the others.")
    if alpha := sum(look.alpha for look in looks):
        notes.append(f"Transparency (alpha) of {_share(alpha, looks)} was dropped.")
    if turned := sum(look.turned for look in looks):
        notes.append(f"EXIF says that {_share(turned, looks)} lie turned: they were set upright.")
    sizes = sorted({(look.width, look.height) for look in looks})
    width, height = _size(looks, sizes, image_size)
    if sizes != [(width, height)]:
        was = " × ".join(map(str, sizes[0]))
        if len(sizes) > 1:
            was = f"between {was} and {' × '.join(map(str, sizes[-1]))}"
        notes.append(f"Images of {was} pixels were resized to {width} × {height}.")
    return _Target(width, height, kind), notes


def _share(count: int, looks: list[_Look]) -> str:
    return "all images" if count == len(looks) else f"{count} of {len(looks)} images"


def _size(
    looks: list[_Look], sizes: list[tuple[int, int]], image_size: int | None
) -> tuple[int, int]:
    if image_size is not None:
        return image_size, image_size
    if len(sizes) > 1:
        sides = [side for look in looks for side in (look.width, look.height)]
        side = min(LARGEST_SIDE, max(1, round(float(np.median(sides)))))
        return side, side
    longest = max(sizes[0])
    if longest <= LARGEST_COMMON:
        return sizes[0]
    width, height = (max(1, round(side * LARGEST_SIDE / longest)) for side in sizes[0])
    return width, height


def _fill(
    pictures: Pictures,
    target: _Target,
    notes: list[str],
    pool: ThreadPoolExecutor,
    origin: str,
    cache: Path | None,
    only: _Look | None = None,
) -> Decoded:
    images = allocate((len(pictures), *target.shape), target.dtype, cache)
    kept = np.empty(len(pictures), np.int64)
    failed: list[str] = []
    done = place = 0

    def convert(chunk: list[tuple[str, Picture]]) -> list[Pixels | str]:
        return [_convert(name, picture, target, only) for name, picture in chunk]

    for chunk in _in_order(pool, convert, _chunks(pictures)):
        for result in chunk:
            if isinstance(result, str):
                failed.append(result)
            else:
                images[done], kept[done] = result, place
                done += 1
            place += 1
    if len(failed) > UNREADABLE_SHARE * len(pictures):
        raise _unreadable(origin, failed, len(pictures))
    if failed:
        notes = [
            *notes,
            (
                f"{len(failed)} of {len(pictures)} images could not be read and were left out: "
                f"{few(failed, 10)}."
            ),
        ]
    return Decoded(images[:done], kept[:done], tuple(notes))


def _convert(name: str, picture: Picture, target: _Target, only: _Look | None) -> Pixels | str:
    """One image as (height, width, channels), or why it cannot be read.

    Raises:
        _Unequal: it looks otherwise than the only look allowed.
    """
    try:
        with _opened(picture) as image:
            look = _look(image)
            if only is not None and look != only:
                raise _Unequal
            if look.turned:
                image = ImageOps.exif_transpose(image)
            return _pixels(image, look, target)
    except UNREADABLE as error:
        return f"{name} ({_reason(error, name, picture)})"


def _reason(error: Exception, name: str, picture: Picture) -> str:
    """Why an image cannot be read, without the path on this machine or a place in memory."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow knows"
    said = str(error).replace(str(picture), name) if isinstance(picture, Path) else str(error)
    return said.splitlines()[0][:80] if said else type(error).__name__


def _pixels(image: Image.Image, look: _Look, target: _Target) -> Pixels:
    if look.kind == "deep":
        values = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("NaN or infinite pixels")
        if target.kind != "deep":
            if image.mode == "F":
                raise ValueError("floating-point pixels among images of 8 bits")
            values = np.rint(values.clip(0, 65535) / 257).astype(np.uint8)
        image = Image.fromarray(values)
    elif image.mode == "PA" or "transparency" in image.info:
        image = image.convert("RGBA")
    mode = {"grey": "L", "colour": "RGB", "deep": "F"}[target.kind]
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (target.width, target.height):
        image = image.resize((target.width, target.height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(target.shape)


def _opened(picture: Picture) -> AbstractContextManager[Image.Image]:
    if isinstance(picture, Image.Image):
        return nullcontext(picture)
    return Image.open(BytesIO(picture) if isinstance(picture, bytes) else picture)


def _look(image: Image.Image) -> _Look:
    """Look at an image without decoding it, where its format allows."""
    turn = _orientation(image)
    width, height = image.size if turn < 5 else image.size[::-1]
    alpha = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    if image.mode in ("1", "L", "LA"):
        return _Look(width, height, "grey", alpha, turn != 1)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _Look(width, height, "deep", False, turn != 1)
    return _Look(width, height, "colour", alpha, turn != 1)


def _orientation(image: Image.Image) -> int:
    """How the camera was held, 1 (upright) to 8."""
    if image.format != "TIFF" and "exif" not in image.info:
        return 1
    try:
        turn = image.getexif().get(ORIENTATION)
    except UNREADABLE:  # broken metadata does not make the pixels unusable
        turn = 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _look_or_none(item: tuple[str, Picture]) -> _Look | None:
    try:
        with _opened(item[1]) as image:
            return _look(image)
    except UNREADABLE:
        return None


def _look_at_all(chunk: list[tuple[str, Picture]]) -> list[_Look | None]:
    return [_look_or_none(item) for item in chunk]


def _chunks(pictures: Pictures) -> Iterator[list[tuple[str, Picture]]]:
    items = iter(pictures)
    while chunk := list(islice(items, CHUNK)):
        yield chunk


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[_X], _Y], items: Iterable[_X]
) -> Iterator[_Y]:
    """Map in threads, with only a few items under way: the source may exceed memory."""
    pending: deque[Future[_Y]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 16:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _unreadable(origin: str, failed: list[str], n: int) -> InvalidData:
    return InvalidData(
        f"{origin}: {len(failed)} of {n} images cannot be read: {few(failed)}. Up to "
        f"{UNREADABLE_SHARE:.0%} are left out with a note; repair or remove these files"
    )
