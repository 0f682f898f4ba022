"""Proxies of activations, features and counts against their formulas."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from measured_networks import NETWORKS
from parti.core.errors import InvalidSettings, TrialError
from parti.evaluators.complexity import complexity
from parti.proxies.scoring import score
from parti.proxies.swap import Swap
from parti.proxies.te_nas import LinearRegions
from parti.proxies.zen import Zen
from proxy_makers import batch, convolutional, one


def test_naswot_is_the_determinant_of_agreements():
    network, (images, labels) = convolutional(), batch()
    first = network[1](network[0](images))
    second = network[3](F.relu(first))
    codes = torch.cat([first.flatten(1), second.flatten(1)], 1).gt(0).numpy()
    kernel = (codes[:, None] == codes[None]).sum(2).astype(float)
    expected = np.linalg.slogdet(kernel)[1]
    assert one(network, "naswot", images, labels) == pytest.approx(expected, rel=1e-9)


class Functional(nn.Module):
    """Two ReLUs of the same tensor, as functions; one overwrites it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.linear = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return self.linear((F.relu(h) + torch.relu_(h)).flatten(1))


def test_naswot_sees_functions_and_counts_each_activation():
    network, (images, labels) = Functional(), batch()
    codes = network.conv(images).flatten(1).gt(0).numpy()
    kernel = 2.0 * (codes[:, None] == codes[None]).sum(2)
    expected = np.linalg.slogdet(kernel)[1]
    assert one(network, "naswot", images, labels) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Hardswish,
     nn.Mish, nn.RReLU],
)  # fmt: skip
def test_naswot_takes_other_activations_for_gates(activation: type[nn.Module]):
    images, labels = batch()
    network = nn.Sequential(nn.Flatten(), activation(), nn.Linear(36, 3))
    same = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(36, 3))
    assert one(network, "naswot", images, labels) == one(same, "naswot", images, labels)


def test_naswot_is_the_same_in_both_orders_of_memory():
    images, labels = batch(channels=2)
    wide = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Flatten())
    last = images.contiguous(memory_format=torch.channels_last)
    expected = one(wide, "naswot", images, labels)
    wide.to(memory_format=torch.channels_last)
    assert one(wide, "naswot", last, labels) == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_naswot_is_the_same_in_other_precisions(dtype: torch.dtype):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(-1, 2, (6, 40), generator=generator).float()  # 0 is off
    network, labels = nn.Sequential(nn.ReLU()), torch.zeros(6)
    assert one(network, "naswot", images.to(dtype), labels) == one(
        network, "naswot", images, labels
    )


def test_naswot_without_gates_or_with_two_equal_images_is_the_worst():
    images, labels = batch()
    assert one(nn.Sequential(nn.Flatten()), "naswot", images, labels) == -math.inf
    twice = torch.cat([images[:4], images[:4]])
    network = nn.Sequential(nn.Flatten(), nn.ReLU())
    assert one(network, "naswot", twice, labels) == -math.inf


def test_swap_counts_distinct_patterns():
    # Unit j of 16 is on for image i when bit i of j is set; the second row repeats the first.
    bits = torch.tensor([[(j >> i) & 1 for j in range(16)] for i in range(4)]).float() - 0.5
    images = bits[:, None, None, :].repeat(1, 1, 2, 1)
    network = nn.Sequential(nn.ReLU(), nn.Flatten())
    labels = torch.zeros(4, dtype=torch.int64)
    assert one(network, "swap", images, labels) == 16
    assert score(network, images, labels, {"s": Swap(images=2)}) == {"s": 4}


def test_swap_can_prefer_a_size():
    network, (images, labels) = convolutional(), batch()
    params = one(network, "params", images, labels)
    plain = one(network, "swap", images, labels)
    found = score(network, images, labels, {"s": Swap(mean=params - 100, width=1e4)})
    assert found["s"] == pytest.approx(plain * math.exp(-1))


def test_meco_is_the_smallest_eigenvalue_of_the_channels_of_the_first_image():
    orthogonal = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    images = torch.stack([orthogonal, torch.zeros(3, 4)]).reshape(2, 3, 2, 2)
    labels = torch.tensor([0, 1])
    network = nn.Sequential(nn.Identity(), nn.Flatten())
    assert one(network, "meco", images, labels) == pytest.approx(1)
    alike = images.clone()
    alike[0, 1] = alike[0, 0] * 2 + 1
    assert one(network, "meco", alike, labels) == pytest.approx(0, abs=1e-6)


def test_zen_of_a_linear_map_grows_with_the_logarithm_of_the_step():
    network, (images, labels) = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten()), batch()
    found = score(network, images, labels, {"1": Zen(step=0.01), "2": Zen(step=0.02)})
    assert found["2"] - found["1"] == pytest.approx(math.log(2), abs=1e-3)


def test_zen_puts_the_scale_back_that_batch_norms_take_out():
    plain = nn.Sequential(nn.Conv2d(1, 64, 3), nn.Conv2d(64, 64, 3), nn.Flatten())
    layers = [nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64)]
    normed = nn.Sequential(*layers, nn.Flatten())
    images, labels = batch()
    expected = one(plain, "zen", images, labels)
    assert one(normed, "zen", images, labels) == pytest.approx(expected, abs=0.3)
    assert expected > math.log(64)  # and is not small, so that the test says something


def test_linear_regions_are_the_different_codes_of_crops():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 2, 5, 5, generator=generator)
    labels = torch.zeros(8, dtype=torch.int64)
    network = nn.Sequential(nn.ReLU(), nn.Flatten())
    regions = {"r": LinearRegions(samples=200, pixels=1)}
    assert score(network, images, labels, regions) == {"r": 4}  # the signs of two channels
    assert score(network, images.abs(), labels, regions) == {"r": 1}


def test_linear_regions_say_when_the_network_cannot_take_crops():
    images, labels = batch()
    with pytest.raises(TrialError, match="choose LinearRegions"):
        one(convolutional(), "linear_regions", images, labels)
    with pytest.raises(TrialError, match="no crops of 3 × 3"):
        one(nn.ReLU(), "linear_regions", torch.rand(4, 7), torch.zeros(4))


def block(scale: float, channels: int = 4) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(scale * torch.eye(channels)[:, :, None, None])
    return nn.Sequential(conv)


class Blocks(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x).mean((2, 3))


AZ = ["az_expressivity", "az_progressivity", "az_trainability"]


def test_az_nas_of_blocks_that_scale():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 4, 16, 16, generator=generator)
    labels = torch.zeros(64, dtype=torch.int64)
    found = score(Blocks(block(1), block(2)), images, labels, AZ)
    # White noise spreads evenly over 4 directions, in both blocks.
    assert found["az_expressivity"] == pytest.approx(2 * math.log(4), abs=1e-3)
    assert found["az_progressivity"] == pytest.approx(0, abs=1e-5)
    assert found["az_trainability"] == pytest.approx(2 - 2 - 1 / 2, abs=0.05)


def test_az_nas_of_a_block_that_does_nothing_is_the_worst():
    images, labels = torch.randn(4, 4, 3, 3), torch.zeros(4, dtype=torch.int64)
    found = score(Blocks(block(1), nn.Sequential(nn.Identity())), images, labels, AZ)
    assert found["az_trainability"] == -math.inf
    alone = score(Blocks(block(1)), images, labels, AZ)
    assert alone["az_progressivity"] == alone["az_trainability"] == -math.inf


def test_az_nas_passes_where_blocks_shrink_images():
    parts = [nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1)) for _ in range(1)]
    images, labels = torch.randn(4, 4, 7, 7), torch.zeros(4, dtype=torch.int64)
    found = score(Blocks(block(1), *parts), images, labels, AZ)
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_complexity(name: str):
    network, (images, labels) = NETWORKS[name](1, 10), batch(side=8)
    cost = complexity(network, (1, 8, 8))
    found = score(network, images, labels, ["params", "macs", "naswot"])
    assert (found["params"], found["macs"]) == (cost.params, cost.macs)
    assert one(network, "macs", images, labels) == cost.macs


def test_macs_leave_out_a_head_that_only_training_has():
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.aside = nn.Linear(36, 3), nn.Linear(36, 5)

        def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            x = x.flatten(1)
            return (self.main(x), self.aside(x)) if self.training else self.main(x)

    assert score(Auxiliary(), *batch(), ["macs", "jacov", "synflow"])["macs"] == 36 * 3


def test_settings_that_make_no_sense_are_refused():
    for make in (
        lambda: Swap(images=1),
        lambda: Swap(images=63),
        lambda: Swap(width=0),
        lambda: Zen(repeats=0),
        lambda: LinearRegions(samples=1),
    ):
        with pytest.raises(InvalidSettings):
            make()
