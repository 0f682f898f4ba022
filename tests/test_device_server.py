"""The program that measures models on a device: right numbers, and nothing that a model can do."""

import ast
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.device_makers import BINARY, SERVER, ask, device, model

from parti.deploy.device_server import Refused, check_model, serve


@pytest.fixture(scope="module")
def url():
    with device("--timeout", "6", "--memory-mb", "600", "--max-mb", "2", "--queue", "1") as found:
        yield found


def endless() -> bytes:
    """Loops 2^62 times over a small product."""
    from onnx import TensorProto, helper, numpy_helper

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Sin", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["times", "yes", "x"], ["y"], body=body)
    constants = [
        numpy_helper.from_array(np.array(2**62), "times"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    return model([loop], initializers=constants)


def enormous() -> bytes:
    """Asks for a tensor of 4 TB."""
    from onnx import helper, numpy_helper

    shape = numpy_helper.from_array(np.array([10**6, 10**6]), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"]),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return model(nodes, initializers=[shape])


def with_external_data(location: str = "/etc/hostname", where: str = "initializer") -> bytes:
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    cast = helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)
    if where == "initializer":
        return model([cast], initializers=[tensor])
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    if where == "constant":
        return model([constant, cast])
    inner = helper.make_graph(
        [constant, cast], "inner", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    )
    yes = helper.make_node("Constant", [], ["yes"], value_int=1)
    to_bool = helper.make_node("Cast", ["yes"], ["b"], to=TensorProto.BOOL)
    branch = helper.make_node("If", ["b"], ["out"], then_branch=inner, else_branch=inner)
    return model([yes, to_bool, branch], outputs=("out",))


def test_a_model_is_measured_with_its_conditions(url) -> None:
    status, found = ask(url, "/measure", model(), batch=3, warmup=2, repeats=20, seconds=0)
    assert status == 200, found
    assert 0 < found["median_ms"] <= found["p95_ms"] < 1000
    assert found["n"] == 20
    assert found["batch"] == 3
    info = found["device"]
    assert found["conditions"].startswith(info["runtime"])
    for part in ("batch 3", "1 thread", "median of 20 runs after 2 warm-ups", info["hardware"]):
        assert part in found["conditions"]
    assert info["cores"] >= 1
    assert "CPUExecutionProvider" in info["providers"]


def test_a_larger_batch_takes_longer(url) -> None:
    from onnx import helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((512, 512), np.float32), "w")
    product = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    made = model(product, (("x", ("batch", 512)),), [weights])
    small, large = (
        ask(url, "/measure", made, batch=batch, repeats=5, seconds=0)[1]["median_ms"]
        for batch in (1, 1024)
    )
    assert large > 4 * small


@pytest.mark.parametrize("where", ["initializer", "constant", "subgraph"])
def test_no_file_of_the_device_is_read(url, where: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"1234")
    for location in (str(secret), "secret", "../secret"):
        status, answer = ask(url, "/measure", with_external_data(location, where))
        assert status == 422
        assert "another file" in answer["error"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 422, "no graph"),
        (b"not a model", 422, "no ONNX model"),
        (b"\xff" * 5000, 422, "no ONNX model"),
        (b"\x3a\xff\xff\xff\xff\x0f", 422, "ends too early"),
        (b"abcdORTMabcd", 422, "own format"),
    ],
)
def test_what_is_no_model_is_refused(url, body: bytes, status: int, reason: str) -> None:
    found, answer = ask(url, "/measure", body)
    assert found == status
    assert reason in answer["error"]


def test_a_model_that_hangs_is_killed(url) -> None:
    began = time.monotonic()
    status, answer = ask(url, "/measure", endless())
    assert status == 504
    assert "6 s" in answer["error"]
    assert time.monotonic() - began < 30
    assert ask(url, "/measure", model())[0] == 200  # and the server goes on


def test_a_model_that_wants_all_memory_fails_alone(url) -> None:
    status, _ = ask(url, "/measure", enormous())
    assert status == 422
    from onnx import helper

    huge = model([helper.make_node("Identity", ["x"], ["y"])], (("x", ("batch", 2**20, 2**10)),))
    status, answer = ask(url, "/measure", huge)
    assert status == 422
    assert "memory" in answer["error"]
    assert ask(url, "/measure", model())[0] == 200


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"batch": 0}, "batch='0'"),
        ({"batch": "x"}, "batch='x'"),
        ({"threads": 10**6}, "threads"),
        ({"seconds": "nan"}, "seconds"),
        ({"seconds": 1e9}, "seconds"),
        ({"provider": "Nonsense"}, "this device has"),
        ({"colour": "red"}, "unknown colour"),
    ],
)
def test_settings_are_checked(url, query: dict, reason: str) -> None:
    status, answer = ask(url, "/measure", model(), **query)
    assert status == 400
    assert reason in answer["error"]


def test_inputs_that_cannot_be_made_are_explained(url) -> None:
    from onnx import helper

    node = [helper.make_node("Identity", ["x"], ["y"])]
    status, answer = ask(url, "/measure", model(node, (("x", ("batch", "height")),)))
    assert status == 422
    assert "height" in answer["error"]
    status, answer = ask(url, "/measure", model(node, (("x", (1, 4)),)), batch=2)
    assert status == 422
    assert "batch 1, not 2" in answer["error"]


def test_only_what_is_offered_is_served(url) -> None:
    assert ask(url, "/")[0] == 404
    assert ask(url, "/../../etc/passwd")[0] == 404
    assert ask(url, "/info", b"x")[0] == 404
    assert ask(url, "/measure", model(), {"Content-Type": "text/plain"})[0] == 415
    assert ask(url, "/measure", model(), {**BINARY, "Origin": "http://evil"})[0] == 403
    assert ask(url, "/health")[1]["status"] == "ok"


def test_a_size_is_refused_before_the_body_is_read(url) -> None:
    with socket.create_connection(urlsplit(url).netloc.split(":"), timeout=10) as client:
        client.sendall(
            b"POST /measure HTTP/1.0\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: 99999999999\r\n\r\n"
        )
        assert b" 413 " in client.makefile("rb").readline()


def test_a_full_queue_says_when_to_come_again(url) -> None:
    answers: list[int] = []
    slow = {"repeats": 1, "seconds": 1.5}

    def measure() -> None:
        answers.append(ask(url, "/measure", model(), **slow)[0])

    threads = [threading.Thread(target=measure) for _ in range(2)]
    for thread in threads:
        thread.start()
    while ask(url, "/health")[1]["models"] < 2:
        time.sleep(0.02)
    with socket.create_connection(urlsplit(url).netloc.split(":"), timeout=10) as client:
        client.sendall(
            b"POST /measure HTTP/1.0\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: 3\r\n\r\nabc"
        )
        said = client.makefile("rb").read()
    assert b" 503 " in said.splitlines()[0]
    assert b"Retry-After: 1" in said
    for thread in threads:
        thread.join()
    assert answers == [200, 200]
    assert ask(url, "/health")[1]["models"] == 0


def test_a_token_is_asked_for() -> None:
    with device(token="secret") as url:
        right = {"Authorization": "Bearer secret"}
        assert ask(url, "/health")[0] == 200
        assert ask(url, "/info")[0] == 401
        assert ask(url, "/info", headers={"Authorization": "Bearer wrong"})[0] == 401
        assert ask(url, "/info", headers={"Authorization": "Bearer sécret"})[0] == 401
        assert ask(url, "/info", headers=right)[0] == 200
        assert ask(url, "/measure", model())[0] == 401
        assert ask(url, "/measure", model(), {**BINARY, **right})[0] == 200


def test_other_machines_are_not_served_without_a_token() -> None:
    done = subprocess.run(
        [sys.executable, str(SERVER), "--host", "0.0.0.0", "--port", "0"],
        capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin:/bin"}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "PARTI_DEVICE_TOKEN" in done.stderr


@pytest.mark.parametrize("option", ["--max-mb=-1", "--memory-mb=0", "--timeout=0", "--queue=-1"])
def test_limits_that_nothing_can_meet_are_refused(option: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        serve(["--port", "0", option])
    assert ended.value.code == 2
    assert "must be positive" in capsys.readouterr().err


def test_the_file_alone_is_enough_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Copied to a folder of its own, on a Python that cannot import parti."""
    copied = tmp_path / "device_server.py"
    shutil.copy(SERVER, copied)
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(copied.read_text(), feature_version=(3, 9)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else
                     [alias.name for alias in node.names])
    }  # fmt: skip
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}
    with device(file=copied) as url:
        assert ask(url, "/measure", model())[0] == 200
    assert [path.name for path in tmp_path.iterdir()] == ["device_server.py"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_model_or_refused(data: bytes) -> None:
    with suppress(Refused):
        check_model(data)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_model_is_never_one_that_reads_files(place: int, byte: int) -> None:
    """Whatever is changed, what passes the check has no external data as ONNX itself reads it."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    data = bytearray(with_external_data("x", "constant"))
    data[place % len(data)] = byte
    try:
        check_model(bytes(data))
        parsed = onnx.ModelProto.FromString(bytes(data))
    except (Refused, DecodeError):
        return
    assert not any(uses_external_data(tensor) for tensor in _get_all_tensors(parsed))


def test_networks_of_parti_are_models() -> None:
    from tests.training_makers import small_network

    from parti.evaluators.to_onnx import to_onnx

    check_model(to_onnx(small_network(), (1, 8, 8), quick=True))
