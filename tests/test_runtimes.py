"""Runtimes, precisions, measuring in turn, memory and energy."""

import sys
import time
import types
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from torch import nn

from measured_networks import SpaceOf, plain, warmed
from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, TrialError
from parti.core.trial import Job
from parti.evaluators.latency import Latency, measure_latency
from parti.evaluators.runtimes import RUNTIMES, energy, load_runtime, memory, unavailable
from parti.evaluators.runtimes.energy import energy_counter, joules_per_call
from parti.evaluators.runtimes.executorch import to_pte
from parti.evaluators.runtimes.measuring import Timing, random_images, turns
from parti.evaluators.runtimes.memory import memory_bytes
from parti.evaluators.runtimes.onnx_runtime import onnx_precision
from parti.evaluators.runtimes.profile import Contender, profile
from parti.evaluators.runtimes.runtime import Setting
from parti.evaluators.to_onnx import to_onnx

SHAPE = (1, 8, 8)
SHORT = {"warmup": 1, "repeats": 3, "min_seconds": 0.0}
CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return warmed(plain(), SHAPE)


def results(name: str, model, precision: str = "float32", batch: int = 3, tmp: Path = Path()):
    """What a runtime computes on the images that measurements use."""
    runtime = load_runtime(name, precision)
    setting = Setting(batch, 1, precision)
    ready = runtime.prepare(model, SHAPE, setting, tmp) if isinstance(model, nn.Module) else model
    with runtime.open(ready, random_images((batch, *SHAPE)), setting) as call:
        out = call()
    out = out[0] if not isinstance(out, torch.Tensor) else out
    return np.asarray(out.float() if isinstance(out, torch.Tensor) else out)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory) -> Path:
    """An int8 file made elsewhere."""
    folder = tmp_path_factory.mktemp("int8")
    (folder / "float.onnx").write_bytes(to_onnx(network(), SHAPE, quick=True))

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [{"images": random_images((4, *SHAPE))}]

        def get_next(self):
            return self.left.pop() if self.left else None

    import logging

    logging.disable()
    quantize_static(folder / "float.onnx", folder / "int8.onnx", Reader())
    logging.disable(logging.NOTSET)
    return folder / "int8.onnx"


@pytest.mark.parametrize("name", [n for n in RUNTIMES if n != "torch_compiled"])
def test_every_runtime_computes_what_the_network_computes(name, tmp_path):
    if reason := unavailable(name):
        pytest.skip(reason)
    with torch.no_grad():
        expected = network()(torch.from_numpy(random_images((3, *SHAPE)))).numpy()
    np.testing.assert_allclose(results(name, network(), tmp=tmp_path), expected, 1e-4, 1e-5)


@pytest.mark.parametrize("name", ["openvino", "executorch"])
def test_a_search_measures_latency_on_other_runtimes(name):
    if reason := unavailable(name):
        pytest.skip(reason)
    evaluator = Latency(SpaceOf(plain), SHAPE, runtime=name, **SHORT)
    (measurement,) = evaluator(Job(Architecture(), seed=1))
    assert 0 < measurement.metrics["latency_ms"] <= measurement.metrics["latency_p95_ms"]
    assert "fixed batch, batch 1, 1 thread, float32" in evaluator.conditions


@pytest.mark.slow
def test_a_compiled_network_computes_the_same(tmp_path):
    with torch.no_grad():
        expected = network()(torch.from_numpy(random_images((3, *SHAPE)))).numpy()
    got = results("torch_compiled", network(), tmp=tmp_path)
    np.testing.assert_allclose(got, expected, 1e-4, 1e-5)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_bfloat16_computes_nearly_the_same_and_not_the_very_same(name, tmp_path):
    if reason := unavailable(name, "bfloat16"):
        pytest.skip(reason)
    exact = results(name, network(), tmp=tmp_path)
    rounded = results(name, network(), "bfloat16", tmp=tmp_path)
    difference = np.abs(rounded - exact).max()
    assert 0 < difference < 0.05 * np.abs(exact).max()


def test_bfloat16_leaves_the_network_in_float32():
    if reason := unavailable("torch", "bfloat16"):
        pytest.skip(reason)
    model = network()
    result = measure_latency(model, SHAPE, runtime="torch", precision="bfloat16", **SHORT)
    assert "bfloat16" in result.conditions
    assert {t.dtype for t in model.parameters()} == {torch.float32}


def test_what_a_runtime_lacks_is_said_before_anything_is_measured(monkeypatch):
    assert "no bfloat16 convolutions" in unavailable("onnxruntime", "bfloat16")
    assert "quantize it" in unavailable("torch", "int8")
    assert "choose from float32" in unavailable("torch", "float8")
    assert "it is measured on the CPU" in unavailable("onnxruntime", device="cuda:1")
    assert unavailable("onnxruntime", "int8") == ""
    monkeypatch.setattr("parti.evaluators.runtimes.find_spec", lambda name: None)
    with pytest.raises(InvalidSettings, match=r"pip install 'parti\[openvino\]'"):
        Latency(SimpleNamespace(), SHAPE, runtime="openvino")


def test_bfloat16_that_would_be_imitated_is_refused(monkeypatch):
    monkeypatch.setattr("parti.evaluators.runtimes.pytorch.cpu_has_bfloat16", lambda: False)
    assert "it would be imitated" in unavailable("torch", "bfloat16")


def test_an_int8_file_is_recognised_and_said(quantized):
    assert onnx_precision(quantized) == "int8"
    assert onnx_precision(quantized.with_name("float.onnx")) == "float32"
    for name in ("onnxruntime", "openvino"):
        if unavailable(name):
            continue
        assert ", int8, " in measure_latency(quantized, SHAPE, runtime=name, **SHORT).conditions
        with torch.no_grad():
            expected = network()(torch.from_numpy(random_images((3, *SHAPE)))).numpy()
        got = results(name, quantized)
        assert 0 < np.abs(got - expected).max() < 0.2 * np.abs(expected).max()


def test_a_network_is_not_quantized_by_measuring_it():
    with pytest.raises(InvalidSettings, match="quantize the network first"):
        measure_latency(network(), SHAPE, precision="int8", **SHORT)


def test_a_search_in_int8_is_refused_before_it_begins():
    for make in (load_runtime, lambda *a: Latency(SpaceOf(plain), SHAPE, precision=a[1])):
        with pytest.raises(InvalidSettings, match="quantize the network first"):
            make("onnxruntime", "int8")
    with pytest.raises(InvalidSettings, match="quantize the network first"):
        profile([Contender(network(), precision="int8")], SHAPE, memory=False, **SHORT)


def test_a_file_in_float32_is_not_said_to_be_int8(quantized):
    with pytest.raises(InvalidSettings, match=r"float\.onnx holds no quantized operators"):
        measure_latency(quantized.with_name("float.onnx"), SHAPE, precision="int8", **SHORT)
    asked = measure_latency(quantized, SHAPE, precision="int8", **SHORT)
    assert ", int8, " in asked.conditions


def test_openvinos_own_files_tell_their_precision(quantized, tmp_path):
    openvino = pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    for file, precision in (("float.onnx", "float32"), ("int8.onnx", "int8")):
        model = openvino.convert_model(str(quantized.with_name(file)))
        openvino.save_model(model, str(tmp_path / "model.xml"), compress_to_fp16=False)
        result = measure_latency(tmp_path / "model.xml", SHAPE, runtime="openvino", **SHORT)
        assert f", {precision}, " in result.conditions


def test_files_of_other_runtimes_are_refused(tmp_path, quantized):
    other = tmp_path / "model.pte"
    other.touch()
    with pytest.raises(InvalidSettings, match=r"opens \.onnx"):
        measure_latency(other, SHAPE, **SHORT)
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(InvalidSettings, match="cannot be read as ONNX"):
        measure_latency(tmp_path / "broken.onnx", SHAPE, **SHORT)
    with pytest.raises(TrialError, match=r"does not run on images of shape \(3, 8, 8\)|shape"):
        profile([Contender(quantized)], (3, 8, 8), memory=False, **SHORT)


class Own:
    """A runtime from elsewhere."""

    package, library, suffixes, devices = "torch", "torch", (), ("cpu",)

    def lacks(self, precision: str, device: str) -> str:
        return ""

    def describe(self, setting: Setting) -> str:
        return "Own 1.0"

    def prepare(self, network, input_shape, setting, folder):
        return network

    def open(self, prepared, images, setting):
        from contextlib import nullcontext

        return nullcontext(lambda: time.sleep(0.002))


def test_runtimes_of_others_are_named_by_their_place():
    result = measure_latency(network(), SHAPE, runtime="test_runtimes:Own", **SHORT)
    assert result.conditions.startswith("Own 1.0, batch 1, 1 thread, float32, median of 3 runs")
    assert result.median_ms >= 2


def test_models_are_timed_in_turn_so_that_noise_hits_all_alike():
    order = []

    def calling(name: str):
        def call() -> None:
            order.append(name)
            time.sleep(0.006)

        return call

    seconds = turns([calling("a"), calling("b")], Timing(0, 8, 0.0))
    changes = sum(left != right for left, right in pairwise(order))
    assert changes >= 3  # not all of a, then all of b
    assert min(map(len, seconds)) >= 8
    assert order[0] == "a"
    # The first call of every turn is not timed.
    assert sum(map(len, seconds)) == len(order) - (changes + 1)


def test_a_profile_says_everything_about_each_contender(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(to_onnx(network(), SHAPE, quick=True))
    first, second = profile(
        [Contender(file), Contender(network(), "torch", name="eager")],
        SHAPE,
        throughput_batch=16,
        memory=False,
        **SHORT,
    )
    assert (first.name, second.name) == ("onnxruntime", "eager")
    assert first.file_bytes == file.stat().st_size
    assert second.file_bytes == sum(
        t.numel() * t.element_size() for t in network().state_dict().values()
    )
    assert "batch 1, 1 thread" in first.latency.conditions
    assert "batch 16, 1 thread" in first.throughput_conditions
    assert first.images_per_second > 1e3 / first.latency.p95_ms  # a batch of 16 is worth it
    assert 0 < first.cold_seconds < 30
    assert first.memory_bytes is None
    if energy_counter(CPU) is None:
        assert (first.joules_per_image, first.energy) == (None, energy.NOT_EXPOSED)
    with pytest.raises(InvalidSettings, match="at least one contender"):
        profile([], SHAPE)


def test_memory_grows_with_the_weights_and_with_the_images(tmp_path):
    if not memory.STATUS.exists():
        pytest.skip("only Linux tells")
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 300_000), nn.ReLU(), nn.Flatten())
    used = memory_bytes(wide.eval(), "torch", SHAPE, Setting())
    weights = 4 * 65 * 300_000  # 78 MB
    assert used is not None
    assert 0.9 * weights < used < 3.5 * weights
    small = memory_bytes(network(), "torch", SHAPE, Setting())
    assert small is not None
    assert small < 0.5 * weights
    with pytest.raises(TrialError, match=r"cannot be measured: .*Measure without memory"):
        memory_bytes(network(), "torch", (5, 8, 8), Setting())


def powercap(folder: Path, *joules: float, limit: float = 100.0) -> Path:
    for i, used in enumerate(joules):
        package = folder / f"intel-rapl:{i}"
        (package / f"intel-rapl:{i}:0").mkdir(parents=True, exist_ok=True)
        (folder / f"intel-rapl:{i}:0").mkdir(exist_ok=True)  # a part of the package
        (folder / f"intel-rapl:{i}:0" / "energy_uj").write_text("7")
        (package / "energy_uj").write_text(str(int(used * 1e6)))
        (package / "max_energy_range_uj").write_text(str(int(limit * 1e6) - 1))
    return folder


def test_energy_is_summed_over_packages_and_counters_start_again(tmp_path):
    counter = energy_counter(CPU, powercap(tmp_path, 10, 90))
    assert counter is not None
    began = counter()
    powercap(tmp_path, 13, 95)
    assert counter() - began == pytest.approx(8)
    powercap(tmp_path, 13, 2)  # from 95 over 100 to 2
    assert counter() - began == pytest.approx(15)


def test_energy_of_a_call_is_the_difference_over_the_calls():
    told = iter([5.0, 11.0])
    calls = []
    joules = joules_per_call(lambda: calls.append(time.sleep(0.01)), lambda: next(told), 0.05)
    assert joules == pytest.approx(6 / len(calls))


def test_a_machine_without_counters_exposes_no_energy(tmp_path):
    assert energy_counter(CPU, tmp_path) is None
    assert energy_counter(CPU, tmp_path / "none") is None
    folder = powercap(tmp_path, 10)
    (folder / "intel-rapl:0" / "energy_uj").unlink()  # as for other users than root
    assert energy_counter(CPU, folder) is None


def test_what_is_left_of_a_static_graph_runs_one_batch_only(tmp_path):
    file = tmp_path / "static.onnx"
    file.write_bytes(to_onnx(network(), SHAPE, quick=True, batch=2))
    assert measure_latency(file, SHAPE, batch=2, **SHORT).median_ms > 0
    with pytest.raises(TrialError, match="Pass the shape it was made for"):
        measure_latency(file, SHAPE, batch=3, **SHORT)
    dims = onnx.load(file).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [2, 1, 8, 8]


def test_an_incomplete_executorch_is_told(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    monkeypatch.setitem(sys.modules, "executorch", types.ModuleType("executorch"))
    with pytest.raises(InvalidSettings, match=r"not completely installed .*parti\[executorch\]"):
        to_pte(nn.Flatten(), (1, 2, 2))
