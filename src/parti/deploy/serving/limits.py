"""How much a client, and all clients together, may ask of the server."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from parti.core.errors import InvalidSettings

__all__ = ["Limits"]

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server takes; beyond it, it answers with an error, or hangs up.

    Args:
        body_bytes: of one request's body; more is answered with 413.
        pixels: of one encoded image, width times height; more is answered with 413 before a
            pixel is decoded.
        images: of one request; more are answered with 413.
        seconds: from the last byte of a request's head to the last of its answer; 408 when the
            body was slow, 504 when the answer was.
        queue: requests that have been read and are not answered; more are answered with 503.
        pending_bytes: of all bodies that are held; more are answered with 503.
        connections: open at a time; more are answered with 503 and closed.
        head_bytes: of request line and headers; more are answered with 431.
        head_seconds: to send request line and headers, and to fetch an answer; then the
            connection is closed.

    Raises:
        InvalidSettings: a limit is not positive.
    """

    body_bytes: int = 16 * MIB
    pixels: int = 50_000_000
    images: int = 64
    seconds: float = 30.0
    queue: int = 128
    pending_bytes: int = 256 * MIB
    connections: int = 512
    head_bytes: int = 32 * 1024
    head_seconds: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (0 < value < math.inf):
                raise InvalidSettings(
                    f"the limit {field.name} is {value}; it must be a positive number"
                )
        if self.pending_bytes < self.body_bytes:
            raise InvalidSettings(
                f"one body may have {self.body_bytes} bytes, but all together only "
                f"{self.pending_bytes}; raise pending_bytes or lower body_bytes"
            )
