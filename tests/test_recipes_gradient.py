"""The gradient base: relaxation, both orders, monitors, and going on after a break."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call

import parti
from parti.core.errors import InvalidSettings
from parti.evaluators.curvature import largest_eigenvalue
from parti.evaluators.recipe import Recipe
from parti.recipes.darts import DARTS
from parti.recipes.gradient import Alternating, kept_statistics, unrolled
from parti.recipes.monitors import entropy, lengthened, skips
from parti.recipes.relaxation import Relaxation, skip_place
from parti.recipes.training import load_supernet
from parti.spaces.darts import darts
from parti.spaces.mobile import mobile
from parti.spaces.nasbench201 import nasbench201
from parti.supernets.derive import derive
from parti.supernets.share import supernet
from parti.supernets.subnets import mix
from recipe_makers import BLIND, SEEING, batch_of, bench_of, planted, swift, train

# --- relaxation ------------------------------------------------------------------------------


def filled(relaxation: Relaxation) -> Relaxation:
    """With architecture parameters that differ from one another."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()
    return relaxation


def test_edges_share_the_softmax_with_none_which_is_never_derived() -> None:
    relaxation = filled(Relaxation(supernet(planted(1, 2))))
    assert relaxation.names == (BLIND, SEEING)
    assert relaxation.gates == ("inputs",)
    weights = {name: given.detach() for name, given in relaxation.weights().items()}
    for place, name in enumerate(relaxation.names):
        alpha = relaxation.alphas[str(place)]
        assert alpha.shape == (4,)
        assert torch.equal(weights[name], alpha.softmax(0)[:3])
        assert float(weights[name].sum()) < 1
        assert torch.equal(relaxation.probabilities()[name], weights[name])
    assert torch.equal(weights["inputs"], torch.ones(2))
    assert "inputs" not in relaxation.probabilities()


def test_a_likely_none_makes_an_edge_weak() -> None:
    relaxation = Relaxation(supernet(planted(1, 2)), deviation=0.0)
    for blind, expected in ((2.0, "seeing"), (-2.0, "blind")):
        with torch.no_grad():
            relaxation.alphas["0"][3] = blind
        (found,) = derive(planted(1, 2), relaxation.probabilities())
        assert found["inputs"] == (expected,)


def test_choices_that_have_a_none_or_lie_on_no_edge_get_no_other() -> None:
    relaxation = Relaxation(supernet(nasbench201(3, 10, 8, channels=4, cells=1)))
    assert not relaxation.nulls
    assert all(len(alpha) == 5 for alpha in relaxation.alphas.values())
    weights = relaxation.weights()
    assert all(float(each.detach().sum()) == pytest.approx(1) for each in weights.values())
    assert not Relaxation(supernet(planted(1, 2)), null=False).nulls


def test_edges_may_have_parameters_too() -> None:
    relaxation = filled(Relaxation(supernet(planted(1, 2)), edges=True))
    assert torch.equal(relaxation.weights()["inputs"], relaxation.betas["0"].softmax(0))
    assert torch.equal(relaxation.probabilities()["inputs"], relaxation.betas["0"].softmax(0))


def test_cells_of_a_kind_have_one_set_of_parameters() -> None:
    small, large = (
        Relaxation(supernet(darts(3, 10, 8, channels=2, cells=cells))) for cells in (3, 8)
    )
    assert small.names == large.names
    assert len(small.names) == 2 * 14
    assert all(alpha.shape == (8,) for alpha in large.alphas.values())


def test_derivation_takes_the_best_operation_and_the_edges_where_it_is_strongest() -> None:
    space = darts(3, 10, 8, channels=2, cells=3)
    relaxation = Relaxation(supernet(space), deviation=0.0)
    planned = {"earlier": ("sep_conv_3x3", 3.0), "node1": ("skip_connect", 2.0)}
    with torch.no_grad():
        for place, choice in enumerate(relaxation.choices.values()):
            source = choice.name.split("=")[1].split("/")[0]
            if choice.name.startswith("normal/node3") and source in planned:
                operation, strength = planned[source]
                relaxation.alphas[str(place)][choice.options.index(operation)] = strength
    (found,) = derive(space, relaxation.probabilities())
    assert found["normal/node3/inputs"] == ("earlier", "node1")
    assert found["normal/node3/inputs=earlier/operation"] == "sep_conv_3x3"
    assert found["normal/node3/inputs=node1/operation"] == "skip_connect"


def test_spaces_of_values_are_refused_with_recipes_that_can() -> None:
    with pytest.raises(InvalidSettings, match=r"'.*width' .* single-path, once-for-all and bignas"):
        Relaxation(supernet(mobile(3, 10, 16)))


def test_a_space_without_choices_is_refused() -> None:
    @parti.space
    def fixed() -> nn.Module:
        return nn.Linear(2, 2)

    with pytest.raises(InvalidSettings, match="nothing to relax"):
        Relaxation(supernet(fixed()))


# --- the second order ------------------------------------------------------------------------


@parti.space
def smooth(width: int = 3) -> nn.Sequential:
    """No kinks, no normalization: exact derivatives mean something."""

    def layer(act: type[nn.Module]) -> nn.Module:
        return nn.Sequential(nn.Linear(width, width), act())

    def choice(name: str) -> nn.Module:
        return parti.one_of(
            name,
            {"tanh": lambda: layer(nn.Tanh), "gelu": lambda: layer(nn.GELU), "id": nn.Identity},
        )

    return nn.Sequential(
        nn.Flatten(), nn.Linear(4, width), choice("one"), choice("two"), nn.Linear(width, 2)
    )


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_second_order_is_the_gradient_of_the_unrolled_objective(
    momentum: float, nesterov: bool
) -> None:
    training = Recipe(
        lr=0.3, momentum=momentum, weight_decay=0.05, nesterov=nesterov and momentum > 0
    )
    bench = bench_of(smooth(), training=training, double=True)
    relaxation = filled(Relaxation(bench.supernet))
    alphas = list(relaxation.parameters())
    weights = dict(bench.supernet.named_parameters())
    batches = [batch_of(seed, side=2, double=True) for seed in range(5)]

    def loss(place: int, values: dict[str, torch.Tensor]) -> torch.Tensor:
        mix(bench.supernet, relaxation.weights())
        logits = functional_call(bench.supernet, values, (batches[place].images,))
        return nn.functional.cross_entropy(logits, batches[place].labels)

    for place in range(3):  # so that there is a momentum
        loss(place, weights).backward()
        bench.optimizer.step()
        bench.optimizer.zero_grad()
    before = {name: weight.detach().clone() for name, weight in weights.items()}

    def objective() -> torch.Tensor:
        gradients = torch.autograd.grad(loss(3, weights), list(weights.values()), create_graph=True)
        moved = {}
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            gradient = gradient + 0.05 * weight
            buffer = bench.optimizer.state[weight].get("momentum_buffer")
            moving = gradient if buffer is None else momentum * buffer + gradient
            step = gradient + momentum * moving if training.nesterov else moving
            moved[name] = weight - 0.3 * step
        return loss(4, moved)

    exact = torch.cat(torch.autograd.grad(objective(), alphas))
    found = torch.cat(
        unrolled(
            bench,
            alphas,
            training=lambda: loss(3, weights),
            validation=lambda: loss(4, weights),
        )
    )
    first = torch.cat(torch.autograd.grad(loss(4, weights), alphas))
    assert torch.allclose(found, exact, rtol=1e-4, atol=1e-6)
    assert (first - exact).norm() > 0.05 * exact.norm()
    assert all(torch.equal(before[name], weight) for name, weight in weights.items())

    numeric = torch.zeros_like(exact)
    for place in range(len(exact)):
        alpha, inside = alphas[place // 3].data, place % 3
        sides = []
        for shift in (1e-5, -2e-5):
            alpha[inside] += shift
            sides.append(float(objective().detach()))
        alpha[inside] += 1e-5
        numeric[place] = (sides[0] - sides[1]) / 2e-5
    assert torch.allclose(found, numeric, rtol=1e-4, atol=1e-6)


def test_the_first_order_descends_the_held_out_loss_alone() -> None:
    bench = bench_of(smooth(), double=True)
    step = Alternating(bench, weight_decay=0.0)
    filled(step.relaxation)
    held = batch_of(1, side=2, double=True)
    expected = torch.autograd.grad(step.held_loss(held), list(step.relaxation.parameters()))
    before = [alpha.detach().clone() for alpha in step.relaxation.parameters()]
    step.learn_architecture(batch_of(2, side=2, double=True), held)
    for old, new, gradient in zip(before, step.relaxation.parameters(), expected, strict=True):
        assert torch.allclose(new - old, -3e-4 * gradient.sign(), rtol=1e-3)  # Adam's first step


def test_the_second_order_leaves_running_statistics_and_the_first_updates_them() -> None:
    for second_order in (False, True):
        step = Alternating(bench_of(), second_order=second_order)
        before = [buffer.clone() for buffer in step.bench.supernet.buffers()]
        step.learn_architecture(batch_of(0), batch_of(1))
        after = list(step.bench.supernet.buffers())
        same = all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
        assert same == second_order


class Noted(Function):
    """A product that notes whether its weight was to have a gradient."""

    wanted: ClassVar[list[bool]] = []

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return images * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        Noted.wanted.append(ctx.needs_input_grad[1])
        images, weight = ctx.saved_tensors
        return gradient * weight, (gradient * images).sum()


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return Noted.apply(images, self.weight)


@pytest.mark.parametrize("second_order", [False, True])
def test_steps_of_the_architecture_compute_no_gradients_of_weights_in_vain(
    second_order: bool,
) -> None:
    """Of the second order's four passes the first two need them: w', and the vector."""

    @parti.space
    def noted() -> nn.Sequential:
        first = parti.one_of("first", {"tanh": nn.Tanh, "id": nn.Identity})
        second = parti.one_of("second", {"scale": Scaled, "id": nn.Identity})
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), first, second, nn.Linear(3, 2))

    bench = bench_of(noted())
    step = Alternating(bench, second_order=second_order)
    batch, held = batch_of(0, side=2), batch_of(1, side=2)
    Noted.wanted.clear()
    step.learn_architecture(batch, held)
    assert Noted.wanted == ([True, True, False, False] if second_order else [False])
    step.learn_weights(batch)
    assert Noted.wanted[-1]
    assert all(weight.requires_grad for weight in bench.supernet.parameters())


def test_kept_statistics_puts_buffers_back_even_after_an_error() -> None:
    norm = nn.BatchNorm1d(2)

    def failing() -> None:
        with kept_statistics(norm):
            norm(torch.randn(4, 2))
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert torch.equal(norm.running_mean, torch.zeros(2))
    assert int(norm.num_batches_tracked) == 0


def test_what_cannot_be_is_refused() -> None:
    bench = bench_of()
    with pytest.raises(InvalidSettings, match="choose held"):
        Alternating(bench)(batch_of(0), None)
    adam = replace(bench, optimizer=torch.optim.AdamW(bench.supernet.parameters()))
    with pytest.raises(InvalidSettings, match="SGD"):
        Alternating(adam, second_order=True)
    with pytest.raises(InvalidSettings, match="no relaxation"):
        Alternating(bench, relaxation="nowhere")


def test_architecture_parameters_wait_for_the_warm_up_and_weights_do_not() -> None:
    step = Alternating(bench_of(epochs=4), warm_up=0.5)
    alphas = [alpha.detach().clone() for alpha in step.relaxation.parameters()]
    for epoch in range(4):
        weight = step.bench.supernet.network[0][0].weight
        before = weight.detach().clone()
        step.begin(epoch)
        step(batch_of(epoch), batch_of(epoch + 10))
        same = all(map(torch.equal, alphas, step.relaxation.parameters()))
        assert same == (epoch < 2)
        assert not torch.equal(before, weight)


def test_a_step_goes_on_from_its_state() -> None:
    def run(stop: int | None) -> Alternating:
        step = Alternating(bench_of())
        for number in range(6):
            if number == stop:
                state, weights = step.state(), step.bench.supernet.state_dict()
                optimizer = step.bench.optimizer.state_dict()
                step = Alternating(bench_of())
                step.bench.supernet.load_state_dict(weights)
                step.bench.optimizer.load_state_dict(optimizer)
                step.restore(state)
            step.begin(number // 3)
            step(batch_of(number), batch_of(number + 10))
            if number % 3 == 2:
                step.settle()
        return step

    whole, broken = run(None), run(4)
    assert all(map(torch.equal, whole.relaxation.parameters(), broken.relaxation.parameters()))
    assert whole.trajectory.keys() == {SEEING, BLIND}
    for name, rows in whole.trajectory.items():
        assert rows.shape == (2, 3)
        assert torch.equal(rows, broken.trajectory[name])
        assert torch.equal(rows[1], whole.probabilities()[name])


# --- monitors --------------------------------------------------------------------------------


def test_entropy_is_one_for_equals_and_zero_for_the_decided() -> None:
    assert entropy({"a": torch.full((5,), 0.01)}) == pytest.approx(1)
    assert entropy({"a": torch.tensor([0.0, 1.0])}) == 0
    assert entropy({"a": torch.tensor([0.0, 1.0]), "b": torch.ones(3)}) == pytest.approx(0.5)
    assert entropy({"a": torch.ones(1)}) == entropy({}) == 0
    quarter = torch.tensor([0.25, 0.75])
    expected = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert entropy({"a": quarter}) == pytest.approx(expected)


def test_skips_are_known_by_name() -> None:
    assert skips({"a": "skip_connect", "b": "sep_conv_3x3", "c": "skip", "d": ("skip",)}) == 2
    choices = supernet(nasbench201(3, 10, 8, channels=4, cells=1)).choices
    assert {skip_place(choice) for choice in choices.values()} == {1}


def test_a_trajectory_is_written_row_by_row_and_rewritten_after_a_break() -> None:
    found: dict[str, torch.Tensor] = {}
    for epoch, value in ((0, 0.1), (1, 0.2), (2, 0.3), (1, 0.4)):
        found = lengthened(found, epoch, {"a": torch.tensor([value, 1 - value])})
    assert torch.allclose(found["a"], torch.tensor([[0.1, 0.9], [0.4, 0.6]]))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.integers(0, 9))
def test_the_largest_eigenvalue_of_a_quadratic(values: list[float], seed: int) -> None:
    torch.manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.double))[0]
    hessian = directions @ torch.diag(torch.tensor(values, dtype=torch.double)) @ directions.T
    x = torch.randn(len(values), dtype=torch.double, requires_grad=True)
    y = torch.randn(2, requires_grad=True)  # does not matter
    found = largest_eigenvalue(0.5 * x @ hessian @ x + 0 * y.sum(), [x])
    assert found == pytest.approx(max(values), abs=1e-4)


def test_the_largest_eigenvalue_in_a_supernet_is_that_of_the_whole_hessian() -> None:
    bench = bench_of(smooth(), double=True)
    relaxation = filled(Relaxation(bench.supernet))
    batch = batch_of(0, side=2, double=True)

    def loss(*alphas: torch.Tensor) -> torch.Tensor:
        weights = {name: a.softmax(0) for name, a in zip(relaxation.names, alphas, strict=True)}
        mix(bench.supernet, weights)
        return bench.loss(batch)

    parameters = tuple(relaxation.parameters())
    blocks = torch.autograd.functional.hessian(loss, parameters)
    whole = torch.cat([torch.cat(row, 1) for row in blocks])
    expected = float(torch.linalg.eigvalsh(whole)[-1])
    assert largest_eigenvalue(loss(*parameters), parameters) == pytest.approx(expected, rel=1e-6)
    few = largest_eigenvalue(loss(*parameters), parameters, steps=4)
    assert 0.8 * expected < few <= expected * (1 + 1e-9)


def test_a_linear_loss_has_no_curvature() -> None:
    x = torch.ones(3, requires_grad=True)
    assert largest_eigenvalue(x.sum(), [x]) == 0


# --- trainings -------------------------------------------------------------------------------


@pytest.mark.parametrize("second_order", [False, True])
def test_training_lowers_the_loss_and_finds_what_was_planted(
    second_order: bool, tmp_path: Path
) -> None:
    recipe = swift(DARTS, second_order=second_order)
    found = [dict(m.metrics) for m in train(recipe, tmp_path)]
    assert found[-1]["train_loss"] < 0.5 * found[0]["train_loss"]
    assert found[-1]["entropy"] < found[0]["entropy"]
    assert found[-1]["val_accuracy"] > 0.8
    trained = load_supernet(planted(1, 2), recipe, tmp_path)
    (best,) = derive(planted(1, 2), trained.probabilities)
    assert best["inputs"] == ("seeing",)
    assert best[SEEING] != "blind"
