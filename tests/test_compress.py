"""Compression as a whole: what pays is kept, limits hold, and the study gets its files."""

import copy
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import parti
from compression_makers import RECIPE, trained, wide
from parti.app.compressing import register
from parti.core.errors import InvalidSettings
from parti.core.study import Constraint
from parti.deploy.card import FLOAT32
from parti.deploy.compression import versions
from parti.deploy.compression.plan import compress
from parti.deploy.compression.prune import Pruned
from parti.deploy.compression.ship import ship
from parti.deploy.compression.versions import raw_images
from parti.deploy.formats import onnx as onnx_format
from parti.deploy.predict_template import Model
from parti.deploy.serving.served import open_model
from parti.finding import Silent
from parti.finding.compressing import with_compression
from parti.finding.desk import Desk
from training_makers import toy_data

TINY = f"{Path(__file__).with_name('tiny_space.py')}:tiny"
SHORT = replace(RECIPE, epochs=5, average="ema")


@pytest.fixture(scope="module", autouse=True)
def swift():
    """The quick exporter, and a short look at the clock: neither is what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (versions, onnx_format):
            patch.setattr(module, "to_onnx", partial(module.to_onnx, quick=True))
        timed = versions.measure_latency
        patch.setattr(
            versions,
            "measure_latency",
            lambda file, shape, **_: timed(file, shape, repeats=5, min_seconds=0.0),
        )
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trained network, its data, and all steps of its compression."""
    network, data = trained(8)
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
    monkeypatch.setattr("parti.deploy.compression.steps.distill", never)
    again = compress(
        network, data, folder, recipe=SHORT, max_accuracy_drop=0.05, threads=1,
        steps=("prune", "distill"),
    )  # fmt: skip
    for first, second in zip(compressed.steps[:2], again.steps, strict=True):
        assert first.after.metrics["val_accuracy"] == second.after.metrics["val_accuracy"]
        assert first.after.metrics["macs"] == second.after.metrics["macs"]


@pytest.mark.parametrize(
    ("first", "last", "kept", "said"),
    [
        (5.0, 4.0, True, ["0.40 of the latency"]),
        (10.0, 2.0, False, ["1.00 of the latency: no gain", "again", "0.20 of the latency"]),
    ],
)
def test_reasons_agree_with_the_table_or_say_why_not(
    first, last, kept, said, made, tmp_path, monkeypatch
):
    network, data, *_ = made
    calls = Counter()

    def timed(file, *_args, **_kwargs):
        calls[file.stem] += 1
        later = calls["fold"] > versions.ROUNDS
        latency = 10.0 if file.stem == "source" else last if later else first
        return SimpleNamespace(median_ms=latency, p95_ms=latency, conditions="invented")

    monkeypatch.setattr(versions, "measure_latency", timed)
    monkeypatch.setattr("parti.deploy.compression.plan.LEAST_GAIN", 1.5)
    monkeypatch.setattr("parti.deploy.compression.plan.EXACT", frozenset())  # as other steps
    asked = {"recipe": SHORT, "steps": ("fold",), "threads": 1}
    (step,) = compress(network, data, tmp_path / "a", **asked).steps
    assert step.kept is kept
    assert step.after.metrics["latency_ms"] == last
    assert all(text in step.why for text in said), step.why
    assert ("again" in step.why) is ("again" in said)


@pytest.mark.parametrize(
    ("turns", "kept"),
    [([10.2], True), ([9.8], True), ([13.0], False), ([13.0, 10.0, 16.0], True)],
)
def test_a_step_that_changes_no_output_is_not_undone_by_noise(
    turns, kept, made, tmp_path, monkeypatch
):
    """Folding saves a percent of the bytes; a clock that is 2 % off must not decide."""
    network, data, *_ = made
    calls = Counter()

    def timed(file, *_args, **_kwargs):
        calls[file.stem] += 1
        latency = 10.0 if file.stem == "source" else turns[calls[file.stem] % len(turns)]
        return SimpleNamespace(median_ms=latency, p95_ms=latency, conditions="invented")

    monkeypatch.setattr(versions, "measure_latency", timed)
    (step,) = compress(network, data, tmp_path, recipe=SHORT, steps=("fold",), threads=1).steps
    assert 0.97 < step.after.metrics["bytes"] / step.before.metrics["bytes"] < 1
    assert step.kept is kept, step.why


def test_latencies_within_the_noise_that_was_measured_are_equal():
    def version(size, latency, noise):
        metrics = {"bytes": size, "latency_ms": latency}
        return versions.Version("v", Path("v"), torch.nn.Identity(), metrics, "", noise)

    quiet = version(100, 10.0, 0.0)
    assert versions.gain(quiet, version(50, 10.2, 0.0)) == 2
    assert versions.gain(quiet, version(50, 12.5, 0.0)) == pytest.approx(1.6)
    assert versions.gain(quiet, version(50, 12.5, 0.3)) == 2
    assert versions.gain(version(100, 10.0, 0.2), version(50, 12.5, 0.2)) == 2
    assert versions.gain(quiet, version(100, 5.0, 0.3)) == 2


def test_a_limit_on_auc_is_measured_and_kept_to(made, tmp_path):
    network, data, *_ = made
    asked = {"recipe": SHORT, "steps": ("fold",), "threads": 1}
    lax = compress(network, data, tmp_path / "a", limits=[Constraint("val_auc", 0.5)], **asked)
    assert lax.broken == (Constraint("val_auc", 0.5),), "0.5 is the most that is allowed"
    least = Constraint("val_auc", at_least=0.5)
    assert compress(network, data, tmp_path / "b", limits=[least], **asked).broken == ()
    one = replace(data, val_images=data.val_images[:1], val_labels=data.val_labels[:1])
    with pytest.raises(InvalidSettings, match="val_auc cannot be measured on these validation"):
        compress(network, one, tmp_path / "c", limits=[least], **asked)


def test_a_compressed_model_has_temperatures_of_its_own(made, tmp_path):
    from parti.deploy.check import onnx_logits
    from parti.tasks.calibration import fit_temperature

    _, data, _, compressed = made
    labels, images = torch.from_numpy(data.val_labels), raw_images(data.val_images)

    def fitted(version):
        return fit_temperature(torch.from_numpy(onnx_logits(version.file)(images)), labels)

    assert compressed.source.temperature == pytest.approx(fitted(compressed.source), rel=1e-4)
    wide = replace(compressed.final, temperature=0.25)
    exact = replace(compressed.float32, temperature=None)
    info = {"classes": list(data.classes), "mean": data.mean, "std": data.std, "temperature": 9.0}
    for rounded in (False, True):
        folder = tmp_path / f"{rounded}"
        one = replace(compressed, final=wide, float32=exact if rounded else wide)
        ship(one, folder, info=info, samples=images[:4])
        told = json.loads((folder / "model.json").read_text())
        assert told["temperature"] == 0.25
        assert ("temperatures" in told) is rounded
        logits = Model(folder).logits(data.val_images)
        np.testing.assert_allclose(
            Model(folder).probabilities(data.val_images),
            torch.from_numpy(logits).double().div(0.25).softmax(1),
            atol=1e-6,
        )
        if rounded:
            own = Model(folder, file=FLOAT32)
            np.testing.assert_allclose(
                own.probabilities(data.val_images),
                torch.from_numpy(own.logits(data.val_images)).double().softmax(1),
                atol=1e-6,
            )


def test_cuts_by_another_measure_are_not_gone_on_with(made, tmp_path, monkeypatch):
    network, data, *_, first = made
    seen = []

    def pruned(network, *_args, metric, load, save, **_kwargs):
        seen.append((metric, load()))
        save({"cut by": metric})
        return Pruned(network, ())

    monkeypatch.setattr("parti.deploy.compression.steps.prune", pruned)
    small = Constraint("params", at_most=0.1 * first.source.metrics["params"])
    for limits in ([], [small], []):
        compress(network, data, tmp_path, recipe=SHORT, limits=limits, steps=("prune",), threads=1)
    assert seen == [("macs", None), ("params", None), ("macs", {"cut by": "macs"})]


def test_a_step_that_breaks_a_limit_is_undone(made, tmp_path, monkeypatch):
    network, data, _, first = made
    monkeypatch.setattr("parti.deploy.compression.prune.MOST_CUTS", 1)
    held = Constraint("params", at_least=first.source.metrics["params"])  # any cut breaks it
    compressed = compress(
        network, data, tmp_path / "a", recipe=SHORT, limits=[held], steps=("prune",),
        max_accuracy_drop=1.0, threads=1,
    )  # fmt: skip
    (step,) = compressed.steps
    assert step.after.metrics["params"] < first.source.metrics["params"]
    assert not step.kept
    assert str(held) in step.why
    assert compressed.final == compressed.source
    assert compressed.broken == ()


def test_a_step_that_mends_a_limit_is_kept_though_it_is_no_gain(tmp_path, monkeypatch):
    monkeypatch.setattr("parti.deploy.compression.plan.LEAST_GAIN", 1e9)
    network, data = wide(24).eval(), toy_data()
    asked = {"recipe": SHORT, "steps": ("int8",), "max_accuracy_drop": 1.0, "threads": 1}
    plain = compress(network, data, tmp_path / "a", **asked)
    assert not plain.quantized
    limit = Constraint("bytes", at_most=0.9 * plain.source.metrics["bytes"])
    mended = compress(network, data, tmp_path / "b", limits=[limit], **asked)
    assert mended.quantized
    assert mended.broken == ()


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


@pytest.mark.parametrize("steps", [("fold",), ("fold", "int8")])
def test_the_folder_is_complete_and_predicts_by_itself(steps, made, tmp_path, monkeypatch):
    network, data, *_ = made
    monkeypatch.setattr("parti.deploy.compression.plan.LEAST_GAIN", 0)  # int8 may be slower here
    compressed = compress(
        network, data, tmp_path / "work", recipe=SHORT, steps=steps, max_accuracy_drop=1.0
    )
    rounded = compressed.quantized
    assert rounded is ("int8" in steps)
    folder = tmp_path / "model"
    info = {"classes": list(data.classes), "mean": data.mean, "std": data.std}
    images = raw_images(data.val_images)
    ship(compressed, folder, info=info, samples=images[:8])

    described = json.loads((folder / "model.json").read_text())
    files = {"model.onnx", "model.pt2", "predict.py"} | ({FLOAT32} if rounded else set())
    assert set(described["files"]) == files
    assert {file.name for file in folder.iterdir()} == {*files, "model.json", "README.md"}
    assert described["files"]["model.onnx"]["bytes"] == compressed.final.metrics["bytes"]
    assert described["latency_ms"]["onnx"] == compressed.final.metrics["latency_ms"]
    assert set(described["agreement"]) == {"torch_export", FLOAT32 if rounded else "onnx"}
    assert described["quantized"] is rounded
    card = (folder / "README.md").read_text()
    for said in (f"--model {FLOAT32}", "8-bit integers"):
        assert (said in card) is rounded

    np.save(tmp_path / "images.npy", data.val_images)
    ran = subprocess.run(
        [sys.executable, str(folder / "predict.py"), str(tmp_path / "images.npy"), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    named = [row["top"][0]["class"] for row in json.loads(ran.stdout)["predictions"]]
    right = [data.classes[label] for label in data.val_labels]
    share = np.mean([a == b for a, b in zip(named, right, strict=True)])
    assert share == pytest.approx(compressed.final.metrics["val_accuracy"])
    for file in sorted({name for name in files if name.endswith(".onnx")}):
        own = Model(folder, file=file).logits(data.val_images)
        np.testing.assert_allclose(open_model(folder, file).logits(images), own, atol=1e-4)
    with torch.no_grad():
        true = network((torch.from_numpy(images) - data.mean[0]) / data.std[0]).numpy()
    exact = Model(folder, file=FLOAT32 if rounded else "model.onnx").logits(data.val_images)
    np.testing.assert_allclose(exact, true, atol=1e-3 * np.abs(true).max())


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
        tmp_path / "stripes.npz", trials=2, epochs=1, final_epochs=4, finalists=2, space=TINY,
        baselines=False, study="s", store=store, watcher=Silent(),
    )  # fmt: skip
    opened, sealed = [], Desk.sealed
    monkeypatch.setattr(Desk, "sealed", lambda desk: opened.append(1) or sealed(desk))
    app = typer.Typer()
    register(app)
    app.command()(lambda: None)
    asked = [
        "compress",
        "s",
        "--steps",
        "distill,fold,int8",
        "--drop",
        "0.1",
        "--store",
        store,
        "--json",
    ]
    first = CliRunner().invoke(app, asked)
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout.splitlines()[-1])
    assert opened == [1]
    assert found["test_openings"] == 2
    assert found["final"]["test_accuracy"] > 0.8
    folder = tmp_path / "s"
    assert json.loads((folder / "compression.json").read_text()) == found
    assert json.loads((folder / "result.json").read_text())["test_openings"] == 2
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
