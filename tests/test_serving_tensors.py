"""The Open Inference Protocol: what is read, written and refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parti.deploy.serving.refused import RequestRefused
from parti.deploy.serving.tensors import read_request, write_answer

SHAPE = (1, 2, 3)


def read(body: bytes, length: str | None = None, most: int = 8):
    return read_request(
        body, length, input_name="images", output_name="logits", shape=SHAPE, most=most
    )


def request(**changes) -> dict:
    tensor = {"name": "images", "datatype": "FP32", "shape": [1, *SHAPE], "data": [0.5] * 6}
    tensor.update(changes)
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


def encoded(value) -> bytes:
    return json.dumps(value).encode()


def binary(content: bytes, size: object, **changes) -> tuple[bytes, str]:
    text = encoded(request(data=None, parameters={"binary_data_size": size}, **changes))
    return text + content, str(len(text))


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=12, max_size=12), st.booleans(), st.booleans())
def test_a_tensor_arrives_as_it_was_sent(values, nested, as_binary):
    sent = np.array(values, np.float32).reshape(2, *SHAPE)
    if as_binary:
        got = read(*binary(sent.astype("<f4").tobytes(), 48, shape=[2, *SHAPE]))
    else:
        data = sent.tolist() if nested else sent.ravel().tolist()
        got = read(encoded(request(shape=[2, *SHAPE], data=data)))
    np.testing.assert_array_equal(got.images, sent)
    assert got.images.dtype == np.float32
    assert (got.id, got.binary) == (None, False)


@pytest.mark.parametrize("as_binary", [False, True])
def test_an_answer_holds_logits_and_identity(as_binary):
    body = request() | {"id": "7", "parameters": {"binary_data_output": as_binary}}
    asked = read(encoded(body))
    logits = np.array([[1.5, -2.25e-7]], np.float32)
    content, length = write_answer(asked, logits, model="m", version="1", output_name="logits")
    answer = json.loads(content[:length])
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "m", "1")
    (tensor,) = answer["outputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("logits", "FP32", [1, 2])
    if as_binary:
        assert tensor["parameters"] == {"binary_data_size": 8}
        np.testing.assert_array_equal(np.frombuffer(content[length:], "<f4"), logits[0])
    else:
        np.testing.assert_array_equal(np.array(tensor["data"], np.float32), logits[0])


def test_what_an_output_wishes_goes_before_what_the_request_wishes():
    wishes = {"parameters": {"binary_data_output": True}}
    output = {"name": "logits", "parameters": {"binary_data": False}}
    assert read(encoded(request() | wishes)).binary
    assert not read(encoded(request() | wishes | {"outputs": [output]})).binary


WRONG = {
    "nothing": b"",
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "no object": b"[]",
    "deep": b"[" * 100_000,
    "NaN": encoded(request(data=[float("nan")] * 6)),
    "infinite": encoded(request()).replace(b"0.5", b"1e400"),
    "too large for FP32": encoded(request(data=[1e39] * 6)),
    "long integer": encoded(request(data=[0] * 5 + [int("9" * 4000)])),
    "longer integer": b'{"a": ' + b"9" * 5000 + b"}",
    "no inputs": b"{}",
    "inputs of no list": encoded({"inputs": {"0": 1}}),
    "two inputs": encoded({"inputs": request()["inputs"] * 2}),
    "input of no object": encoded({"inputs": [3]}),
    "other name": encoded(request(name="pixels")),
    "other type": encoded(request(datatype="FP64")),
    "type of no string": encoded(request(datatype=["FP32"])),
    "no shape": encoded(request(shape=None)),
    "no image": encoded(request(shape=[0, *SHAPE], data=[])),
    "negative": encoded(request(shape=[-1, *SHAPE])),
    "three sizes": encoded(request(shape=list(SHAPE))),
    "turned": encoded(request(shape=[1, 1, 3, 2])),
    "size of no integer": encoded(request(shape=[1.0, *SHAPE])),
    "size that is true": encoded(request(shape=[True, *SHAPE])),
    "too few": encoded(request(data=[0] * 5)),
    "too many": encoded(request(data=[0] * 7)),
    "unequal": encoded(request(data=[[0, 1], [2, 3, 4, 5]])),
    "strings": encoded(request(data=["1"] * 6)),
    "null": encoded(request(data=[None] * 6)),
    "true": encoded(request(data=[True] * 6)),
    "a string": encoded(request(data="123456")),
    "no data": encoded(request(data=None)),
    "wrongly nested": encoded(request(data=[[0, 1], [2, 3], [4, 5]])),
    "id of no string": encoded(request() | {"id": 3}),
    "outputs": encoded(request() | {"outputs": [{"name": "other"}]}),
    "classification": encoded(
        request() | {"outputs": [{"name": "logits", "parameters": {"classification": 2}}]}
    ),
    "parameters of no object": encoded(request() | {"parameters": [1]}),
    "binary output of no truth": encoded(request() | {"parameters": {"binary_data_output": 1}}),
    "shared memory": encoded(request(parameters={"shared_memory_region": "/etc/passwd"})),
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_what_is_not_by_the_protocol_is_refused(body):
    with pytest.raises(RequestRefused) as refused:
        read(body)
    assert refused.value.status == 400
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("body", "length"),
    [
        binary(b"\0" * 23, 24),
        binary(b"\0" * 25, 24),
        binary(b"\0" * 24, 25),
        binary(b"\0" * 24, True),
        binary(b"\0" * 24, "24"),
        binary(b"\0" * 24, -24),
        binary(b"", 2**63),
        binary(b"\0\0\xc0\x7f" * 6, 24),
        (encoded(request()) + b"\0" * 24, str(len(encoded(request())))),
        (encoded(request()), "-1"),
        (encoded(request()), "9999"),
        (encoded(request()), "²"),
        (encoded(request()), "1" * 5000),
        (encoded(request()), ""),
    ],
)
def test_binary_tensors_of_other_sizes_are_refused(body, length):
    with pytest.raises(RequestRefused) as refused:
        read(body, length)
    assert refused.value.status == 400


def test_more_images_than_allowed_are_refused_before_they_are_read():
    with pytest.raises(RequestRefused) as refused:
        read(encoded(request(shape=[10**9, *SHAPE])))
    assert refused.value.status == 413


@given(st.binary(max_size=200), st.none() | st.integers(-5, 300).map(str))
def test_any_bytes_are_read_or_refused(body, length):
    with pytest.raises(RequestRefused):
        read(body, length)
