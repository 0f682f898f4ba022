"""Serving: requests per second and latency of `parti serve` under load, batching on and off.

    python -m benchmarks.bench_serve [--seconds 4] [--threads 1] [--quick]

A ResNet-20 for colour images of 32×32 pixels, one image in a request, on the loopback interface;
the load is by wrk where it is installed, else by a client of asyncio, which takes more of the
machine itself. The servers run side by side and are loaded in turn, so that what else the machine
does falls on all of them. "images a run" is how many requests a run of the model answered.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.tables import print_table

SERVERS = {
    "off": ["--max-batch", "1"],
    "32": ["--max-batch", "32"],
    "32, 2 ms": ["--max-batch", "32", "--max-delay-ms", "2"],
}
CONNECTIONS = (1, 16, 64)

WRK = """
local file = io.open(os.getenv("WRK_BODY"), "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = os.getenv("WRK_TYPE")
if os.getenv("WRK_LENGTH") then
  wrk.headers["Inference-Header-Content-Length"] = os.getenv("WRK_LENGTH")
end
function done(summary, latency, requests)
  local e = summary.errors
  print(string.format("RESULT %d %f %f %f %d", summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What is asked again and again."""

    name: str
    path: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Result:
    """What came of it."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def exported(folder: Path) -> None:
    import numpy as np
    import torch

    from parti.deploy.export import export
    from parti.deploy.model import DeployedModel
    from parti.networks.known import known_network

    torch.manual_seed(0)
    network = known_network("resnet20", in_channels=3, classes=10, resolution=32)
    model = DeployedModel(network, [120.0] * 3, [60.0] * 3).eval()
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32)).astype(np.float32)
    info = {"name": "resnet20", "classes": [str(i) for i in range(10)]}
    export(model, folder, info=info, samples=images, formats=("onnx",))


def loads() -> list[Load]:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    tensor = {"name": "images", "datatype": "FP32", "shape": [1, 3, 32, 32]}
    values = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype="<f4")
    binary = values.tobytes()
    head = {
        "inputs": [tensor | {"parameters": {"binary_data_size": len(binary)}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    plain = json.dumps({"inputs": [tensor | {"data": values.ravel().tolist()}]}).encode()
    infer = "/v2/models/resnet20/infer"
    octets = {"Content-Type": "application/octet-stream"}
    return [
        Load("/predict, PNG", "/predict", png.getvalue(), {"Content-Type": "image/png"}),
        Load(
            "/infer, binary",
            infer,
            text + binary,
            {**octets, "Inference-Header-Content-Length": str(len(text))},
        ),
        Load("/infer, JSON", infer, plain, {"Content-Type": "application/json"}),
    ]


@contextmanager
def server(folder: Path, *options: str) -> Iterator[str]:
    command = [sys.executable, "-c", "from parti.app.cli import main; main()", "serve", str(folder)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--json", *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait(60)


def by_wrk(url: str, load: Load, connections: int, seconds: float) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        script, body = Path(folder) / "load.lua", Path(folder) / "body"
        script.write_text(WRK)
        body.write_bytes(load.body)
        kind = load.headers["Content-Type"]
        environment = {**os.environ, "WRK_BODY": str(body), "WRK_TYPE": kind}
        if length := load.headers.get("Inference-Header-Content-Length"):
            environment["WRK_LENGTH"] = length
        options = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s"]
        printed = subprocess.run(
            ["wrk", *options, "--timeout", "30s", "-s", str(script), url + load.path],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        ).stdout
    found = re.search(r"RESULT (\S+) (\S+) (\S+) (\S+) (\S+)", printed)
    assert found, printed
    requests, took, p50, p99, errors = map(float, found.groups())
    return Result(requests / took, p50, p99, int(errors))


def by_asyncio(url: str, load: Load, connections: int, seconds: float) -> Result:
    parts = urlsplit(url)
    headers = {"Host": parts.netloc, "Content-Length": str(len(load.body)), **load.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    message = f"POST {load.path} HTTP/1.1\r\n{head}\r\n".encode() + load.body
    times: list[float] = []
    errors = 0

    async def client(until: float) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (began := time.perf_counter()) < until:
            writer.write(message)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
            assert length
            await reader.readexactly(int(length[1]))
            times.append(time.perf_counter() - began)
            errors += b" 200 " not in answer[:20]
        writer.close()

    async def clients() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(client(began + seconds) for _ in range(connections)))
        return time.perf_counter() - began

    took = asyncio.run(clients())
    times.sort()
    p50, p99 = (1000 * times[int(share * (len(times) - 1))] for share in (0.5, 0.99))
    return Result(len(times) / took, p50, p99, errors)


def counted(url: str) -> tuple[float, float, float]:
    """Images and runs of the server, and its CPU seconds."""
    with urllib.request.urlopen(url + "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = dict(line.split(" ", 1) for line in lines if "{" not in line and line[0] != "#")
    names = ("parti_batch_images_sum", "parti_batch_images_count", "process_cpu_seconds_total")
    images, runs, cpu = (float(found[name]) for name in names)
    return images, runs, cpu


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Load a server.")
    parser.add_argument("--quick", action="store_true", help="one second for each row")
    parser.add_argument("--seconds", type=float, default=4, help="for each row")
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime")
    options = parser.parse_args(argv)
    seconds = 1.0 if options.quick else options.seconds
    ask = by_wrk if shutil.which("wrk") else by_asyncio
    client, threads = ask.__name__[3:], options.threads
    print(f"load by {client}, {seconds:g} s a row, threads of ONNX Runtime: {threads}")
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model"
        exported(folder)
        urls = {
            name: stack.enter_context(server(folder, *given, "--threads", str(threads)))
            for name, given in SERVERS.items()
        }
        for load in loads():
            for connections in CONNECTIONS:
                for name, url in urls.items():
                    before = counted(url)
                    got = ask(url, load, connections, seconds)
                    images, runs, cpu = (b - a for a, b in zip(before, counted(url), strict=True))
                    rows.append(
                        (
                            load.name,
                            name,
                            str(connections),
                            f"{got.per_second:.0f}",
                            f"{got.p50_ms:.1f}",
                            f"{got.p99_ms:.1f}",
                            f"{images / runs:.1f}",
                            f"{1000 * cpu / images:.2f}",
                            str(got.errors),
                        )
                    )
    heads = ("request", "batching", "clients", "requests/s", "p50 ms", "p99 ms", "images a run")
    print_table((*heads, "CPU ms", "errors"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
