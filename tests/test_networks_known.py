"""Well-known networks are what was published."""

import pytest
import torch

from parti.core.errors import InvalidSettings
from parti.networks.known import KNOWN, default_known, known_network

torch.set_num_threads(1)
# Where the paper's setting has a published number of parameters: ResNet-20 with projections on
# CIFAR-10, the others on ImageNet.
PUBLISHED = {
    "resnet20": (10, 32, 272_474),
    "resnet18": (1000, 224, 11_689_512),
    "mobilenet_v2": (1000, 224, 3_504_872),
    "mobilenet_v2_half": (1000, 224, 1_968_680),
}


def params(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_are_those_published(name):
    classes, resolution, published = PUBLISHED[name]
    with torch.device("meta"):
        assert params(known_network(name, 3, classes, resolution)) == published


@pytest.mark.parametrize("resolution", [8, 16, 28, 32, 64, 96, 128, 224])
@pytest.mark.parametrize("name", KNOWN)
def test_known_networks_adapt_to_resolution_and_channels(name, resolution):
    with torch.device("meta"):
        network = known_network(name, 1, 7, resolution)
        sizes = []
        network.head.register_forward_pre_hook(lambda _, x: sizes.append(x[0].shape[-1]))
        assert network(torch.empty(2, 1, resolution, resolution)).shape == (2, 7)
        assert params(network) == params(known_network(name, 1, 7, 32))
    assert 1 <= sizes[0] <= 14


@pytest.mark.parametrize("name", KNOWN)
def test_known_networks_train(name):
    torch.manual_seed(0)
    network = known_network(name, 1, 3, 8)
    loss = torch.nn.functional.cross_entropy(
        network(torch.randn(4, 1, 8, 8)), torch.tensor([0, 1, 2, 0])
    )
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_the_default_suits_the_resolution():
    assert default_known(8) == default_known(32) == "resnet20"
    assert default_known(224) == "mobilenet_v2_half"
    assert params(known_network(None, 1, 10, 8)) == params(known_network("resnet20", 1, 10, 8))


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InvalidSettings, match=r"'lenet'.*resnet20.*mobilenet_v2"):
        known_network("lenet")
