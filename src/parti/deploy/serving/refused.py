"""What a client is told when its request is not answered."""

from __future__ import annotations

from parti.core.errors import PartiError

__all__ = ["RequestRefused"]


class RequestRefused(PartiError):
    """A request cannot be answered; the client is told why, and the server goes on.

    Args:
        status: the HTTP status, 400 to 599.
        message: what was got, what is allowed, what to do; sent to the client.
        headers: more headers of the answer, as `{"retry-after": "1"}`.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
