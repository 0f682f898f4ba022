"""A search whose latency is measured in another runtime, through the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from parti.app.cli import app

TINY = f"{Path(__file__).with_name('tiny_space.py')}:tiny"


def search(*more: str):
    arguments = [
        "search", "digits", "--trials", "2", "--space", TINY, "--epochs", "1",
        "--final-epochs", "1", "--finalists", "1", "--seeds", "1", "--no-baselines",
        "--study", "tiny", "--json", *more,
    ]  # fmt: skip
    return CliRunner().invoke(app, arguments)


def test_openvino_measures_trials_and_the_winner(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    monkeypatch.chdir(tmp_path)
    done = search("--runtime", "openvino", "--max", "latency_ms=100")
    assert done.exit_code == 0, done.output
    best = json.loads(done.stdout.splitlines()[-1])["best"]
    assert 0 < best["latency_ms"] < 100
    assert best["latency_conditions"].startswith("OpenVINO ")
    assert "fixed batch, batch 1, 1 thread, float32" in best["latency_conditions"]
    kept = json.loads((tmp_path / "parti-studies/tiny/result.json").read_text())
    assert kept["search_latency"].startswith("OpenVINO ")  # the trials, too


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "torch"])
def test_int8_is_refused_before_anything_is_trained(runtime, tmp_path: Path, monkeypatch) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    monkeypatch.chdir(tmp_path)
    done = search("--runtime", runtime, "--precision", "int8")
    assert done.exit_code == 2
    assert "quantize" in done.output
    assert "searching" not in done.output
