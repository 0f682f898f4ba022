"""Connections that are slow, silent, endless or too many are closed before they cost anything.

uvicorn limits none of this: a client may take hours for its headers, or never fetch its answer.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from parti.deploy.serving.limits import Limits
from parti.deploy.serving.metrics import Metrics

__all__ = ["GuardedConnection"]


class GuardedConnection(HttpToolsProtocol):
    """One connection, by httptools, within limits.

    Args:
        limits: what a connection may take.
        metrics: where closed connections are counted.
        given: as uvicorn gives them to its protocols.
    """

    def __init__(self, limits: Limits, metrics: Metrics, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._metrics = metrics
        self._patience: asyncio.TimerHandle | None = None
        self._in_head = True
        self._received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._close("too many", 503, "too many connections; try again later")
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless there are too many for what they belong to."""
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self._patience is None:
            self._wait()  # for the head, or the rest of a body that was answered without it
        self._received += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._received > self._limits.head_bytes:
            limit = self._limits.head_bytes
            self._close("long head", 431, f"the headers have more than {limit} bytes")
        elif self._received > 2 * (self._limits.head_bytes + self._limits.body_bytes):
            self._metrics.unheard("endless body")
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        super().on_message_begin()
        self._in_head = True
        self._received = 0

    def on_headers_complete(self) -> None:
        """Leave the request to the application, which has its own limit of time."""
        self._in_head = False
        if not self.transport.get_write_buffer_size():  # else an answer is still to be fetched
            self._stop_waiting()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Give the client time to fetch the answer."""
        self._stop_waiting()
        if self.transport.get_write_buffer_size():
            self._wait()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._close("no HTTP", 400, msg)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self._limits.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if self.transport.get_write_buffer_size():
            self._metrics.unheard("answer not fetched")
            self.transport.abort()
        elif self._in_head:
            seconds = self._limits.head_seconds
            self._close("slow head", 408, f"the headers took more than {seconds:g} s")
        elif self.cycle.response_complete:
            self._metrics.unheard("slow rest of a body")
            self.transport.close()

    def _close(self, reason: str, status: int, message: str) -> None:
        """Say why, and hang up."""
        self._metrics.unheard(reason)
        body = json.dumps({"error": message}).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"retry-after: 1\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
