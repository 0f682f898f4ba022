import time
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from measured_networks import NETWORKS, SpaceOf, plain, warmed
from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, TrialError
from parti.core.trial import Job
from parti.evaluators import to_onnx as exporters
from parti.evaluators.latency import Latency, Runtime, measure_latency
from parti.evaluators.to_onnx import OnnxError, to_onnx
from parti.testing.evaluators import EvaluatorSuite

SHORT = {"warmup": 2, "repeats": 5, "min_seconds": 0.0}


class Sleeper(nn.Module):
    def __init__(self, milliseconds: float) -> None:
        super().__init__()
        self.milliseconds = milliseconds
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        time.sleep(self.milliseconds / 1e3)
        return x


def fading(depth: int = 120) -> nn.Module:
    """A deep network without normalisation, whose activations fade to denormal numbers."""
    layers = [nn.Conv2d(1 if i == 0 else 8, 8, 3, padding=1, bias=False) for i in range(depth)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())])


def test_milliseconds_are_milliseconds_of_one_call():
    sleeper = Sleeper(4)
    result = measure_latency(sleeper, (1, 2, 2), runtime="torch", batch=8, **SHORT)
    assert 4 <= result.median_ms < 12
    assert result.p95_ms >= result.median_ms
    assert result.n == 5
    assert sleeper.calls == 2 + 5


def test_timing_goes_on_until_runs_and_seconds_are_reached():
    result = measure_latency(
        Sleeper(1), (1, 2, 2), runtime="torch", warmup=0, repeats=3, min_seconds=0.1
    )
    assert 20 < result.n <= 100


def test_conditions_say_runtime_batch_threads_procedure_and_hardware():
    result = measure_latency(plain(), (1, 8, 8), batch=4, threads=2, **SHORT)
    import onnxruntime

    assert result.conditions.startswith(
        f"ONNX Runtime {onnxruntime.__version__} CPU, batch 4, 2 threads, float32, "
        "median of 5 runs after 2 warm-ups, "
    )
    result = measure_latency(plain(), (1, 8, 8), runtime="torch", **SHORT)
    assert f"PyTorch {torch.__version__} eager, contiguous NCHW, batch 1, 1 thread" in (
        result.conditions
    )


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_network_and_threads_are_left_as_they_were(runtime):
    network = plain()
    network[1].eval()
    modes = [module.training for module in network.modules()]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    threads = torch.get_num_threads()
    measure_latency(network, (1, 8, 8), runtime=runtime, threads=threads + 1, **SHORT)
    assert torch.get_num_threads() == threads
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_file_can_be_timed(tmp_path: Path):
    file = tmp_path / "model.onnx"
    file.write_bytes(to_onnx(plain(), (1, 8, 8), quick=True))
    assert measure_latency(file, (1, 8, 8), **SHORT).median_ms > 0
    with pytest.raises(TrialError, match=r"images of shape \(1, 3, 8, 8\)"):
        measure_latency(file, (3, 8, 8), **SHORT)
    with pytest.raises(InvalidSettings, match="with runtime 'torch' pass the network"):
        measure_latency(file, (1, 8, 8), runtime="torch", **SHORT)
    with pytest.raises(InvalidSettings, match="is not a file"):
        measure_latency(tmp_path / "other.onnx", (1, 8, 8), **SHORT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runtime": "tflite"}, "no runtime 'tflite'; choose one of onnxruntime, torch, "),
        ({"runtime": "torch", "precision": "float16"}, "choose from float32, bfloat16, int8"),
        ({"precision": "bfloat16"}, "no bfloat16 convolutions on the CPU"),
        ({"batch": 0}, "batch 0 must be"),
        ({"threads": -1}, "threads -1 must be"),
        ({"repeats": 0}, "repeats 0 must be"),
        ({"warmup": -1}, "must not be negative"),
        ({"device": "cuda"}, "use runtime='torch'"),
    ],
)
def test_settings_are_checked_before_anything_runs(settings, message):
    with pytest.raises(InvalidSettings, match=message):
        Latency(SpaceOf(plain), (1, 8, 8), **settings)


class LatencyAsEvaluator(EvaluatorSuite):
    exact = False
    runtime: Runtime

    def make(self) -> Latency:
        return Latency(SpaceOf(plain), (1, 8, 8), runtime=self.runtime, **SHORT)

    def job(self) -> Job:
        return Job(Architecture(), seed=7)

    def test_random_numbers_are_left_alone(self) -> None:
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        (measurement,) = self.make()(self.job())
        assert torch.equal(torch.rand(1), expected)
        assert 0 < measurement.metrics["latency_ms"] <= measurement.metrics["latency_p95_ms"]
        assert "batch 1, 1 thread" in self.make().conditions


class TestOnnxLatency(LatencyAsEvaluator):
    runtime = "onnxruntime"


class TestTorchLatency(LatencyAsEvaluator):
    runtime = "torch"


def test_activations_of_fresh_weights_do_not_fade():
    # Denormal numbers cost 14 times as much on our CPUs, and trained networks have none.
    images = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert fading()(images).abs().max() < 1e-30
    timed = []

    def deployed(network: nn.Module) -> nn.Module:
        timed.append(network)
        return network

    evaluator = Latency(SpaceOf(fading), (1, 8, 8), runtime="torch", deployed=deployed, **SHORT)
    list(evaluator(Job(Architecture())))
    with torch.no_grad():
        assert 0.1 < timed[0](images).std() < 10


def test_what_is_deployed_is_what_is_timed():
    wrapped = []

    def deployed(network: nn.Module) -> nn.Module:
        wrapped.append(nn.Sequential(Sleeper(5), network))
        return wrapped[0]

    evaluator = Latency(SpaceOf(plain), (1, 8, 8), runtime="torch", deployed=deployed, **SHORT)
    (measurement,) = evaluator(Job(Architecture()))
    assert measurement.metrics["latency_ms"] >= 5


def test_a_network_that_does_not_fit_is_a_trial_error():
    for runtime in ("onnxruntime", "torch"):
        evaluator = Latency(SpaceOf(plain), (3, 8, 8), runtime=runtime, **SHORT)
        with pytest.raises(TrialError, match="does not run on images of shape"):
            list(evaluator(Job(Architecture())))


@pytest.mark.parametrize("name", NETWORKS)
def test_quick_exports_compute_the_same(name: str):
    import onnxruntime

    network = warmed(NETWORKS[name](1, 10), (1, 8, 8))
    images = torch.randn(5, 1, 8, 8)
    session = onnxruntime.InferenceSession(to_onnx(network, (1, 8, 8), quick=True))
    with torch.no_grad():
        expected = network(images)
    got = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_exports_name_input_and_output_and_leave_the_batch_free():
    graph = onnx.load_from_string(to_onnx(plain(), (1, 8, 8), quick=True)).graph
    (given,), (result,) = graph.input, graph.output
    assert (given.name, result.name) == ("images", "logits")
    sizes = given.type.tensor_type.shape.dim
    assert sizes[0].dim_param
    assert [size.dim_value for size in sizes[1:]] == [1, 8, 8]


def test_exporting_prints_nothing_even_when_it_fails(capfd, caplog, monkeypatch):
    to_onnx(plain(), (1, 8, 8), quick=True)
    monkeypatch.setattr(exporters, "_dynamo", exporters._torchscript)
    with pytest.raises(OnnxError, match=r"cannot be written as ONNX .* adaptive_avg_pool2d"):
        to_onnx(NETWORKS["depthwise"](1, 10), (1, 8, 8))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert torch.backends.mha.get_fastpath_enabled()
