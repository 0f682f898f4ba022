"""Every format of an exported model: what it holds, that it is checked, and making it later."""

import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import tritonclient
from google.protobuf import text_format

from measured_networks import NETWORKS, warmed
from parti.core.errors import InvalidSettings
from parti.deploy import export as exporting
from parti.deploy.again import export_again
from parti.deploy.check import ExportError, ExportMismatch, onnx_logits, torch_logits
from parti.deploy.export import export
from parti.deploy.formats import FORMATS, USUAL, checked_formats
from parti.deploy.model import DeployedModel
from parti.tasks.images import read_images

SHAPE = (1, 8, 8)
INFO = {"classes": [f"digit {i}" for i in range(10)], "value_range": (0, 255)}


def digits(n: int = 12) -> np.ndarray:
    images = read_images("digits").images[:n]
    return np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2), dtype=np.float32)


def model_of(name: str = "plain") -> DeployedModel:
    torch.manual_seed(0)
    return DeployedModel(warmed(NETWORKS[name](1, 10), SHAPE), [77.0], [95.0]).eval()


def exported(folder: Path, *formats: str, **more):
    return export(model_of(), folder, info=INFO, samples=digits(), formats=formats, **more)


def told(folder: Path) -> dict:
    return json.loads((folder / "model.json").read_text())


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A study's folder with the usual formats and the samples that were kept."""
    folder = tmp_path_factory.mktemp("study")
    exported(folder / "model", *USUAL, keep=folder / "samples.npz")
    return folder


def test_a_static_graph_has_no_free_size_and_no_batch_norm(tmp_path):
    result = exported(tmp_path / "out", "onnx_static")
    graph = onnx.load(tmp_path / "out" / "model-static.onnx").graph
    sizes = [d for v in (*graph.input, *graph.output) for d in v.type.tensor_type.shape.dim]
    assert all(size.dim_value and not size.dim_param for size in sizes)
    assert {node.op_type for node in graph.node}.isdisjoint({"BatchNormalization", "Identity"})
    assert result.agreements["onnx_static"].images == 12
    assert result.latencies["onnx_static"] > 0


def test_a_triton_repository_has_the_layout_and_the_fields_that_triton_reads(tmp_path):
    result = exported(tmp_path / "out", "triton")
    assert {
        "triton/model/config.pbtxt",
        "triton/model/labels.txt",
        "triton/model/1/model.onnx",
    } <= (set(result.files))
    model = tmp_path / "out" / "triton" / "model"
    assert (model / "labels.txt").read_text().splitlines() == INFO["classes"]
    text = " ".join((model / "config.pbtxt").read_text().split())
    assert 'name: "model" backend: "onnxruntime" max_batch_size: 64' in text
    assert '{ name: "images" data_type: TYPE_FP32 dims: [ 1, 8, 8 ] }' in text
    assert 'name: "logits" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt"' in text
    assert "dynamic_batching {" in text
    graph = onnx.load(model / "1" / "model.onnx").graph
    assert (graph.input[0].name, graph.output[0].name) == ("images", "logits")
    assert (
        graph.input[0].type.tensor_type.shape.dim[0].dim_param
    )  # Triton's max_batch_size needs it


def test_triton_itself_would_read_the_configuration(tmp_path):
    """Parsed by the schema that NVIDIA ships with its client: unknown fields and types raise."""
    file = Path(tritonclient.__file__).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    schema = importlib.util.module_from_spec(spec)  # the package itself would ask for grpcio
    spec.loader.exec_module(schema)
    exported(tmp_path / "out", "triton")
    text = (tmp_path / "out" / "triton" / "model" / "config.pbtxt").read_text()
    config = text_format.Parse(text, schema.ModelConfig())
    (images,), (logits,) = config.input, config.output
    assert (config.name, config.backend, config.max_batch_size) == ("model", "onnxruntime", 64)
    assert images.data_type == logits.data_type == schema.TYPE_FP32
    assert (list(images.dims), list(logits.dims)) == ([*SHAPE], [10])
    assert config.HasField("dynamic_batching")
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text + "\nmax_batch: 3", schema.ModelConfig())


def test_openvino_keeps_float32_and_any_batch(tmp_path):
    pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    from parti.evaluators.runtimes.openvino import openvino_request

    result = exported(tmp_path / "out", "openvino")
    assert {"model.xml", "model.bin"} <= set(result.files)
    weights = sum(p.numel() for p in model_of().network.parameters())
    assert result.files["model.bin"] > 3.5 * weights  # half precision would be 2 bytes each
    for n in (1, 5):
        request = openvino_request(tmp_path / "out" / "model.xml", (n, *SHAPE))
        got = request.infer([digits(n)])[0]
        np.testing.assert_allclose(got, torch_logits(model_of())(digits(n)), rtol=1e-4, atol=1e-5)


def test_executorch_computes_the_same(tmp_path):
    pytest.importorskip("executorch", reason="the extra 'executorch' is not installed")
    result = exported(tmp_path / "out", "executorch")
    assert result.agreements["executorch"].difference <= result.agreements["executorch"].tolerance
    assert (tmp_path / "out" / "model.pte").read_bytes()[4:6] == b"ET"


def test_every_format_is_checked_and_timed_on_the_given_images(tmp_path, monkeypatch):
    seen = []

    def noted(trained, compute, samples, file):
        seen.append((file, samples))
        return original(trained, compute, samples, file)

    original = exporting.agreement
    monkeypatch.setattr(exporting, "agreement", noted)
    result = exported(tmp_path / "out", "safetensors", "pytorch")
    assert [file for file, _ in seen] == ["weights.safetensors", "network.py"]
    assert all(np.array_equal(samples, digits()) for _, samples in seen)
    described = told(tmp_path / "out")
    assert described["latency_ms"] == dict(result.latencies)
    conditions = described["latency_conditions"]["pytorch"]
    assert "network.py, 1 thread, median of at least 20" in conditions


def test_formats_may_be_named_with_commas_and_unknown_ones_are_refused(monkeypatch):
    assert checked_formats(["onnx,triton", "onnx", " pytorch"]) == ("onnx", "triton", "pytorch")
    with pytest.raises(InvalidSettings, match="no format 'tflite'; choose from onnx, safetensors"):
        checked_formats(["onnx,tflite"])
    monkeypatch.setattr("parti.deploy.formats.find_spec", lambda name: None)
    with pytest.raises(InvalidSettings, match=r"pip install 'parti\[openvino\]'"):
        checked_formats(["openvino"])


def test_a_copy_holds_what_was_asked_for(study, tmp_path):
    export_again(study / "model", tmp_path / "all", None)
    original = {file.name: file.read_bytes() for file in (study / "model").iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "all").iterdir()} == original
    export_again(study / "model", tmp_path / "one", ["safetensors"])
    names = {file.name for file in (tmp_path / "one").iterdir()}
    assert names == {"README.md", "model.json", "weights.safetensors"}
    with pytest.raises(InvalidSettings, match="exists"):
        export_again(study / "model", tmp_path / "one", None)


def test_a_copy_tells_of_its_own_files_and_of_no_others(study, tmp_path):
    original = told(study / "model")
    for wanted, made in (("safetensors", []), ("safetensors,pytorch", ["pytorch"])):
        copy = tmp_path / wanted
        export_again(study / "model", copy, [wanted])
        described = told(copy)
        files = {f.name for f in copy.iterdir()} - {"model.json", "README.md"}
        assert set(described["files"]) == files
        for key in ("agreement", "latency_ms", "latency_conditions"):
            assert list(described[key]) == ["safetensors", *made]
        assert described["agreement"]["safetensors"] == original["agreement"]["safetensors"]
        text = (copy / "README.md").read_text()
        assert "onnx" not in text
        assert "predict.py" not in text
        assert all(f"`{file}`" in text for file in files)
        rest = original.keys() - {"files", "agreement", "latency_ms", "latency_conditions"}
        assert all(described[key] == original[key] for key in rest)


def test_a_triton_repository_keeps_its_graph_where_onnx_is_left_out(tmp_path):
    exported(tmp_path / "model", "onnx", "triton", "torch_export")
    export_again(tmp_path / "model", tmp_path / "copy", ["triton"])
    graph = Path("triton/model/1/model.onnx")
    assert (tmp_path / "copy" / graph).read_bytes() == (tmp_path / "model" / graph).read_bytes()
    assert {f.name for f in (tmp_path / "copy").iterdir()} == {"README.md", "model.json", "triton"}
    size = sum(f.stat().st_size for f in (tmp_path / "copy/triton").rglob("*") if f.is_file())
    row = f"| `triton` | {size / 1024:,.1f} KiB | a model repository for the Triton"
    assert row in (tmp_path / "copy/README.md").read_text()


def test_a_copy_needs_a_model_and_a_place(study, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match="nothing can be written in"):
        export_again(study / "model", tmp_path / "file" / "copy", None)
    with pytest.raises(ExportError, match="holds no exported model"):
        export_again(tmp_path / "none", tmp_path / "copy", None)


def test_formats_that_are_not_there_are_made_of_the_program_and_checked(study, tmp_path):
    files = export_again(study / "model", tmp_path / "more", ["pytorch,triton"])
    names = {file.relative_to(tmp_path / "more").as_posix() for file in files}
    assert names == {
        "README.md",
        "model.json",
        "network.py",
        "triton/model/1/model.onnx",
        "triton/model/config.pbtxt",
        "triton/model/labels.txt",
        "weights.safetensors",
    }
    described = told(tmp_path / "more")
    assert described["agreement"]["triton"]["images"] == 12  # those that the study kept
    assert set(described["files"]) == names - {"README.md", "model.json"}
    assert "network.py" in (tmp_path / "more" / "README.md").read_text()
    other = digits(40)[12:]
    got = onnx_logits(tmp_path / "more" / "triton" / "model" / "1" / "model.onnx")(other)
    np.testing.assert_allclose(got, torch_logits(model_of())(other), rtol=1e-4, atol=1e-5)


def test_a_later_format_that_computes_something_else_is_refused(study, tmp_path, monkeypatch):
    from parti.deploy.formats import onnx_static

    def tampered(model, input_shape, batch):
        with torch.no_grad():
            model.network[0].weight[0] *= 1.05
        return original(model, input_shape, batch=batch, quick=True)

    original = onnx_static.to_onnx
    monkeypatch.setattr(onnx_static, "to_onnx", tampered)
    with pytest.raises(ExportMismatch, match=r"model-static\.onnx differs"):
        export_again(study / "model", tmp_path / "bad", ["onnx_static"])
    assert not list(tmp_path.iterdir())


def test_later_formats_need_the_program(tmp_path):
    exported(tmp_path / "model", "safetensors")
    with pytest.raises(ExportError, match=r"has no model\.pt2, of which pytorch would be made"):
        export_again(tmp_path / "model", tmp_path / "more", ["pytorch"])


def test_without_kept_images_random_pixels_are_compared(tmp_path):
    exported(tmp_path / "model", "torch_export")
    export_again(tmp_path / "model", tmp_path / "more", ["pytorch"])
    assert told(tmp_path / "more")["agreement"]["pytorch"]["images"] == 64


def test_the_source_runs_without_parti(study, tmp_path):
    export_again(study / "model", tmp_path / "more", ["pytorch"])
    np.save(tmp_path / "images.npy", digits())
    program = f"""
        import sys, importlib.util
        sys.path[:] = [p for p in sys.path if "parti" not in p and "/src" not in p]
        sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]
        assert importlib.util.find_spec("parti") is None
        sys.path.insert(0, {str(tmp_path / "more")!r})
        import numpy, torch
        from network import load
        with torch.no_grad():
            logits = load()(torch.from_numpy(numpy.load({str(tmp_path / "images.npy")!r})))
        numpy.save({str(tmp_path / "logits.npy")!r}, logits.numpy())
        assert not [name for name in sys.modules if name.startswith("parti")]
    """
    command = [sys.executable, "-I", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = torch_logits(model_of())(digits())
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-5, atol=1e-6)


def test_names_and_files_of_formats_are_their_own():
    assert len({form.file for form in FORMATS.values()}) == len(FORMATS)
    assert set(USUAL) <= set(FORMATS)
