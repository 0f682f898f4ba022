"""Proxies of weights and gradients against their formulas, worked out by hand or another way."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parti.core.errors import InvalidSettings, TrialError
from parti.proxies.scoring import score
from parti.proxies.te_nas import NtkCondition
from parti.proxies.zico import ZiCo
from proxy_makers import batch, convolutional, gradients, one

K = 1e-5


def test_first_order_proxies_are_sums_over_the_weights_of_layers():
    network, (images, labels) = convolutional(), batch()
    pairs = gradients(network, images, labels)
    found = score(network, images, labels, ["grad_norm", "plain", "snip", "l2_norm", "params"])
    assert found["grad_norm"] == pytest.approx(sum(g.norm().item() for _, g in pairs), rel=1e-5)
    assert found["plain"] == pytest.approx(sum((w * g).sum().item() for w, g in pairs), rel=1e-4)
    assert found["snip"] == pytest.approx(
        sum((w * g).abs().sum().item() for w, g in pairs), rel=1e-5
    )
    assert found["l2_norm"] == pytest.approx(sum(w.norm().item() for w, _ in pairs), rel=1e-5)
    assert found["params"] == 40 + 8 + 180 + 45 * 3 + 3


def test_snip_is_the_gradient_for_a_mask():
    network, (images, labels) = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), batch()
    mask = torch.ones(3, 36, requires_grad=True)
    logits = F.linear(images.flatten(1), network[1].weight * mask, network[1].bias)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels), mask)
    assert one(network, "snip", images, labels) == pytest.approx(gradient.abs().sum().item())


def test_grasp_is_minus_hessian_times_gradient_times_weight():
    images, labels = batch(side=2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))

    def loss(w: Tensor) -> Tensor:
        return F.cross_entropy(images.flatten(1) @ w.reshape(3, 4).T, labels)

    w = network[1].weight.detach().flatten()
    hessian = torch.autograd.functional.hessian(loss, w)
    gradient = torch.autograd.functional.jacobian(loss, w)
    expected = -(hessian @ gradient * w).sum().item()
    assert one(network, "grasp", images, labels) == pytest.approx(expected, rel=1e-4)


def test_fisher_is_half_the_mean_square_of_what_each_channel_contributes():
    images, labels = batch(side=4)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    a = network[0](images)
    logits = network[2](a.flatten(1))
    g_a, g_logits = torch.autograd.grad(F.cross_entropy(logits, labels), [a, logits])
    of_conv = 0.5 * (a * g_a).sum((2, 3)).square().mean(0).sum() * 9
    of_linear = 0.5 * (logits * g_logits).square().mean(0).sum() * 8
    expected = (of_conv + of_linear).item()
    assert one(network, "fisher", images, labels) == pytest.approx(expected, rel=1e-5)


def test_fisher_takes_the_last_dimension_of_tokens_for_channels():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.mix(x[:, 0]).mean(1)

    network, (images, labels) = Tokens(), batch()
    out = network.mix(images[:, 0])
    (g,) = torch.autograd.grad(F.cross_entropy(out.mean(1), labels), out)
    expected = 0.5 * (out * g).sum(1).square().mean(0).sum().item() * 6
    assert one(network, "fisher", images, labels) == pytest.approx(expected, rel=1e-5)


def test_synflow_is_the_same_flow_through_every_layer():
    """Without biases all flow passes each layer: the sum is layers × 1ᵀ|W₃||W₂||W₁|1."""
    torch.manual_seed(0)
    sizes = [36, 7, 5, 3]
    linears = [nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)]
    network = nn.Sequential(nn.Flatten(), *linears)
    flow = torch.ones(36)
    for linear in linears:
        flow = linear.weight.abs() @ flow
    assert one(network, "synflow", *batch()) == pytest.approx(3 * flow.sum().item(), rel=1e-5)


def test_synflow_bypasses_norms_and_sees_no_data():
    network = convolutional()
    without = nn.Sequential(*(m for m in network if not isinstance(m, nn.BatchNorm2d)))
    images, labels = batch()
    expected = one(without, "synflow", images, labels)
    assert one(network, "synflow", images * 3 + 1, labels) == pytest.approx(expected, rel=1e-9)
    assert "forward" not in vars(network[1])


def test_jacov_scores_the_eigenvalues_of_correlations():
    network, (images, labels) = convolutional(), batch()
    x = images.clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(network(x).sum(), x)
    v = np.linalg.eigvalsh(np.corrcoef(jacobian.flatten(1).double().numpy()))
    expected = -np.sum(np.log(v + K) + 1 / (v + K))
    assert one(network, "jacov", images, labels) == pytest.approx(expected, rel=1e-4)


def test_jacov_of_images_without_effect_is_undefined():
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    nn.init.zeros_(network[1].weight)
    assert math.isnan(one(network, "jacov", *batch()))


def by_hand_epe(jacobian: np.ndarray, labels: np.ndarray, *, many: bool) -> float:
    scores = []
    for label in np.unique(labels):
        found = np.atleast_2d(np.corrcoef(jacobian[labels == label]))
        total = np.log(np.abs(found) + K).sum()
        scores.append(total / len(found) if many else total)
    if many:
        return float(np.abs(np.subtract.outer(scores, scores)).sum() / len(scores))
    return float(np.abs(scores).sum())


@pytest.mark.parametrize("classes", [4, 101])
def test_epe_nas_scores_each_class(classes: int):
    network, (images, _) = convolutional(classes), batch()
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])  # the last class has one image
    x = images.clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(network(x).sum(), x)
    rows = jacobian.flatten(1).double().numpy()
    expected = by_hand_epe(rows, labels.numpy(), many=classes > 100)
    assert one(network, "epe_nas", images, labels) == pytest.approx(expected, rel=1e-4)


def test_epe_nas_needs_classes():
    images, _ = batch()
    network = convolutional()
    with pytest.raises(TrialError, match="epe_nas needs the class"):
        one(network, "epe_nas", images, torch.rand(8, 3))


def test_zico_is_the_inverse_coefficient_of_variation():
    network, (images, labels) = convolutional(), batch()
    halves = [gradients(network, images[p], labels[p]) for p in (slice(4), slice(4, 8))]
    expected = 0.0
    for (_, one_half), (_, other) in zip(*halves, strict=True):
        stacked = torch.stack([one_half, other]).numpy()
        deviation = stacked.std(0)
        mean = np.abs(stacked).mean(0)
        expected += np.log((mean[deviation > 0] / deviation[deviation > 0]).sum())
    assert one(network, "zico", images, labels) == pytest.approx(expected, rel=1e-4)


def test_zico_of_gradients_that_never_vary_is_the_worst():
    images, labels = torch.ones(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert one(network, "zico", images, labels) == -math.inf


def test_ntk_of_a_linear_map_is_the_kernel_of_the_images():
    images, labels = batch(n=6)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    x = images.flatten(1).double().numpy()
    expected = np.linalg.cond(x @ x.T)
    assert one(network, "ntk", images, labels) == pytest.approx(expected, rel=1e-3)
    some = score(network, images, labels, {"ntk": NtkCondition(images=3)})["ntk"]
    assert some == pytest.approx(np.linalg.cond(x[:3] @ x[:3].T), rel=1e-3)


def test_settings_that_make_no_sense_are_refused():
    for make in (lambda: ZiCo(parts=1), lambda: NtkCondition(images=1)):
        with pytest.raises(InvalidSettings):
            make()
