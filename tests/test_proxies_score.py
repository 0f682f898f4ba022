"""Scoring leaves no trace, shares its passes, and takes proxies of any origin."""

import random
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from measured_networks import NETWORKS, plain
from parti.core.errors import InvalidData, InvalidSettings, TrialError
from parti.proxies.catalogue import PROXIES
from parti.proxies.layers import blocks, weighted
from parti.proxies.probe import Need, Probe
from parti.proxies.scoring import load_proxies, score
from parti.proxies.zen import Zen
from parti.spaces.nasbench201 import from_string, nasbench201
from parti.tasks.images import read_images

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"


def cells() -> nn.Module:
    torch.manual_seed(0)
    return nasbench201(1, 10, 8, channels=4, cells=1).build(from_string(CELL))


def digits(n: int = 16) -> tuple[Tensor, Tensor]:
    data = read_images("digits")
    images = torch.from_numpy(data.images[:n]).permute(0, 3, 1, 2).float() / 255
    return (images - images.mean()) / images.std(), torch.from_numpy(data.labels[:n])


def state(network: nn.Module) -> dict[str, Any]:
    """All that scoring could change."""
    return {
        "values": {n: t.clone() for n, t in network.state_dict(keep_vars=True).items()},
        "buffers": [id(b) for b in network.buffers()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in network.parameters()],
        "flags": [p.requires_grad for p in network.parameters()],
        "modes": [m.training for m in network.modules()],
        "tracking": [getattr(m, "track_running_stats", None) for m in network.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in network.modules()
        ],
        "attributes": [sorted(vars(m)) for m in network.modules()],
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
    }


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def used(network: nn.Module) -> nn.Module:
    """In a state that is not that of a fresh network."""
    parameters = list(network.parameters())
    for place, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, float(place))
    parameters[0].requires_grad_(False)
    network.eval()
    next(iter(network.children())).train()
    return network


def test_the_network_and_random_numbers_are_left_as_they_were():
    network, (images, labels) = used(cells()), digits()
    before, seen = state(network), images.clone()
    scores = score(network, images, labels, list(PROXIES))
    assert_same(state(network), before)
    assert torch.equal(images, seen)
    assert not images.requires_grad
    assert set(scores) == set(PROXIES)
    assert np.isfinite(list(scores.values())).all(), scores


class Fails:
    """A proxy, and a network, that break off in the middle."""

    needs = frozenset({Need.GATES, Need.INPUT_GRADIENT, Need.MAPS})
    goal: Literal["max"] = "max"

    def __call__(self, probe: Probe) -> float:
        next(probe.network.parameters()).requires_grad_(True)
        probe.network.eval()
        raise ZeroDivisionError("in the middle")


def test_the_network_is_left_as_it_was_after_a_failure_too():
    network, (images, labels) = used(cells()), digits()
    before = state(network)
    with pytest.raises(TrialError, match=r"broken: .*in the middle"):
        score(network, images, labels, {"broken": Fails()})
    assert_same(state(network), before)
    with pytest.raises(TrialError, match="synflow"):  # the norm's forward was replaced by then
        score(nn.Sequential(nn.BatchNorm2d(1), Odd()), images, labels, ["synflow"])


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1:
            raise RuntimeError("one image is too few")
        return x.flatten(1)


@pytest.mark.parametrize("name", PROXIES)
def test_a_score_does_not_depend_on_the_company(name: str, together: dict[str, float]):
    network, (images, labels) = cells(), digits()
    assert score(network, images, labels, [name])[name] == together[name]


@pytest.fixture(scope="module")
def together() -> dict[str, float]:
    torch.manual_seed(123)  # whatever state the process's random numbers are in
    network, (images, labels) = cells(), digits()
    first = score(network, images, labels, list(PROXIES), seed=0)
    assert score(network, images, labels, list(PROXIES), seed=0) == first
    return first


def test_only_draws_follow_the_seed(together: dict[str, float]):
    network, (images, labels) = cells(), digits()
    other = score(network, images, labels, list(PROXIES), seed=1)
    changed = {name for name in PROXIES if other[name] != together[name]}
    assert changed <= {"zen", "linear_regions", "az_trainability"}
    assert {"zen", "az_trainability"} <= changed


class Counting(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.passes = network, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        out: Tensor = self.network(x)
        return out


SHARED = [
    "params", "macs", "l2_norm", "grad_norm", "plain", "snip", "grasp", "fisher", "jacov",
    "epe_nas", "naswot", "swap", "meco", "az_expressivity", "az_progressivity", "az_trainability",
]  # fmt: skip


def test_sixteen_proxies_share_one_forward_pass():
    network, (images, labels) = Counting(cells()), digits()
    score(network, images, labels, SHARED)
    assert network.passes == 1
    score(network, images, labels, ["params", "l2_norm"])
    assert network.passes == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_any_kind_of_network_has_scores(name: str):
    images, labels = digits()
    names = [n for n in PROXIES if n != "linear_regions"]
    scores = score(NETWORKS[name](1, 10), images, labels, names)
    assert not np.isnan([v for n, v in scores.items() if n != "jacov"]).any(), scores


def test_another_task_with_its_own_loss():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    images, _ = digits()
    names = ["snip", "grad_norm", "naswot", "jacov", "fisher", "synflow", "zico", "zen"]
    scores = score(network, images, images.flip(2), names, loss=nn.functional.mse_loss)
    assert np.isfinite(list(scores.values())).all()


def test_dropout_is_drawn_from_the_seed():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5),
                            nn.Linear(32, 10))  # fmt: skip
    images, labels = digits()
    one, same, other = (score(network, images, labels, ["snip"], seed=s) for s in (0, 0, 1))
    assert one == same != other


def test_shared_weights_count_once():
    layer = nn.Linear(4, 4)
    network = nn.Sequential(layer, nn.ReLU(), layer)
    assert list(weighted(network)) == ["0.weight"]
    images, labels = torch.randn(6, 4), torch.arange(6) % 4
    scores = score(network, images, labels, ["params", "synflow", "l2_norm", "zen"])
    assert scores["params"] == 20
    assert scores["l2_norm"] == pytest.approx(layer.weight.norm().item())


def test_blocks_are_cells_stem_and_head():
    network = cells()
    assert [type(block).__name__ for block in blocks(network)] == [
        "Sequential", "EdgeCell", "Residual", "EdgeCell", "Residual", "EdgeCell", "Sequential",
        "Sequential",
    ]  # fmt: skip
    assert len(blocks(plain())) == len(plain())


def test_inputs_without_gradients_are_refused_where_one_is_needed():
    network = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))
    words, labels = torch.arange(18).reshape(6, 3) % 9, torch.arange(6) % 2
    assert score(network, words, labels, ["snip"])["snip"] > 0
    with pytest.raises(TrialError, match=r"int64 have no gradient; leave out .*jacov"):
        score(network, words, labels, ["jacov"])


def test_bad_input_is_told():
    network, (images, labels) = cells(), digits()
    with pytest.raises(InvalidData, match="1 images and 1 labels"):
        score(network, images[:1], labels[:1], ["naswot"])
    with pytest.raises(InvalidData, match="16 images and 3 labels"):
        score(network, images, labels[:3], ["naswot"])
    with pytest.raises(TrialError, match=r"shared pass: .*inputs of shape"):
        score(network, images[:, :, 0], labels, ["naswot"])
    with pytest.raises(TrialError, match="a row for each image"):
        score(nn.Flatten(0), images, labels, ["jacov"])
    with pytest.raises(InvalidSettings, match="no proxy 'naswott'; choose one of params"):
        score(network, images, labels, ["naswott"])
    with pytest.raises(InvalidSettings, match="no proxy is named"):
        load_proxies([])
    with pytest.raises(InvalidSettings, match="a proxy has `needs` and `goal`"):
        load_proxies(["math:pi"])


class Widest:
    """A third party's proxy."""

    needs = frozenset({Need.WEIGHTS})
    goal: Literal["max"] = "max"

    def __call__(self, probe: Probe) -> float:
        return float(max(len(layer.weight) for layer in probe.layers))


def test_proxies_of_others_are_found_by_where_they_are():
    network, (images, labels) = cells(), digits()
    name = f"{__name__}:Widest"
    found = score(network, images, labels, [name, "params"])
    assert found[name] == 16
    assert score(network, images, labels, {"z": Zen(repeats=1)}).keys() == {"z"}
