"""What structure and weights of a network say, against closed forms and brute force."""

from __future__ import annotations

import math
from copy import deepcopy
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from parti.core.errors import TrialError
from parti.core.walks import sample
from parti.evaluators.complexity import complexity
from parti.evaluators.theory.facts import theory
from parti.evaluators.theory.landscape import roughness
from parti.evaluators.theory.norms import layer_norms
from parti.evaluators.theory.receptive_field import receptive_field
from parti.evaluators.theory.roofline import Machine, measured_machine, roofline
from parti.evaluators.theory.sharpness import sharpness
from parti.evaluators.theory.spectral import spectrum
from parti.spaces.catalogue import load_space


def convs(*layers: tuple[int, int, int]) -> nn.Sequential:
    """Convolutions of (kernel, stride, dilation), one channel, padded to keep the size."""
    return nn.Sequential(
        *(nn.Conv2d(1, 1, k, s, d * (k // 2), dilation=d, bias=False) for k, s, d in layers)
    )


def seen_by_gradient(network: nn.Module, size: int) -> int:
    """Rows of the image on which a central position depends, with positive weights."""
    network = deepcopy(network)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.5)
    image = torch.zeros(1, 1, size, size, requires_grad=True)
    out = network(image)
    middle = out.shape[-1] // 2
    (gradient,) = torch.autograd.grad(out[0, 0, middle, middle], image)
    rows = gradient[0, 0].abs().sum(1).nonzero().flatten()
    return int(rows[-1] - rows[0] + 1)


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]), st.sampled_from([1, 2])),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=30, deadline=None)
def test_the_receptive_field_is_what_gradients_reach(layers: list[tuple[int, int, int]]) -> None:
    network = convs(*layers)
    found = receptive_field(network, (1, 257, 257))
    assert found.height == found.width == seen_by_gradient(network, 257)
    assert found.jump == (math.prod(s for _, s, _ in layers),) * 2


def test_the_longer_path_counts_where_paths_meet() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.long, self.short = convs((3, 1, 1), (5, 1, 1)), convs((1, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(self.long(x)) + self.short(x)

    assert receptive_field(Residual(), (1, 32, 32)).height == 7


@pytest.mark.parametrize(
    ("layer", "field"),
    [
        (nn.MaxPool2d(3, 2, 1), 3),
        (nn.AvgPool2d(2), 2),
        (nn.MaxPool2d(3, 1, 1, dilation=2), 5),
        (nn.Upsample(scale_factor=2, mode="nearest"), 1),
        (nn.ConvTranspose2d(1, 1, 4, 2, 1), 2),
    ],
)
def test_the_receptive_field_of_layers(layer: nn.Module, field: int) -> None:
    assert receptive_field(layer, (1, 32, 32)).height == field


def test_a_gate_lets_everything_see_everything() -> None:
    class Gated(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * F.adaptive_avg_pool2d(x, 1).sigmoid()

    gated = receptive_field(nn.Sequential(convs((3, 1, 1)), Gated()), (1, 16, 16))
    assert (gated.height, gated.global_context) == (3, True)
    head = nn.Sequential(convs((3, 1, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    pooled = receptive_field(head, (1, 16, 16))
    assert (pooled.height, pooled.positions, pooled.global_context) == (3, (16, 16), False)
    assert pooled.share(16, 16) == pytest.approx(9 / 256)


class OnTokens(nn.Module):
    """Positions as tokens, between two convolutions."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.before, self.after = (nn.Conv2d(n, 8, 3, padding=1) for n in (1, 8))
        self.heads = nn.MultiheadAttention(8, 2, batch_first=True)
        self.dense = nn.Linear(8, 8)
        self.way = way

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        tokens = x.flatten(2).transpose(1, 2)
        ways = {
            "module": lambda t: self.heads(t, t, t)[0],
            "without weights": lambda t: self.heads(t, t, t, need_weights=False)[0],
            "function": lambda t: F.scaled_dot_product_attention(t, t, t),
            "by hand": lambda t: (t @ t.transpose(1, 2)).softmax(-1) @ t,
            "dense": self.dense,
            "einsum": lambda t: torch.einsum("bnc,oc->bno", t, self.dense.weight),
            "norm": lambda t: t - t.mean(-1, keepdim=True),
        }
        tokens = ways[self.way](tokens)
        return self.after(tokens.transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize("way", ["module", "without weights", "function", "by hand"])
def test_attention_lets_everything_see_everything(way: str) -> None:
    assert receptive_field(OnTokens(way), (1, 8, 8)).global_context


@pytest.mark.parametrize("way", ["dense", "einsum", "norm"])
def test_what_looks_at_each_position_alone_does_not(way: str) -> None:
    found = receptive_field(OnTokens(way), (1, 8, 8))
    assert (found.height, found.global_context) == (5, False)


def test_a_mean_over_channels_is_no_context_and_one_over_rows_is() -> None:
    class Less(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.dim = dim

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(self.dim, keepdim=True)

    assert [receptive_field(Less(dim), (3, 8, 8)).global_context for dim in (1, 2)] == [False, True]


def test_a_network_that_does_not_fit_the_image() -> None:
    with pytest.raises(TrialError, match="fails on one image of shape"):
        receptive_field(nn.Conv2d(3, 1, 3), (1, 8, 8))


def test_the_roofline_of_a_layer_by_hand() -> None:
    cost = complexity(nn.Conv2d(4, 8, 3, padding=1, bias=False), (4, 10, 10))
    # No module reads the image of the first layer, so its bytes are those of weights and output.
    moved = 4 * (4 * 8 * 9 + 8 * 100)
    fast = roofline(cost, Machine(1e12, {1: 1e6}, 1))
    assert fast.bytes == moved
    assert fast.floor_ms == pytest.approx(1e3 * moved / 1e6)
    assert fast.memory_bound == 1
    slow = roofline(cost, Machine(1e6, {1: 1e12}, 1))
    assert slow.floor_ms == pytest.approx(1e3 * 2 * cost.macs / 1e6)
    assert slow.memory_bound == 0
    assert slow.intensity == pytest.approx(2 * cost.macs / moved)


def test_modules_inside_others_count_once() -> None:
    layers = convs((3, 1, 1), (3, 1, 1))
    machine = Machine(1e6, {1: 1e12}, 1)
    nested = roofline(complexity(nn.Sequential(nn.Sequential(layers)), (1, 8, 8)), machine)
    assert nested == roofline(complexity(layers, (1, 8, 8)), machine)


def test_data_that_fits_a_cache_is_moved_at_its_speed() -> None:
    machine = Machine(1.0, {100: 8.0, 1000: 2.0}, 1)
    assert [machine.bandwidth(n) for n in (1, 100, 101, 5000)] == [8, 8, 2, 2]


def test_what_runtimes_fuse_is_not_moved() -> None:
    conv = nn.Conv2d(4, 8, 3, padding=1, bias=False)
    fused = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU())
    machine = Machine(1e12, {1: 1e6}, 1)
    both = [roofline(complexity(network, (4, 10, 10)), machine) for network in (conv, fused)]
    assert both[0].bytes == both[1].bytes
    assert both[0].floor_ms == both[1].floor_ms


def test_what_is_in_use_at_once_says_how_fast_data_moves() -> None:
    layers = convs((3, 1, 1), (3, 1, 1), (3, 1, 1), (3, 1, 1))
    cost = complexity(layers, (1, 10, 10))
    moved = roofline(cost, Machine(1.0, {10**9: 1.0}, 1)).bytes
    in_use = 4 * (4 * 9 + 2 * 100)
    assert moved > in_use
    assert roofline(cost, Machine(1.0, {in_use: 8.0, 10**9: 2.0}, 1)).bandwidth == 8
    assert roofline(cost, Machine(1.0, {in_use - 1: 8.0, 10**9: 2.0}, 1)).bandwidth == 2


def test_a_network_that_multiplies_nothing_needs_nothing() -> None:
    found = roofline(complexity(nn.ReLU(), (1, 4, 4)), Machine(1.0, {1: 1.0}, 1))
    assert (found.floor_ms, found.intensity, found.memory_bound) == (0, 0, 0)


def test_fewer_bytes_are_moved_at_least_as_fast() -> None:
    bandwidths = measured_machine().bandwidths
    speeds = [bandwidths[size] for size in sorted(bandwidths)]
    assert speeds == sorted(speeds, reverse=True)


def test_this_machine_is_measured_once() -> None:
    machine = measured_machine()
    assert machine is measured_machine()
    assert machine.flops > 1e8
    assert min(machine.bandwidths.values()) > 1e8
    assert machine.threads == torch.get_num_threads()


def test_norms_of_layers() -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        layer.bias.copy_(torch.tensor([0.0, 2.0]))
    (found,) = layer_norms(nn.Sequential(layer, nn.ReLU()))
    assert (found.name, found.weight, found.weight_rms, found.bias) == ("0", 5, 2.5, 2)
    assert layer_norms(nn.Conv2d(1, 1, 1, bias=False))[0].bias is None


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 3, 3, padding=1, bias=False),
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(2, 2, 3, padding=2, dilation=2, padding_mode="circular", bias=False),
    ],
)
def test_the_norm_of_a_convolution_is_that_of_its_matrix(layer: nn.Conv2d) -> None:
    torch.manual_seed(0)
    layer.reset_parameters()
    basis = torch.eye(2 * 6 * 6).reshape(-1, 2, 6, 6)
    with torch.no_grad():
        bias = 0 if layer.bias is None else layer.bias[:, None, None]
        matrix = (layer(basis) - bias).flatten(1)
    expected = float(torch.linalg.matrix_norm(matrix, 2))
    (found,) = spectrum(layer, (2, 6, 6)).layers
    assert found.norm == pytest.approx(expected, rel=0.02)
    assert found.norm <= expected * (1 + 1e-6)


def test_spectral_complexity_by_hand() -> None:
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.diag(torch.tensor([2.0, 1.0])))
        second.weight.copy_(torch.diag(torch.tensor([3.0, 3.0])))
    found = spectrum(nn.Sequential(nn.Flatten(), first, second), (1, 1, 2))
    assert found.log_product == pytest.approx(math.log(6))
    expected = 6 * ((3 / 2) ** (2 / 3) + (6 / 3) ** (2 / 3)) ** 1.5
    assert found.log_complexity == pytest.approx(math.log(expected))
    assert found.mean_stable_rank == pytest.approx((5 / 4 + 2) / 2)


def linear(weight: torch.Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def test_sharpness_is_the_rise_along_the_gradient() -> None:
    torch.manual_seed(0)
    weight, inputs = torch.randn(3, 5), torch.randn(7, 5)
    targets = torch.randint(3, (7,))
    network = linear(weight)
    found = sharpness(network, inputs, targets, F.cross_entropy, rho=0.3)
    moving = weight.clone().requires_grad_()
    before = F.cross_entropy(inputs @ moving.T, targets)
    (gradient,) = torch.autograd.grad(before, moving)
    after = F.cross_entropy(inputs @ (weight + 0.3 * gradient / gradient.norm()).T, targets)
    assert found == pytest.approx(float((after - before).detach()), rel=1e-4)
    assert found > 0


def test_roughness_does_not_see_a_scale_that_normalisation_undoes() -> None:
    """The reason of filter normalisation: rescaled networks are equally flat."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten())
    network = nn.Sequential(network, nn.Linear(4 * 36, 3)).train()
    images, targets = torch.randn(16, 1, 8, 8), torch.randint(3, (16,))
    for _ in range(300):  # running statistics settle
        with torch.no_grad():
            network(images)
    larger = deepcopy(network).eval()
    with torch.no_grad():
        conv, norm = larger[0][0], larger[0][1]
        conv.weight.mul_(10)
        norm.running_mean.mul_(10)
        norm.running_var.mul_(100)
        norm.eps *= 100
    network.eval()
    found = [roughness(n, images, targets, F.cross_entropy, seed=1) for n in (network, larger)]
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert roughness(network, images, targets, F.cross_entropy, distance=0.0) == 0


def test_curvature_looks_at_as_many_images_as_there_is_time_for() -> None:
    network = load_space("chain", in_channels=1, classes=3, resolution=8)
    torch.manual_seed(0)
    built = network.build(sample(network, Random(0)))
    images, targets = torch.randn(32, 1, 8, 8), torch.randint(3, (32,))
    machine = Machine(1e10, {1: 1e10}, 1)

    def curvature(count: int, seconds: float | None) -> float:
        found = theory(built, images[:count], targets[:count], machine=machine, seconds=seconds)
        return next(fact.value for fact in found.facts if fact.name == "curvature")

    assert curvature(32, 1e-9) == curvature(16, None)
    assert curvature(32, 1e9) == curvature(32, None) != curvature(16, None)


@pytest.mark.parametrize("name", ["chain", "residual", "mobile", "nasbench201"])
def test_theory_explains_every_number_and_leaves_the_network_as_it_was(name: str) -> None:
    space = load_space(name, in_channels=1, classes=3, resolution=16)
    torch.manual_seed(0)
    network = space.build(sample(space, Random(0)))
    before = deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    images, targets = torch.randn(8, 1, 16, 16), torch.randint(3, (8,))
    machine = Machine(1e10, {1: 1e10}, 1)
    state = torch.random.get_rng_state()
    found = theory(network, images, targets, machine=machine)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert found == theory(network, images, targets, machine=machine)
    names = [fact.name for fact in found.facts]
    assert len(set(names)) == len(names)
    # torch has no second derivative of the hard sigmoid, which gates these networks.
    assert ("curvature" in names) == (name not in ("residual", "mobile"))
    assert all(fact.explained.endswith(".") for fact in found.facts)
    assert all(math.isfinite(fact.value) for fact in found.facts)
    assert found.norms
    assert found.to_dict()["facts"][0]["name"] == "receptive field"
