"""`parti measure`: a study's model, and what compression made of it, on each runtime."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import parti
from parti.app.cli import app
from parti.core.errors import InvalidSettings
from parti.finding import measured
from parti.finding.measured import measure_study, versions_of

TINY = f"{Path(__file__).with_name('tiny_space.py')}:tiny"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[parti.finding.Found, str]:
    """A finished study "one", as if compression had folded it and another step had been lost."""
    store = f"sqlite:///{tmp_path_factory.mktemp('measure')}/s.db"
    random = np.random.default_rng(0)
    data = random.integers(0, 255, (80, 10, 12, 3), dtype=np.uint8), np.arange(80) % 2
    found = parti.find(
        data, trials=2, epochs=1, final_epochs=1, finalists=1, space=TINY, baselines=False,
        study="one", store=store, watcher=parti.finding.Silent(),
    )  # fmt: skip
    place = found.folder / "compression"
    place.mkdir()
    shutil.copy(found.folder / "model" / "model.onnx", place / "fold.onnx")
    steps = [
        {"name": "fold", "after": {"val_accuracy": 0.25}},
        {"name": "prune", "after": {"val_accuracy": 0.5}},
        {"name": "int8"},
    ]
    (found.folder / "compression.json").write_text(json.dumps({"steps": steps}))
    return found, store


def test_versions_are_the_model_and_what_steps_have_left(study) -> None:
    found, _ = study
    own, folded = versions_of(found)
    assert (own.name, own.val_accuracy) == ("model", found.best["val_accuracy"])
    assert (folded.name, folded.val_accuracy) == ("fold", 0.25)


def test_each_version_is_measured_where_it_can_be(study) -> None:
    _, store = study
    asked = ["measure", "one", "--runtime", "onnxruntime", "--runtime", "torch", "--no-memory"]
    done = CliRunner().invoke(app, [*asked, "--throughput-batch", "2", "--store", store, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    rows = told["rows"]
    ran = [(row["version"], row["runtime"], row["precision"]) for row in rows]
    assert ran[:3] == [
        ("model", "onnxruntime", "float32"),
        ("fold", "onnxruntime", "float32"),
        ("model", "torch", "float32"),
    ]
    assert [row["val_accuracy"] for row in rows[:2]] == [
        study[0].best["val_accuracy"], 0.25,
    ]  # fmt: skip
    for row in rows:
        assert 0 < row["latency_ms"] <= row["latency_p95_ms"]
        assert "batch 1, 1 thread" in row["latency_conditions"]
        assert "batch 2, 1 thread" in row["throughput_conditions"]
        assert row["file_bytes"] > 0
        assert row["memory_bytes"] is None
    left_out = [(entry["runtime"], entry["precision"]) for entry in told["left_out"]]
    assert ("onnxruntime", "bfloat16") in left_out


def test_the_table_fits_a_terminal(study) -> None:
    _, store = study
    asked = ["measure", "one", "--runtime", "onnxruntime", "--no-memory", "--store", store]
    done = CliRunner().invoke(app, asked, env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    head = done.stdout.splitlines()[0].split()
    assert head == ["version", "val", "%", "runtime", "precision", "ms", "images/s", "KiB", "MiB"]
    assert "…" not in done.stdout


def test_what_is_left_out_is_said_to_the_letter(study, monkeypatch) -> None:
    """Brackets, as in names of extras, are markup to the library that prints."""
    _, store = study
    reason = "pip install 'parti[executorch]'"
    here = {("onnxruntime", "float32")}
    monkeypatch.setattr(measured, "unavailable", lambda *asked: "" if asked in here else reason)
    asked = ["measure", "one", "--no-memory", "--store", store]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert f"executorch, float32: {reason}" in done.stdout


def test_what_is_not_here_is_refused(study) -> None:
    found, store = study
    done = CliRunner().invoke(app, ["measure", "one", "--runtime", "abacus", "--store", store])
    assert done.exit_code == 2
    assert "no runtime 'abacus'" in done.output
    with pytest.raises(InvalidSettings, match="nothing can be measured"):
        measure_study(found, runtimes=["onnxruntime"], precisions=["bfloat16"])
