"""Expected cost: exact for every architecture, and the expectation in between."""

from __future__ import annotations

import copy
from itertools import product
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import parti
from parti.core.choice import labels
from parti.core.errors import InvalidSettings, TrialError
from parti.evaluators.complexity import complexity
from parti.recipes.costs import ExpectedCost, added, expected_cost, latency_ms, macs
from parti.recipes.relaxation import Relaxation
from parti.spaces.darts import darts
from parti.spaces.fbnet import fbnet
from parti.spaces.nasbench201 import nasbench201
from parti.supernets.share import supernet
from parti.supernets.subnets import activate, mix
from recipe_makers import bench_of, planted

SHAPE = (2, 8, 8)


def convolution(kernel: int) -> nn.Module:
    return nn.Conv2d(4, 4, kernel, padding=kernel // 2, bias=False)


class Sum(nn.Module):
    def __init__(self, inputs: nn.ModuleDict) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        return sum(module(x) for module in self.inputs.values())


@parti.space
def nested() -> nn.Sequential:
    """Every word inside of another, and a choice that is asked in two places."""

    def inner() -> nn.Module:
        return parti.one_of("kernel", {"k1": lambda: convolution(1), "k3": lambda: convolution(3)})

    def body(i: int) -> nn.Module:
        return nn.Sequential(convolution(1), inner())

    def outer() -> nn.Module:
        return parti.one_of(
            "outer",
            {
                "skip": nn.Identity,
                "deep": lambda: parti.repeat("depth", body, [1, 2, 3]),
                "wide": lambda: Sum(
                    parti.some_of("paths", {"a": inner, "b": inner, "c": nn.ReLU}, k=[1, 2])
                ),
            },
        )

    stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
    return nn.Sequential(stem, outer(), nn.AvgPool2d(2), outer(), nn.Flatten(), nn.Linear(64, 3))


def one_hot(choices, architecture) -> dict[str, Tensor]:
    """Weight 1 for what an architecture takes; 0 for choices that it does not have."""
    found = {}
    for name, choice in choices.items():
        taken = architecture.get(name, ())
        if choice.kind == "some_of":
            given = [label in taken for label in labels(choice)]
        else:
            given = [option == taken for option in choice.options]
        found[name] = torch.tensor(given, dtype=torch.double)
    return found


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (nested(), SHAPE),
        (planted(1, 2, nodes=2), (1, 8, 8)),
        (nasbench201(1, 2, 8, channels=2, cells=2), (1, 8, 8)),
        (darts(1, 2, 8, channels=2, cells=3), (1, 8, 8)),
        (fbnet(1, 2, 8, width=8, layers=1), (1, 8, 8)),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
def test_the_cost_of_an_architecture_is_that_of_its_network(space, shape) -> None:
    shared = supernet(space)
    expected = expected_cost(shared, shape, macs)
    for seed in range(8):
        member = parti.sample(space, Random(seed))
        found = expected(one_hot(shared.choices, member))
        assert float(found) == complexity(space.build(member), shape).macs


def test_it_does_not_matter_what_is_decided_while_measuring() -> None:
    shared = supernet(nested())
    tables = []
    for seed in range(4):
        activate(shared, parti.sample(nested(), Random(seed)))
        tables.append(expected_cost(shared, SHAPE, macs).table)
    assert all(table == tables[0] for table in tables)


def probable(seed: int, choices) -> dict[str, Tensor]:
    """Random probabilities; of labels independently."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, choice in choices.items():
        if choice.kind == "some_of":
            found[name] = torch.rand(len(labels(choice)), generator=generator, dtype=torch.double)
        else:
            given = torch.rand(len(choice.options), generator=generator, dtype=torch.double)
            found[name] = given / given.sum()
    return found


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 99))
def test_under_probabilities_it_is_the_expectation(seed: int) -> None:
    expected = ExpectedCost(
        {"outer": 3, "depth": 2, "paths": 2},
        {
            (): 1.0,
            (("outer", (0,)),): 2.0,
            (("outer", (1,)), ("depth", (0, 1))): 4.0,
            (("outer", (1,)), ("depth", (1,))): 8.0,
            (("outer", (2,)), ("paths", (0,))): 16.0,
            (("outer", (2,)), ("paths", (1,))): 32.0,
        },
    )
    torch.manual_seed(seed)
    outer, depth = torch.rand(3).softmax(0), torch.rand(2).softmax(0)
    paths = torch.rand(2)
    total = 0.0
    for i, j, a, b in product(range(3), range(2), (0, 1), (0, 1)):
        chance = outer[i] * depth[j]
        chance *= (paths[0] if a else 1 - paths[0]) * (paths[1] if b else 1 - paths[1])
        cost = 1 + (2, 4 + 8 * j, 16 * a + 32 * b)[i]
        total += float(chance * cost)
    found = expected({"outer": outer, "depth": depth, "paths": paths})
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_its_gradient_is_the_numeric_one() -> None:
    shared = supernet(nested())
    expected = expected_cost(shared, SHAPE, lambda module, shape: macs(module, shape) / 1e4)
    weights = probable(0, {name: shared.choices[name] for name in expected.sizes})
    weights["outer"][1] = 0.0  # products with zeros have gradients too
    given = [each.requires_grad_() for each in weights.values()]
    assert torch.autograd.gradcheck(
        lambda *found: expected(dict(zip(weights, found, strict=True))), given
    )


def test_a_place_that_is_asked_more_often_costs_more() -> None:
    found = [
        expected_cost(supernet(planted(1, 2, nodes=nodes)), (1, 8, 8), macs).table
        for nodes in (1, 3)
    ]
    fixed = ()
    assert found[0][fixed] == found[1][fixed]
    for path in found[0].keys() - {fixed}:
        assert found[1][path] == 3 * found[0][path]


def test_what_is_built_alike_is_measured_once_and_the_supernet_left_as_it_was() -> None:
    shared = supernet(nasbench201(1, 2, 8, channels=2, cells=2))
    weights = {name: torch.full((5,), 0.2) for name in shared.choices}
    mix(shared, weights)
    shared.train()
    before = copy.deepcopy(shared.state_dict())
    asked: list[tuple[str, tuple[int, ...]]] = []

    def cost(module: nn.Module, shape: tuple[int, ...]) -> float:
        asked.append((type(module).__name__, shape))
        return 1.0

    expected_cost(shared, (1, 8, 8), cost)
    # The whole, and five operations in each of three stages.
    assert len(asked) == 1 + 5 * 3
    assert shared.training
    assert not shared.state.running
    assert shared.state.mixtures["edge0-1"].weights is weights["edge0-1"]
    assert all(torch.equal(each, before[name]) for name, each in shared.state_dict().items())
    assert not any(module._forward_pre_hooks for module in shared.modules())


def test_modules_that_differ_in_a_setting_alone_are_both_measured() -> None:
    @parti.space
    def pools() -> nn.Module:
        pool = parti.one_of(
            "pool", {"small": lambda: nn.MaxPool2d(3, 1, 1), "large": lambda: nn.MaxPool2d(5, 1, 2)}
        )
        return nn.Sequential(nn.Conv2d(2, 2, 1), pool)

    expected = expected_cost(
        supernet(pools()), SHAPE, lambda module, _: float(getattr(module, "kernel_size", 0))
    )
    assert expected.table == {(): 0.0, (("pool", (0,)),): 3.0, (("pool", (1,)),): 5.0}


def test_latency_is_measured_by_either_runtime() -> None:
    shared = supernet(planted(1, 2))
    for runtime in ("torch", "onnxruntime"):
        cost = latency_ms(runtime=runtime, repeats=3, min_seconds=0.001)
        slow = nn.Conv2d(16, 64, 3, padding=1)
        assert cost(slow, (16, 32, 32)) > 0.01
        assert cost(nn.Identity(), (16, 32, 32)) == 0.0
    cost = latency_ms(repeats=3, min_seconds=0.001)
    expected = expected_cost(shared, (1, 8, 8), cost)
    assert all(value >= 0 for value in expected.table.values())
    assert expected.table[()] > 0


# --- as a part of the loss -------------------------------------------------------------------


def test_the_cost_is_added_relative_to_that_of_all_options_alike() -> None:
    bench = bench_of(planted(1, 2))
    relaxation = Relaxation(bench.supernet, null=False)
    with torch.no_grad():
        relaxation.alphas["0"][2] = 5.0
    weights = {name: each.detach() for name, each in relaxation.weights().items()}
    loss = torch.tensor(2.0)
    assert added(loss, weights, relaxation, bench, 0.0) is loss
    bench.costs = expected = expected_cost(bench.supernet, (1, 8, 8), macs)
    found = added(loss, weights, relaxation, bench, 0.0, strength=0.5, reference=1e3)
    assert float(found) == pytest.approx(2 + 0.5 * float(expected(weights)) / 1e3)
    with torch.no_grad():
        relaxation.alphas["0"].zero_()
        relaxation.alphas["1"].zero_()
    alike = added(loss, relaxation.weights(), relaxation, bench, 0.0, strength=0.5)
    assert float(alike.detach()) == pytest.approx(2.5)


# --- errors ----------------------------------------------------------------------------------


def test_weights_that_lack_or_do_not_fit_are_named() -> None:
    expected = ExpectedCost({"op": 2}, {(("op", (0,)),): 1.0})
    with pytest.raises(InvalidSettings, match="2 weights of choice 'op', got none"):
        expected({})
    with pytest.raises(InvalidSettings, match=r"2 weights of choice 'op', got \(3,\)"):
        expected({"op": torch.ones(3)})
    with pytest.raises(InvalidSettings, match=r"the table has 'op' \(2,\)"):
        ExpectedCost({"op": 2}, {(("op", (2,)),): 1.0})


def test_an_option_of_two_inputs_and_images_that_do_not_fit_are_refused() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    class Twice(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.stem, self.module = nn.Conv2d(2, 2, 1), module

        def forward(self, x: Tensor) -> Tensor:
            return self.module(self.stem(x), x)

    @parti.space
    def pairs() -> nn.Module:
        return Twice(parti.one_of("op", {"one": Both, "other": Both}))

    with pytest.raises(InvalidSettings, match="an option that is a Both takes 2 inputs"):
        expected_cost(supernet(pairs()), SHAPE, macs)
    with pytest.raises(TrialError, match=r"does not run on images of shape \(3, 8, 8\)"):
        expected_cost(supernet(nested()), (3, 8, 8), macs)


def test_a_space_without_choices_has_one_cost() -> None:
    assert float(ExpectedCost({}, {(): 3.0})({})) == 3.0
