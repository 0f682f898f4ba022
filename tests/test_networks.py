"""The pieces networks are made of."""

import warnings

import pytest
import torch
from torch import nn

from parti.core.errors import InvalidSettings
from parti.networks.blocks import (
    DenseLayer,
    ParallelSum,
    Residual,
    SqueezeExcitation,
    basic_block,
    bottleneck_block,
    inverted_residual,
    path,
)
from parti.networks.heads import assemble, dense_layer, head, stem
from parti.networks.layers import (
    ACTIVATIONS,
    GAINS,
    NORMALIZATIONS,
    activation,
    initialize,
    normalization,
)
from parti.networks.operations import (
    ChannelShuffle,
    FactorizedReduce,
    Zero,
    act_conv_norm,
    average_pool,
    conv_norm_act,
    max_pool,
    separable,
)

torch.set_num_threads(1)
SIZES = (1, 2, 3, 7, 8)

SAME_SIZE = {
    "conv": lambda: conv_norm_act(8, 8),
    "dilated": lambda: conv_norm_act(8, 8, 5, dilation=2),
    "group": lambda: conv_norm_act(8, 8, 7, groups=8, norm="group", act="gelu"),
    "linear": lambda: conv_norm_act(8, 8, 1, norm="none", act=None),
    "act_conv": lambda: act_conv_norm(8, 8, 3),
    "separable": lambda: separable(8, 8, 5),
    "dilated separable": lambda: separable(8, 8, 3, dilation=2),
    "max": max_pool,
    "average": average_pool,
    "zero": Zero,
    "squeeze": lambda: SqueezeExcitation(8),
    "basic": lambda: basic_block(8, 8),
    "basic projected": lambda: basic_block(8, 8, project=True, attention=SqueezeExcitation(8)),
    "bottleneck": lambda: bottleneck_block(8, 8, hidden=2),
    "inverted": lambda: inverted_residual(8, 8, 5, shortcut=True),
    "inverted, not widened": lambda: inverted_residual(8, 8, expansion=1, shortcut=True),
    "paths": lambda: ParallelSum(
        nn.ModuleDict({"a": path(8, 4, 8), "b": path(8, 4, 8, max_pool())})
    ),
}
HALF_SIZE = {
    "conv": lambda: conv_norm_act(8, 8, 5, stride=2),
    "act_conv": lambda: act_conv_norm(8, 8, 1, stride=2),
    "max": lambda: max_pool(3, 2),
    "average": lambda: average_pool(3, 2),
    "zero": lambda: Zero(2),
    "factorized": lambda: FactorizedReduce(8, 8),
    "basic": lambda: basic_block(8, 8, stride=2, project=True),
    "bottleneck": lambda: bottleneck_block(8, 8, hidden=2, stride=2, project=True),
    "inverted": lambda: inverted_residual(8, 8, stride=2),
    "stem": lambda: stem(8, 8, 2),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SAME_SIZE)
def test_operations_keep_the_size(name, size):
    x = torch.randn(2, 8, size, size)
    assert SAME_SIZE[name]()(x).shape == x.shape


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", HALF_SIZE)
def test_a_stride_halves_the_size_rounding_up(name, size):
    half = (size + 1) // 2
    assert HALF_SIZE[name]()(torch.randn(2, 8, size, size)).shape == (2, 8, half, half)


def test_average_pool_counts_only_pixels_inside():
    assert torch.equal(average_pool()(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 4, 4))


def test_zero_is_zero_and_passes_zero_gradients():
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    out = Zero()(x)
    out.sum().backward()
    assert not out.any()
    assert not x.grad.any()


def test_factorized_reduce_sees_every_pixel():
    reduce = FactorizedReduce(1, 2).eval()
    nn.init.ones_(reduce.even.weight)
    nn.init.ones_(reduce.odd.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4) + 1
    even, odd = reduce(x)[0]
    scale = (1 + reduce.norm.eps) ** 0.5
    assert torch.allclose(even * scale, x[0, 0, ::2, ::2])
    assert torch.allclose(odd * scale, x[0, 0, 1::2, 1::2])


def test_residual_adds_then_activates():
    block = Residual(nn.Conv2d(1, 1, 1, bias=False))
    nn.init.constant_(block.body.weight, -3.0)
    assert torch.equal(block(torch.tensor([[[[1.0, -1.0]]]])), torch.tensor([[[[0.0, 2.0]]]]))


def test_paths_are_summed():
    paths = ParallelSum(nn.ModuleDict({"a": nn.Identity(), "b": nn.Identity(), "c": Zero()}))
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(paths(x), 2 * x)


def test_a_sum_of_paths_is_a_convolution_of_their_concatenation():
    one, other = path(4, 3, 5).eval(), path(4, 2, 5).eval()
    joined = nn.Conv2d(5, 5, 1, bias=False)
    joined.weight.data = torch.cat([one.expand.weight, other.expand.weight], dim=1).data
    x = torch.randn(2, 4, 3, 3)
    wanted = joined(torch.cat([one.reduce(x), other.reduce(x)], dim=1))
    found = ParallelSum(nn.ModuleDict({"one": one, "other": other}))(x)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_a_dense_layer_appends():
    layer = DenseLayer(conv_norm_act(4, 3))
    x = torch.randn(2, 4, 5, 5)
    out = layer(x)
    assert out.shape == (2, 7, 5, 5)
    assert torch.equal(out[:, :4], x)


def test_squeeze_excitation_scales_whole_channels_by_0_to_1():
    x = torch.rand(2, 8, 4, 4) + 0.1
    ratio = SqueezeExcitation(8)(x) / x
    assert torch.allclose(ratio, ratio[:, :, :1, :1].expand_as(ratio), atol=1e-6)
    assert ratio.min() >= 0
    assert ratio.max() <= 1


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gains_keep_the_size_of_signals(name):
    # E[f(z)²] for a standard normal z, by summing over a fine grid.
    z = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2)
    with torch.no_grad():
        power = (density * activation(name).double()(z) ** 2).sum() / density.sum()
    assert GAINS[name] == pytest.approx(power.item() ** -0.5, abs=1e-3)


@pytest.mark.parametrize("name", ["relu", "selu", "gelu"])
def test_signals_keep_their_size_without_normalization(name):
    torch.manual_seed(0)
    layers = [conv_norm_act(256, 256, 1, norm="none", act=name) for _ in range(6)]
    x = torch.randn(4, 256, 8, 8)
    with torch.no_grad():
        out = initialize(nn.Sequential(*layers), name)(x)
    # Wrong by a factor of the square root of 2, six layers would give 1/64 or 64.
    assert 0.3 < out.square().mean() / x.square().mean() < 3


def test_initialize_starts_classes_equal_and_depends_on_the_seed_alone():
    def made():
        torch.manual_seed(1)
        parts = {"stem": stem(1, 8), "head": head(8, 4)}
        return assemble(parts)

    one, other = made(), made()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not one.head.classifier.bias.any()
    assert one.head.classifier.weight.abs().max() < 0.05
    assert one.stem[0].conv.weight.abs().max() > 0.1


def test_layers_are_found_by_name_or_listed():
    assert isinstance(activation("silu"), nn.SiLU)
    with pytest.raises(InvalidSettings, match=r"'swish'.*relu.*gelu"):
        activation("swish")
    with pytest.raises(InvalidSettings, match=r"'power'.*batch.*none"):
        normalization("power", 8)


@pytest.mark.parametrize("name", NORMALIZATIONS)
@pytest.mark.parametrize("channels", [4, 12, 16, 24])
def test_normalizations_take_any_width(name, channels):
    x = torch.randn(2, channels, 1, 1)
    assert normalization(name, channels)(x).shape == x.shape


def test_a_convolution_has_a_bias_only_without_normalization():
    assert conv_norm_act(3, 4).conv.bias is None
    assert conv_norm_act(3, 4, norm="none").conv.bias is not None


@pytest.mark.parametrize(("stride", "size"), [(1, 9), (2, 5), (4, 3)])
def test_stem_and_head_take_any_size(stride, size):
    features = stem(3, 8, stride)(torch.randn(2, 3, 9, 9))
    assert features.shape == (2, 8, size, size)
    hidden = dense_layer(8, 6, dropout=0.5, act="relu")
    assert head(6, 5, hidden)(features).shape == (2, 5)


def test_a_network_exports_and_gives_the_same_outputs():
    torch.manual_seed(0)
    network = assemble(
        {
            "stem": stem(1, 8),
            "block": basic_block(8, 8, attention=SqueezeExcitation(8)),
            "mobile": inverted_residual(8, 8, stride=2, act="hard_swish"),
            "reduce": FactorizedReduce(8, 8),
            "paths": ParallelSum(nn.ModuleDict({"a": path(8, 4, 8), "b": path(8, 4, 8)})),
            "head": head(8, 3),
        }
    ).eval()
    x = torch.randn(2, 1, 9, 9)
    batch = {"input": {0: torch.export.Dim("batch")}}
    with warnings.catch_warnings():
        # torch itself uses what it deprecates, while it exports.
        warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))
        exported = torch.export.export(network, (x,), dynamic_shapes=tuple(batch.values()))
    more = torch.randn(5, 1, 9, 9)
    assert torch.allclose(exported.module()(more), network(more), atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_channels_are_shuffled_as_torch_does(groups: int) -> None:
    images = torch.randn(2, 6, 3, 5)
    assert torch.equal(ChannelShuffle(groups)(images), torch.nn.ChannelShuffle(groups)(images))
