"""The routes: the Open Inference Protocol v2, images, metrics and the page."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

import parti
from parti.deploy.predict_template import shares
from parti.deploy.serving.access import Access
from parti.deploy.serving.batching import Batcher
from parti.deploy.serving.guard import Guard, Queue
from parti.deploy.serving.images import decode_image
from parti.deploy.serving.limits import Limits
from parti.deploy.serving.metrics import CONTENT_TYPE, Metrics
from parti.deploy.serving.page import page
from parti.deploy.serving.refused import RequestRefused
from parti.deploy.serving.served import ServedModel
from parti.deploy.serving.tensors import DATATYPE, HEADER_LENGTH, read_request, write_answer

__all__ = ["VERSION", "Application"]

VERSION = "1"
"""The one version of the model, in URLs."""
CLIENT_LEFT = 499
"""The status, never sent, of a request whose client hung up; nginx' number."""
SMALL = 16 * 1024
"""Bodies of so many bytes are read at once; longer ones in a thread, beside other requests."""

Floats = NDArray[np.float32]
Headers = Mapping[str, str]
_T = TypeVar("_T")


class Application:
    """Everything the server answers, as an ASGI application.

    Args:
        model: what is served.
        access: who may ask.
        limits: how much.
        largest_batch: images in a run, at most.
        delay_s: how long the first request of a batch waits for others.

    Attributes:
        asgi: the application, with its guard.
        metrics: what it counts.
        connections: set by the server: how many are open.

    Raises:
        InvalidSettings: the batch or the delay is not allowed.
    """

    def __init__(
        self,
        model: ServedModel,
        access: Access,
        limits: Limits,
        *,
        largest_batch: int = 32,
        delay_s: float = 0.0,
    ) -> None:
        self.connections: Callable[[], int] = lambda: 0
        self._model = model
        self._limits = limits
        self._queue = Queue(limits.queue)
        self.metrics = Metrics(model.name, lambda: len(self._queue), lambda: self.connections())
        self._batcher = Batcher(
            model.logits, largest=largest_batch, delay_s=delay_s, seen=self.metrics.ran
        )
        # Whoever reaches a server that wants a token may read its page; it names nothing then.
        self._page = page() if access.locked else page(model.name, model.classes)
        self.asgi: ASGIApp = Guard(self._starlette(), access, limits, self.metrics)

    def _starlette(self) -> Starlette:
        one = "/v2/models/{name}"
        routes = [
            self._route("/", self._show_page),
            self._route("/metrics", self._show_metrics),
            self._route("/predict", self._predict, "POST"),
            self._route("/v2", self._show_server),
            self._route("/v2/health/live", self._show_live),
            self._route("/v2/health/ready", self._show_ready),
        ]
        for of in (one, one + "/versions/{version}"):
            routes += [
                self._route(of, self._show_model),
                self._route(of + "/ready", self._show_model_ready),
                self._route(of + "/infer", self._infer, "POST"),
            ]
        app = Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={
                RequestRefused: _tell_refused,
                HTTPException: _tell_http,
                ClientDisconnect: _tell_nobody,
                Exception: _tell_failure,
            },
        )
        app.router.redirect_slashes = False  # a redirect would repeat the Host that a client names
        return app

    def _route(
        self, path: str, answer: Callable[[Request], Awaitable[Response]], method: str = "GET"
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            request.scope["route_label"] = path
            return await answer(request)

        return Route(path, endpoint, methods=[method])

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        cores = os.cpu_count() or 1
        with ThreadPoolExecutor(min(4, cores), thread_name_prefix="parti-read") as self._readers:
            async with self._batcher:
                yield

    async def _show_page(self, _: Request) -> Response:
        return Response(
            self._page.html,
            media_type="text/html",
            headers={"content-security-policy": self._page.policy},
        )

    async def _show_metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def _show_server(self, _: Request) -> Response:
        return _json(
            {"name": "parti", "version": parti.__version__, "extensions": ["binary_tensor_data"]}
        )

    async def _show_live(self, _: Request) -> Response:
        return _json({"live": True})

    async def _show_ready(self, _: Request) -> Response:
        # The protocol's text says "live" here too, its schema "ready".
        return _json({"ready": True, "live": True})

    async def _show_model(self, request: Request) -> Response:
        self._check_model(request)
        model = self._model
        return _json(
            {
                "name": model.name,
                "versions": [VERSION],
                "platform": "onnxruntime_onnx",
                "inputs": [
                    {"name": model.input, "datatype": DATATYPE, "shape": [-1, *model.shape]}
                ],
                "outputs": [
                    {"name": model.output, "datatype": DATATYPE, "shape": [-1, len(model.classes)]}
                ],
            }
        )

    async def _show_model_ready(self, request: Request) -> Response:
        self._check_model(request)
        return _json({"name": self._model.name, "ready": True})

    def _check_model(self, request: Request) -> None:
        name, version = request.path_params["name"], request.path_params.get("version", VERSION)
        if (name, version) != (self._model.name, VERSION):
            raise RequestRefused(
                404,
                f"there is no model {name!r:.100} of version {version!r:.20}; this server has "
                f"{self._model.name!r}, version {VERSION!r}",
            )

    async def _infer(self, request: Request) -> Response:
        self._check_model(request)
        body = await request.body()
        model = self._model
        with self._queue.place():
            read = partial(
                read_request,
                body,
                request.headers.get(HEADER_LENGTH),
                input_name=model.input,
                output_name=model.output,
                shape=model.shape,
                most=self._limits.images,
            )
            asked = read() if len(body) <= SMALL else await self._in_thread(read)
            logits = await self._logits(request, asked.images)
            write = partial(
                write_answer,
                asked,
                logits,
                model=model.name,
                version=VERSION,
                output_name=model.output,
            )
            content, length = write() if logits.size <= SMALL else await self._in_thread(write)
        if length is None:
            return Response(content, media_type="application/json")
        return Response(
            content,
            media_type="application/octet-stream",
            headers={HEADER_LENGTH: str(length)},
        )

    async def _predict(self, request: Request) -> Response:
        top = self._top(request)
        files = await self._files(request)
        with self._queue.place():
            decoded = await asyncio.gather(
                *(self._in_thread(partial(self._decode, name, data)) for name, data in files)
            )
            logits = await self._logits(request, np.concatenate(decoded))
        names = [name for name, _ in files]
        return _json({"model": self._model.name, "predictions": self._best(logits, names, top)})

    def _top(self, request: Request) -> int:
        given = request.query_params.get("top", "1")
        if not (given.isascii() and given.isdigit() and int(given[:9]) >= 1):
            raise RequestRefused(400, f"top is {given!r:.50}; it must be a whole number from 1")
        return min(int(given[:9]), len(self._model.classes))

    async def _files(self, request: Request) -> list[tuple[str | None, bytes]]:
        """The image files of a request, with their names."""
        if not request.headers.get("content-type", "").startswith("multipart/"):
            return [(None, await request.body())]
        most = self._limits.images
        async with request.form(max_files=most, max_fields=most) as form:
            files = [
                (part.filename, await part.read())
                for _, part in form.multi_items()
                if isinstance(part, UploadFile)
            ]
        if not files:
            raise RequestRefused(400, "no file in the form; send images as files")
        return files

    def _decode(self, name: str | None, content: bytes) -> Floats:
        try:
            return decode_image(content, self._model, self._limits.pixels)
        except RequestRefused as refused:
            if name is None:
                raise
            raise RequestRefused(refused.status, f"{name!r:.200}: {refused}") from refused

    def _best(self, logits: Floats, names: list[str | None], top: int) -> list[dict[str, Any]]:
        """What predict.py prints with --json, for each image."""
        probable = shares(logits, self._model.temperature)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :top]
        classes = self._model.classes
        return [
            {
                "file": name,
                "index": index,
                "top": [
                    {"class": classes[k], "probability": float(probable[index, k])} for k in row
                ],
            }
            for index, (name, row) in enumerate(zip(names, order, strict=True))
        ]

    async def _logits(self, request: Request, images: Floats) -> Floats:
        """Compute, unless the client leaves before its turn."""
        answer = asyncio.ensure_future(self._batcher.submit(images))
        left = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ClientDisconnect
            return answer.result()
        finally:
            answer.cancel()
            left.cancel()

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: Mapping[str, Any], status: int = 200, headers: Headers | None = None) -> Response:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return Response(text.encode("utf-8", "replace"), status, headers, media_type="application/json")


async def _tell_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return _json({"error": str(error)}, error.status, error.headers)


async def _tell_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code, error.headers)


async def _tell_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


async def _tell_failure(_: Request, __: Exception) -> Response:
    return _json({"error": "the server failed; its log says how"}, 500)
