"""Talking to devices that measure: programs of `parti device serve`, reached over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from parti.core.errors import InvalidSettings, PartiError, TrialError

__all__ = [
    "PROTOCOL",
    "TOKEN_VARIABLE",
    "Device",
    "DeviceAway",
    "Link",
    "Timing",
    "parse_device",
]

PROTOCOL = 1
"""The version of the answers that is understood; `deploy.device_server` says which it gives."""

TOKEN_VARIABLE = "PARTI_DEVICE_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable that holds the token, so that it is written nowhere."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
QUICK = 10.0
"""Seconds within which a device must answer what it need not measure for."""

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Device:
    """Where a device is.

    Args:
        url: `http://host:port`.
        name: what its measurements are called; devices of one name must be equal, and share the
            work. Empty where all devices are.
    """

    url: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """How a device is to time a model.

    Args:
        batch: images per call.
        threads: CPU threads of the runtime.
        warmup: calls before timing begins.
        repeats: the fewest calls to time.
        seconds: the least time to spend on timing.
        provider: an execution provider of ONNX Runtime.
    """

    batch: int = 1
    threads: int = 1
    warmup: int = 10
    repeats: int = 30
    seconds: float = 0.2
    provider: str = "CPUExecutionProvider"

    def query(self) -> str:
        """As the query of a request."""
        return urlencode({name: getattr(self, name) for name in self.__dataclass_fields__})


def parse_device(text: str) -> Device:
    """Read `http://host:port` or `NAME=http://host:port`.

    Raises:
        InvalidSettings: it is neither, or holds a password.
    """
    name, sign, url = text.partition("=") if not text.startswith("http") else ("", "", text)
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or (sign and not NAME.fullmatch(name)):
        raise InvalidSettings(
            f"device {text!r}; write http://host:port, or NAME=http://host:port with a name of "
            "letters, digits, '_', '.' and '-'"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidSettings(
            f"device at {parts.hostname}: its URL may hold no user, password or query, for it is "
            f"kept with the study; put the token into {TOKEN_VARIABLE}"
        )
    return Device(url.rstrip("/"), name)


class DeviceAway(TrialError):
    """No device answered in time: the network is not to blame."""


class _Later(Exception):
    """The device cannot answer now; asking again may help."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class Link:
    """Requests to one or more equal devices: whichever has the least to do is asked.

    Args:
        devices: where they are.
        token: what they ask for; None for that of the environment, if there is one.
        timeout: seconds within which a measurement must be there, waiting in a queue included.
        patience: seconds for which requests are repeated while devices are busy or away.

    Raises:
        InvalidSettings: there is no device, or a time is not positive.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        *,
        token: str | None = None,
        timeout: float = 300.0,
        patience: float = 120.0,
    ) -> None:
        if not devices or not timeout > 0 or not patience >= 0:
            raise InvalidSettings(
                f"{len(devices)} devices, timeout {timeout!r}, patience {patience!r}: there must "
                "be a device, and times must be positive"
            )
        self.devices = tuple(devices)
        self.timeout = timeout
        self.patience = patience
        self._token = token

    def info(self, device: Device) -> Answer:
        """What a device says of itself.

        Raises:
            InvalidSettings: it cannot be reached, refuses the token, or is of another version.
        """
        try:
            found = self._ask(device, "GET", "/info", QUICK)
        except (_Later, TrialError) as error:
            raise InvalidSettings(
                f"device {device.url} does not answer: {error}. Start it there with `parti device "
                "serve` or `python device_server.py`, and see that this machine reaches it"
            ) from error
        if found.get("protocol") != PROTOCOL:
            raise InvalidSettings(
                f"device {device.url} speaks version {found.get('protocol')!r} and parti "
                f"{PROTOCOL}; copy the program again: parti device serve --write device_server.py"
            )
        return found

    def measure(self, model: bytes, timing: Timing) -> Answer:
        """Have a model measured by the device that has the least to do.

        Args:
            model: the bytes of an ONNX file.
            timing: how to time it.

        Returns:
            The answer of the device: median_ms, p95_ms, n, conditions, device and more.

        Raises:
            DeviceAway: no device answered in time.
            TrialError: the model cannot be measured.
            InvalidSettings: a device refuses the token.
        """
        path = f"/measure?{timing.query()}"

        def ask() -> Answer:
            reasons = []
            for device in self._by_load():
                try:
                    return self._ask(device, "POST", path, self.timeout, model)
                except _Later as later:
                    reasons.append(f"{device.url}: {later}")
                    pause = later.pause
            raise _Later("; ".join(reasons), pause)

        return self._patiently(ask)

    def _by_load(self) -> list[Device]:
        """The devices, those with the fewest models first, equals in any order."""
        if len(self.devices) == 1:
            return list(self.devices)
        loads = []
        for device in self.devices:
            try:
                models = self._ask(device, "GET", "/health", QUICK).get("models", 0)
            except (_Later, PartiError):
                models = float("inf")
            loads.append((models, random.random()))
        return [device for _, device in sorted(zip(loads, self.devices, strict=True), key=_first)]

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Repeat what may help when repeated, with growing pauses."""
        end, pause = time.monotonic() + self.patience, FIRST_PAUSE
        while True:
            try:
                return ask()
            except _Later as later:
                wait = max(pause * random.uniform(0.5, 1.0), later.pause)
                if time.monotonic() + wait > end:
                    raise DeviceAway(
                        f"no device measured the model within {self.patience:g} s: {later}"
                    ) from later
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _ask(
        self, device: Device, method: str, path: str, timeout: float, body: bytes | None = None
    ) -> Answer:
        # Not urllib.request, which follows redirects and proxies with the token in its headers.
        parts = urlsplit(device.url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        assert parts.hostname is not None
        connection = kind(parts.hostname, parts.port, timeout=timeout)
        try:
            connection.request(method, parts.path + path, body, self._headers(body is not None))
            with connection.getresponse() as reply:
                text = reply.read(1_000_000)
        except (OSError, http.client.HTTPException) as error:
            raise _Later(f"{type(error).__name__}: {error}") from error
        except ValueError:  # its message may show the token
            raise InvalidSettings(
                f"the token in {TOKEN_VARIABLE} cannot be sent in a header; make it of letters and "
                "digits"
            ) from None
        finally:
            connection.close()
        return _read(device, reply.status, reply.headers.get("Retry-After"), text)

    def _headers(self, sends: bool) -> dict[str, str]:
        token = os.environ.get(TOKEN_VARIABLE) if self._token is None else self._token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return headers | ({"Content-Type": "application/octet-stream"} if sends else {})


def _read(device: Device, status: int, wait: str | None, text: bytes) -> Answer:
    """The answer, or an error of the kind that it stands for."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise InvalidSettings(f"{device.url} is no measuring device: it answers {text[:60]!r}")
    reason = str(answer.get("error", f"status {status}"))
    if status == 200:
        return answer
    if status == 401:
        raise InvalidSettings(
            f"device {device.url} refuses the token; set {TOKEN_VARIABLE} to the one it was "
            "started with"
        )
    if status == 503:
        raise _Later(reason, float(wait) if wait and wait.isdigit() else 0.0)
    raise TrialError(f"device {device.url}: {reason}")


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]
