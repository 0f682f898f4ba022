"""Each proxy against its formula, worked out by hand or by another way."""

import math
from itertools import pairwise

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
from parti.proxies.te_nas import LinearRegions, NtkCondition
from parti.proxies.zen import Zen
from parti.proxies.zico import ZiCo

K = 1e-5


def batch(n: int = 8, channels: int = 1, side: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, channels, side, side, generator=generator)
    return images, torch.arange(n) % classes


def convolutional(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(45, classes),
    )


def one(network: nn.Module, name: str, images: Tensor, labels: Tensor, **options: object) -> float:
    return score(network, images, labels, [name], **options)[name]


def gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights of layers and their gradients."""
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    loss = F.cross_entropy(network(images), labels)
    return list(zip(weights, torch.autograd.grad(loss, weights), strict=True))


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


def test_ntk_of_a_linear_map_is_the_kernel_of_the_images():
    images, labels = batch(n=6)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    x = images.flatten(1).double().numpy()
    expected = np.linalg.cond(x @ x.T)
    assert one(network, "ntk", images, labels) == pytest.approx(expected, rel=1e-3)
    some = score(network, images, labels, {"ntk": NtkCondition(images=3)})["ntk"]
    assert some == pytest.approx(np.linalg.cond(x[:3] @ x[:3].T), rel=1e-3)


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
        lambda: ZiCo(parts=1),
        lambda: NtkCondition(images=1),
        lambda: LinearRegions(samples=1),
    ):
        with pytest.raises(InvalidSettings):
            make()
