"""DARTS and its kin: the defining fact of each paper, and that each finds what was planted."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from parti.core.errors import InvalidSettings
from parti.recipes import RECIPES
from parti.recipes.beta_darts import BETA_DARTS, decay
from parti.recipes.course import make_step, stage_space
from parti.recipes.darts import DARTS, DARTS_SECOND_ORDER, LEVELS
from parti.recipes.darts_minus import DARTS_MINUS, AuxiliarySkip
from parti.recipes.fair_darts import FAIR_DARTS, Sigmoid, zero_one
from parti.recipes.monitors import skips
from parti.recipes.p_darts import P_DARTS, Remaining, few_skips
from parti.recipes.pc_darts import PC_DARTS
from parti.recipes.recipe import Stage, SupernetRecipe
from parti.recipes.relaxation import Relaxation
from parti.recipes.robust_darts import ROBUST_DARTS, EarlyStopping, stopping_epoch
from parti.recipes.training import load_supernet
from parti.spaces.darts import darts
from parti.spaces.nasbench201 import nasbench201
from parti.spaces.residual import residual
from parti.supernets.derive import derive
from parti.supernets.share import PartialChannels, supernet
from recipe_makers import SEEING, batch_of, bench_of, planted, swift, train

ALL = [
    DARTS,
    DARTS_SECOND_ORDER,
    PC_DARTS,
    P_DARTS,
    FAIR_DARTS,
    BETA_DARTS,
    DARTS_MINUS,
    ROBUST_DARTS,
]


def named(recipe: SupernetRecipe) -> str:
    return recipe.name


@pytest.mark.parametrize("recipe", ALL, ids=named)
def test_is_found_by_its_name_and_cites_its_paper(recipe: SupernetRecipe) -> None:
    module, _, name = RECIPES[recipe.name].partition(":")
    assert getattr(import_module(module), name) is recipe
    assert recipe.held == 0.5
    assert recipe.derives
    first, second = recipe.paper.split(": ", 1)
    authors = first.split(", ")
    assert authors[-1] in str(import_module(module).__doc__)
    assert recipe.paper[-4:] in str(import_module(module).__doc__)
    assert len(second) > 10


@pytest.mark.parametrize("recipe", ALL, ids=named)
def test_finds_what_was_planted(recipe: SupernetRecipe, tmp_path: Path) -> None:
    short = swift(recipe)
    found = [dict(m.metrics) for m in train(short, tmp_path)]
    assert found[-1]["train_loss"] < 0.7 * found[0]["train_loss"]
    trained = load_supernet(planted(1, 2), short, tmp_path)
    assert int(trained.probabilities[SEEING].argmax()) != 0  # not blind
    (best,) = derive(planted(1, 2), trained.probabilities)
    if recipe not in (FAIR_DARTS, BETA_DARTS):  # theirs is no competition with none
        assert best["inputs"] == ("seeing",)


@pytest.mark.parametrize("recipe", ALL, ids=named)
def test_takes_the_spaces_of_cells(recipe: SupernetRecipe) -> None:
    if recipe.relaxed.partial == 1:
        space = nasbench201(1, 2, 8, channels=4, cells=1)
    else:
        space = darts(1, 2, 8, channels=4, cells=3)
    step = make_step(recipe, bench_of(space, relaxed=recipe.relaxed))
    step.begin(3)
    loss = step(batch_of(0), batch_of(1))
    step.settle()
    assert math.isfinite(float(loss))
    assert step.probabilities().keys() <= step.bench.supernet.choices.keys()


@pytest.mark.parametrize("recipe", ALL, ids=named)
def test_refuses_spaces_of_values(recipe: SupernetRecipe) -> None:
    with pytest.raises(InvalidSettings, match="gradients cannot decide values"):
        make_step(recipe, bench_of(residual(1, 2, 8)))


# --- the authors' numbers --------------------------------------------------------------------


def test_darts_has_the_numbers_of_the_authors() -> None:
    assert (LEVELS.epochs, LEVELS.batch_size) == (50, 64)
    assert (LEVELS.lr, LEVELS.final_lr, LEVELS.warmup) == (0.025, 0.001, 0)
    assert (LEVELS.momentum, LEVELS.nesterov, LEVELS.weight_decay) == (0.9, False, 3e-4)
    assert (LEVELS.decay, LEVELS.clip_norm) == ("all", 5)
    assert DARTS.sizes == {"channels": 16, "cells": 8}
    step = make_step(DARTS, bench_of(relaxed=DARTS.relaxed))
    (group,) = step.optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-4, (0.5, 0.999), 1e-3)


# --- PC-DARTS --------------------------------------------------------------------------------


def test_pc_darts_normalizes_edges_and_lets_a_quarter_of_the_channels_through() -> None:
    bench = bench_of(darts(1, 2, 8, channels=4, cells=3), relaxed=PC_DARTS.relaxed, epochs=50)
    step = make_step(PC_DARTS, bench)
    weights = {name: given.detach() for name, given in step.relaxation.weights().items()}
    for number in range(1, 5):
        edges = weights[f"normal/node{number}/inputs"]
        assert edges.shape == (number + 1,)
        assert float(edges.sum()) == pytest.approx(1)
    parts = [m for m in bench.supernet.modules() if isinstance(m, PartialChannels)]
    assert len(parts) == 3 * 14
    assert {part.parts for part in parts} == {4}
    assert step.warm_up == 15


def test_pc_darts_derives_by_the_product_of_edge_and_operation() -> None:
    step = make_step(PC_DARTS, bench_of(relaxed=PC_DARTS.relaxed))
    relaxation = step.relaxation
    with torch.no_grad():
        relaxation.alphas["0"][2] = 2.0  # the blind edge has the better operation
        for strength, expected in ((0.0, "blind"), (3.0, "seeing")):
            relaxation.betas["0"][1] = strength
            (found,) = derive(planted(1, 2), step.probabilities())
            assert found["inputs"] == (expected,)


# --- FairDARTS -------------------------------------------------------------------------------


def test_fair_darts_weighs_options_by_themselves() -> None:
    relaxation = Sigmoid(supernet(planted(1, 2)))
    assert not relaxation.nulls
    before = {name: each.detach().clone() for name, each in relaxation.weights().items()}
    assert torch.equal(before[SEEING], torch.full((3,), 0.5))
    with torch.no_grad():
        relaxation.alphas["1"][0] = 4.0
    after = relaxation.weights()[SEEING].detach()
    assert torch.equal(after[1:], before[SEEING][1:])
    assert float(after[0]) == pytest.approx(1 / (1 + math.exp(-4)))


def test_the_zero_one_loss_is_that_of_the_paper() -> None:
    bench = bench_of()
    relaxation = Sigmoid(bench.supernet)
    torch.manual_seed(0)
    with torch.no_grad():
        for alpha in relaxation.parameters():
            alpha.normal_()
    alphas = torch.cat([alpha.detach() for alpha in relaxation.alphas.values()]).tolist()
    distances = [(1 / (1 + math.exp(-alpha)) - 0.5) ** 2 for alpha in alphas]
    found = zero_one(torch.tensor(2.0), relaxation.weights(), relaxation, bench, 0.3, weight=10.0)
    expected = 2.0 - 10.0 * sum(distances) / len(distances)
    assert float(found.detach()) == pytest.approx(expected)
    found.backward()
    for alpha in relaxation.alphas.values():
        assert torch.equal(alpha.grad.sign(), -alpha.detach().sign())  # away from one half


def test_fair_darts_derives_none_only_where_nothing_reaches_the_threshold() -> None:
    space = nasbench201(3, 10, 8, channels=4, cells=1)
    relaxation = Sigmoid(supernet(space))
    with torch.no_grad():
        relaxation.alphas["0"][3] = 3.0  # sigmoid 0.95
        relaxation.alphas["1"][3] = 1.0  # sigmoid 0.73
    (found,) = derive(space, relaxation.probabilities())
    assert found["edge0-1"] == "nor_conv_3x3"
    assert found["edge0-2"] == "none"


# --- beta-DARTS ------------------------------------------------------------------------------


def test_beta_decay_is_the_mean_log_sum_of_exponentials_and_grows_to_50() -> None:
    bench = bench_of(epochs=11)
    relaxation = Relaxation(bench.supernet)
    torch.manual_seed(0)
    with torch.no_grad():
        for alpha in relaxation.parameters():
            alpha.normal_()
    sums = [math.log(sum(map(math.exp, alpha.tolist()))) for alpha in relaxation.alphas.values()]
    for progress in (0.0, 0.4, 1.0):
        found = decay(torch.tensor(2.0), {}, relaxation, bench, progress, weight=50.0)
        expected = 2.0 + 50.0 * progress * sum(sums) / len(sums)
        assert float(found.detach()) == pytest.approx(expected)
    gradients = torch.autograd.grad(found, list(relaxation.parameters()))
    for alpha, gradient in zip(relaxation.alphas.values(), gradients, strict=True):
        # The decay is in proportion to the softmax: the winner is held back most.
        assert torch.allclose(gradient, 50.0 / 2 * alpha.softmax(0))


def test_beta_decay_reaches_the_architecture_parameters() -> None:
    step = make_step(BETA_DARTS, bench_of(epochs=5))
    losses = []
    for epoch in (0, 4):
        step.begin(epoch)
        losses.append(float(step.held_loss(batch_of(0)).detach()))
    assert losses[1] - losses[0] == pytest.approx(50 * math.log(4), rel=0.01)


# --- DARTS- ----------------------------------------------------------------------------------


def test_the_auxiliary_skip_adds_beta_times_the_input() -> None:
    step = make_step(DARTS_MINUS, bench_of(epochs=5))
    step.mixed()
    step.bench.supernet.eval()
    node = step.bench.supernet.network[1]
    switch = node.inputs._modules["seeing"]
    state = step.bench.supernet.state
    x = torch.randn(2, 4, 8, 8)
    plain = Relaxation(step.bench.supernet)
    plain.load_state_dict(step.relaxation.state_dict())
    for epoch, beta in ((0, 1.0), (1, 0.75), (4, 0.0)):
        step.begin(epoch)
        step.mixed()
        mixed = switch(x)
        weights = plain.weights()[SEEING]
        options = [switch._modules[label](x) for label in ("blind", "skip_connect", "conv")]
        expected = beta * x + sum(w * o for w, o in zip(weights, options, strict=True))
        assert torch.allclose(mixed, expected, atol=1e-6)
        assert torch.equal(step.probabilities()[SEEING], plain.probabilities()[SEEING])
    assert state.mixtures


def test_darts_minus_needs_a_skip_connection() -> None:
    import parti

    @parti.space
    def convolutions() -> nn.Module:
        return parti.one_of("op", {"a": lambda: nn.Linear(2, 2), "b": lambda: nn.Linear(2, 2)})

    with pytest.raises(InvalidSettings, match="no choice of this space has a skip connection"):
        AuxiliarySkip(supernet(convolutions()))


# --- P-DARTS ---------------------------------------------------------------------------------


def test_p_darts_has_the_stages_of_the_paper() -> None:
    assert [stage.sizes["cells"] for stage in P_DARTS.stages] == [5, 11, 17]
    relaxation = Remaining(supernet(darts(1, 2, 8, channels=2, cells=3)))
    for stage, left in zip(P_DARTS.stages, (8, 5, 3), strict=True):
        relaxation.keep(relaxation.strongest(stage.options["share"]))
        assert {len(places) for places in relaxation.left.values()} == {left}
        for name, weights in relaxation.probabilities().items():
            gone = [place for place in range(7) if place not in relaxation.left[name]]
            assert not weights[gone].any()
    assert P_DARTS.training.epochs == 75


def test_what_is_dropped_is_the_weakest_and_does_not_run() -> None:
    relaxation = Remaining(supernet(planted(1, 2)))
    with torch.no_grad():
        relaxation.alphas["0"].copy_(torch.tensor([0.3, 0.1, 0.2, 0.4]))
        relaxation.alphas["1"].copy_(torch.tensor([0.1, 0.4, 0.2, 0.3]))
    relaxation.keep(relaxation.strongest(0.75))
    assert relaxation.left[SEEING] == (1, 2, 3)
    assert relaxation.active() == {"inputs=blind/operation": [0, 2], SEEING: [1, 2]}
    relaxation.keep(relaxation.strongest(0.5))
    assert relaxation.left[SEEING] == (1, 3)
    alphas = relaxation.alphas["1"].detach()
    expected = float(alphas[1].exp() / (alphas[1].exp() + alphas[3].exp()))
    assert relaxation.probabilities()[SEEING].tolist() == pytest.approx([0, expected, 0])


def test_the_stages_have_depths_of_their_own_and_take_over_options() -> None:
    space = darts(1, 2, 8, channels=2, cells=3)
    sizes = [stage_space(space, P_DARTS, stage).keywords["cells"] for stage in range(3)]
    assert sizes == [5, 11, 17]
    assert stage_space(planted(1, 2), P_DARTS, 2).keywords == {}
    short = replace(P_DARTS, training=replace(LEVELS, epochs=8))
    with pytest.raises(InvalidSettings, match=r"3 stages, .* 2 epochs"):
        replace(short, training=replace(LEVELS, epochs=2))


def test_dropout_falls_linearly_and_then_exponentially() -> None:
    step = make_step(P_DARTS, bench_of(epochs=25), stage=1)
    rates = [step.dropout(epoch) for epoch in range(25)]
    assert rates[0] == pytest.approx(0.4 * 24 / 25)
    assert rates[9] == pytest.approx(0.4 * 15 / 25)
    assert rates[10] == pytest.approx(0.4)
    assert rates[15] == pytest.approx(0.4 * math.exp(-1))
    step.begin(10)
    node = step.bench.supernet.network[1]
    skip = node.inputs._modules["seeing"]._modules["skip_connect"]
    x = torch.ones(1000)
    assert float((skip(x) == 0).float().mean()) == pytest.approx(0.4, abs=0.1)
    assert torch.equal(skip.eval()(x), x)


def test_at_most_two_skip_connections_are_derived_in_normal_cells() -> None:
    space = darts(1, 2, 8, channels=2, cells=3)
    shared = supernet(space)
    relaxation = Relaxation(shared)
    with torch.no_grad():
        for place, choice in enumerate(relaxation.choices.values()):
            alpha = relaxation.alphas[str(place)]
            alpha[choice.options.index("skip_connect")] = 3 + place / 100
            alpha[choice.options.index("sep_conv_3x3")] = 2
    given = relaxation.probabilities()
    normal = frozenset(name for name in given if name.startswith("normal/"))
    (before,) = derive(space, given)
    assert skips(before) == 16
    (after,) = derive(space, few_skips(shared, given, 2, normal))
    assert skips({name: after[name] for name in after if name in normal}) == 2
    assert skips({name: after[name] for name in after if name not in normal}) == 8
    strongest = [name for name in before if after.get(name) == "skip_connect" and name in normal]
    assert strongest == [n for n in before if n in normal and before[n] == "skip_connect"][-2:]


def test_stages_have_the_sizes_and_options_that_are_said(tmp_path: Path) -> None:
    stages = tuple(
        Stage({"nodes": nodes}, stage.options)
        for nodes, stage in zip((1, 2, 3), P_DARTS.stages, strict=True)
    )
    recipe = replace(swift(P_DARTS, epochs=4), stages=stages)
    assert len(list(train(recipe, tmp_path))) == 4
    trained = load_supernet(planted(1, 2), recipe, tmp_path)
    assert len(trained.supernet.network) == 2 + 3
    left = [int((given > 0).sum()) for given in trained.probabilities.values()]
    assert all(count <= 2 for count in left)


def test_stages_need_a_step_that_can_follow() -> None:
    recipe = replace(swift(DARTS, epochs=2), stages=(Stage(), Stage()))
    with pytest.raises(InvalidSettings, match=r"Alternating, has no follow"):
        list(train(recipe))


# --- RobustDARTS -----------------------------------------------------------------------------


def test_a_rise_of_the_eigenvalue_stops_the_search_and_goes_back() -> None:
    flat = [1.0] * 30
    assert stopping_epoch(flat) is None
    risen = [1.0] * 18 + [2.0] * 12
    stops = [stopping_epoch(risen[: length + 1]) for length in range(30)]
    first = next(length for length, found in enumerate(stops) if found is not None)
    # The average around epoch 17 is 1.4, that around 12 is 1: the first ratio under 0.75.
    assert (first, stops[first]) == (19, 12)
    falling = [1 / (epoch + 1) for epoch in range(30)]
    assert all(stopping_epoch(falling[:length]) is None for length in range(31))


def test_the_first_epochs_are_never_gone_back_to() -> None:
    early = [1.0] * 8 + [10.0] * 12
    assert stopping_epoch(early) is None
    assert stopping_epoch(early[:14], first=0) == 6
    assert stopping_epoch([]) is None


def test_the_architecture_of_before_the_rise_is_derived() -> None:
    step = make_step(
        replace(ROBUST_DARTS, options={**ROBUST_DARTS.options, "patience": 0.0}),
        bench_of(epochs=20),
    )
    assert isinstance(step, EarlyStopping)
    course = [1.0] * 9 + [9.0] * 9
    for epoch, eigenvalue in enumerate(course):
        step.begin(epoch)
        with torch.no_grad():
            step.relaxation.alphas["1"][epoch % 3] += 2.0
        step.eigenvalues.append(eigenvalue)
        step.settle()
        if step.done():
            break
    stopped = step.stopped()
    assert stopped is not None
    assert stopped < epoch == len(step.trajectory[SEEING]) - 1
    assert torch.equal(step.probabilities()[SEEING], step.trajectory[SEEING][stopped])
    assert not torch.equal(step.probabilities()[SEEING], step.relaxation.probabilities()[SEEING])


def test_the_eigenvalue_is_watched_every_epoch_and_the_training_stops(tmp_path: Path) -> None:
    free = [dict(m.metrics) for m in train(swift(ROBUST_DARTS, epochs=8))]
    assert len(free) == 8
    assert all("eigenvalue" in metrics for metrics in free)
    # Any ratio is under 100 as long as the later eigenvalue is positive: it stops at once.
    eager = swift(ROBUST_DARTS, epochs=8, ratio=100.0, window=1, back=1, patience=0.0)
    stopped = [dict(m.metrics) for m in train(eager, tmp_path)]
    assert len(stopped) == 2
    for one, other in zip(stopped, free, strict=False):
        assert one["train_loss"] == other["train_loss"]
        assert one["eigenvalue"] == other["eigenvalue"]
    assert [dict(m.metrics) for m in train(eager, tmp_path)] == stopped
