"""A real server, asked by clients that are not ours."""

import http.client
import json
import os
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from serving_makers import (
    CLASSES,
    INFER,
    TOKEN,
    ask,
    command,
    digits,
    exported,
    form,
    metric,
    png,
    post,
    some,
    talk,
    tensor_body,
    triton_input,
)

pytest.importorskip("uvicorn")
tritonclient = pytest.importorskip("tritonclient.http")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a model, and the model in PyTorch."""
    folder = tmp_path_factory.mktemp("serving") / "model"
    return folder, exported(folder)


@pytest.fixture(scope="module")
def server(made):
    with command(str(made[0]), "--threads", "1") as running:
        yield running


@pytest.fixture(scope="module")
def waiting(made):
    """A server whose requests wait for one another."""
    with command(str(made[0]), "--max-delay-ms", "700", "--max-batch", "16") as running:
        yield running


def logits(made, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return made[1](torch.from_numpy(images)).numpy()


# The protocol, asked by Triton's own client


def test_tritons_client_finds_the_model(server):
    with tritonclient.InferenceServerClient(server.netloc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits-of-8-8")
        assert client.is_model_ready("digits-of-8-8", "1")
        assert not client.is_model_ready("another")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        model = client.get_model_metadata("digits-of-8-8", "1")
    assert model["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
    assert model["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]
    assert server.first == {"url": server.url, "model": "digits-of-8-8", "token": False}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritons_client_gets_what_the_trained_network_computes(server, made, binary_in, binary_out):
    images = some(20)
    outputs = None
    if binary_out is not None:
        outputs = [tritonclient.InferRequestedOutput("logits", binary_data=binary_out)]
    with tritonclient.InferenceServerClient(server.netloc) as client:
        result = client.infer(
            "digits-of-8-8",
            [triton_input(images, binary_in)],
            outputs=outputs,
            request_id="seven",
            model_version="1",
        )
    np.testing.assert_allclose(
        result.as_numpy("logits"), logits(made, images), rtol=1e-4, atol=1e-5
    )
    assert result.get_response()["id"] == "seven"


def test_tritons_client_is_told_what_is_wrong(server):
    with tritonclient.InferenceServerClient(server.netloc) as client:
        with pytest.raises(Exception, match=r"\[400\].*\[n, 1, 8, 8\]"):
            client.infer("digits-of-8-8", [triton_input(np.zeros((1, 1, 9, 9), np.float32))])
        with pytest.raises(Exception, match=r"\[404\].*no model 'other'"):
            client.infer("other", [triton_input(some(1))])
        with pytest.raises(Exception, match=r"\[415\].*compressed"):
            client.infer(
                "digits-of-8-8", [triton_input(some(1))], request_compression_algorithm="gzip"
            )


# Images


def test_images_are_classified_as_predict_py_does(server, made):
    from parti.deploy.predict_template import Model

    body, kind = form(*(png(image) for image in digits(5)))
    code, found, _ = ask(server, "/predict?top=3", body, content_type=kind)
    assert code == 200
    assert found["model"] == "digits-of-8-8"
    expected = Model(made[0], threads=1).predict(digits(5), top=3)
    for i, (one, best) in enumerate(zip(found["predictions"], expected, strict=True)):
        assert (one["index"], one["file"]) == (i, f"{i}.png")
        assert [row["class"] for row in one["top"]] == [name for name, _ in best]
        np.testing.assert_allclose(
            [row["probability"] for row in one["top"]], [share for _, share in best], rtol=1e-4
        )


def test_an_image_can_be_the_body(server):
    code, found, _ = ask(server, "/predict", png(digits(1)[0]), content_type="image/png")
    assert code == 200
    assert len(found["predictions"][0]["top"]) == 1
    code, found, _ = ask(server, "/predict?top=99", png(digits(1)[0]))
    assert sorted(row["class"] for row in found["predictions"][0]["top"]) == sorted(CLASSES)


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        ("/predict", b"hello", "image/png", 415),
        ("/predict", b"", "image/png", 400),
        ("/predict", png(digits(1)[0])[:60], "image/png", 400),
        ("/predict?top=0", png(digits(1)[0]), "image/png", 400),
        ("/predict?top=" + "9" * 5000, png(digits(1)[0]), "image/png", 200),
        ("/predict?top=-1", png(digits(1)[0]), "image/png", 400),
        ("/predict?top=%C2%B2", png(digits(1)[0]), "image/png", 400),
        ("/predict", *form(), 400),
        ("/predict", *form(png(digits(1)[0]), b"hello"), 415),
        ("/predict", form(b"x")[0][:-20], form(b"x")[1], 400),
        ("/predict", b"hello", "multipart/form-data", 400),
        ("/predict", b"hello", "multipart/form-data; boundary=" + "b" * 3000, 400),
        ("/predict", *form(*[b"x"] * 65), 400),
        ("/predict", b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--xyz--\r\n',
         "multipart/form-data; boundary=xyz", 400),
        (INFER, b"{", "application/json", 400),
        (INFER, b"[" * 200_000, "application/json", 400),
        (INFER, b"", "application/json", 400),
        (INFER + "?x=1", tensor_body(some(1)), "application/json", 200),
        (INFER, tensor_body(some(1).repeat(65, 0)), "application/json", 413),
        ("/v2/models/digits-of-8-8/versions/2/infer", tensor_body(some(1)), "", 404),
        ("/v2/models/..%2f..%2fetc%2fpasswd/infer", tensor_body(some(1)), "", 404),
        ("/v2/models/digits-of-8-8", b"x", "", 405),
    ],
)  # fmt: skip
def test_each_wrong_request_is_answered_and_the_server_goes_on(server, path, body, kind, status):
    code, found, headers = ask(server, path, body, content_type=kind)
    assert code == status, found
    if status != 200:
        assert list(found) == ["error"]
        assert headers["content-type"] == "application/json"
    assert ask(server, "/v2/health/ready")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/v2/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
     "/model.json", "/v2/models/%2e%2e/ready", "/static/page.js", "/v2/models/a%00b", "/%ff"],
)  # fmt: skip
def test_no_path_leads_to_files(server, path):
    connection = http.client.HTTPConnection(*server.address, timeout=5)
    connection.request("GET", path)  # sent as it is
    answer = connection.getresponse()
    assert answer.status == 404
    assert b"root:" not in answer.read()
    connection.close()


def test_only_its_own_name_and_page_may_use_a_server_without_token(server):
    assert ask(server, "/v2", Host="rebound.example")[0] == 421
    body, kind = form(png(digits(1)[0]))
    assert ask(server, "/predict", body, content_type=kind, Origin="http://other.example")[0] == 403
    code, _, headers = ask(server, "/predict", body, content_type=kind, Origin=server.url)
    assert code == 200
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_the_page_is_shown_with_its_policy(server):
    code, html, headers = ask(server, "/")
    assert code == 200
    assert html.startswith(b"<!doctype html>")
    assert "script-src 'sha256-" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert b"Classify an image with digits-of-8-8" in html
    assert b"digit 9" in html


# Together


def test_answers_in_a_batch_are_those_alone(waiting, made):
    images = some(12)

    def one(i: int) -> np.ndarray:
        with tritonclient.InferenceServerClient(waiting.netloc) as client:
            result = client.infer("digits-of-8-8", [triton_input(images[i : i + 1 + i % 2])])
            return result.as_numpy("logits")

    runs = metric(waiting, "parti_batch_images_count")
    with ThreadPoolExecutor(11) as pool:
        answers = list(pool.map(one, range(11)))
    assert 1 <= metric(waiting, "parti_batch_images_count") - runs < 11
    for i, answer in enumerate(answers):
        expected = logits(made, images[i : i + 1 + i % 2])
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_a_client_that_left_is_not_computed(waiting):
    before = metric(waiting, "parti_batch_images_sum")
    body = tensor_body(some(3))
    with socket.create_connection(waiting.address) as client:
        client.sendall(post(INFER, body, waiting.netloc))
        time.sleep(0.2)
    deadline = time.monotonic() + 5
    line = (
        f'parti_requests_total{{route="{INFER.replace("digits-of-8-8", "{name}")}",status="499"}}'
    )
    while metric(waiting, line) < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert metric(waiting, line) == 1
    time.sleep(0.8)
    assert metric(waiting, "parti_batch_images_sum") == before
    assert metric(waiting, "parti_queue_requests") == 0


def test_many_clients_at_once_are_all_answered(server, made):
    images = some(40)
    expected = logits(made, images)

    def client(k: int) -> None:
        connection = http.client.HTTPConnection(*server.address, timeout=20)
        for i in range(k, 40, 8):
            connection.request("POST", INFER, tensor_body(images[i : i + 1]))
            answer = json.loads(connection.getresponse().read())
            got = np.array(answer["outputs"][0]["data"])
            np.testing.assert_allclose(got, expected[i], rtol=1e-4, atol=1e-5)
        connection.close()

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(client, [i % 8 for i in range(40)]))


def test_pipelined_requests_are_answered_in_order(server):
    first = post(INFER, tensor_body(some(1), id="first"), server.netloc)
    second = post(
        INFER, tensor_body(some(1), id="second"), server.netloc, more="Connection: close\r\n"
    )
    answer = talk(server, first + second)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b'"first"') < answer.index(b'"second"')


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_being_answered_is_finished_before_it_stops(made, number):
    with command(str(made[0]), "--max-delay-ms", "1000") as running:
        with ThreadPoolExecutor(5) as pool:
            asked = [pool.submit(ask, running, INFER, tensor_body(some(1))) for _ in range(4)]
            idle = socket.create_connection(running.address)
            while metric(running, "parti_queue_requests") < 4:
                time.sleep(0.01)
            os.kill(running.process.pid, number)
            assert [answer.result()[0] for answer in asked] == [200] * 4
        idle.close()
        assert running.process.wait(10) == 0
        assert running.process.stderr.read() == ""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(running.address)


def test_the_token_comes_from_the_environment_too(made):
    with command(str(made[0]), "--host", "0.0.0.0", PARTI_TOKEN=TOKEN) as running:
        port = running.address[1]
        url = f"http://127.0.0.1:{port}/v2"
        assert running.first["token"] is True
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(url, timeout=5)


def test_probabilities_are_tempered_and_logits_are_not(made, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(made[0], folder)
    told = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**told, "temperature": 0.1}))
    right = logits(made, some(1))[0]
    expected = np.exp((right - right.max()) / 0.1)
    with command(str(folder), PARTI_TOKEN=TOKEN) as running:
        key = {"authorization": f"Bearer {TOKEN}"}
        body, kind = form(png(digits(1)[0]))
        answer = ask(running, "/predict?top=10", body, content_type=kind, **key)[1]
        top = answer["predictions"][0]["top"]
        assert [one["class"] for one in top] == [f"digit {k}" for k in np.argsort(-right)]
        assert top[0]["probability"] == pytest.approx(1 / expected.sum(), rel=1e-3)
        raw = ask(running, INFER, tensor_body(some(1)), content_type="application/json", **key)[1]
        np.testing.assert_allclose(raw["outputs"][0]["data"], right, rtol=1e-3, atol=1e-4)
        page = ask(running, "/")[1]
        assert b"Classify an image" in page
        assert b"digit" not in page, "who has no token is told nothing of the model"


def test_a_folder_without_a_model_is_told_from_a_study_that_is_not_there(made, tmp_path):
    import typer
    from typer.testing import CliRunner

    from parti.app import serving

    app = typer.Typer()
    serving.register(app)
    store = ["--store", f"sqlite:///{tmp_path}/none.db"]
    (tmp_path / "empty").mkdir()
    said = " ".join(CliRunner().invoke(app, [str(tmp_path / "empty"), *store]).output.split())
    assert "no model.json with a model.onnx" in said
    assert "a folder that `parti export` has written" in said
    study = CliRunner().invoke(app, [str(made[0].parent), *store])
    assert study.exit_code == 2
    said = " ".join(study.output.split())
    assert f"name {made[0]}, or the study by its name, {made[0].parent.name}" in said


def test_a_port_that_is_taken_is_said_so(server, made):
    from parti.core.errors import InvalidSettings
    from parti.deploy.serving.server import ServeSettings, serve

    with pytest.raises(InvalidSettings, match="another --port"):
        serve(ServeSettings(made[0], port=server.address[1]), lambda _: pytest.fail("served"))


def test_a_study_or_a_folder_is_served(made, monkeypatch):
    from types import SimpleNamespace

    import typer
    from typer.testing import CliRunner

    from parti.app import serving
    from parti.deploy.serving import server as serving_server

    served = []
    app = typer.Typer()
    serving.register(app)
    monkeypatch.setattr(serving_server, "serve", lambda settings, ready: served.append(settings))
    found = SimpleNamespace(folder=made[0].parent)
    monkeypatch.setattr(serving, "finished_study", lambda study, store: found)
    run = CliRunner().invoke
    assert run(app, [str(made[0]), "--max-delay-ms", "5", "--max-body", "3"]).exit_code == 0
    assert run(app, ["a-study"]).exit_code == 0
    assert [settings.folder for settings in served] == [made[0], made[0].parent / "model"]
    assert (served[0].delay_s, served[0].limits.body_bytes) == (0.005, 3 * 2**20)
    assert run(app, [str(made[0]), "--timeout", "0"]).exit_code == 2
    monkeypatch.undo()
    failed = run(app, ["no-such-study", "--store", "sqlite:///no/such.db"])
    assert failed.exit_code == 2
    assert "no store" in failed.output
