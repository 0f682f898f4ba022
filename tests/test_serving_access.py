"""Who may ask a server, and how much all together may."""

import asyncio

import pytest

pytest.importorskip("prometheus_client")

from parti.core.errors import InvalidSettings
from parti.deploy.serving.access import Access, is_loopback
from parti.deploy.serving.guard import Guard, Queue
from parti.deploy.serving.limits import Limits
from parti.deploy.serving.metrics import Metrics
from parti.deploy.serving.refused import RequestRefused

TOKEN = "0123456789abcdef"


def status(access: Access, path: str = "/v2", **headers: str) -> int:
    try:
        access.check(path, {"host": "localhost:8000", **headers})
    except RequestRefused as refused:
        return refused.status
    return 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("localhost.", 200),
        ("127.0.0.1:1", 200),
        ("127.9.9.9", 200),
        ("[::1]:8000", 200),
        ("", 421),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:localhost", 421),
        ("localhost:80@evil.example", 421),
        ("0.0.0.0", 421),
        ("192.168.0.1", 421),
        ("[::1", 421),
        ("2130706433", 421),
        ("[localhost]", 421),
    ],
)
def test_without_a_token_only_this_machines_names_are_answered(host, expected):
    assert status(Access(None), host=host) == expected
    # With a token the name says nothing: a page of another name does not have it.
    assert status(Access(TOKEN), host=host, authorization=f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:8000", 200),
        ("https://LOCALHOST:8000", 200),
        ("http://localhost:8001", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_pages_of_other_origins_may_not_ask(origin, expected):
    assert status(Access(None), origin=origin) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN}0", 401),
        ("Bearer ", 401),
        ("Bearer \xff\u20ac", 401),
    ],
)
def test_the_token_must_be_the_servers(given, expected):
    assert status(Access(TOKEN), authorization=given) == expected


@pytest.mark.parametrize("path", ["/v2", "/metrics", "/predict", "/v2/health/live/", "//", "/x"])
def test_without_the_token_only_health_and_the_page_are_shown(path):
    assert status(Access(TOKEN), path) == 401
    assert status(Access(TOKEN), "/v2/health/live") == status(Access(TOKEN), "/") == 200


@pytest.mark.parametrize(
    "token", ["", "short", "0123456789 abcdef", "0123456789abcdef\n", "é" * 20]
)
def test_a_token_that_cannot_be_sent_or_is_short_is_refused(token):
    with pytest.raises(InvalidSettings):
        Access(token)


def test_loopback_is_known():
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("::")
    assert not is_loopback("fe80::1%eth0")


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"queue": -1}, {"pending_bytes": 1}])
def test_limits_must_leave_room(wrong):
    with pytest.raises(InvalidSettings):
        Limits(**wrong)


# All bodies together


def guarded(app, chunks: list[bytes], guard=None):
    """Send a body to an application behind a guard; status of the answer, and the guard."""
    metrics = Metrics("m", lambda: 0, lambda: 0)
    limits = Limits(body_bytes=10, pending_bytes=15)
    guard = guard or Guard(app, Access(None), limits, metrics)
    messages = [
        {"type": "http.request", "body": chunk, "more_body": i < len(chunks) - 1}
        for i, chunk in enumerate(chunks)
    ]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    async def asked():
        scope = {"type": "http", "path": "/", "headers": [(b"host", b"localhost")]}
        await guard(scope, receive, send)
        return sent[0]["status"]

    return asked, guard


async def hold(scope, receive, send):
    """Read a body, and answer it when all others are read."""
    while (await receive())["more_body"]:
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


def test_all_bodies_together_are_held_to_a_limit_and_forgotten_when_answered():
    async def clients():
        first, guard = guarded(hold, [b"12345", b"12345"])
        others = [guarded(hold, [b"12345", b"123"], guard)[0] for _ in range(2)]
        together = await asyncio.gather(first(), *(other() for other in others))
        alone = await guarded(hold, [b"12345", b"12345"], guard)[0]()
        too_long = await guarded(hold, [b"12345", b"123456"], guard)[0]()
        after = await guarded(hold, [b"12345", b"12345"], guard)[0]()
        return together, alone, too_long, after

    together, alone, too_long, after = asyncio.run(clients())
    assert sorted(together)[0] == 200
    assert 503 in together
    assert (alone, too_long, after) == (200, 413, 200)


def test_a_queue_is_as_long_as_it_may_be():
    queue = Queue(2)
    with queue.place(), queue.place():
        assert len(queue) == 2
        with pytest.raises(RequestRefused) as refused, queue.place():
            pass
        assert refused.value.status == 503
    assert len(queue) == 0
