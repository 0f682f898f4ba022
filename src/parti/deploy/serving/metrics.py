"""What the server counts, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters, gauges and histograms of one server.

    No label holds anything that a client can choose: routes are those the server has, or "other".

    Args:
        model: name of the served model.
        queued: how many requests are read and not answered.
        connections: how many connections are open.
    """

    def __init__(
        self, model: str, queued: Callable[[], int], connections: Callable[[], int]
    ) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "parti_requests",
            "Requests by route and status; 499: the client left before its answer.",
            ["route", "status"],
            registry=registry,
        )
        self._errors = Counter(
            "parti_request_errors",
            "Requests that were not answered as asked, by who has to do something about it.",
            ["route", "cause"],
            registry=registry,
        )
        self._seconds = Histogram(
            "parti_request_seconds",
            "From a request's head to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._batch_images = Histogram(
            "parti_batch_images", "Images in a run.", buckets=IMAGES, registry=registry
        )
        self._run_seconds = Histogram(
            "parti_run_seconds", "Seconds of a run.", buckets=SECONDS, registry=registry
        )
        self._unheard = Counter(
            "parti_refused_connections",
            "Connections closed without a request that was heard, by reason.",
            ["reason"],
            registry=registry,
        )
        queue = Gauge(
            "parti_queue_requests", "Requests that are read and not answered.", registry=registry
        )
        queue.set_function(queued)
        opened = Gauge("parti_connections", "Open connections.", registry=registry)
        opened.set_function(connections)
        ProcessCollector(registry=registry)  # memory, CPU seconds and open files, on Linux
        info = Gauge(
            "parti_model_info", "Which model is served; always 1.", ["model"], registry=registry
        )
        info.labels(model).set(1)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: one of the server's, or "other".
            status: of the answer.
            seconds: that it took.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if status >= 400:
            self._errors.labels(route, "server" if status >= 500 else "client").inc()

    def ran(self, images: int, seconds: float) -> None:
        """Count a run of the model."""
        self._batch_images.observe(images)
        self._run_seconds.observe(seconds)

    def unheard(self, reason: str) -> None:
        """Count a connection that was closed before its request was complete."""
        self._unheard.labels(reason).inc()

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)
