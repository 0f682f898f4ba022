"""Sampled paths: uniform ones, strict fairness, and those that a controller draws."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import cycle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from parti.core.errors import InvalidSettings
from parti.core.plugins import load
from parti.core.program import space
from parti.core.words import choose, one_of, repeat
from parti.evaluators.learner import make_optimizer
from parti.evaluators.machine import machine_for
from parti.evaluators.recipe import Recipe
from parti.recipes import RECIPES
from parti.recipes.agreement import rank_correlation
from parti.recipes.bench import Batch, Bench
from parti.recipes.enas import Enas
from parti.recipes.fairnas import StrictFairness, fair_paths
from parti.recipes.sampled import UniformPath
from parti.spaces.darts import darts
from parti.spaces.nasbench201 import nasbench201
from parti.supernets.derive import derive
from parti.supernets.share import supernet
from parti.supernets.subnets import activate

CELLS = nasbench201(1, 2, 8, channels=2, cells=1)
PLAIN = Recipe(epochs=2, batch_size=8, lr=0.1, precision="float32")


@space
def uneven():
    def block(_):
        return one_of("op", {"a": nn.ReLU, "b": nn.Tanh})

    width = choose("width", [2, 3, 4, 5, 6])
    body = repeat("depth", block, [1, 2, 3])
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), body, nn.Linear(width, 2))


@space
def two_ways():
    return nn.Sequential(
        nn.Flatten(), one_of("op", {"good": nn.Identity, "bad": nn.Tanh}), nn.Linear(64, 2)
    )


def batches(count: int = 4, size: int = 8) -> list[Batch]:
    torch.manual_seed(0)
    return [Batch(torch.randn(size, 1, 8, 8), torch.randint(0, 2, (size,))) for _ in range(count)]


def bench_of(program, recipe: Recipe = PLAIN, steps: int = 4, dtype=torch.float32) -> Bench:
    torch.manual_seed(1)
    shared = supernet(program).to(dtype).train()
    machine = machine_for(recipe, "cpu")
    optimizer = make_optimizer(shared, recipe)
    return Bench(
        shared,
        optimizer,
        recipe,
        machine,
        recipe.epochs,
        steps,
        0,
        None,
        lambda _: cycle(batches()),
    )


def weights_of(bench: Bench) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in bench.supernet.named_parameters()}


# --- uniform paths ---


def test_options_are_drawn_alike():
    step = UniformPath(bench_of(CELLS))
    random.seed(0)
    counts = Counter(step.activate_drawn()["edge0-3"] for _ in range(1000))
    assert len(counts) == 5
    assert all(140 < count < 260 for count in counts.values())


def test_only_active_weights_change_though_all_have_momentum():
    bench = bench_of(CELLS)
    fair, step = StrictFairness(bench), UniformPath(bench)
    fair(batches()[0], None)
    before = weights_of(bench)
    step(batches()[1], None)
    active = bench.supernet.state.decisions
    for name, now in weights_of(bench).items():
        parts = name.split(".")
        if "edges" in parts:
            edge, option = parts[parts.index("edges") + 1 :][:2]
            changed = not torch.equal(now, before[name])
            assert changed == (active[f"edge{edge}"] == option), name


def test_what_is_validated_is_one_architecture_with_statistics_of_its_own():
    bench = bench_of(CELLS)
    step = UniformPath(bench)
    step.settle()
    decided = dict(bench.supernet.state.decisions)
    norm = bench.supernet.get_submodule("network.stem.norm")
    conv = bench.supernet.get_submodule("network.stem.conv")
    images = torch.cat([b.images for b in batches()])
    assert torch.allclose(norm.running_mean, conv(images).mean((0, 2, 3)), atol=1e-5)
    for batch in batches():
        step(batch, None)
    step.settle()
    assert bench.supernet.state.decisions == decided


# --- strict fairness ---


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_every_option_of_every_choice_is_trained_exactly_once(seed):
    random.seed(seed)
    paths = fair_paths(CELLS.tree)
    assert len(paths) == 5
    for choice in CELLS.tree.choices.values():
        assert sorted(path[choice.name] for path in paths) == sorted(choice.options)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_uneven_choices_are_shared_out_as_evenly_as_they_can_be(seed):
    random.seed(seed)
    paths = fair_paths(uneven.tree)
    assert len(paths) == 5
    for choice in uneven.tree.choices.values():
        counts = Counter(path[choice.name] for path in paths if choice.name in path)
        found = [counts[option] for option in choice.options]
        assert max(found) - min(found) <= 1


def test_one_update_with_the_sum_of_the_gradients_of_all_paths():
    bench = bench_of(CELLS, dtype=torch.float64)
    (batch, *_) = batches()
    batch = Batch(batch.images.double(), batch.labels)
    random.seed(3)
    paths = fair_paths(CELLS.tree)
    for path in paths:
        activate(bench.supernet, path)
        bench.loss(batch).backward()
    expected = {n: p.grad.clone() for n, p in bench.supernet.named_parameters()}
    bench.optimizer.zero_grad()
    random.seed(3)
    before = weights_of(bench)
    StrictFairness(bench).learn(batch)
    assert all(torch.equal(v, before[n]) for n, v in weights_of(bench).items())
    for name, parameter in bench.supernet.named_parameters():
        assert torch.allclose(parameter.grad, expected[name], atol=1e-12)


# --- a controller ---


def enas_of(program, **options) -> Enas:
    return Enas(bench_of(program), **{"updates": 3, "aggregate": 2, **options})


def test_the_controller_learns_when_the_weights_have_seen_all_images():
    step = enas_of(CELLS)
    bench, snapshots = step.bench, []
    update = bench.update
    bench.update = lambda: (update(), snapshots.append(weights_of(bench)))
    for number, batch in enumerate(batches()):
        assert len(step.told) == 0
        step(batch, batch)
        assert len(snapshots) == number + 1
    assert len(step.told) == 3 * 2
    assert all(torch.equal(v, snapshots[-1][n]) for n, v in weights_of(bench).items())
    assert all(0 <= reward <= 1 for _, reward in step.told)


def test_what_is_rewarded_is_drawn_and_derived():
    step = enas_of(two_ways, policy="logits", learning_rate=0.2, updates=20, aggregate=5)
    step.accuracy = lambda architecture, batch: float(architecture["op"] == "good")
    for _ in range(2):
        for batch in batches():
            step(batch, batch)
    random.seed(0)
    assert sum(step.draw()["op"] == "good" for _ in range(100)) > 90
    step.settle()
    assert step.bench.supernet.state.decisions["op"] == "good"
    assert step.monitors()["held_accuracy"] > 0.9
    assert step.monitors()["entropy"] < 0.5


@pytest.mark.parametrize("program", [CELLS, darts(1, 2, 8, channels=2, cells=3)])
def test_what_is_derived_is_the_best_of_the_drawn(program):
    step = enas_of(program, candidates=4)
    seen = {}
    step.accuracy = lambda architecture, batch: seen.setdefault(architecture, random.random())
    random.seed(5)
    step.settle()
    best = max(seen, key=seen.get)
    (derived,) = derive(program, step.probabilities())
    assert derived == best
    assert len(derive(program, step.probabilities(), 3)) == 3


def test_a_controller_is_a_fold_over_what_it_was_told():
    step, other = enas_of(CELLS), enas_of(CELLS)
    for batch in batches():
        step(batch, batch)
    other.restore(step.state())
    assert other.told == step.told
    assert other.steps == step.steps
    random.seed(2)
    drawn = [step.draw() for _ in range(5)]
    random.seed(2)
    assert [other.draw() for _ in range(5)] == drawn
    with pytest.raises(InvalidSettings, match="cannot go back"):
        other.restore(step.state())


def test_a_controller_needs_held_out_images():
    with pytest.raises(InvalidSettings, match=r"held=0\.1"):
        enas_of(CELLS)(batches()[0], None)
    with pytest.raises(InvalidSettings, match="candidates=0"):
        enas_of(CELLS, candidates=0)


# --- the authors' numbers ---


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "rates", "decay", "smoothing"),
    [
        ("random-sampling", 150, 64, (0.025, 0.001), 3e-4, 0.0),
        ("single-path", 120, 1024, (0.5, 0.0), 4e-5, 0.1),
        ("fairnas", 150, 256, (0.045, 0.0), 4e-5, 0.0),
        ("enas", 150, 160, (0.05, 0.0005), 1e-4, 0.0),
        ("once-for-all", 590, 64, (2.6 / 32, 0.0), 3e-5, 0.1),
        ("bignas", 360, 256, (0.1, 0.0), 1e-5, 0.1),
    ],
)
def test_has_the_numbers_of_the_authors(name, epochs, batch, rates, decay, smoothing):
    recipe = load("recipe", name, RECIPES).training
    assert (recipe.epochs, recipe.batch_size) == (epochs, batch)
    assert (recipe.lr, recipe.final_lr) == rates
    assert (recipe.weight_decay, recipe.label_smoothing) == (decay, smoothing)
    assert recipe.momentum == 0.9
    assert recipe.nesterov == (name in ("enas", "once-for-all", "bignas"))


# --- agreement of rankings ---


def test_rank_correlation_of_known_orders():
    assert rank_correlation([(1, 1), (2, 2), (3, 3)]).all == 1
    assert rank_correlation([(3, 1), (2, 2), (1, 3)]).all == -1
    found = rank_correlation([(i, i) for i in range(6)] + [(8, 6), (7, 7)], best=0.25)
    assert (found.best, found.best_count, found.count) == (-1, 2, 8)
    assert math.isnan(rank_correlation([(1, 1)]).all)
    assert math.isnan(rank_correlation([(1, 1), (1, 2)]).all)
    assert math.isnan(rank_correlation([]).best)
    with pytest.raises(InvalidSettings, match="share"):
        rank_correlation([], best=0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=20))
def test_rank_correlation_is_that_of_statisticians(pairs):
    from scipy.stats import kendalltau

    expected = kendalltau(*zip(*pairs, strict=True)).statistic
    assert rank_correlation(pairs).all == pytest.approx(expected, nan_ok=True)
