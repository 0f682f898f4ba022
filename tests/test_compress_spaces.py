"""Members of spaces are folded, and cut or refused in words."""

from random import Random

import pytest
import torch

from parti.core.errors import TrialError
from parti.core.walks import sample
from parti.deploy.compression.fold import fold
from parti.deploy.compression.prune import cut_channels
from parti.evaluators.complexity import complexity
from parti.spaces.catalogue import load_space
from training_makers import toy_data

DATA = toy_data(24, 8, side=16, channels=3)
SHAPE = DATA.input_shape
SMALL = {"transnas_micro": {"channels": 8}}


def member(name: str, seed: int) -> torch.nn.Module:
    space = load_space(name, in_channels=3, classes=2, resolution=16, **SMALL.get(name, {}))
    torch.manual_seed(seed)
    return space.build(sample(space, Random(seed))).eval()


MEMBERS = [
    *[("residual", 2), ("residual", 3), ("mobile", 1), ("mobile", 3)],
    ("transnas_micro", 2),  # with an edge that is not there
    ("transnas_micro", 8),  # with a convolution that nobody reads
]


@pytest.mark.parametrize(("name", "seed"), MEMBERS)
def test_members_are_folded_and_cut(name, seed):
    network = member(name, seed)
    images = torch.randn(3, *SHAPE)
    right = network(images)
    folded = fold(network, SHAPE)
    torch.testing.assert_close(
        folded.network(images), right, rtol=0, atol=1e-4 * float(right.abs().max().detach())
    )
    assert folded.norms > 0
    whole = complexity(network, SHAPE)
    small = cut_channels(network, DATA, 0.75, importance="l2")
    assert 0 < complexity(small, SHAPE).macs <= 0.75 * whole.macs
    assert small(images).shape == (3, 2)
    assert small.train()(images).shape == (3, 2)


def test_a_cell_with_a_convolution_of_zeros_is_folded_and_not_cut():
    """Its sum adds a constant in each channel, which cannot follow the channels."""
    network = member("transnas_micro", 1)
    assert fold(network, SHAPE).difference < 1e-10
    with pytest.raises(TrialError, match=r"channels of Sequential cannot be cut.*step 'prune'"):
        cut_channels(network, DATA, 0.75, importance="l2")
