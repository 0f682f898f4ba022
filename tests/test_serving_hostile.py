"""A real server with narrow limits, attacked over bare sockets; it must go on."""

import io
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from serving_makers import (
    INFER,
    TOKEN,
    ask,
    code_of,
    digits,
    exported,
    metric,
    png,
    post,
    some,
    talk,
    tensor_body,
    tight,
)

pytest.importorskip("uvicorn")
tritonclient = pytest.importorskip("tritonclient.http")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a model."""
    folder = tmp_path_factory.mktemp("serving") / "model"
    exported(folder)
    return folder


@pytest.fixture(scope="module")
def strict(made):
    """A server with a token and narrow limits."""
    limits = {
        "body_bytes": 20_000,
        "pixels": 10_000,
        "images": 3,
        "seconds": 0.9,
        "queue": 4,
        "connections": 24,
        "head_bytes": 4_000,
        "head_seconds": 0.5,
    }
    with tight(made, limits, token=TOKEN, delay_s=0.2) as running:
        yield running


BEARER = f"Authorization: Bearer {TOKEN}\r\n"


@pytest.fixture
def alive(strict):
    """What is hostile must leave the server as it was."""
    yield
    body = png(digits(1)[0])
    assert ask(strict, "/predict", body, Authorization=f"Bearer {TOKEN}")[0] == 200
    authorization = {"Authorization": f"Bearer {TOKEN}"}
    assert metric(strict, "parti_queue_requests", **authorization) == 0
    assert strict.process.poll() is None


def test_without_the_token_nothing_but_health_and_the_page(strict, alive):
    assert ask(strict, "/v2")[0] == 401
    assert ask(strict, "/metrics")[0] == 401
    assert ask(strict, "/predict", b"x", Authorization="Bearer wrong-horse-battery")[0] == 401
    assert ask(strict, "/v2/health/ready")[0] == 200
    assert ask(strict, "/")[0] == 200
    with tritonclient.InferenceServerClient(strict.netloc) as client:
        found = client.get_model_metadata(
            "digits-of-8-8", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        assert found["name"] == "digits-of-8-8"


@pytest.mark.parametrize("length", [20_001, 10**12])
def test_a_long_body_is_refused_by_its_length(strict, alive, length):
    answer = talk(strict, post("/predict", b"x", strict.netloc, length, BEARER), wait=3)
    assert code_of(answer) == 413
    assert b"at most 20000 bytes" in answer


def test_a_long_body_without_length_is_refused_as_it_comes(strict, alive):
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{BEARER}\r\n"
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    answer = talk(strict, head.encode(), *[chunk] * 6, wait=3)
    assert code_of(answer) == 413


def test_an_endless_body_is_cut_off(strict, alive):
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{BEARER}\r\n"
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    began = time.monotonic()
    talk(strict, head.encode(), *[chunk] * 20_000, wait=3)  # 80 MB, if all were taken
    assert time.monotonic() - began < 10
    assert (
        metric(
            strict,
            'parti_refused_connections_total{reason="endless body"',
            Authorization=f"Bearer {TOKEN}",
        )
        >= 1
    )


@pytest.mark.parametrize("length", ["-1", "x", "1, 2", "+5", "0x10", "1" + 30 * "0"])
def test_a_length_that_is_none_is_refused(strict, alive, length):
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{BEARER}\r\n"
    assert code_of(talk(strict, head.encode(), wait=3)) in (400, 413)


def test_two_ways_to_say_the_length_are_refused(strict, alive):
    more = BEARER + "Transfer-Encoding: chunked\r\n"
    answer = talk(strict, post("/predict", b"0\r\n\r\n", "x", 5, more), wait=3)
    assert code_of(answer) == 400
    assert b"200 OK" not in answer


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # as TLS begins
        b"hello\r\n\r\n",
        b"GET /\x00 x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"\x00" * 1000,
    ],
)
def test_what_is_no_http_is_refused(strict, alive, noise):
    assert code_of(talk(strict, noise, wait=3)) in (0, 400, 401)


@pytest.mark.parametrize(
    "piece",
    [b"X: " + b"a" * 900 + b"\r\n", b"a" * 900, b"\r\n" * 450],
    ids=["many", "long", "empty"],
)
def test_endless_headers_are_refused(strict, alive, piece):
    begin = b"" if piece.startswith(b"\r\n") else b"GET / HTTP/1.1\r\nHost: x\r\nX: "
    answer = talk(strict, begin, *[piece] * 40, wait=3)
    assert code_of(answer) in (0, 431)  # 0: the connection was reset, with what was unread


@pytest.mark.parametrize(
    "begin", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX: 1\r\n", b"\r\n"]
)
def test_slow_heads_are_cut_off(strict, alive, begin):
    began = time.monotonic()
    answer = talk(strict, begin)
    assert time.monotonic() - began < 4.5  # 0.5 are allowed
    assert code_of(answer) == 408


def test_a_head_that_drips_is_cut_off(strict, alive):
    pieces = [b"GET / HTTP/1.1\r\nHost: x\r\n", *[b"X: 1\r\n"] * 20]
    began = time.monotonic()
    talk(strict, *pieces, pause=0.15, wait=4)
    assert time.monotonic() - began < 3  # it would take 3.0


def test_a_slow_body_is_answered_with_a_timeout(strict, alive):
    head = post("/predict", b"x", strict.netloc, 100, BEARER)
    answer = talk(strict, head, *[b"x"] * 4, pause=0.1, wait=4)
    assert code_of(answer) == 408
    assert b"connection: close" in answer.lower()


def test_a_slow_answer_is_given_up(made):
    with tight(made, {"seconds": 0.3}, delay_s=5) as running:
        code, found, _ = ask(running, INFER, tensor_body(some(1)))
        assert code == 504, found
        assert metric(running, "parti_queue_requests") == 0
        assert ask(running, "/v2/health/ready")[0] == 200


def test_images_beyond_their_limits_are_refused(strict, alive):
    bomb = io.BytesIO()
    Image.new("1", (5000, 5000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 20_000
    authorization = {"Authorization": f"Bearer {TOKEN}"}
    code, found, _ = ask(strict, "/predict", bomb.getvalue(), **authorization)
    assert (code, "5000 × 5000" in found["error"]) == (413, True)
    body = tensor_body(some(4))
    code, found, _ = ask(strict, INFER, body, **authorization)
    assert (code, "at most 3" in found["error"]) == (413, True)


def test_a_full_queue_is_said_so(strict, alive):
    body = tensor_body(some(1))

    def one(_: int) -> tuple[int, str | None]:
        code, _, headers = ask(strict, INFER, body, Authorization=f"Bearer {TOKEN}")
        return code, headers.get("retry-after")

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(one, range(12)))
    assert answers.count((200, None)) >= 4
    assert (503, "1") in answers
    assert set(answers) == {(200, None), (503, "1")}


def test_too_many_connections_are_turned_away_and_come_back_later(strict, alive):
    idle = [socket.create_connection(strict.address, timeout=5) for _ in range(60)]
    try:
        time.sleep(0.2)
        answers = []
        for client in idle:
            client.settimeout(3)
            answers.append(code_of(client.recv(1000)))
    finally:
        for client in idle:
            client.close()
    assert answers.count(408) <= 24
    assert answers.count(503) >= 36
    time.sleep(0.1)
