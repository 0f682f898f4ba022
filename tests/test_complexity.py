import time

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from measured_networks import NETWORKS, Patches, Residual, SpaceOf, plain
from parti.core.architecture import Architecture
from parti.core.errors import TrialError
from parti.core.trial import Job
from parti.evaluators.complexity import Complexity, complexity
from parti.networks.known import known_network
from parti.testing.evaluators import EvaluatorSuite


def test_counts_of_a_network_worked_out_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),  # 3*4*9+4 parameters, 8*8*3*4*9 MACs
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4, bias=False),  # 4*9, 4*4*4*9
        nn.Conv2d(4, 6, 1, groups=2),  # 4*6/2+6, 4*4*4*6/2
        nn.Flatten(),
        nn.Linear(96, 5),  # 96*5+5, 96*5
    )
    cost = complexity(network, (3, 8, 8))
    assert cost.params == 112 + 36 + 18 + 485
    assert dict(cost.macs_by_operation) == {
        "convolution": 6912 + 192,
        "depthwise": 576,
        "linear": 480,
    }
    assert cost.macs == 6912 + 192 + 576 + 480
    assert cost.weight_bytes == 4 * cost.params
    # The first convolution's input (3*64 floats) and output (4*64); ReLU works in place.
    assert cost.activation_bytes == 4 * (192 + 256)
    rows = {row.name: row for row in cost.modules}
    assert rows[""].macs == cost.macs
    assert rows[""].params == cost.params
    assert rows["0"].output_shape == (1, 4, 8, 8)
    assert (rows["2"].type, rows["2"].params, rows["2"].macs) == ("Conv2d", 36, 576)


def test_attention_is_split_into_products_with_weights_and_of_activations():
    network = Patches(1, 10, width=16)
    cost = complexity(network, (1, 8, 8))
    tokens, width = 16, 16
    attention = 2 * tokens * tokens * width  # scores, and their product with the values
    linear = tokens * width * (3 * width + 3 * width + width) + width * 10
    assert dict(cost.macs_by_operation) == {
        "convolution": tokens * width * 4,
        "linear": linear,
        "matmul": 2 * attention,
    }


def test_functional_operations_are_counted():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 2, 3, 3))
            self.matrix = nn.Parameter(torch.randn(36, 7))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.conv2d(x, self.kernel / self.kernel.norm())
            x = x.flatten(1) @ self.matrix
            return torch.einsum("bi,ci->bc", x, x)

    cost = complexity(Functional(), (2, 5, 5))
    assert dict(cost.macs_by_operation) == {
        "convolution": 9 * 4 * 2 * 9,
        "linear": 36 * 7,
        "matmul": 7,
    }


def test_a_shared_weight_is_one_parameter_and_two_calls_cost_twice():
    layer = nn.Linear(4, 4, bias=False)
    cost = complexity(nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer), (1, 2, 2))
    assert (cost.params, cost.macs) == (16, 32)


def test_frozen_parameters_are_told_apart():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    network[1].requires_grad_(False)
    cost = complexity(network, (1, 2, 2))
    assert (cost.params, cost.trainable_params) == (15 + 8, 8)


@pytest.mark.parametrize(
    ("network", "floats"),
    [
        # x, and the two in between: the shortcut keeps x until the sum.
        (Residual(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1)), 4 + 8 + 4),
        (nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1)), 4 + 8),
        # Nesting keeps no input alive.
        (nn.Sequential(nn.Sequential(nn.Conv2d(4, 1, 1), nn.Conv2d(1, 4, 1))), 4 + 1),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.ReLU(True)), 8),
        # A sum may write over one of its inputs, a concatenation cannot.
        (Residual(nn.Identity()), 4),
    ],
)
def test_peak_memory_of_activations(network: nn.Module, floats: int):
    assert complexity(network, (4, 3, 3)).activation_bytes == 4 * 9 * floats


@given(
    channels=st.integers(1, 6),
    out=st.integers(1, 6),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    size=st.integers(9, 14),
    transposed=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_convolutions_count_one_multiplication_per_weight_and_place(
    channels: int, out: int, kernel: int, stride: int, dilation: int, size: int, transposed: bool
):
    make = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = make(channels, out, kernel, stride=stride, dilation=dilation, bias=False)
    image = torch.zeros(1, channels, size, size)
    places = image if transposed else layer(image)
    cost = complexity(layer, (channels, size, size))
    assert cost.macs == layer.weight.numel() * places[0, 0].numel()
    assert cost.modules[0].output_shape == tuple(layer(image).shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_shortcuts_keep_every_shape(name: str):
    network = NETWORKS[name](1, 10)
    shapes = {}
    for key, module in network.named_modules():
        module.register_forward_hook(
            lambda _, __, out, key=key: shapes.update({key: getattr(out, "shape", None)})
        )
    cost = complexity(network, (1, 8, 8))
    traced = dict(shapes)
    network.eval()(torch.zeros(1, 1, 8, 8))
    assert traced == shapes
    assert {row.name: row.output_shape for row in cost.modules if row.output_shape} == {
        key: tuple(shape) for key, shape in shapes.items() if shape is not None
    }


def test_the_network_is_left_as_it_was():
    network = plain()
    network[1].eval()
    modes = [module.training for module in network.modules()]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    complexity(network, (1, 8, 8))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in network.modules())


def test_nothing_is_computed():
    # Its output alone would fill 4 TB.
    network = nn.Conv2d(3, 1_000_000, 1)
    assert complexity(network, (3, 1024, 1024)).macs == 3 * 1_000_000 * 1024 * 1024


def test_constants_made_on_the_cpu_may_be_used():
    class Positions(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = torch.linspace(0, 1, 4)[3].item()
            x = x + torch.arange(x.shape[-1])
            return (x * scale).to("cpu").cpu()

    assert complexity(Positions(), (1, 4, 4)).macs == 0


def test_what_cannot_be_traced_is_a_trial_error_that_says_so():
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(TrialError, match="must not branch on the values"):
        complexity(Branches(), (1, 4, 4))
    network = plain(channels=3)
    with pytest.raises(TrialError, match=r"one image of shape \(1, 8, 8\)"):
        complexity(network, (1, 8, 8))
    assert network.training
    assert not network[0]._forward_hooks


def test_evaluator_uses_no_random_numbers():
    evaluator = Complexity(SpaceOf(plain), (1, 8, 8))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    (measurement,) = evaluator(Job(Architecture()))
    assert torch.equal(torch.rand(1), expected)
    assert measurement.metrics["params"] == sum(p.numel() for p in plain().parameters())


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("resnet18", 11_689_512, 1.814e9),  # He 2016, table 1: 1.8 × 10⁹ "FLOPs", which are MACs
        ("mobilenet_v2", 3_504_872, 300.8e6),  # Sandler 2018, table 4: 3.4 M, 300 M
    ],
)
def test_published_networks_count_what_their_papers_say(name: str, params: int, macs: float):
    cost = complexity(known_network(name, 3, 1000, 224), (3, 224, 224))
    assert cost.params == params
    assert cost.macs == pytest.approx(macs, rel=1e-3)


class TestComplexityAsEvaluator(EvaluatorSuite):
    def make(self) -> Complexity:
        return Complexity(SpaceOf(plain), (1, 8, 8))

    def job(self) -> Job:
        return Job(Architecture())


def test_it_is_quick():
    network = plain(3, 10, width=32, depth=20)
    complexity(network, (3, 32, 32))
    times = []
    for _ in range(10):
        began = time.perf_counter()
        complexity(network, (3, 32, 32))
        times.append(time.perf_counter() - began)
    # 12 ms when the machine is quiet; the quickest of ten says so even when it is not.
    assert min(times) < 0.1


def test_modules_know_whose_outputs_they_read() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 3, padding=1)
            self.skip = nn.Identity()
            self.act = nn.ReLU(inplace=True)
            self.left = nn.Conv2d(4, 4, 1)
            self.right = nn.Conv2d(4, 4, 3, padding=1)
            self.join = nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.act(self.stem(x))
            both = [self.left(x), self.right(self.skip(x)) + x]
            return self.join(torch.cat(both, 1))

    rows = {row.name: row.inputs for row in complexity(Branching(), (1, 6, 6)).modules}
    assert rows["stem"] == ()
    assert rows["act"] == ("stem",)
    assert rows["left"] == rows["right"] == ("act",)  # the identity is looked through
    assert set(rows["join"]) == {"left", "right", "act"}
