#!/usr/bin/env python3
"""Measure the latency of ONNX models on this device, for searches that run on another machine.

    python device_server.py                                  # this machine alone may ask
    PARTI_DEVICE_TOKEN=secret python device_server.py --host 0.0.0.0

This file is a program of its own: copy it to the device. It needs Python 3.9 or newer and

    pip install numpy onnxruntime

    GET  /health   whether it runs, and how many models wait; no token needed
    GET  /info     what the device is: hardware, runtime, providers, limits
    POST /measure?batch=1&threads=1&warmup=10&repeats=30&seconds=0.2&provider=CPUExecutionProvider
                   body: the bytes of an ONNX model, application/octet-stream

Answers are JSON; an error is {"error": "what is wrong"}. With a token, requests carry it as
`Authorization: Bearer TOKEN`. Nothing is encrypted: use it in a network you trust, or through a
tunnel (ssh -L).

A model comes from elsewhere, so it is measured in a process of its own, with limits on memory and
time, that can write no file; models that name files, or that no runtime should read as ONNX, are
refused before. One model is measured at a time, for two would disturb each other.
"""

# ruff: noqa: T201 - a program of its own, so it prints
from __future__ import annotations

import argparse
import hmac
import ipaddress
import json
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

__all__ = ["PROTOCOL", "Refused", "check_model", "device_info", "main", "serve"]

PROTOCOL = 1
"""Grows when a client of an older version would not understand the answers."""

TOKEN_VARIABLE = "PARTI_DEVICE_TOKEN"  # noqa: S105 - the name of a variable
IDLE_SECONDS = 30.0
"""A connection that sends nothing for so long is closed."""
BODY_SECONDS = 120.0
"""A model must have arrived within this time."""
CONNECTIONS = 32
MEGABYTE = 2**20

Settings = dict[str, Any]  # checked settings of one measurement


class Refused(ValueError):
    """A request cannot be served.

    Args:
        message: what is wrong, and what is allowed.
        status: of the HTTP answer.
        wait: seconds after which to ask again, if that helps.
    """

    def __init__(self, message: str, status: int = 400, wait: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.wait = wait


# --- the model, before any runtime sees it ---

# Which fields of the messages of onnx.proto lead to tensors: number to message.
_MESSAGES: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor",
                  23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}  # fmt: skip
_OP_TYPE, _EXTERNAL_DATA, _DATA_LOCATION, _DEEPEST = 4, 13, 14, 64


def check_model(model: bytes) -> None:
    """See that bytes are an ONNX model that names no files.

    Args:
        model: the bytes of the file.

    Raises:
        Refused: they are something else, or the model keeps weights in files beside it.
    """
    if model[4:8] == b"ORTM":
        raise Refused("the model is in ONNX Runtime's own format; send it as ONNX", 422)
    if _walk(memoryview(model), "Model", 0) == 0:
        raise Refused("the body is no ONNX model: it has no graph", 422)


def _walk(data: memoryview, message: str, depth: int) -> int:
    """Look at every tensor in a message; return how many graphs it has itself."""
    if depth > _DEEPEST:
        raise Refused(f"the model's graphs are nested more than {_DEEPEST} deep", 422)
    graphs = place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        field, wire = tag >> 3, tag & 7
        if wire == 2:
            length, place = _varint(data, place)
            part, place = data[place : place + length], place + length
        elif wire == 0:
            part = data[:0]
            value, place = _varint(data, place)
        elif wire in (1, 5):
            part, place = data[:0], place + (8 if wire == 1 else 4)
        else:
            raise Refused("the body is no ONNX model: it is no valid protobuf", 422)
        if place > len(data):
            raise Refused("the body is no ONNX model: it ends too early", 422)
        if message == "Tensor" and (
            field == _EXTERNAL_DATA or (field == _DATA_LOCATION and wire == 0 and value != 0)
        ):
            raise Refused("the model keeps weights in another file; save it with them inside", 422)
        if message == "Node" and field == _OP_TYPE and bytes(part) == b"EPContext":
            raise Refused(
                "the model holds a node EPContext, which reads files; export it anew", 422
            )
        inner = _MESSAGES[message].get(field)
        if inner is not None and wire == 2:
            graphs += inner == "Graph"
            _walk(part, inner, depth + 1)
    return graphs


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise Refused("the body is no ONNX model: it is no valid protobuf", 422)


# --- measuring, in a process of its own ---


def _measure_here() -> None:
    """Read settings and a model from standard input, and write what was measured as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a runtime prints is no answer
    settings = json.loads(sys.stdin.buffer.readline())
    model = sys.stdin.buffer.read()
    try:
        answer = _measured(model, settings)
    except MemoryError:
        answer = {"error": "the model needs more memory than this server allows"}
    except Exception as error:  # noqa: BLE001 - a runtime raises what it likes
        answer = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
    answers.write(json.dumps(answer))
    answers.flush()
    os._exit(0)  # a hostile model may have broken what a runtime does at its end


def _measured(model: bytes, settings: Settings) -> Settings:
    import numpy as np
    import onnxruntime

    _limit_process(settings["memory"], settings["provider"])
    before = _sensors()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    provider = settings["provider"]
    session = onnxruntime.InferenceSession(model, options, providers=[provider])
    if session.get_providers()[0] != provider:
        return {"error": f"{provider} cannot run here; ONNX Runtime fell back to the CPU"}
    random = np.random.default_rng(0)
    inputs = {each.name: _input(each, settings, random) for each in session.get_inputs()}
    for _ in range(settings["warmup"]):
        session.run(None, inputs)
    seconds: list[float] = []
    began = now = time.perf_counter()
    while len(seconds) < settings["repeats"] or now - began < settings["seconds"]:
        now = time.perf_counter()
        session.run(None, inputs)
        seconds.append(time.perf_counter() - now)
    median, p95 = np.percentile(seconds, [50, 95]) * 1e3
    return {
        "median_ms": float(median),
        "p95_ms": float(p95),
        "n": len(seconds),
        "sensors": {"before": before, "after": _sensors()},
    }


def _input(wanted: Any, settings: Settings, random: Any) -> Any:
    """Numbers for one input of a model, the same ones every time."""
    import numpy as np

    kinds = {
        "float": "float32", "float16": "float16", "double": "float64", "int64": "int64",
        "int32": "int32", "int8": "int8", "uint8": "uint8", "bool": "bool",
    }  # fmt: skip
    kind = kinds.get(wanted.type[len("tensor(") : -1])
    shape = [settings["batch"] if place == 0 and not isinstance(size, int) else size
             for place, size in enumerate(wanted.shape)]  # fmt: skip
    if kind is None or not all(isinstance(size, int) for size in shape):
        raise Refused(
            f"input {wanted.name!r} is {wanted.type} of shape {wanted.shape}: only the first size "
            f"may be free, and the type must be one of {', '.join(kinds)}"
        )
    if shape and shape[0] != settings["batch"]:
        raise Refused(f"the model was exported for batch {shape[0]}, not {settings['batch']}")
    if "float" in kind:
        return random.standard_normal(shape, dtype=np.float32).astype(kind, copy=False)
    return np.zeros(shape, dtype=kind)


def _limit_process(memory: int, provider: str) -> None:
    """Let this process have so many further bytes, and write no files."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return  # not on this system
    # Runtimes of GPUs reserve addresses by the terabyte, which are no memory.
    kind = resource.RLIMIT_AS if provider.startswith("CPU") else resource.RLIMIT_DATA
    limits = {kind: pages * os.sysconf("SC_PAGE_SIZE") + memory}
    limits |= {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for limit, most in limits.items():
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, hard))


def _run_measurement(model: bytes, settings: Settings, limit: float) -> Settings:
    """Measure in a process of its own, which is killed when it takes too long."""
    kept_out = (TOKEN_VARIABLE, "ORT_LOAD_CONFIG_FROM_MODEL")
    environment = {key: value for key, value in os.environ.items() if key not in kept_out}
    process = subprocess.Popen(  # noqa: S603 - this file itself
        [sys.executable, str(Path(__file__).resolve()), "--measure"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=os.sep,
        env=environment,
        start_new_session=True,
    )
    try:
        text, _ = process.communicate(json.dumps(settings).encode() + b"\n" + model, limit)
    except subprocess.TimeoutExpired:
        raise Refused(f"measuring took more than {limit:g} s and was stopped", 504) from None
    finally:
        if process.poll() is None:
            _kill(process)
    if process.returncode != 0 or not text:
        raise Refused(f"the runtime died of the model (exit status {process.returncode})", 422)
    answer = json.loads(text)
    if "error" in answer:
        raise Refused(answer["error"], 422)
    return dict(answer)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


# --- what the device is ---


def device_info(name: str = "") -> dict[str, Any]:
    """Describe this device: hardware, system, cores, runtime and its providers.

    Args:
        name: what its owner calls it.
    """
    import onnxruntime

    return {
        "protocol": PROTOCOL,
        "name": name or platform.node(),
        "hardware": _hardware(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count() or 1,
        "runtime": f"ONNX Runtime {onnxruntime.__version__}",
        "providers": onnxruntime.get_available_providers(),
    }


def _hardware() -> str:
    """The board, as far as it tells, and the processor."""
    board = _text("/proc/device-tree/model").strip("\0")
    lines = (line.partition(":") for line in _text("/proc/cpuinfo").splitlines())
    cpu = next((value.strip() for key, _, value in lines if key.strip() == "model name"), "")
    known = ", ".join(part for part in (board, cpu) if part)
    return known or platform.processor() or platform.machine() or "unknown hardware"


def _sensors() -> dict[str, float]:
    """Temperature and clock now, where the system shows them."""
    found: dict[str, float] = {}
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    degrees = [int(text) / 1000 for text in map(_text, map(str, zones)) if _whole(text)]
    if degrees:
        found["temperature_c"] = max(degrees)
    for name in ("scaling_cur_freq", "scaling_max_freq"):
        text = _text(f"/sys/devices/system/cpu/cpu0/cpufreq/{name}")
        if _whole(text):
            found["frequency_mhz" if "cur" in name else "max_frequency_mhz"] = int(text) / 1000
    return found


def _text(file: str) -> str:
    try:
        return Path(file).read_text(errors="replace")
    except OSError:
        return ""


def _whole(text: str) -> bool:
    return text.strip().lstrip("-").isdigit()


def _conditions(settings: Settings, info: dict[str, Any], result: Settings) -> str:
    """Under which conditions a measurement holds, in one line."""
    provider = settings["provider"].replace("ExecutionProvider", "")
    plural = "" if settings["threads"] == 1 else "s"
    line = (
        f"{info['runtime']} {provider}, batch {settings['batch']}, {settings['threads']} "
        f"thread{plural}, median of {result['n']} runs after {settings['warmup']} warm-ups, "
        f"device {info['name']}: {info['hardware']}"
    )
    after = result["sensors"]["after"]
    units = (("temperature_c", "°C"), ("frequency_mhz", "MHz"))
    return line + "".join(f", {after[key]:.0f} {unit}" for key, unit in units if key in after)


# --- the server ---


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, asked: argparse.Namespace, token: str | None) -> None:
        name = asked.host if ":" in asked.host else socket.gethostbyname(asked.host)
        host = ipaddress.ip_address(name)
        self.address_family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
        if not host.is_loopback and not token:
            raise Refused(
                f"{asked.host} can be reached from other machines, so a token is needed: set "
                f"{TOKEN_VARIABLE} to a secret, or serve on 127.0.0.1"
            )
        super().__init__((str(host), asked.port), _Handler)
        self.asked = asked
        self.token = token
        self.info = device_info(asked.name)
        self.info["limits"] = {
            "model_bytes": int(asked.max_mb * MEGABYTE),
            "memory_bytes": int(asked.memory_mb * MEGABYTE),
            "seconds": asked.timeout,
            "queue": asked.queue,
        }
        self.held = 0  # models in memory: one that is measured, the others wait
        self.counting = threading.Lock()
        self.measuring = threading.Lock()
        self.connections = threading.Semaphore(CONNECTIONS)

    def enter(self) -> bool:
        """Take a place in the queue, if there is one."""
        with self.counting:
            free = bool(self.held <= self.asked.queue)
            self.held += free
        return free

    def leave(self) -> None:
        """Give a place back."""
        with self.counting:
            self.held -= 1

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that went away is no error of this program."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = IDLE_SECONDS
    server_version = "parti-device"
    sys_version = ""

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def _answered(self, serve_it: Any) -> None:
        try:
            self._send(200, serve_it())
        except Refused as error:
            self._send(error.status, {"error": str(error)}, error.wait)

    def _get(self) -> Settings:
        path = urlsplit(self.path).path
        if path == "/health":
            return {"status": "ok", "protocol": PROTOCOL, "models": self.server.held}
        if path != "/info":
            raise Refused(f"there is no {path}; ask for /health, /info or /measure", 404)
        self._authorize()
        return self.server.info

    def _post(self) -> Settings:
        url = urlsplit(self.path)
        if url.path != "/measure":
            raise Refused(f"nothing can be sent to {url.path}; send models to /measure", 404)
        self._authorize()
        settings = _settings(url.query, self.server.info)
        length = self._length()
        server = self.server
        if not server.enter():
            self._body(length, keep=False)  # a client that is still sending would hear nothing
            raise Refused(f"{server.asked.queue} models are waiting already", 503, wait=1)
        try:
            model = self._body(length)
            check_model(model)
            with server.measuring:
                self._still_there()
                result = _run_measurement(model, settings, server.asked.timeout)
        finally:
            server.leave()
        del settings["memory"]
        conditions = _conditions(settings, server.info, result)
        return {**result, **settings, "device": server.info, "conditions": conditions}

    def _authorize(self) -> None:
        if self.headers.get("Origin"):
            raise Refused("web pages may not use this server", 403)
        given = self.headers.get("Authorization", "")
        expected = f"Bearer {self.server.token}"
        if self.server.token and not hmac.compare_digest(given.encode(), expected.encode()):
            raise Refused("the token is missing or wrong; send Authorization: Bearer TOKEN", 401)

    def _length(self) -> int:
        text = self.headers.get("Content-Length", "")
        most = self.server.info["limits"]["model_bytes"]
        if not (text.isascii() and text.isdigit()):
            raise Refused("the request does not say how long it is (Content-Length)", 411)
        if self.headers.get("Content-Type") != "application/octet-stream":
            raise Refused("send the model as Content-Type: application/octet-stream", 415)
        if int(text) > most:
            raise Refused(f"the model has {int(text)} bytes; this server takes up to {most}", 413)
        return int(text)

    def _body(self, length: int, keep: bool = True) -> bytes:
        parts, left, end = [], length, time.monotonic() + BODY_SECONDS
        while left:
            part = self.rfile.read1(min(left, MEGABYTE))
            if not part or time.monotonic() > end:
                raise Refused("the model did not arrive whole in time", 408)
            left -= len(part)
            if keep:
                parts.append(part)
        return b"".join(parts)

    def _still_there(self) -> None:
        """Measure nothing for a client that went away while it waited."""
        if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(
            1, socket.MSG_PEEK
        ):
            raise ConnectionAbortedError("the client went away")

    def _send(self, status: int, value: Settings, wait: int | None = None) -> None:
        body = json.dumps(value).encode()
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        if wait is not None:
            self.send_header("Retry-After", str(wait))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base
        if self.server.asked.verbose:
            print(f"{self.address_string()} {format % args}", file=sys.stderr, flush=True)


def _settings(query: str, info: dict[str, Any]) -> Settings:
    """Read and check the settings of a measurement."""
    allowed: dict[str, tuple[Any, float, float]] = {  # default, least, most
        "batch": (1, 1, 4096), "threads": (1, 1, info["cores"]), "warmup": (10, 0, 1000),
        "repeats": (30, 1, 100_000), "seconds": (0.2, 0, 60),
    }  # fmt: skip
    given = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(given.keys() - allowed.keys() - {"provider"}):
        raise Refused(f"unknown {', '.join(unknown)}; there are {', '.join(allowed)}, provider")
    settings: Settings = {"memory": info["limits"]["memory_bytes"]}
    for name, (default, least, most) in allowed.items():
        try:
            value = type(default)(given.get(name, default))
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise Refused(f"{name}={given[name]!r}: it must be from {least} to {most}")
        settings[name] = value
    settings["provider"] = given.get("provider", "CPUExecutionProvider")
    if settings["provider"] not in info["providers"]:
        raise Refused(f"provider={settings['provider']!r}: this device has {info['providers']}")
    return settings


def serve(arguments: list[str] | None = None) -> int:
    """Serve until interrupted; the first line printed says where.

    Args:
        arguments: of the command line; by default those of this program.

    Returns:
        The exit status: 0, or 2 when it cannot serve as asked.
    """
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.queue < 0 or not all(x > 0 for x in (asked.max_mb, asked.memory_mb, asked.timeout)):
        parser.error("--max-mb, --memory-mb and --timeout must be positive, --queue at least 0")
    try:
        server = _Server(asked, os.environ.get(TOKEN_VARIABLE) or None)
    except ImportError as error:
        print(f"{error.name} is missing: pip install numpy onnxruntime", file=sys.stderr)
        return 2
    except (Refused, OSError) as error:
        print(f"cannot serve on {asked.host}:{asked.port}: {error}", file=sys.stderr)
        return 2
    host, port = server.server_address[:2]
    shown = f"[{host!s}]" if ":" in str(host) else str(host)
    print(f"measuring on http://{shown}:{port} ({server.info['hardware']})", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on")
    parser.add_argument("--port", type=int, default=8900, help="0 takes a free one")
    parser.add_argument("--name", default="", help="what to call this device")
    parser.add_argument("--max-mb", type=float, default=100, help="largest model")
    parser.add_argument("--memory-mb", type=float, default=2048, help="most memory of a model")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for one measurement")
    parser.add_argument("--queue", type=int, default=4, help="models that may wait")
    parser.add_argument("--verbose", action="store_true", help="print each request")
    return parser


def main() -> None:
    """Serve, or measure one model when called by itself."""
    if sys.argv[1:] == ["--measure"]:
        _measure_here()
    sys.exit(serve())


if __name__ == "__main__":
    main()
