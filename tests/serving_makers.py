"""A small exported model, and servers of it, for tests of serving."""

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from measured_networks import plain, warmed
from parti.deploy.export import export
from parti.deploy.formats import onnx as onnx_format
from parti.deploy.model import DeployedModel

CLASSES = [f"digit {i}" for i in range(10)]
TOKEN = "correct-horse-battery-staple"
INFER = "/v2/models/digits-of-8-8/infer"

COMMAND = "from parti.app.cli import main; main()"

TIGHT = """
import json, sys
from pathlib import Path
from parti.deploy.serving.limits import Limits
from parti.deploy.serving.server import ServeSettings, serve
limits, rest = json.loads(sys.argv[2]), json.loads(sys.argv[3])
settings = ServeSettings(Path(sys.argv[1]), port=0, limits=Limits(**limits), **rest)
serve(settings, lambda at: print(json.dumps({"url": at.url}), flush=True))
"""


def digits(n: int = 40) -> np.ndarray:
    """Real digits as [n, 8, 8] uint8."""
    return np.round(load_digits().images[:n] * (255 / 16)).astype(np.uint8)


def exported(folder: Path, channels: int = 1, size: int = 8) -> DeployedModel:
    """Export a network with random weights and moving averages of noise."""
    torch.manual_seed(0)
    shape = (channels, size, size)
    model = DeployedModel(warmed(plain(channels), shape), [80.0] * channels, [90.0] * channels)
    images = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:  # the quick exporter: the file matters here
        patch.setattr(onnx_format, "to_onnx", partial(onnx_format.to_onnx, quick=True))
        info = {"name": "digits of 8×8", "classes": CLASSES}
        export(model.eval(), folder, info=info, samples=images, formats=("onnx",))
    return model


class Running:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], first: dict) -> None:
        self.process = process
        self.first = first
        self.url: str = first["url"]
        parts = urlsplit(self.url)
        self.address = (parts.hostname, parts.port)
        self.netloc = parts.netloc


@contextmanager
def started(program: str, *arguments: str, **environment: str) -> Iterator[Running]:
    """Start a server that prints its address as JSON in its first line; stop it in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Running(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def command(*arguments: str, **environment: str):
    """`parti serve`, on a free port."""
    return started(COMMAND, "serve", *arguments, "--port", "0", "--json", **environment)


def tight(folder: Path, limits: dict, **rest):
    """A server with limits that the command line does not set."""
    return started(TIGHT, str(folder), json.dumps(limits), json.dumps(rest))


def some(n: int) -> np.ndarray:
    return digits(n)[:, None].astype(np.float32)


def ask(running, path, body=None, method=None, **headers) -> tuple[int, dict | bytes, dict]:
    """One request by urllib; status, body (JSON decoded) and headers of the answer."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(running.url + path, body, names, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            content, code = answer.read(), answer.status
    except urllib.error.HTTPError as error:
        with error as answer:
            content, code = answer.read(), answer.code
    got = dict(answer.headers.items())
    decoded = json.loads(content) if "json" in got.get("content-type", "") else content
    return code, decoded, got


def metric(running, line: str, **headers) -> float:
    text = ask(running, "/metrics", **headers)[1].decode()
    values = [float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line)]
    return sum(values)


def triton_input(images: np.ndarray, binary: bool = True):
    import tritonclient.http as tritonclient

    tensor = tritonclient.InferInput("images", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images, binary_data=binary)
    return tensor


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def form(*files: bytes, boundary: str = "xyz") -> tuple[bytes, str]:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
        f'filename="{i}.png"\r\n\r\n'.encode()
        + file
        + b"\r\n"
        for i, file in enumerate(files)
    ]
    return b"".join(
        parts
    ) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def tensor_body(images: np.ndarray, **more) -> bytes:
    tensor = {
        "name": "images",
        "datatype": "FP32",
        "shape": list(images.shape),
        "data": images.ravel().tolist(),
    }
    return json.dumps({"inputs": [tensor], **more}).encode()


def post(path: str, body: bytes, host: str, length: int | None = None, more: str = "") -> bytes:
    length = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{more}\r\n"
    return head.encode() + body


def talk(running, *pieces: bytes, pause: float = 0.0, wait: float = 5.0) -> bytes:
    """Send pieces, and read until the server hangs up or nothing comes for a while."""
    got = b""
    with socket.create_connection(running.address, timeout=wait) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause)
            while more := client.recv(65536):
                got += more
        except (ConnectionError, TimeoutError):
            pass
    return got


def code_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0
