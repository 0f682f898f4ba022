"""Attacks against networks whose weakest point is known in closed form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from parti.core.errors import InvalidSettings
from parti.evaluators.robustness.attacks import fgsm, pgd


def linear(classes=2, scale=1.0, seed=0, pixels=12):
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))
    with torch.no_grad():
        network[1].weight.copy_(scale * torch.randn(classes, pixels, generator=generator))
        network[1].bias.copy_(-network[1].weight.sum(1) * 127)
    return network.eval()


def gray(n=200, seed=1):
    """Images far from both ends of the range, so that nothing is cut off."""
    return 100 + 55 * torch.rand(n, 1, 3, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("attack", [fgsm, pgd])
@pytest.mark.parametrize("eps", [0.5, 2.0, 8.0])
def test_a_linear_network_falls_exactly_where_the_margin_says(attack, eps):
    network, images = linear(), gray()
    with torch.no_grad():
        logits = network(images)
        labels = logits.argmax(1)
        margin = (logits[:, 1] - logits[:, 0]).abs()
        reach = eps * (network[1].weight[1] - network[1].weight[0]).abs().sum()
        held = network(attack(network, images, labels, eps)).argmax(1) == labels
    clear = (margin - reach).abs() > 1e-3 * reach
    assert 0.1 < (margin > reach).float().mean() < 1 or eps == 8
    assert torch.equal(held[clear], (margin > reach)[clear])


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_a_network_that_is_too_sure_is_attacked_all_the_same(attack):
    """With huge logits the softmax is 1, and its gradient 0, in float32."""
    images = gray()
    meek, sure = linear(), linear(scale=1e4)
    labels = meek(images).argmax(1)
    changed = [attack(network, images, labels, 2.0) for network in (meek, sure)]
    fooled = [n(x).argmax(1) != labels for n, x in zip((meek, sure), changed, strict=True)]
    assert fooled[0].sum() > 10
    assert torch.equal(*fooled)


@settings(max_examples=20, deadline=None)
@given(
    eps=st.floats(0, 300),
    low=st.floats(-5, 5),
    width=st.floats(0.1, 300),
    steps=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_changed_images_stay_in_the_ball_and_in_the_range(eps, low, width, steps, seed):
    high = low + width
    generator = torch.Generator().manual_seed(seed)
    images = low + width * torch.rand(6, 1, 3, 4, generator=generator)
    network = linear(3, seed=seed)
    labels = torch.arange(6) % 3
    for changed in (
        fgsm(network, images, labels, eps, value_range=(low, high)),
        pgd(network, images, labels, eps, steps=steps, value_range=(low, high), seed=seed),
    ):
        slack = 1e-4 * max(1, abs(high), abs(low))
        assert (changed - images).abs().max() <= eps * width / 255 + slack
        assert changed.min() >= low - slack
        assert changed.max() <= high + slack


def test_pixels_beyond_the_range_do_not_move_further_than_eps():
    images = torch.full((1, 1, 3, 4), 1.5)
    network, label = linear(), torch.tensor([0])
    for attack in (fgsm, pgd):
        changed = attack(network, images, label, 25.5, value_range=(0, 1))
        assert (changed - images).abs().max() <= 0.1 + 1e-6


def curved(seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 24), nn.BatchNorm1d(24), nn.Tanh(), nn.Linear(24, 3)
    )
    network[1].weight.data.mul_(0.2)
    network(gray())  # statistics for the batch norm
    return network.eval()


def test_pgd_is_stronger_than_fgsm_and_restarts_than_one_start():
    network, images = curved(), gray(400)
    labels = network(images).argmax(1)

    def held(changed):
        return (network(changed).argmax(1) == labels).float().mean().item()

    eps = 6.0
    one = held(pgd(network, images, labels, eps, steps=10))
    assert one < held(fgsm(network, images, labels, eps)) < 1
    assert held(pgd(network, images, labels, eps, steps=10, restarts=4)) <= one


def test_the_network_is_left_as_it_was():
    network, images = curved(), gray(20)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    labels = network(images).argmax(1)
    pgd(network, images, labels, 4.0, steps=2)
    fgsm(network, images, labels, 4.0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not images.requires_grad


def test_pgd_follows_from_its_seed_and_leaves_wrong_images_alone():
    network, images = curved(), gray(50)
    labels = network(images).argmax(1)
    labels[:10] = (labels[:10] + 1) % 3
    changed = pgd(network, images, labels, 0.01, steps=2, seed=5)
    assert torch.equal(changed, pgd(network, images, labels, 0.01, steps=2, seed=5))
    assert not torch.equal(changed, pgd(network, images, labels, 0.01, steps=2, seed=6))
    assert torch.equal(changed[:10], images[:10])
    assert torch.equal(pgd(network, images, labels, 0.0), images)


def test_pgd_goes_through_frozen_weights_under_no_grad():
    network, images = linear().requires_grad_(False), gray()
    with torch.no_grad():
        labels = network(images).argmax(1)
        changed = pgd(network, images, labels, 8.0)
        assert (network(changed).argmax(1) != labels).float().mean() > 0.5


@pytest.mark.parametrize(
    "given",
    [{"eps": -1.0}, {"eps": np.nan}, {"value_range": (1, 1)}, {"steps": 0}, {"restarts": 0}],
)
def test_settings_are_checked(given):
    with pytest.raises(InvalidSettings, match="at least"):
        pgd(linear(), gray(2), torch.tensor([0, 1]), **{"eps": 1.0, **given})
