"""Compression as a whole: what pays is kept, limits hold, and the study gets its files."""

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import parti
from compression_makers import RECIPE, trained
from parti.app.compressing import register
from parti.core.errors import InvalidSettings
from parti.core.study import Constraint
from parti.deploy.compression.plan import compress
from parti.deploy.compression.ship import ship
from parti.deploy.compression.versions import raw_images
from parti.finding import Silent
from parti.finding.compressing import with_compression
from parti.finding.desk import Desk

TINY = f"{Path(__file__).with_name('tiny_space.py')}:tiny"
SHORT = replace(RECIPE, epochs=5, average="ema")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trained network, its data, and all steps of its compression."""
    network, data = trained(12)
    folder = tmp_path_factory.mktemp("compress") / "work"
    before = copy.deepcopy(network.state_dict())
    compressed = compress(network, data, folder, recipe=SHORT, max_accuracy_drop=0.05, threads=1)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    return network, data, folder, compressed


def test_every_step_says_what_it_cost_and_gained(made):
    *_, compressed = made
    assert [step.name for step in compressed.steps] == ["prune", "distill", "fold", "int8"]
    assert all(step.why and step.seconds > 0 for step in compressed.steps)
    floor = compressed.source.metrics["val_accuracy"] - 0.05
    assert compressed.final.metrics["val_accuracy"] >= floor
    assert compressed.steps[0].kept
    assert all(step.after is not None for step in compressed.steps[:3])
    assert compressed.final.metrics["macs"] < 0.8 * compressed.source.metrics["macs"]
    assert compressed.final.metrics["bytes"] < compressed.source.metrics["bytes"]
    assert compressed.broken == ()
    assert compressed.versions[0].name == "source"
    assert compressed.versions[-1] == compressed.final


def test_a_call_that_was_stopped_goes_on(made, monkeypatch):
    network, data, folder, compressed = made

    def never(*_args, **_kwargs):
        raise AssertionError("it was trained already")

    monkeypatch.setattr("parti.deploy.compression.prune.train", never)
    monkeypatch.setattr("parti.deploy.compression.plan.distill", never)
    again = compress(
        network, data, folder, recipe=SHORT, max_accuracy_drop=0.05, threads=1,
        steps=("prune", "distill"),
    )  # fmt: skip
    for first, second in zip(compressed.steps[:2], again.steps, strict=True):
        assert first.after.metrics["val_accuracy"] == second.after.metrics["val_accuracy"]
        assert first.after.metrics["macs"] == second.after.metrics["macs"]


def test_a_step_that_breaks_a_limit_is_undone(made, tmp_path):
    network, data, *_ = made
    held = Constraint("params", at_least=1000)
    compressed = compress(
        network, data, tmp_path / "a", recipe=SHORT, limits=[held], steps=("prune",),
        max_accuracy_drop=1.0, threads=1,
    )  # fmt: skip
    (step,) = compressed.steps
    if step.after.metrics["params"] < 1000:
        assert not step.kept
        assert "1000" in step.why
    assert compressed.final.metrics["params"] >= 1000
    assert compressed.broken == ()


def test_a_limit_that_is_out_of_reach_is_never_shipped(made, tmp_path):
    network, data, *_ = made
    limit = Constraint("params", at_most=10)
    compressed = compress(
        network, data, tmp_path / "a", recipe=SHORT, limits=[limit], steps=("fold",), threads=1
    )
    assert compressed.broken == (limit,)
    info = {"classes": ["a", "b"], "mean": data.mean, "std": data.std}
    with pytest.raises(InvalidSettings, match="params ≤ 10"):
        ship(compressed, tmp_path / "out", info=info, samples=raw_images(data.val_images[:4]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"steps": ("int8", "prune")}, "in this order"),
        ({"steps": ()}, "none"),
        ({"limits": [Constraint("speed", at_most=1)]}, "speed"),
        ({"max_accuracy_drop": 1.5}, "max_accuracy_drop=1.5"),
        ({"seconds": 0.0}, "more than 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(made, tmp_path, asked, said):
    network, data, *_ = made
    with pytest.raises(InvalidSettings, match=said):
        compress(network, data, tmp_path / "none", recipe=SHORT, **asked)
    assert not (tmp_path / "none").exists()


def test_the_folder_predicts_by_itself(made, tmp_path):
    _, data, _, compressed = made
    folder = tmp_path / "model"
    info = {"classes": list(data.classes), "mean": data.mean, "std": data.std}
    ship(compressed, folder, info=info, samples=raw_images(data.val_images[:8]))
    described = json.loads((folder / "model.json").read_text())
    assert described["files"]["model.onnx"]["bytes"] == compressed.final.metrics["bytes"]
    np.save(tmp_path / "images.npy", data.val_images)
    ran = subprocess.run(
        [sys.executable, str(folder / "predict.py"), str(tmp_path / "images.npy"), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    named = [row["top"][0]["class"] for row in json.loads(ran.stdout)["predictions"]]
    right = [data.classes[label] for label in data.val_labels]
    share = np.mean([a == b for a, b in zip(named, right, strict=True)])
    assert share == pytest.approx(compressed.final.metrics["val_accuracy"])
    if compressed.quantized:
        assert (folder / "model_float32.onnx").exists()
        assert described["quantized"] is True


def stripes() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(240) % 2
    images = random.integers(0, 60, (240, 8, 8, 1), dtype=np.uint8)
    for i, label in enumerate(labels):
        images[i][(slice(None), slice(None, None, 2)) if label else slice(None, None, 2)] += 150
    return images, labels


def test_a_finished_study_from_the_command_line(tmp_path, monkeypatch):
    np.savez(tmp_path / "stripes.npz", images=stripes()[0], labels=stripes()[1])
    store = f"sqlite:///{tmp_path}/s.db"
    parti.find(
        tmp_path / "stripes.npz", trials=2, epochs=1, final_epochs=6, finalists=2, space=TINY,
        baselines=False, study="s", store=store, watcher=Silent(),
    )  # fmt: skip
    opened, sealed = [], Desk.sealed
    monkeypatch.setattr(Desk, "sealed", lambda desk: opened.append(1) or sealed(desk))
    app = typer.Typer()
    register(app)
    app.command()(lambda: None)
    asked = ["compress", "s", "--drop", "0.1", "--store", store, "--json"]
    first = CliRunner().invoke(app, asked)
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout.splitlines()[-1])
    assert opened == [1]
    assert found["test_openings"] == 2
    assert found["final"]["test_accuracy"] > 0.8
    folder = tmp_path / "s"
    assert json.loads((folder / "compression.json").read_text()) == found
    assert with_compression({}, folder) == {"compression": found}
    assert (folder / "compressed" / "predict.py").exists()
    second = CliRunner().invoke(app, asked)
    assert json.loads(second.stdout.splitlines()[-1]) == found
    assert opened == [1], "the same question again does not open the test split"
    refused = CliRunner().invoke(
        app, ["compress", "s", "--steps", "fold", "--max", "params=1", "--store", store, "--json"]
    )
    assert refused.exit_code == 3
    assert "no compressed model keeps to the limits" in refused.stdout
    assert opened == [1], "what is not shipped is not tested"
