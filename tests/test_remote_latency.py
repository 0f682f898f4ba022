"""Latency on other devices: with the real program over loopback, and with odd servers."""

import json
import pickle
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.device_makers import device
from tests.training_makers import Always, ToySpace, small_network
from torch import nn

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, TrialError
from parti.core.trial import Job
from parti.evaluators.devices import Device, parse_device
from parti.evaluators.remote_latency import RemoteLatency

SHAPE = (1, 8, 8)
INFO = {
    "protocol": 1, "name": "toy", "hardware": "abacus", "system": "", "runtime": "beads 1",
    "cores": 1, "providers": ["CPUExecutionProvider"], "limits": {"model_bytes": 10**6},
}  # fmt: skip
GOOD = {"median_ms": 2.0, "p95_ms": 3.0, "n": 9, "conditions": "on beads", "device": INFO}


@contextmanager
def scripted(
    *answers: tuple[int, object], info: dict | None = None, models: int = 0, port: int = 0
):
    """A server that gives these answers to /measure one after the other, the last one for ever."""
    seen: list[dict[str, str]] = []
    left = list(answers or [(200, GOOD)])
    description = {**INFO, **(info or {})}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            health = {"models": models}
            self.answer(200, health if self.path == "/health" else description)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append({**dict(self.headers), "path": self.path})
            status, value = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(value, dict) and "device" in value:
                value = {**value, "device": description}
            self.answer(status, value)

        def answer(self, status: int, value: object) -> None:
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(value if isinstance(value, bytes) else json.dumps(value).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def remote(*urls: str, space: object = None, **settings) -> RemoteLatency:
    return RemoteLatency(space or ToySpace(), SHAPE, urls, **{"patience": 5.0, **settings})


def metrics(evaluator: RemoteLatency, width: int = 8) -> dict[str, float]:
    (measured,) = evaluator(Job(Architecture({"width": width})))
    return dict(measured.metrics)


def test_it_measures_on_a_real_device(monkeypatch) -> None:
    monkeypatch.setenv("PARTI_DEVICE_TOKEN", "secret")
    with device("--name", "bench", token="secret") as url:
        evaluator = remote(url, repeats=5, min_seconds=0, batch=2)
        evaluator.check()
        assert "secret" not in pickle.dumps(evaluator).decode("latin-1")
        assert "device bench" in evaluator.conditions
        assert "batch 2" in evaluator.conditions
        small, large = metrics(evaluator, 4), metrics(evaluator, 512)
        assert 0 < small["latency_ms"] < large["latency_ms"]
        assert small["latency_ms"] <= small["latency_p95_ms"]
        network = small_network()
        before = torch.get_rng_state()
        found = evaluator.measure(network)
        metrics(evaluator)
        assert "batch 2" in found[""].conditions
        assert found[""].n == 5
        assert torch.equal(before, torch.get_rng_state())


def test_what_cannot_work_is_said_before_the_search(monkeypatch) -> None:
    monkeypatch.delenv("PARTI_DEVICE_TOKEN", raising=False)
    with device(token="secret") as url:
        for token in (None, "wrong"):
            with pytest.raises(InvalidSettings, match="PARTI_DEVICE_TOKEN"):
                remote(url, token=token).check()
        remote(url, token="secret").check()
        with pytest.raises(InvalidSettings, match="has no Abacus"):
            remote(url, token="secret", provider="Abacus").check()
        with pytest.raises(InvalidSettings, match="fewer than 5000 threads"):
            remote(url, token="secret", threads=5000).check()
    with pytest.raises(InvalidSettings, match=r"does not answer.*Start it there"):
        remote(url, token="secret").check()
    with (
        scripted(info={"protocol": 2}) as (newer, _),
        pytest.raises(InvalidSettings, match=r"version 2 .*copy the program again"),
    ):
        remote(newer).check()


def test_a_token_that_no_header_can_hold_is_refused_and_not_shown() -> None:
    for token in ("secret€", "secret\nX: y"):
        with scripted() as (url, _), pytest.raises(InvalidSettings, match="letters and") as refused:
            remote(url, token=token).check()
        assert "secret" not in str(refused.value)
        assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    ["", "pi", "pi=", "ftp://pi", "http://", "http://u:p@pi:1", "http://pi:x", "a b=http://pi",
     "http://pi?token=x", "http://[::1"],
)  # fmt: skip
def test_urls_are_checked(url: str) -> None:
    with pytest.raises(InvalidSettings, match="device"):
        parse_device(url)


@given(st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True), st.integers(1, 65535))
def test_names_and_urls_are_told_apart(name: str, port: int) -> None:
    url = f"http://10.0.0.1:{port}"
    assert parse_device(url) == Device(url)
    if not name.startswith("http"):
        assert parse_device(f"{name}={url}/") == Device(url, name)


def test_names_are_all_or_none() -> None:
    with pytest.raises(InvalidSettings, match="or none, and none twice"):
        remote("pi=http://a:1", "http://b:1")
    with pytest.raises(InvalidSettings, match="or none, and none twice"):
        remote("http://a:1", "http://a:1/")
    with pytest.raises(InvalidSettings, match="0 devices"):
        remote()


def test_a_busy_device_is_asked_again() -> None:
    busy = (503, {"error": "busy"})
    with scripted(busy, busy, (200, GOOD)) as (url, seen):
        assert metrics(remote(url)) == {"latency_ms": 2.0, "latency_p95_ms": 3.0}
    assert len(seen) == 3
    assert seen[0]["path"].startswith("/measure?batch=1&threads=1&warmup=10&repeats=30&")


def test_patience_ends() -> None:
    with (
        scripted((503, {"error": "three models wait"})) as (url, _),
        pytest.raises(TrialError, match=r"within 1 s: .*three models wait"),
    ):
        metrics(remote(url, patience=1.0))


def test_a_device_that_comes_back_is_used() -> None:
    with scripted() as (url, _):
        evaluator = remote(url)
        evaluator.check()
    done: list[dict] = []
    waiting = threading.Thread(target=lambda: done.append(metrics(evaluator)))
    waiting.start()
    time.sleep(0.3)
    assert not done
    with scripted(port=int(url.rpartition(":")[2])):
        waiting.join(10)
    assert done == [{"latency_ms": 2.0, "latency_p95_ms": 3.0}]


def test_a_model_that_a_device_refuses_fails_at_once() -> None:
    with scripted((422, {"error": "no such operation"})) as (url, seen):
        with pytest.raises(TrialError, match="no such operation"):
            metrics(remote(url))
        assert len(seen) == 1


def test_something_else_at_that_address_is_recognized() -> None:
    with scripted((200, b"<html>")) as (url, _), pytest.raises(InvalidSettings, match="<html>"):
        metrics(remote(url))


def test_a_model_too_large_for_the_device_is_not_sent() -> None:
    with scripted(info={"limits": {"model_bytes": 100}}) as (url, seen):
        with pytest.raises(TrialError, match="--max-mb"):
            metrics(remote(url))
        assert seen == []


def test_equal_devices_share_the_work_and_a_lost_one_is_replaced() -> None:
    with scripted(models=3) as (busy, seen_busy), scripted() as (free, seen_free):
        evaluator = remote(busy, free)
        metrics(evaluator)
        assert (len(seen_busy), len(seen_free)) == (0, 1)
        evaluator.check()
    with scripted(models=3) as (left, seen):
        lost = remote(left, free)
        lost._known = evaluator._known
        assert metrics(lost)["latency_ms"] == 2.0
        assert len(seen) == 1


def test_devices_that_differ_need_names() -> None:
    slow = {**GOOD, "median_ms": 50.0, "p95_ms": 51.0}
    with scripted() as (one, _), scripted((200, slow), info={"hardware": "slide rule"}) as (two, _):
        with pytest.raises(InvalidSettings, match=r"abacus.*slide rule.*different names"):
            remote(one, two).check()
        evaluator = remote(f"fast={one}", f"slow={two}")
        assert evaluator.provides == {
            "latency_ms", "latency_p95_ms", "latency_ms@fast", "latency_p95_ms@fast",
            "latency_ms@slow", "latency_p95_ms@slow",
        }  # fmt: skip
        assert metrics(evaluator) == {
            "latency_ms": 50.0, "latency_p95_ms": 51.0, "latency_ms@fast": 2.0,
            "latency_p95_ms@fast": 3.0, "latency_ms@slow": 50.0, "latency_p95_ms@slow": 51.0,
        }  # fmt: skip
        assert "fast: beads 1 CPU, device toy: abacus" in evaluator.conditions


def test_a_device_that_became_another_is_noticed() -> None:
    with scripted() as (url, _):
        evaluator = remote(url)
        evaluator.check()
        evaluator._known = {"": {**INFO, "runtime": "beads 0"}}
        with pytest.raises(TrialError, match=r"has changed from abacus, beads 0"):
            metrics(evaluator)


def test_a_network_that_cannot_be_exported_fails_alone() -> None:
    class Odd(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise ValueError("odd")

    with scripted() as (url, _), pytest.raises(TrialError, match="odd"):
        metrics(remote(url, space=Always(Odd)))
