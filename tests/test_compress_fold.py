"""Folding changes nothing but the number of operations."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression_makers import BODIES, SHAPE
from parti.core.errors import TrialError
from parti.deploy.compression.fold import fold
from parti.deploy.compression.lean import lean
from parti.networks.operations import Zero, conv_norm_act


@pytest.mark.parametrize("name", BODIES)
def test_outputs_stay_and_norms_go(name):
    network = BODIES[name]()
    folded = fold(network, SHAPE)
    images = torch.randn(5, *SHAPE)
    right = network(images)
    torch.testing.assert_close(
        folded.network(images), right, rtol=0, atol=1e-5 * float(right.abs().max().detach())
    )
    left = [type(module).__name__ for module in folded.network.modules()]
    assert not {"Identity", "Zero"} & set(left)
    if name not in ("group norm", "halves"):  # halves are joined before their norm
        assert "BatchNorm2d" not in left
        assert folded.norms > 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    affine=st.booleans(),
    mode=st.sampled_from(["zeros", "reflect"]),
)
def test_any_convolution_takes_its_norm(seed, groups, bias, affine, mode):
    torch.manual_seed(seed)
    conv = nn.Conv2d(4, 8, 3, padding=1, groups=groups, bias=bias, padding_mode=mode)
    norm = nn.BatchNorm2d(8, affine=affine)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 3)
    network = nn.Sequential(conv, norm, nn.Flatten(), nn.Linear(8 * 64, 5), nn.BatchNorm1d(5))
    folded = fold(network.eval(), (4, 8, 8))
    assert folded.norms == 2
    assert folded.difference < 1e-10


class Twice(nn.Module):
    """One convolution read by two: by its norm and by the sum, or called twice."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.shared = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), shared
        self.norm.running_mean.fill_(3)

    def forward(self, x):
        once = self.conv(x)
        other = self.conv(x * 2) if self.shared else once
        return (self.norm(once) + other).mean((2, 3))


@pytest.mark.parametrize("shared", [False, True])
def test_a_norm_that_is_not_alone_stays(shared):
    network = Twice(shared=shared).eval()
    folded = fold(network, SHAPE)
    assert folded.norms == 0
    images = torch.randn(2, *SHAPE)
    torch.testing.assert_close(folded.network(images), network(images))


class Unread(nn.Module):
    """A cell with a convolution that nobody reads, one of zeros, and one that only training reads.

    The outputs depend on `kept` and, since a norm has a bias, on `constant`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.unread = conv_norm_act(1, 4), conv_norm_act(1, 4)
        self.zero, self.constant = Zero(channels=4), conv_norm_act(4, 4)
        self.aside = nn.Linear(4, 2)

    def forward(self, x):
        made, _ = self.kept(x), self.unread(x)
        pooled = (made + self.constant(self.zero(x))).mean((2, 3))
        return (pooled[:, :2], self.aside(pooled)) if self.training else pooled[:, :2]


def test_what_has_no_effect_goes_and_nothing_else():
    torch.manual_seed(0)
    network = Unread().eval()
    nn.init.normal_(network.constant.norm.bias)
    images = torch.randn(3, *SHAPE)
    right = network(images)
    slim = lean(copy.deepcopy(network), SHAPE)
    assert torch.equal(slim(images), right)
    assert not list(slim.unread.parameters())
    for name in ("kept", "constant", "aside"):
        assert list(slim.get_submodule(name).parameters()), name
    assert not any(isinstance(module, Zero) for module in slim.modules())
    folded = fold(network, SHAPE)
    torch.testing.assert_close(folded.network(images), right)
    assert folded.norms == 2


class Deciding(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def test_a_network_that_decides_cannot_be_folded():
    with pytest.raises(TrialError, match="cannot be traced"):
        fold(Deciding(), SHAPE)
