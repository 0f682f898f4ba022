"""One command from data to a served model that was made smaller."""

import io
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from parti.app import searching
from parti.app.cli import app
from serving_makers import digits
from test_command_line import ENVIRONMENT, TINY, command


@pytest.mark.slow
def test_from_data_to_a_served_model(tmp_path: Path) -> None:
    asked = [
        "search", "digits", "--trials", "1", "--space", TINY, "--epochs", "1", "--final-epochs",
        "2", "--finalists", "1", "--seeds", "1", "--no-baselines", "--compress", "--serve", "0",
        "--json",
    ]  # fmt: skip
    with subprocess.Popen(
        command(*asked), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            found, compressed, served = (json.loads(process.stdout.readline()) for _ in range(3))
            assert compressed["study"] == found["study"]
            assert compressed["final"]["bytes"] <= compressed["source"]["bytes"]
            file = io.BytesIO()
            Image.fromarray(digits(1)[0]).save(file, "PNG")
            request = urllib.request.Request(f"{served['url']}/predict", file.getvalue())
            with urllib.request.urlopen(request, timeout=30) as answer:
                (said,) = json.load(answer)["predictions"]
            folder = Path(compressed["model"])
            image = tmp_path / "image.npy"
            np.save(image, digits(1)[0])
            alone = subprocess.run(
                [sys.executable, folder / "predict.py", image, "--json"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            (told,) = json.loads(alone.stdout)["predictions"]
            assert said["top"][0]["class"] == told["top"][0]["class"]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("option", "package"), [(["--compress"], "torch_pruning"), (["--serve", "0"], "uvicorn")]
)
def test_what_is_missing_is_said_before_the_search(
    option: list[str], package: str, monkeypatch, tmp_path: Path
) -> None:
    def absent(name: str) -> object:
        return None if name == package else find_spec(name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(searching, "find_spec", absent)
    monkeypatch.setattr("parti.deploy.serving.server.find_spec", absent)
    done = CliRunner().invoke(app, ["search", "digits", *option])
    assert done.exit_code == 2
    assert "pip install" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_compression_cannot_keep_to_is_refused_before_the_search(
    monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(searching, "find_spec", lambda name: name)
    asked = ["search", "digits", "--min", "val_accuracy_pgd=0.1", "--compress"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2
    assert "cannot keep to a limit on 'val_accuracy_pgd'" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_said_before_the_search(monkeypatch, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = CliRunner().invoke(app, ["search", "digits", "--serve", port])
    assert done.exit_code == 2
    assert f"port {port}, cannot be listened on" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("budget", "seconds"), [(["--budget", "20m"], 600.0), (["--trials", "3"], None)]
)
def test_compression_gets_half_of_the_budget_more(
    budget: list[str], seconds: float | None, monkeypatch, tmp_path: Path
) -> None:
    asked = []
    found = SimpleNamespace(study="one", folder=tmp_path)
    monkeypatch.setattr(searching, "run_search", lambda *_: found)
    monkeypatch.setattr(
        searching, "compress_and_show", lambda *_, **more: asked.append(more) or {"model": "."}
    )
    done = CliRunner().invoke(app, ["search", "digits", "--compress", *budget])
    assert done.exit_code == 0, done.output
    assert [more["seconds"] for more in asked] == [seconds]
