"""Supernets hold what the space builds: random programs, every space, and their parts."""

import copy
import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from parti import (
    activate,
    choose,
    extract,
    mix,
    one_of,
    repeat,
    sample,
    select,
    space,
    supernet,
)
from parti.core.architecture import Architecture
from parti.core.choice import labels
from parti.core.errors import InvalidArchitecture, InvalidSettings, SpaceError
from parti.core.program import Program
from parti.spaces.catalogue import SPACES, load_space
from parti.spaces.darts import darts
from parti.supernets.modules import Prefix, Selected, Switch
from parti.supernets.share import NormalizedPool, PartialChannels, Relaxed, Supernet
from supernet_programs import SIZE, STAGES, dense, program


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


quick = settings(max_examples=25, deadline=None)


def images(seed: int) -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def run(network: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(0)  # for dropout
    return network(x)


def assert_agree(net: Supernet, architecture: Architecture, x: Tensor) -> None:
    """Active subnet, extracted network and built network with its weights: the same."""
    activate(net, architecture)
    for training in (True, False):
        net.train(training)
        plain = extract(net, architecture)
        built = net.space.build(architecture).train(training)
        assert list(built.state_dict()) == list(plain.state_dict())
        built.load_state_dict(plain.state_dict())
        output = run(net, x)
        assert torch.equal(run(plain, x), output)
        assert torch.equal(run(built, x), output)
        # Running statistics have moved alike too.
        after = extract(net, architecture).state_dict()
        assert all(torch.equal(after[name], value) for name, value in plain.state_dict().items())


@quick
@given(STAGES, st.integers(0, 1000))
def test_active_extracted_and_built_are_the_same(stages: Any, seed: int) -> None:
    net = supernet(program(stages))
    random = Random(seed)
    for _ in range(2):
        assert_agree(net, sample(net.space, random), images(seed))


@quick
@given(STAGES, st.integers(0, 1000))
def test_one_hot_mixtures_compute_what_the_built_network_computes(stages: Any, seed: int) -> None:
    net = supernet(program(stages)).eval()
    architecture = sample(net.space, Random(seed))
    activate(net, architecture)
    weights = {}
    for name, choice in net.choices.items():
        option = architecture.get(name, choice.options[0])
        if name.endswith("layers"):
            continue  # a dense stage's depths give different channels
        if choice.kind == "some_of":
            weights[name] = torch.tensor([float(label in option) for label in labels(choice)])
        elif choice.kind != "choose":
            weights[name] = torch.tensor([float(each == option) for each in choice.options])
    mix(net, weights)
    expected = extract(net, architecture)(images(seed))
    assert torch.allclose(net(images(seed)), expected, rtol=1e-12, atol=1e-12)


@quick
@given(STAGES, st.integers(0, 1000))
def test_gradients_are_those_of_the_plain_network_and_reach_nothing_else(
    stages: Any, seed: int
) -> None:
    net = supernet(program(stages))
    architecture = sample(net.space, Random(seed))
    activate(net, architecture)
    plain = extract(net, architecture)
    for network in (net, plain):
        run(network, images(seed)).square().sum().backward()

    def total(network: nn.Module) -> Tensor:
        return sum(
            (p.grad.square().sum() for p in network.parameters() if p.grad is not None),
            torch.zeros(()),
        )

    assert torch.allclose(total(net), total(plain), rtol=1e-9)


@quick
@given(STAGES, st.integers(0, 1000))
def test_a_copy_decides_for_itself(stages: Any, seed: int) -> None:
    net = supernet(program(stages)).eval()
    one, other = (sample(net.space, Random(seed + i)) for i in range(2))
    activate(net, one)
    copied = copy.deepcopy(net)
    activate(copied, other)
    x = images(seed)
    assert torch.equal(net(x), extract(net, one)(x))
    assert torch.equal(copied(x), extract(net, other)(x))


# --- every space ---------------------------------------------------------------------------------

SMALL: dict[str, dict[str, Any]] = {
    "chain": {"width": 8},
    "branches": {"width": 8},
    "residual": {"width": 8, "blocks": (1, 2)},
    "mobile": {"width": 8, "blocks": (1, 2), "expansions": (1, 3)},
    "cell": {"width": 8, "cells": 1, "nodes": 2},
    "nasbench201": {"channels": 4, "cells": 1},
    "nats_size": {"widths": (8, 16)},
    "darts": {"channels": 4, "cells": 3},
    "nasbench_macro": {"channels": 4},
    "transnas_micro": {"channels": 4},
}
NOT_SHARED = {
    "nasbench101": "has no static tree",
    "transnas_macro": "option 'module1' of choice 'modules=4/halved' is a bool",
}


@pytest.mark.parametrize("name", [name for name in SPACES if name not in NOT_SHARED])
def test_spaces_are_shared(name: str) -> None:
    shared = load_space(name, 3, 4, 8, **SMALL.get(name, {}))
    assert isinstance(shared, Program)
    net = supernet(shared)
    random = Random(0)
    for _ in range(2):
        architecture = sample(shared, random)
        activate(net, architecture)
        plain = extract(net, architecture)
        built = shared.build(architecture)
        assert list(built.state_dict()) == list(plain.state_dict())
        x = torch.randn(2, 3, 8, 8)
        for training in (True, False):
            assert torch.equal(run(plain.train(training), x), run(net.train(training), x))


@pytest.mark.parametrize(("name", "why"), NOT_SHARED.items())
def test_what_cannot_be_shared_says_so(name: str, why: str) -> None:
    with pytest.raises(SpaceError, match=why):
        supernet(load_space(name, 3, 4, 8))


# --- facts ---------------------------------------------------------------------------------------


def built(make: Callable[[], nn.Module]) -> Supernet:
    return supernet(space(make))


def test_at_first_the_largest_is_active() -> None:
    net = built(
        lambda: nn.Sequential(
            nn.Linear(2, width := choose("width", [3, 5, 4])),
            repeat("depth", lambda _: nn.Linear(width, width), [0, 2]),
            one_of("op", {"a": nn.Identity, "b": nn.ReLU}),
        )
    )
    assert net.state.decisions == {"width": 4, "depth": 2, "op": "a"}


def test_depth_is_a_prefix_and_options_keep_their_place() -> None:
    net = built(lambda: repeat("depth", lambda _: nn.Linear(1, 1), [1, 2, 3]))
    assert isinstance(net.network, Prefix)
    activate(net, {"depth": 2})
    plain = extract(net, {"depth": 2})
    assert list(plain.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert torch.equal(plain[1].weight, net.network[1].weight)


def test_the_same_name_is_the_same_decision_in_all_places() -> None:
    def make() -> nn.Module:
        return nn.Sequential(*(one_of("op", {"a": nn.Identity, "b": nn.Sigmoid}) for _ in range(2)))

    net = built(make)
    activate(net, {"op": "b"})
    assert torch.equal(net(torch.zeros(1)), torch.sigmoid(torch.sigmoid(torch.zeros(1))))


def test_mixtures_are_weighted_sums_and_leave_out_what_is_not_active() -> None:
    net = built(lambda: one_of("op", {"a": nn.Identity, "b": nn.Sigmoid, "c": nn.Tanh}))
    x, weights = torch.randn(3), torch.tensor([0.5, 0.2, 0.3], requires_grad=True)
    mix(net, {"op": weights})
    assert torch.allclose(net(x), 0.5 * x + 0.2 * x.sigmoid() + 0.3 * x.tanh())
    mix(net, {"op": weights}, active={"op": [2]})
    net(x).sum().backward()
    assert torch.allclose(weights.grad, torch.tensor([0.0, 0.0, float(x.tanh().sum())]))


def test_a_mixed_depth_sums_what_comes_out_after_each_count() -> None:
    net = built(lambda: repeat("depth", lambda _: nn.Sigmoid(), [0, 2]))
    x = torch.randn(3)
    mix(net, {"depth": torch.tensor([0.25, 0.75])})
    assert torch.allclose(net(x), 0.25 * x + 0.75 * x.sigmoid().sigmoid())


def test_mix_refuses_values_and_wrong_shapes() -> None:
    net = built(
        lambda: nn.Sequential(
            nn.Linear(2, choose("width", [2, 3])), one_of("op", {"a": nn.Identity, "b": nn.ReLU})
        )
    )
    with pytest.raises(InvalidSettings, match=r"'width' is a value.*asked by \['op'\]"):
        mix(net, {"width": torch.ones(2)})
    with pytest.raises(InvalidSettings, match="'none' does not exist"):
        mix(net, {"none": torch.ones(2)})
    with pytest.raises(InvalidSettings, match=r"has 2 options, got weights of shape \(3,\)"):
        mix(net, {"op": torch.ones(3)})


def test_only_members_are_activated_and_extracted() -> None:
    net = built(lambda: nn.Linear(2, choose("width", [2, 3])))
    for act in (activate, extract):
        with pytest.raises(InvalidArchitecture, match="4"):
            act(net, {"width": 4})


def test_select_holds_only_what_is_possible() -> None:
    def make() -> nn.Module:
        return select(
            choose("act", ["relu", "tanh"]), {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU}
        )

    net = built(make)
    assert isinstance(net.network, Selected)
    assert list(map(type, net.network)) == [nn.ReLU, nn.Tanh]
    activate(net, {"act": "tanh"})
    assert torch.equal(net(torch.ones(1)), torch.ones(1).tanh())
    assert type(extract(net, {"act": "tanh"})) is nn.Tanh


def test_dense_stages_of_fixed_growth_follow_their_depth() -> None:
    def make() -> nn.Module:
        return dense(4, "")

    net = built(make)
    x = torch.randn(1, 4, SIZE, SIZE)
    for depth in (0, 1, 2):
        activate(net, {"layers": depth})
        assert torch.equal(net(x), extract(net, {"layers": depth})(x))


def test_other_threads_build_plain_networks_meanwhile() -> None:
    started, done = threading.Event(), threading.Event()
    found: list[nn.Module] = []

    def elsewhere() -> None:
        started.wait()
        found.append(nn.BatchNorm2d(4))
        done.set()

    def slow() -> nn.Module:
        started.set()
        done.wait()
        return nn.BatchNorm2d(4)

    def make() -> nn.Module:
        return one_of("op", {"a": slow, "b": nn.Identity})

    thread = threading.Thread(target=elsewhere)
    thread.start()
    shared = space(make)
    assert shared.tree is not None
    net = supernet(shared, Relaxed(affine=False))
    thread.join()
    assert found[0].affine
    assert isinstance(net.network, Switch)
    assert not net.network["a"].affine


# --- relaxed -------------------------------------------------------------------------------------


def relaxed_cell(relaxed: Relaxed, channels: int = 8) -> Supernet:
    def make() -> nn.Module:
        width = channels
        options = {
            "conv": lambda: nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)),
            "depthwise": lambda: nn.Conv2d(width, width, 3, padding=1, groups=width),
            "pool": lambda: nn.MaxPool2d(3, 1, 1),
            "skip": nn.Identity,
        }
        return nn.Sequential(nn.BatchNorm2d(width), one_of("op", options))

    return supernet(space(make), relaxed)


def test_options_lose_scale_and_shift_and_the_rest_keeps_them() -> None:
    net = relaxed_cell(Relaxed(affine=False))
    assert net.network[0].affine
    assert not net.network[1]["conv"][1].affine
    with pytest.raises(InvalidSettings, match="built for gradient search"):
        extract(net, {"op": "conv"})


def test_normalized_pools_give_unit_variance_without_weights() -> None:
    net = relaxed_cell(Relaxed(normalize_pools=True)).eval()
    pool = net.network[1]["pool"]
    assert isinstance(pool, NormalizedPool)
    assert not list(pool.state_dict())
    output = pool(torch.randn(16, 8, 6, 6))
    assert torch.allclose(output.mean((0, 2, 3)), torch.zeros(8), atol=1e-9)
    assert torch.allclose(output.var((0, 2, 3), unbiased=False), torch.ones(8), atol=1e-3)
    with pytest.raises(InvalidSettings, match="built for gradient search"):
        extract(net, {"op": "pool"})


def test_partial_channels_pass_by_and_are_shuffled() -> None:
    net = relaxed_cell(Relaxed(partial=4))
    partial = net.network[1]
    assert isinstance(partial, PartialChannels)
    assert partial.switch["conv"][0].weight.shape == (2, 2, 1, 1)
    assert partial.switch["conv"][1].num_features == 2
    assert partial.switch["depthwise"].groups == 2
    activate(net, {"op": "skip"})
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    # Four groups of two, (0 1)(2 3)(4 5)(6 7), are read across.
    assert partial(x).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    activate(net, {"op": "depthwise"})
    y = torch.randn(2, 8, 3, 3)
    net.state.running = True
    out = partial(y)
    assert torch.equal(out[:, 1::4], y[:, 2:4][:, :2][:, [0, 1]])
    assert torch.allclose(out[:, 0::4], partial.switch["depthwise"](y[:, :2]))


@pytest.mark.parametrize("size", [4, 7])
def test_partial_channels_are_pooled_where_the_switch_halves(size: int) -> None:
    def halving(kind: type[nn.Module]) -> Callable[[], nn.Module]:
        return lambda: kind(2, ceil_mode=True)

    make = space(lambda: one_of("op", {"a": halving(nn.AvgPool2d), "b": halving(nn.MaxPool2d)}))
    net = supernet(make, Relaxed(partial=2))
    x = torch.randn(1, 4, size, size)
    activate(net, {"op": "a"})
    halves = halving(nn.AvgPool2d)()(x[:, :2]), halving(nn.MaxPool2d)()(x[:, 2:])
    assert torch.equal(net(x), torch.cat(halves, 1)[:, [0, 2, 1, 3]])


def test_relaxed_settings_are_checked() -> None:
    with pytest.raises(InvalidSettings, match="partial=0"):
        relaxed_cell(Relaxed(partial=0))
    with pytest.raises(InvalidSettings, match="8 channels cannot be divided by partial=3"):
        relaxed_cell(Relaxed(partial=3))


def test_identities_of_a_supernet_are_not_dropped_either() -> None:
    program = darts(1, 3, 8, channels=4, cells=3, drop_path=0.999)
    skips = Architecture(
        {
            name: "skip_connect" if name.endswith("operation") else option
            for name, option in sample(program, Random(0)).items()
        }
    )
    shared = supernet(program).train()
    activate(shared, skips)
    normal = shared.network.cells[0]
    images = torch.randn(3, 12, 8, 8)
    assert normal(images, images).flatten(1).abs().amax(1).min() > 0
    convolutions = Architecture(
        {name: "sep_conv_3x3" if o == "skip_connect" else o for name, o in skips.items()}
    )
    activate(shared, convolutions)
    torch.manual_seed(0)
    assert normal(images, images).abs().max() == 0
