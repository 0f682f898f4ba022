"""Bytes of an image file, sent by anybody, become pixels; never more of them than are allowed."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from parti.deploy.predict_template import PredictError
from parti.deploy.serving.refused import RequestRefused
from parti.deploy.serving.served import ServedModel

__all__ = ["FORMATS", "decode_image"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""The formats that are tried. Pillow knows 40 more; one (EPS) starts another program."""


def decode_image(content: bytes, model: ServedModel, pixels: int) -> NDArray[np.float32]:
    """Decode an image file and bring it to the model's size, as predict.py does.

    Args:
        content: of the file; of one with several frames, the first is taken.
        model: for which.
        pixels: the largest width times height; more are refused before a pixel is decoded.

    Returns:
        [1, channels, height, width] float32, raw pixels.

    Raises:
        RequestRefused: 413 for too many pixels, 415 for no image of a known format, 400 for a
            broken one or one that the model cannot take.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise RequestRefused(400, f"an image of 0 bytes; send a file as {', '.join(FORMATS)}")
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            _check_size(image.size, pixels)
            return model.prepare(image)
    except RequestRefused:
        raise
    except PredictError as error:
        raise RequestRefused(400, str(error)) from error
    except UnidentifiedImageError:
        raise RequestRefused(
            415, f"not an image that can be read; send a file as {', '.join(FORMATS)}"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise RequestRefused(413, f"an image of more than {pixels} pixels") from None
    except Exception as error:  # broken files make Pillow's decoders raise anything
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise RequestRefused(400, f"the image cannot be decoded: {reason}") from error


def _check_size(size: tuple[int, int], pixels: int) -> None:
    width, height = size
    if width * height > pixels:
        raise RequestRefused(
            413, f"an image of {width} × {height} pixels; at most {pixels} pixels are decoded"
        )
