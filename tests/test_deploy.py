import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from measured_networks import NETWORKS, SpaceOf, plain, warmed
from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, PartiError
from parti.deploy import export as exporting
from parti.deploy.again import export_again
from parti.deploy.card import card
from parti.deploy.check import ExportError, ExportMismatch, agreement, onnx_logits, torch_logits
from parti.deploy.export import export
from parti.deploy.formats import onnx as onnx_format
from parti.deploy.model import DeployedModel, load_model
from parti.deploy.temperature import fitted_temperature
from parti.tasks.calibration import COLDEST, HOTTEST

SHAPE = (1, 8, 8)
MEAN, STD = [77.0], [95.0]
INFO = {
    "name": "digits",
    "classes": [f"digit {i}" for i in range(10)],
    "architecture": Architecture({"width": 16, "op": "conv3", "kernels": ("3", "5")}),
    "value_range": (0, 255),
    "metrics": {"test_accuracy": np.float32(0.9875), "latency_ms": 0.12},
    "conditions": {"test_accuracy": "test split, 270 images, seed 0"},
    "data": {"source": "digits", "images": 1797},
}


def samples(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *SHAPE)).astype(np.float32)


def model_of(name: str = "plain") -> DeployedModel:
    torch.manual_seed(0)
    return DeployedModel(warmed(NETWORKS[name](1, 10), SHAPE), MEAN, STD).eval()


def quick(folder: Path, **changes):
    given = {"info": INFO, "samples": samples(), "formats": ("safetensors",), **changes}
    return export(model_of(), folder, **given)


class Batched(nn.Module):
    """Builds the size of the traced batch into its computation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :10] * float(x.shape[0])


class Deciding(nn.Module):
    """Takes one of two ways, by the values of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)[:, :10]
        return x if bool(x.sum() > 0.5) else x + 1


def test_the_model_normalises_raw_pixels():
    network = plain()
    model = DeployedModel(network, MEAN, STD).eval()
    images = torch.from_numpy(samples())
    torch.testing.assert_close(model(images), network((images - 77) / 95))


@pytest.mark.parametrize(
    ("mean", "std"), [([0.0], [1.0, 1.0]), ([], []), ([0.0], [0.0]), ([np.nan], [1.0])]
)
def test_a_normalisation_that_cannot_work_is_refused(mean, std):
    with pytest.raises(InvalidSettings):
        DeployedModel(plain(), mean, std)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_format_computes_what_the_trained_model_computes(name, tmp_path, capfd):
    model = model_of(name)
    given = samples(20)
    result = export(model, tmp_path / "out", info=INFO, samples=given)
    assert capfd.readouterr() == ("", "")
    assert set(result.files) == {
        "README.md",
        "model.json",
        "model.onnx",
        "model.pt2",
        "predict.py",
        "weights.safetensors",
    }
    other = samples(70)[20:]  # images that the export never saw
    expected = torch_logits(model)(other)
    np.testing.assert_allclose(
        onnx_logits(result.folder / "model.onnx")(other), expected, rtol=1e-4, atol=1e-5
    )
    program = torch.export.load(result.folder / "model.pt2").module()
    with torch.no_grad():
        got = program(torch.from_numpy(other)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    again = load_model(result.folder, SpaceOf(lambda: NETWORKS[name](1, 10)))
    np.testing.assert_array_equal(torch_logits(again)(other), expected)
    assert result.agreements["safetensors"].difference == 0
    assert all(a.difference <= a.tolerance < 1e-2 for a in result.agreements.values())


def test_the_description_says_all_that_is_known(tmp_path):
    folder = quick(tmp_path / "out").folder
    told = json.loads((folder / "model.json").read_text())
    assert told["classes"] == INFO["classes"]
    assert told["architecture"] == {"width": 16, "op": "conv3", "kernels": ["3", "5"]}
    assert (told["input_shape"], told["mean"], told["std"]) == ([1, 8, 8], MEAN, STD)
    assert told["value_range"] == [0, 255]
    assert told["metrics"]["test_accuracy"] == pytest.approx(0.9875)
    assert told["files"]["weights.safetensors"]["bytes"] > 0
    text = (folder / "README.md").read_text()
    assert "| test_accuracy | 0.9875 | test split, 270 images, seed 0 |" in text
    assert "| latency_ms | 0.12 | not stated |" in text
    assert "## License\n\nNot chosen yet" in text
    assert "## Use" not in text  # there is no predict.py without ONNX


def test_the_card_can_be_read_and_shared(tmp_path):
    info = {
        **INFO,
        "metrics": {"macs": 1_824_230.0, "params": 1_000, "val_loss": 0.25},
        "data": {"origin": "/home/somebody/secret/photos", "classes": ["a", "b"], "notes": []},
    }
    folder = quick(tmp_path / "out", info=info).folder
    text = (folder / "README.md").read_text()
    assert "| macs | 1,824,230 | counted: multiplications of one image |" in text
    assert "| params | 1,000 | counted" in text
    assert "| val_loss | 0.25 | validation images |" in text
    assert "## Architecture\n\n```\nwidth = 16\nop = conv3\n" in text
    assert "| origin | photos |\n| classes | a, b |\n| notes | none |" in text
    assert "secret" not in text + (folder / "model.json").read_text()
    assert "network.py" not in text  # there is none
    assert "load_model" in text
    described = json.loads((folder / "model.json").read_text())
    described["data"]["origin"] = "/home/somebody/secret/photos"  # as older exports have it
    assert "secret" not in card(described)
    described["files"]["network.py"] = {"bytes": 1}
    assert "by name, for network.py and `parti" in card(described)


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), "1", True])
def test_a_temperature_must_be_a_number_over_0(value, tmp_path):
    with pytest.raises(InvalidSettings):
        quick(tmp_path / "out", info={**INFO, "temperature": value})
    assert not (tmp_path / "out").exists()


def test_a_temperature_is_written_down_where_one_was_found(tmp_path):
    for value, written in ((0.25, 0.25), (None, None), (COLDEST, None), (HOTTEST, None)):
        folder = quick(tmp_path / "out", info={**INFO, "temperature": value}).folder
        assert json.loads((folder / "model.json").read_text()).get("temperature") == written
        text = (folder / "README.md").read_text()
        assert ("softmax(logits / 0.25)" in text) is (written is not None)
        assert ("were not calibrated" in text) is (written is None)
    certain = fitted_temperature(10 * torch.eye(4), torch.arange(4))
    assert certain is None, "every image is right: the colder the better"


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)]
)
def test_files_may_be_read_by_whom_the_umask_lets(umask, file, folder, tmp_path):
    before = os.umask(umask)
    try:
        quick(tmp_path / "model")
        (tmp_path / "model" / "weights.safetensors").chmod(0o600)  # as older exports have it
        export_again(tmp_path / "model", tmp_path / "copy")
    finally:
        os.umask(before)
    for place in (tmp_path / "model", tmp_path / "copy"):
        for path in (place, *place.rglob("*")):
            if path != tmp_path / "model" / "weights.safetensors":
                assert stat.S_IMODE(path.stat().st_mode) == (folder if path.is_dir() else file)
    assert not list(tmp_path.rglob(".mode"))


def test_the_model_is_left_as_it_was(tmp_path):
    model = model_of().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export(model, tmp_path / "out", info=INFO, samples=samples(), formats=("safetensors",))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_model_trained_channels_last_and_with_shared_weights_is_exported(tmp_path):
    convolution = nn.Conv2d(1, 1, 3, padding=1)
    network = nn.Sequential(convolution, nn.ReLU(), convolution, nn.Flatten(), nn.Linear(64, 10))
    model = DeployedModel(network.to(memory_format=torch.channels_last), MEAN, STD)
    result = export(model, tmp_path / "out", info=INFO, samples=samples(), formats=("safetensors",))
    assert result.agreements["safetensors"].difference == 0


def test_a_tampered_file_is_refused(tmp_path, monkeypatch):
    def tampered(network, input_shape):
        graph = onnx.load_from_string(original(network, input_shape, quick=True))
        weights = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        values = np.frombuffer(weights.raw_data, np.float32) * np.float32(1.01)
        weights.raw_data = values.tobytes()
        return graph.SerializeToString()

    original = onnx_format.to_onnx
    monkeypatch.setattr(onnx_format, "to_onnx", tampered)
    with pytest.raises(ExportMismatch, match=r"model\.onnx differs from the trained model by"):
        quick(tmp_path / "out", formats=("onnx",))
    assert not list(tmp_path.iterdir())


def test_a_network_whose_export_depends_on_batch_or_values_is_refused(tmp_path):
    for network, reason in [(Batched(), "size of the batch|gives logits"), (Deciding(), "decide")]:
        model = DeployedModel(network, MEAN, STD)
        with pytest.raises(ExportMismatch, match=reason):
            export(model, tmp_path / "a", info=INFO, samples=samples(), formats=("onnx",))
    with pytest.raises(ExportError, match=r"Leave out the format 'torch_export'"):
        export(model, tmp_path / "a", info=INFO, samples=samples(), formats=("torch_export",))
    assert not list(tmp_path.iterdir())


def test_agreement_allows_rounding_and_ties_and_nothing_else():
    truth = np.array([[0.0, 10.0], [3.0, 3.0 - 1e-6], [7.0, 1.0]], np.float32)
    images = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)  # each tells its place

    def shifted(by: np.ndarray):
        return lambda x: (truth + by.astype(np.float32))[x.astype(int).ravel()]

    same = shifted(np.zeros_like(truth))
    found = agreement(same, shifted(np.full_like(truth, 5e-4)), images, "x")
    assert found.difference == pytest.approx(5e-4, rel=1e-2)
    assert found.tolerance == pytest.approx(1e-5 + 1e-3)
    tied = np.zeros_like(truth)
    tied[1, 1] = 5e-6
    agreement(same, shifted(tied), images, "x")  # the second image's class turns
    with pytest.raises(ExportMismatch, match=r"one by one|batch"):
        agreement(same, shifted(np.full_like(truth, 2e-3)), images, "x")
    with pytest.raises(ExportMismatch, match="gives logits of shape"):
        agreement(same, lambda x: truth[: len(x), :1], images, "x")
    with pytest.raises(ExportMismatch, match="finite: False"):
        agreement(same, shifted(np.full_like(truth, np.nan)), images, "x")
    with pytest.raises(ExportError, match="trained model gives NaN"):
        agreement(shifted(np.full_like(truth, np.nan)), same, images, "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ("tflite",)}, "no format 'tflite'; choose from onnx"),
        ({"formats": ()}, "no format was asked for"),
        ({"samples": samples()[0]}, r"shape \(1, 8, 8\)"),
        ({"samples": samples()[:0]}, "n at least 1"),
        ({"info": {"name": "x"}}, "info needs 'classes'"),
        ({"info": {"classes": ["a", "b"]}}, r"2 classes, but .* \[batch, 10\]"),
        ({"info": {**INFO, "data": {1, 2}}}, "JSON values only"),
        ({"info": {**INFO, "metrics": {"x": float("nan")}}}, "JSON values only"),
    ],
)
def test_arguments_are_checked_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(InvalidSettings, match=message):
        quick(tmp_path / "out", **changes)
    assert not list(tmp_path.iterdir())


def test_a_killed_export_leaves_nothing_under_the_name(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "card", killed)
    with pytest.raises(KeyboardInterrupt):
        quick(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    quick(tmp_path / "out")
    before = (tmp_path / "out" / "README.md").read_text()
    monkeypatch.setattr(exporting, "card", killed)
    with pytest.raises(KeyboardInterrupt):
        quick(tmp_path / "out", info={**INFO, "name": "other"})
    assert (tmp_path / "out" / "README.md").read_text() == before


def test_an_earlier_export_is_replaced_and_anything_else_is_not(tmp_path):
    quick(tmp_path / "out")
    (tmp_path / "out" / "left.over").touch()
    quick(tmp_path / "out")
    assert not (tmp_path / "out" / "left.over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    with pytest.raises(InvalidSettings, match="no earlier export"):
        quick(mine)
    assert (mine / "thesis.tex").exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match="choose another folder"):
        quick(tmp_path / "file" / "out")


def test_loading_another_network_is_an_error_that_says_so(tmp_path):
    folder = quick(tmp_path / "out").folder
    with pytest.raises(PartiError, match="the space it came from"):
        load_model(folder, SpaceOf(lambda: plain(width=16)))
    with pytest.raises(PartiError, match=re.escape(str(tmp_path / "none"))):
        load_model(tmp_path / "none", SpaceOf(plain))


def test_a_broken_onnx_file_is_an_error(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"not a graph")
    with pytest.raises(ExportError, match="cannot open"):
        onnx_logits(file)
