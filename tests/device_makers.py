"""A device server as a process of its own, and small ONNX models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

import parti.deploy.device_server as program

SERVER = Path(program.__file__)
BINARY = {"Content-Type": "application/octet-stream"}


@contextmanager
def device(*arguments: str, token: str | None = None, file: Path = SERVER) -> Iterator[str]:
    """Serve on a free port; gives the URL."""
    environment = {k: v for k, v in os.environ.items() if k != "PARTI_DEVICE_TOKEN"}
    environment["OMP_NUM_THREADS"] = "1"
    if token is not None:
        environment["PARTI_DEVICE_TOKEN"] = token
    process = subprocess.Popen(
        [sys.executable, str(file), "--port", "0", *arguments],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("measuring on http://"), line
        yield line.split()[2]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def ask(
    url: str, path: str, body: bytes | None = None, headers: dict | None = None, **query: object
) -> tuple[int, dict]:
    """Status and answer of a request."""
    address = f"{url}{path}" + (f"?{urlencode(query)}" if query else "")
    headers = headers if headers is not None else (BINARY if body is not None else {})
    request = urllib.request.Request(address, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def model(nodes=None, inputs=(("x", ("batch", 4)),), initializers=(), outputs=("y",)) -> bytes:
    """An ONNX model; without arguments one that multiplies [batch, 4] by a matrix."""
    from onnx import TensorProto, helper, numpy_helper

    if nodes is None:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        initializers = [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        list(initializers),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return made.SerializeToString()
