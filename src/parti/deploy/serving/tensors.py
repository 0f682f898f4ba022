"""Requests and answers of the Open Inference Protocol v2, in JSON and with binary tensors.

The protocol: https://github.com/kserve/open-inference-protocol, inference_rest.md. The extension
`binary_tensor_data`, which Triton's and KServe's clients use unless told otherwise, appends
little-endian row-major tensors to the JSON, whose length is then in a header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from parti.deploy.serving.refused import RequestRefused

__all__ = ["HEADER_LENGTH", "InferRequest", "read_request", "write_answer"]

HEADER_LENGTH = "inference-header-content-length"
"""The header that says how many bytes of the body are JSON."""
DATATYPE = "FP32"

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What was asked.

    Args:
        images: [n, channels, height, width], finite.
        id: to be given back; None if there was none.
        binary: whether the answer's tensor goes behind the JSON.
    """

    images: Floats
    id: str | None
    binary: bool


def read_request(
    body: bytes,
    header_length: str | None,
    *,
    input_name: str,
    output_name: str,
    shape: Sequence[int],
    most: int,
) -> InferRequest:
    """Read an inference request.

    Args:
        body: of the HTTP request.
        header_length: the value of `HEADER_LENGTH`; None if there is no such header.
        input_name: of the model.
        output_name: of the model.
        shape: of one image, (channels, height, width).
        most: images that are allowed.

    Returns:
        The request, its tensor of the model's shape.

    Raises:
        RequestRefused: 400 for what is not by the protocol or does not fit the model, 413 for too
            many images.
    """
    length = _json_length(header_length, len(body))
    request = _object(_parse(body[:length]), "the request")
    identifier = request.get("id")
    if identifier is not None and not isinstance(identifier, str):
        _refuse(f"the request's id is {identifier!r:.100}; it must be a string")
    tensor = _only(request.get("inputs"), "inputs", input_name)
    if tensor.get("datatype") != DATATYPE:
        _refuse(f"{input_name} has datatype {tensor.get('datatype')!r:.100}; send {DATATYPE}")
    asked = _shape(tensor.get("shape"), input_name, shape, most)
    images = _data(tensor, asked, input_name, memoryview(body)[length:])
    if not np.isfinite(images).all():
        _refuse(f"{input_name} holds NaN or infinite values; send raw pixels")
    return InferRequest(images, identifier, _wants_binary(request, output_name))


def write_answer(
    request: InferRequest, logits: Floats, *, model: str, version: str, output_name: str
) -> tuple[bytes, int | None]:
    """Write the answer to an inference request.

    Args:
        request: what was asked.
        logits: [n, classes].
        model: its name.
        version: of the model.
        output_name: of the model.

    Returns:
        The body, and the length of its JSON where a binary tensor follows; else None.
    """
    tensor: dict[str, Any] = {
        "name": output_name,
        "datatype": DATATYPE,
        "shape": list(logits.shape),
    }
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": [tensor]}
    if request.id is not None:
        answer["id"] = request.id
    if not request.binary:
        tensor["data"] = logits.ravel().tolist()
        return json.dumps(answer, allow_nan=False).encode(), None
    binary = logits.astype("<f4", copy=False).tobytes()
    tensor["parameters"] = {"binary_data_size": len(binary)}
    text = json.dumps(answer).encode()
    return text + binary, len(text)


def _json_length(header_length: str | None, body_length: int) -> int:
    if header_length is None:
        return body_length
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) < 20
    if not digits or int(header_length) > body_length:
        _refuse(
            f"Inference-Header-Content-Length is {header_length!r:.50}; it must be the number of "
            f"bytes of the JSON, at most the body's {body_length}"
        )
    return int(header_length)


def _parse(text: bytes) -> Any:
    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError:
        _refuse("the request is not JSON that can be read: it is nested too deeply")
    except ValueError as error:
        _refuse(
            f"the request is not JSON that can be read: {str(error)[:200]}. With binary tensors, "
            "send the header Inference-Header-Content-Length"
        )


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _refuse(f"{what} is a JSON {type(value).__name__}; it must be an object")
    return value


def _only(tensors: Any, what: str, name: str) -> Mapping[str, Any]:
    """The one tensor of the model, out of a list that must hold it and no other."""
    if not isinstance(tensors, list) or len(tensors) != 1:
        count = len(tensors) if isinstance(tensors, list) else "no list"
        _refuse(f"{what}: {count}; send a list of one, named {name!r}")
    tensor = _object(tensors[0], f"{what}[0]")
    if tensor.get("name") != name:
        _refuse(f"{what}[0] is named {tensor.get('name')!r:.100}; the model has {name!r}")
    return tensor


def _shape(given: Any, name: str, shape: Sequence[int], most: int) -> tuple[int, ...]:
    sizes = given if isinstance(given, list) else []
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    if len(sizes) != 4 or not whole or sizes[1:] != list(shape) or sizes[0] < 1:
        _refuse(
            f"{name} has shape {given!r:.100}; the model takes [n, {', '.join(map(str, shape))}], "
            "n at least 1"
        )
    if sizes[0] > most:
        raise RequestRefused(413, f"{sizes[0]} images in a request; at most {most} are allowed")
    return tuple(sizes)


def _data(
    tensor: Mapping[str, Any], shape: tuple[int, ...], name: str, binary: memoryview
) -> Floats:
    parameters = _object(tensor.get("parameters", {}), f"the parameters of {name}")
    if "shared_memory_region" in parameters:
        _refuse("shared memory is not supported; send the tensor")
    size = parameters.get("binary_data_size")
    if size is None:
        if len(binary):
            _refuse(
                f"{len(binary)} bytes follow the JSON, but {name} has no binary_data_size among "
                "its parameters"
            )
        return _from_json(tensor.get("data"), shape, name)
    if "data" in tensor:
        _refuse(f"{name} has both data and binary_data_size; send one of them")
    needed = 4 * prod(shape)
    if isinstance(size, bool) or size != needed or len(binary) != needed:
        _refuse(
            f"{name} of shape {list(shape)} has {needed} bytes; binary_data_size is {size!r:.50}, "
            f"and {len(binary)} bytes follow the JSON"
        )
    return np.frombuffer(binary, "<f4").reshape(shape).astype(np.float32, copy=False)


def _from_json(data: Any, shape: tuple[int, ...], name: str) -> Floats:
    if not isinstance(data, list):
        _refuse(f"{name} has no data: send a list of numbers, flat or nested, in row-major order")
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError, RecursionError):
        array = np.empty(0, object)
    if array.dtype.kind not in "iuf":
        _refuse(f"the data of {name} are not only numbers, or lists of unequal lengths")
    if array.shape not in (shape, (prod(shape),)):
        _refuse(
            f"the data of {name} are numbers of shape {list(array.shape)}; its shape is "
            f"{list(shape)}: send {prod(shape)}, flat or nested"
        )
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as that
        return array.astype(np.float32).reshape(shape)


def _wants_binary(request: Mapping[str, Any], name: str) -> bool:
    parameters = _object(request.get("parameters", {}), "the request's parameters")
    binary = parameters.get("binary_data_output", False)
    if request.get("outputs"):
        output = _only(request["outputs"], "outputs", name)
        wishes = _object(output.get("parameters", {}), f"the parameters of {name}")
        for unsupported in ("classification", "shared_memory_region"):
            if unsupported in wishes:
                _refuse(f"the output parameter {unsupported!r} is not supported")
        binary = wishes.get("binary_data", binary)
    if not isinstance(binary, bool):
        _refuse(f"binary output is {binary!r:.50}; it must be true or false")
    return binary


def _refuse(message: str) -> NoReturn:
    raise RequestRefused(400, message)
