"""What every request passes: who asks, how much, for how long; and what every answer carries."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parti.deploy.serving.access import Access
from parti.deploy.serving.limits import Limits
from parti.deploy.serving.metrics import Metrics
from parti.deploy.serving.refused import RequestRefused

__all__ = ["Guard", "Queue"]

RETRY = {"retry-after": "1"}


class Queue:
    """Counts the requests that are read and not answered, and holds them to a limit.

    Args:
        limit: requests, at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            RequestRefused: 503, all are taken.
        """
        if self._length >= self._limit:
            raise RequestRefused(
                503, f"{self._limit} requests are waiting already; try again later", RETRY
            )
        self._length += 1
        try:
            yield
        finally:
            self._length -= 1


class Guard:
    """ASGI middleware that holds requests to the limits, and counts them.

    Args:
        app: what answers the requests that pass.
        access: who may ask.
        limits: how much.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, access: Access, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._access = access
        self._limits = limits
        self._metrics = metrics
        self._pending_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        body = _Body(receive, self)
        answer = _Answer(send)
        try:
            await self._heard(scope, body, answer)
        finally:
            self._pending_bytes -= body.bytes
            seconds = time.perf_counter() - began
            self._metrics.answered(scope.get("route_label", "other"), answer.status or 500, seconds)

    async def _heard(self, scope: Scope, body: _Body, answer: _Answer) -> None:
        headers = Headers(scope=scope)
        try:
            self._access.check(scope["path"], headers)
            self._check_headers(headers)
            async with asyncio.timeout(self._limits.seconds):
                await self._app(scope, body.receive, answer.send)
        except RequestRefused as refused:
            await answer.refuse(refused)
        except TimeoutError:
            status, late = (504, "the answer") if body.complete else (408, "the request's body")
            message = f"{late} took more than {self._limits.seconds:g} s"
            await answer.refuse(RequestRefused(status, message, {"connection": "close"}))

    def _check_headers(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > self._limits.body_bytes:
            raise self._too_large(f"of {length:.30}")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise RequestRefused(415, "compressed bodies are not accepted; send it as it is")

    def take(self, total: int, more: int) -> None:
        """Count bytes of a body that has arrived; `total` of that body, `more` of them new.

        Raises:
            RequestRefused: 413, the body is too long; 503, all bodies together are.
        """
        self._pending_bytes += more
        if total > self._limits.body_bytes:
            raise self._too_large("of more")
        if self._pending_bytes > self._limits.pending_bytes:
            raise RequestRefused(503, "too much is waiting already; try again later", RETRY)

    def _too_large(self, what: str) -> RequestRefused:
        return RequestRefused(
            413, f"a body {what} bytes; at most {self._limits.body_bytes} bytes are accepted"
        )


class _Body:
    """The body of a request, counted as it arrives."""

    def __init__(self, receive: Receive, guard: Guard) -> None:
        self._receive = receive
        self._guard = guard
        self.bytes = 0
        self.complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            more = len(message.get("body", b""))
            self.bytes += more
            self._guard.take(self.bytes, more)
            self.complete = not message.get("more_body", False)
        return message


class _Answer:
    """The answer to a request, with the headers that all answers have."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "no-referrer"
            headers.setdefault("cache-control", "no-store")
        await self._send(message)

    async def refuse(self, refused: RequestRefused) -> None:
        if self.status is not None:  # half an answer is sent: nothing can be said any more
            raise refused
        body = json.dumps({"error": str(refused)}).encode()
        headers = {"content-type": "application/json", **refused.headers}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        pairs.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": refused.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})
