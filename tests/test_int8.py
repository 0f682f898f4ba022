"""Static quantization: smaller, nearly the same answers, float32 where it hurts."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import nn

from compression_makers import trained
from parti.core.errors import InvalidSettings, TrialError
from parti.deploy.check import onnx_logits
from parti.deploy.compression import int8
from parti.deploy.compression.int8 import quantize
from parti.deploy.compression.versions import raw_images
from parti.deploy.model import DeployedModel
from parti.evaluators.to_onnx import to_onnx


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    network, data = trained(16)
    file = tmp_path_factory.mktemp("int8") / "model.onnx"
    deployed = DeployedModel(network, data.mean, data.std).eval()
    file.write_bytes(to_onnx(deployed, data.input_shape))
    return file, data


def scorer(data):
    images = raw_images(data.val_images)

    def score(file: Path) -> float:
        return float((onnx_logits(file)(images).argmax(1) == data.val_labels).mean())

    return score


def test_it_is_small_and_right(model, tmp_path, capfd):
    file, data = model
    score = scorer(data)
    images = raw_images(data.train_images[:64])
    made = quantize(file, tmp_path / "q.onnx", images, score, floor=score(file) - 0.02)
    assert made.val_accuracy == score(made.file) >= score(file) - 0.02
    assert made.file.stat().st_size < file.stat().st_size
    assert [name for name, _ in made.tried] == ["minmax", "percentile", "entropy"]
    assert made.kept_float == ()
    assert made.layers == 5
    weights = {t.name: t for t in onnx.load(made.file).graph.initializer}
    int8 = [t for t in weights.values() if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]
    assert len(int8) == 5, "all convolutions and the classifier"
    graph = onnx.load(made.file)
    onnx.checker.check_model(graph, full_check=True)
    assert not graph.graph.value_info, "shapes of what is inside make the file larger"
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == ""
    one = onnx_logits(made.file)(images[:1])
    np.testing.assert_allclose(one, onnx_logits(made.file)(images[:7])[:1], atol=1e-5)
    right = onnx_logits(file)(images)
    assert np.abs(onnx_logits(made.file)(images) - right).max() < 0.2 * np.abs(right).max()


def test_it_computes_the_same_without_the_shapes_that_only_the_quantizer_needs(
    model, tmp_path, monkeypatch
):
    file, data = model
    images = raw_images(data.train_images[:64])
    lean = quantize(file, tmp_path / "lean.onnx", images, scorer(data), floor=0)
    monkeypatch.setattr(int8, "_without_shapes", Path.read_bytes)
    full = quantize(file, tmp_path / "full.onnx", images, scorer(data), floor=0)
    assert onnx.load(full.file).graph.value_info
    assert lean.file.stat().st_size < full.file.stat().st_size - 1000
    right = onnx_logits(full.file)(images)
    np.testing.assert_array_equal(onnx_logits(lean.file)(images), right)
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(lean.file), "CPU")
    np.testing.assert_allclose(compiled(images)[0], right, atol=0.1 * np.abs(right).max())


def test_the_layers_that_hurt_stay_float(model, tmp_path):
    file, data = model
    score, seen = scorer(data), []

    def strict(made: Path) -> float:
        """Say that it is good only when two layers are in float32."""
        graph = onnx.load(made).graph
        kinds = {t.data_type for t in graph.initializer if len(t.dims) == 4}
        weights = [t for t in graph.initializer if len(t.dims) > 1 and np.prod(t.dims) > 20]
        floats = [t for t in weights if t.data_type == onnx.TensorProto.FLOAT]
        seen.append(len(floats))
        return 1.0 if len(floats) >= 2 and kinds else score(made) - 0.5

    images = raw_images(data.train_images[:64])
    made = quantize(file, tmp_path / "q.onnx", images, strict, floor=0.99, methods=["minmax"])
    assert len(made.kept_float) == 2
    assert made.val_accuracy == 1.0
    assert [name for name, _ in made.tried] == [
        "minmax", "minmax, 1 in float32", "minmax, 2 in float32",
    ]  # fmt: skip
    assert seen[0] < seen[1] < seen[2]


def test_what_cannot_be_quantized_is_said(model, tmp_path):
    file, data = model
    images = raw_images(data.train_images[:4])
    with pytest.raises(InvalidSettings, match="no method"):
        quantize(file, tmp_path / "q", images, scorer(data), floor=0, methods=["best"])
    with pytest.raises(InvalidSettings, match="calibration images"):
        quantize(file, tmp_path / "q", images[:0], scorer(data), floor=0)
    idle = tmp_path / "idle.onnx"
    idle.write_bytes(to_onnx(nn.Sequential(nn.AvgPool2d(8), nn.Flatten()), (1, 8, 8)))
    with pytest.raises(TrialError, match="no layer to quantize"):
        quantize(idle, tmp_path / "q", images, scorer(data), floor=0)
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(file.read_bytes()[:100])
    with pytest.raises(TrialError, match="cannot quantize"):
        quantize(torn, tmp_path / "q", images, scorer(data), floor=0)
    assert not (tmp_path / "q").exists()
