"""Who may ask: tokens, the Host that was asked for, and the page that a browser asks from.

Without a token the server is only on the loopback interface, where two others could reach it
through the user's browser: a page whose name is made to resolve to 127.0.0.1 (DNS rebinding) is
told by its Host, a page of another site that posts to http://127.0.0.1 by its Origin. No
`Access-Control-Allow-*` header is ever sent, so no page of another origin reads an answer.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Mapping

from parti.core.errors import InvalidSettings
from parti.deploy.serving.refused import RequestRefused

__all__ = ["FREE_PATHS", "Access", "is_loopback"]

FREE_PATHS = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
"""What is answered without a token: health, and the page, which then names nothing of the model."""

SHORTEST_TOKEN = 16


class Access:
    """Decides whether a request may be answered.

    Args:
        token: what clients must send as `Authorization: Bearer TOKEN`; None for a server that
            only the same machine reaches.

    Raises:
        InvalidSettings: the token is short, or cannot be sent in a header.
    """

    def __init__(self, token: str | None) -> None:
        if token is not None and not re.fullmatch(rf"[!-~]{{{SHORTEST_TOKEN},}}", token):
            raise InvalidSettings(
                f"the token must have at least {SHORTEST_TOKEN} printable ASCII characters, and "
                f"no spaces; this is one: {secrets.token_urlsafe()}"
            )
        self._digest = None if token is None else _digest(token)

    @property
    def locked(self) -> bool:
        """Whether clients must send a token."""
        return self._digest is not None

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Let a request pass, or say why not.

        Args:
            path: of the request.
            headers: of the request, by lower-case name.

        Raises:
            RequestRefused: 401 without the right token, 403 from another origin's page, 421 for
                a Host that is not this machine.
        """
        host = headers.get("host", "")
        if self._digest is None and not _names_loopback(host):
            raise RequestRefused(
                421,
                f"this server answers to localhost, 127.0.0.1 and [::1], not to {host!r:.200}; "
                "start it with a token to use another name",
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise RequestRefused(
                403, f"pages of {origin!r:.200} may not use this server, only its own page may"
            )
        if self._digest is None or path in FREE_PATHS:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(_digest(given.strip()), self._digest)
        if scheme.lower() != "bearer" or not right:
            raise RequestRefused(
                401,
                "send the server's token in the header 'Authorization: Bearer TOKEN'",
                {"www-authenticate": "Bearer"},
            )


def is_loopback(address: str) -> bool:
    """Whether an IP address can be reached from this machine only."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _names_loopback(host: str) -> bool:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", host)
    if match is None:
        return False
    name = match[1].strip("[]").lower().removesuffix(".")
    if name == "localhost":
        return True
    try:
        return is_loopback(name)
    except ValueError:
        return False


def _digest(token: str) -> bytes:
    # Of equal length for all tokens, so that comparing tells nothing of the length either.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
