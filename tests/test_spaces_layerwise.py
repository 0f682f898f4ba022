"""Layer-wise mobile spaces: the sizes of the papers, and what adapts to small images."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn

import parti
from parti.core.errors import InvalidSettings
from parti.evaluators.complexity import complexity
from parti.spaces.fbnet import fbnet
from parti.spaces.layerwise import lay_out, skips_last
from parti.spaces.proxylessnas import proxylessnas

FBNET_B = (
    "k3_e1 k3_e6 k5_e1 k3_e1 k3_e1 k5_e6 k5_e3 k3_e6 k5_e6 k5_e6 k5_e1 skip k5_e3 k5_e6 k3_e1 "
    "k5_e1 k5_e3 k5_e6 k5_e1 k5_e6 k5_e6 k3_e6"
)
"""Wu et al. 2019, figure 4; 295 million MACs."""


def test_fbnet_has_the_layers_and_sizes_of_its_paper() -> None:
    space = fbnet(3, 1000, 224)
    assert space.tree.size == 9**22
    network = space.build(dict(zip(space.tree.choices, FBNET_B.split(), strict=True)))
    cost = complexity(network, (3, 224, 224))
    assert cost.macs == pytest.approx(295e6, rel=0.03)
    assert cost.params == pytest.approx(4.5e6, rel=0.1)
    shapes = {module.name: module.output_shape for module in cost.modules}
    assert shapes["stem"] == (1, 16, 112, 112)
    assert shapes["stage3_layer1"] == (1, 32, 28, 28)
    assert shapes["stage7_layer1"] == (1, 352, 7, 7)
    assert shapes["features"] == (1, 1504, 7, 7)


def test_proxylessnas_has_the_layers_and_sizes_of_its_paper() -> None:
    space = proxylessnas(3, 1000, 224)
    assert space.tree.size == 6**6 * 7**15
    whole = {name: choice.options[-1] for name, choice in space.tree.choices.items()}
    cost = complexity(space.build(whole), (3, 224, 224))
    shapes = {module.name: module.output_shape for module in cost.modules}
    assert shapes["first"] == (1, 16, 112, 112)
    assert [shapes[f"stage{n}_layer1"][1:] for n in range(1, 7)] == [
        (24, 56, 56),
        (40, 28, 28),
        (80, 14, 14),
        (96, 14, 14),
        (192, 7, 7),
        (320, 7, 7),
    ]


@pytest.mark.parametrize("space", [fbnet, proxylessnas], ids=["fbnet", "proxylessnas"])
@pytest.mark.parametrize(("resolution", "last"), [(8, 4), (28, 7), (32, 4), (64, 4), (100, 7)])
def test_small_images_keep_pixels(space, resolution: int, last: int) -> None:
    bound = space(1, 7, resolution, width=8, layers=1)
    network = bound.build(parti.sample(bound, Random(0)))
    cost = complexity(network, (1, resolution, resolution))
    shapes = {module.name: module.output_shape for module in cost.modules}
    assert shapes["features"][2:] == (last, last)
    assert network.eval()(torch.zeros(2, 1, resolution, resolution)).shape == (2, 7)


def test_images_of_32_pixels_are_halved_three_times_as_in_hw_nas_bench() -> None:
    plan = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
    stem, layers = lay_out(plan, 16, 32)
    firsts = [layer.stride for layer in layers if layer.name.endswith("layer1")]
    assert (stem, firsts) == (1, [1, 1, 2, 2, 1, 2, 1])


def test_channels_are_in_proportion_and_multiples_of_8() -> None:
    space = fbnet(1, 2, 8, width=8)
    network = space.build(dict.fromkeys(space.tree.choices, "skip"))
    widths = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [8, 16, 32, 56, 96, 176, 752]


def test_skips_are_identities_where_the_shape_stays() -> None:
    space = fbnet(1, 2, 16, width=16, layers=2)
    network = space.build(dict.fromkeys(space.tree.choices, "skip"))
    assert isinstance(network.stage1_layer1, nn.Identity)
    assert isinstance(network.stage2_layer2, nn.Identity)
    assert not isinstance(network.stage2_layer1, nn.Identity)
    space = proxylessnas(1, 2, 16, layers=2)
    offered = {name: "skip" in choice.options for name, choice in space.tree.choices.items()}
    assert all(offers == name.endswith("layer2") for name, offers in offered.items())


def test_grouped_blocks_mix_channels_and_cost_half() -> None:
    space = fbnet(1, 2, 8, width=16, layers=1)
    macs = {}
    for block in ("k3_e1", "k3_e1_g2"):
        network = space.build(dict.fromkeys(space.tree.choices, block))
        cost = complexity(network.stage2_layer1, (16, 8, 8))
        macs[block] = cost.macs_by_operation["convolution"]
    assert macs["k3_e1_g2"] * 2 == macs["k3_e1"]
    # Every output hangs on every input, through both groups.
    x = torch.randn(1, 16, 8, 8, requires_grad=True)
    network.stage2_layer1.eval()(x)[0, 0].sum().backward()
    assert (x.grad.abs().sum((0, 2, 3)) > 0).all()


def test_it_makes_no_difference_which_layers_are_left_out() -> None:
    space = fbnet(1, 2, 8, width=8, layers=3)
    one = dict(parti.sample(space, Random(1)))
    one.update(zip([f"stage2/layer{i}" for i in (1, 2, 3)], ["skip", "skip", "k3_e1"], strict=True))
    other = {**one, "stage2/layer2": "k3_e1", "stage2/layer3": "skip"}
    assert skips_last(parti.Architecture(one)) == skips_last(parti.Architecture(other))
    assert parti.canonical(space, parti.Architecture(one)) == parti.Architecture(other)
    networks = [space.build(each).eval() for each in (one, other)]
    for into, given in zip(*(each.parameters() for each in networks[::-1]), strict=True):
        into.data.copy_(given)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(networks[0](x), networks[1](x))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"layers": 0}, {"resolution": 0}])
def test_sizes_must_be_positive(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidSettings, match="must be more than 0"):
        parti.sample(fbnet(**wrong), Random(0))
