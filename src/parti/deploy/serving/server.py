"""From an exported folder to a listening server, until it is told to stop."""

from __future__ import annotations

import socket
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parti.core.errors import InvalidSettings
from parti.deploy.serving.access import Access, is_loopback
from parti.deploy.serving.limits import Limits

if TYPE_CHECKING:
    from uvicorn import Server

__all__ = ["Address", "ServeSettings", "check_servable", "serve"]

BACKLOG = 512
NEEDED = ("starlette", "uvicorn", "httptools", "python_multipart", "prometheus_client")


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How to serve a model.

    Args:
        folder: what `parti export` or a search has written.
        file: the ONNX file, in the folder or a path; model.onnx unless given.
        host: name or address to listen on.
        port: to listen on; 0 takes one that is free.
        token: what clients must send; needed for a host that other machines reach.
        largest_batch: images in a run, at most; 1 computes every image alone.
        delay_s: how long the first request of a batch waits for others.
        threads: of ONNX Runtime for a run; 0 lets it decide.
        limits: how much clients may ask.
    """

    folder: Path
    file: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    largest_batch: int = 32
    delay_s: float = 0.0
    threads: int = 0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model is served.

    Args:
        url: of the server, without a path.
        model: its name in URLs.
        locked: whether a token is asked for.
    """

    url: str
    model: str
    locked: bool


def serve(settings: ServeSettings, ready: Callable[[Address], None]) -> None:
    """Serve a model until SIGTERM or SIGINT; then finish what is being answered, and return.

    Call it in the main thread. Afterwards the signal is raised again: where the program has left
    SIGTERM as it was, that ends it.

    Args:
        settings: what, where and how.
        ready: told the address, as soon as requests are taken.

    Raises:
        InvalidSettings: the model cannot be served, the host cannot be listened on or needs a
            token, or the packages for it are missing.
    """
    _check_installed()
    from parti.deploy.serving.application import Application
    from parti.deploy.serving.served import open_model

    access = Access(settings.token)
    with _listening(settings) as listener:
        model = open_model(settings.folder, settings.file, settings.threads)
        application = Application(
            model,
            access,
            settings.limits,
            largest_batch=settings.largest_batch,
            delay_s=settings.delay_s,
        )
        server = _uvicorn(application, settings.limits)
        # Pillow warns of odd metadata, which is of no interest, and of large images, which have
        # a limit here.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        host, port = listener.getsockname()[:2]
        where = f"[{host}]" if ":" in host else host
        ready(Address(f"http://{where}:{port}", model.name, settings.token is not None))
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn raises the signal again, once it has stopped
            return


def check_servable(settings: ServeSettings) -> None:
    """See, before there is a model, that one could be served now.

    Raises:
        InvalidSettings: packages are missing, or the host or port cannot be listened on.
    """
    _check_installed()
    _listening(settings).close()


def _check_installed() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InvalidSettings(
            f"serving needs {', '.join(missing)}, not installed here: pip install 'parti[serve]'"
        )


def _listening(settings: ServeSettings) -> socket.socket:
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InvalidSettings(f"the host {settings.host!r} is not known: {error}") from error
    family, _, _, _, address = found[0]
    if settings.token is None and not is_loopback(str(address[0])):
        raise InvalidSettings(
            f"other machines reach {settings.host}: give a token, with --token or in the "
            "environment variable PARTI_TOKEN, or serve on 127.0.0.1"
        )
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there, it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InvalidSettings(
            f"{settings.host}, port {settings.port}, cannot be listened on: {error}; choose "
            "another --port, or 0 for any"
        ) from error
    return listener


def _uvicorn(application: Any, limits: Limits) -> Server:
    import uvicorn

    from parti.deploy.serving.connections import GuardedConnection

    config = uvicorn.Config(
        application.asgi,
        http=partial(GuardedConnection, limits, application.metrics),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(limits.head_seconds) or 1,
        timeout_graceful_shutdown=int(limits.seconds) + 1,
    )
    server = uvicorn.Server(config)
    application.connections = lambda: len(server.server_state.connections)
    return server
