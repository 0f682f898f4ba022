"""GDAS, SNAS, DrNAS, ProxylessNAS, FBNet: the fact of each paper, and that each finds its way."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from scipy.stats import beta as beta_distribution
from torch import Tensor, nn

import parti
from parti.core.errors import InvalidSettings
from parti.core.trial import Job
from parti.evaluators.recipe import Recipe
from parti.recipes import RECIPES
from parti.recipes.costs import expected_cost, macs
from parti.recipes.course import make_step
from parti.recipes.drnas import DRNAS, DRNAS_NASBENCH201, Dirichlet, divergence, widen
from parti.recipes.fbnet import FBNET, latency_factor
from parti.recipes.gdas import GDAS
from parti.recipes.gumbel import Gumbel, straight_through
from parti.recipes.proxylessnas import PROXYLESSNAS, BinaryGates
from parti.recipes.recipe import Stage, SupernetRecipe
from parti.recipes.relaxation import Relaxation
from parti.recipes.snas import SNAS
from parti.recipes.training import SupernetTraining, load_supernet
from parti.spaces.darts import darts
from parti.spaces.fbnet import fbnet
from parti.spaces.nasbench201 import nasbench201
from parti.spaces.proxylessnas import proxylessnas
from parti.spaces.residual import residual
from parti.supernets.derive import derive
from parti.supernets.modules import Switch
from parti.supernets.share import Relaxed, supernet
from parti.supernets.subnets import activate, mix
from recipe_makers import BLIND, SEEING, batch_of, bench_of, planted, swift, train
from training_makers import toy_data

DIFFERENT = [GDAS, SNAS, DRNAS, PROXYLESSNAS, FBNET]
ALL = [*DIFFERENT, DRNAS_NASBENCH201]


def named(recipe: SupernetRecipe) -> str:
    return recipe.name


def short(recipe: SupernetRecipe, epochs: int = 6, lr: float = 0.1) -> SupernetRecipe:
    """For a second: every step has one of the architecture parameters, from the first epoch on."""
    always = {"warm_up": 0.0, "every": 1} if "every" in recipe.options else {"warm_up": 0.0}
    found = swift(recipe, epochs=epochs, lr=lr, **always)
    parts = (2, 1) if recipe.stages else ()
    stages = tuple(
        replace(stage, relaxed=replace(recipe.relaxed, partial=part))
        for stage, part in zip(recipe.stages, parts, strict=True)
    )
    return replace(found, stages=stages, held=0.5 if recipe.held else 0.0)


def filled(relaxation: Relaxation, seed: int = 1) -> None:
    """Give the architecture parameters values that differ from one another."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()


# --- all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ALL, ids=named)
def test_is_found_by_its_name_and_cites_its_paper(recipe: SupernetRecipe) -> None:
    module, _, name = RECIPES[recipe.name].partition(":")
    assert getattr(import_module(module), name) is recipe
    assert recipe.derives
    text = str(import_module(module).__doc__)
    assert recipe.paper.split(": ", 1)[0].split(", ")[-1] in text
    assert recipe.paper[-4:] in text


class Zeros(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x)


@parti.space
def obvious(in_channels: int = 1, classes: int = 2) -> nn.Sequential:
    """One option keeps what there is to see."""
    stem = nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
    choice = parti.one_of("op", {"zeros": Zeros, "keep": nn.Identity, "noise": Noise})
    head = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, classes))
    return nn.Sequential(stem, choice, head)


@pytest.mark.parametrize("recipe", DIFFERENT, ids=named)
def test_finds_what_is_obvious(recipe: SupernetRecipe, tmp_path: Path) -> None:
    quick = short(recipe)
    quick = replace(quick, training=replace(quick.training, batch_size=6, lr=0.02))
    space = obvious(1, 2)
    training = SupernetTraining(space, toy_data(144), quick, device="cpu", threads=1)
    found = [dict(m.metrics) for m in training(Job(parti.Architecture({}), workdir=tmp_path))]
    assert found[-1]["val_accuracy"] > 0.9
    probabilities = load_supernet(space, quick, tmp_path).probabilities
    assert float(probabilities["op"][1]) > 0.7
    assert derive(space, probabilities)[0]["op"] == "keep"


@pytest.mark.parametrize("recipe", ALL, ids=named)
def test_takes_the_space_of_its_paper(recipe: SupernetRecipe) -> None:
    relaxed = recipe.relaxed_in(0)
    channels = 2 * relaxed.partial
    space = {
        "darts": lambda: darts(1, 2, 8, channels=channels, cells=3),
        "nasbench201": lambda: nasbench201(1, 2, 8, channels=channels, cells=1),
        "fbnet": lambda: fbnet(1, 2, 8, width=8, layers=1),
        "proxylessnas": lambda: proxylessnas(1, 2, 8, width=8, layers=2),
    }[recipe.space]()
    step = make_step(recipe, bench_of(space, relaxed=relaxed))
    step.begin(3)
    for number in range(recipe.options.get("every", 1)):
        loss = step(batch_of(number), batch_of(number + 5))
        assert math.isfinite(float(loss))
    step.settle()
    assert step.probabilities().keys() <= step.bench.supernet.choices.keys()


@pytest.mark.parametrize("recipe", DIFFERENT, ids=named)
def test_refuses_spaces_of_values(recipe: SupernetRecipe) -> None:
    with pytest.raises(InvalidSettings, match="gradients cannot decide values"):
        make_step(recipe, bench_of(residual(1, 2, 8)))


# --- Gumbel-softmax --------------------------------------------------------------------------


def test_straight_through_is_exactly_hard_with_the_soft_gradient() -> None:
    logits = torch.tensor([0.1, 0.7, -2.3], requires_grad=True)
    value = torch.tensor([3.0, 5.0, 7.0])
    soft = logits.softmax(0)
    hard = straight_through(soft, 2)
    assert hard.tolist() == [0.0, 0.0, 1.0]
    (found,) = torch.autograd.grad(hard @ value, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(soft @ value, logits)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("temperature", [0.1, 10.0])
def test_options_are_sampled_as_often_as_they_are_probable(temperature: float) -> None:
    relaxation = Gumbel(supernet(planted(1, 2)), hard=True, first=temperature, null=False)
    filled(relaxation)
    count = Counter(
        relaxation.active()[SEEING][0] for _ in range(2000) if relaxation.weights()[SEEING].any()
    )
    probabilities = relaxation.probabilities()[SEEING]
    for place, probability in enumerate(probabilities.tolist()):
        deviation = math.sqrt(probability * (1 - probability) / 2000)
        assert abs(count[place] / 2000 - probability) < 4 * deviation


def test_low_temperatures_give_nearly_one_option_high_ones_nearly_all_alike() -> None:
    relaxation = Gumbel(supernet(planted(1, 2)), first=100.0, last=0.001)
    relaxation.anneal(0.0)
    assert float(relaxation.weights()[SEEING].detach().max()) < 0.3  # of four, with `none`
    assert relaxation.active() is None
    relaxation.anneal(1.0)
    drawn = torch.stack([relaxation.weights()[SEEING].detach() for _ in range(50)])
    assert float(drawn.max(1).values.median()) > 0.99


def test_temperatures_fall_as_in_the_papers() -> None:
    def course(recipe: SupernetRecipe) -> list[float]:
        epochs = recipe.training.epochs
        step = make_step(recipe, bench_of(epochs=epochs))
        found = []
        for epoch in range(epochs):
            step.begin(epoch)
            found.append(step.relaxation.temperature)
        return found

    for recipe, first, last, epochs in ((GDAS, 10.0, 0.1, 240), (SNAS, 1.0, 0.03, 150)):
        linear = course(recipe)
        assert (linear[0], len(linear)) == (first, epochs)
        assert linear[-1] == pytest.approx(last)
        falls = [one - other for one, other in pairwise(linear)]
        assert falls == pytest.approx([(first - last) / (epochs - 1)] * (epochs - 1))
    exponential = course(FBNET)
    assert (exponential[0], len(exponential)) == (5.0, 90)
    assert all(
        other / one == pytest.approx(math.exp(-0.045)) for one, other in pairwise(exponential)
    )


@pytest.mark.parametrize("wrong", [{"first": 0.0}, {"last": -1.0}, {"schedule": "sudden"}])
def test_temperatures_are_positive_and_schedules_known(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidSettings, match=r"temperatures first|schedule 'sudden'"):
        Gumbel(supernet(planted(1, 2)), **wrong)


# --- GDAS ------------------------------------------------------------------------------------


def calls(network: nn.Module) -> Counter[str]:
    """Count from now on how often each option of a choice runs."""
    found: Counter[str] = Counter()
    for switch in network.modules():
        if isinstance(switch, Switch):
            for label, option in switch._modules.items():

                def count(*_: object, name: str = f"{switch.choice.name}={label}") -> None:
                    found[name] += 1

                option.register_forward_hook(count)
    return found


def test_gdas_runs_one_option_and_answers_exactly_as_the_sampled_architecture() -> None:
    space = nasbench201(1, 2, 8, channels=2, cells=1)
    step = make_step(GDAS, bench_of(space))
    shared, images = step.bench.supernet.eval(), batch_of(0).images
    filled(step.relaxation)
    ran = calls(shared)
    for seed in range(5):
        torch.manual_seed(seed)
        weights = step.mixed()
        ran.clear()
        found = shared(images).detach()
        assert len(ran) == 6  # edges
        assert set(ran.values()) == {3}  # cells
        sampled = {
            name: shared.choices[name].options[int(each.argmax())] for name, each in weights.items()
        }
        activate(shared, sampled)
        assert torch.equal(found, shared(images).detach())


def test_gdas_has_the_gradient_of_the_gumbel_softmax() -> None:
    space = nasbench201(1, 2, 8, channels=2, cells=1)
    step = make_step(GDAS, bench_of(space, double=True))
    filled(step.relaxation)
    step.bench.supernet.eval()
    batch = batch_of(0, double=True)
    alphas = list(step.relaxation.parameters())
    torch.manual_seed(5)
    found = torch.autograd.grad(step.held_loss(batch), alphas)

    torch.manual_seed(5)
    soft, gates = {}, {}
    for name, alpha in zip(step.relaxation.names, alphas, strict=True):
        noise = -torch.empty_like(alpha).exponential_().log()
        soft[name] = ((alpha + noise) / step.relaxation.temperature).softmax(0)
        gates[name] = torch.zeros_like(alpha)
        gates[name][int(soft[name].argmax())] = 1.0
        gates[name].requires_grad_()
    mix(step.bench.supernet, gates, step.relaxation.active())
    by_gate = torch.autograd.grad(step.bench.loss(batch), list(gates.values()))
    for gradient, of_gate, name, alpha in zip(found, by_gate, gates, alphas, strict=True):
        place = int(soft[name].argmax())
        # Equation 7: only what was sampled has a gradient, through its softened weight.
        assert not of_gate[torch.arange(5) != place].any()
        (expected,) = torch.autograd.grad(soft[name][place] * of_gate[place], alpha)
        assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-14)


def test_a_sampled_none_contributes_nothing_and_teaches_nothing() -> None:
    step = make_step(GDAS, bench_of())
    with torch.no_grad():
        for alpha in step.relaxation.alphas.values():
            alpha[3] = 1e3
    images = batch_of(0).images
    step.bench.supernet.eval()
    loss = step.held_loss(batch_of(0))
    assert not step.relaxation.weights()[SEEING].any()
    assert step.relaxation.active()[SEEING] == (1,)  # the skip connection, which costs nothing
    stem, head = step.bench.supernet.network[0], step.bench.supernet.network[-1]
    assert torch.equal(step.bench.supernet(images), head(torch.zeros_like(stem(images))))
    assert not loss.requires_grad or all(
        gradient is None or not gradient.any()
        for gradient in torch.autograd.grad(
            loss, list(step.relaxation.parameters()), allow_unused=True
        )
    )


# --- SNAS ------------------------------------------------------------------------------------


def test_snas_learns_both_levels_from_one_pass_over_the_same_images() -> None:
    assert SNAS.held == 0.0
    step = make_step(SNAS, bench_of(double=True))
    step.bench.supernet.eval()
    weight = step.bench.supernet.network[0][0].weight
    alphas = list(step.relaxation.parameters())
    before = [each.detach().clone() for each in (weight, *alphas)]
    batch, passes = batch_of(0, double=True), []
    torch.manual_seed(4)
    gradients = torch.autograd.grad(step.held_loss(batch), [weight, *alphas])
    step.bench.supernet.register_forward_hook(lambda *_: passes.append(1))
    torch.manual_seed(4)
    step(batch, None)
    assert len(passes) == 1
    rate, decay = 0.1, step.bench.training.weight_decay
    expected = before[0] - rate * (gradients[0] + decay * before[0])
    assert torch.allclose(weight.detach(), expected)
    for alpha, old, gradient in zip(alphas, before[1:], gradients[1:], strict=True):
        # The first step of Adam is the sign of the gradient, with its decay.
        expected = old - 3e-4 * (gradient + 1e-3 * old).sign()
        assert torch.allclose(alpha.detach(), expected, atol=1e-6)


def test_snas_may_count_resources() -> None:
    costly = replace(
        short(SNAS, epochs=6),
        options={
            **short(SNAS).options,
            "penalty": "parti.recipes.costs:added",
            "penalty_arguments": {"strength": 3.0},
        },
    )
    costs = expected_cost(supernet(planted(1, 2)), (1, 8, 8), macs)
    *_, last = train(costly, costs=costs)
    # The convolution sees as much as a skip connection, and costs more.
    assert last.metrics["skips"] == 1


# --- DrNAS -----------------------------------------------------------------------------------


def dirichlet(space=None) -> Dirichlet:
    return Dirichlet(supernet(space or planted(1, 2)))


def test_the_gradient_of_a_dirichlet_sample_is_the_numeric_one() -> None:
    relaxation = dirichlet().double()
    relaxation.keep({BLIND: (0, 1), SEEING: (0, 2)})
    with torch.no_grad():
        relaxation.alphas["1"].copy_(torch.tensor([0.7, 9.0, -0.4]))
    alpha = relaxation.alphas["1"]
    for seed in range(10):
        torch.manual_seed(seed)
        drawn = relaxation.weights()[SEEING]
        assert drawn[1] == 0
        assert float(drawn.detach().sum()) == pytest.approx(1)
        (found,) = torch.autograd.grad(drawn[0], alpha)

        # A sample moves with its concentrations so that its quantile stays.
        def concentrations(first: float, third: float) -> tuple[float, float]:
            elu = [x if x > 0 else math.expm1(x) for x in (first, third)]
            return elu[0] + 1, elu[1] + 1

        start = (0.7, -0.4)
        quantile = beta_distribution.cdf(float(drawn[0].detach()), *concentrations(*start))
        h = 1e-5
        for place, (one, other) in ((0, (h, 0.0)), (2, (0.0, h))):
            moved = [
                beta_distribution.ppf(
                    quantile, *concentrations(start[0] + sign * one, start[1] + sign * other)
                )
                for sign in (1, -1)
            ]
            assert float(found[place]) == pytest.approx((moved[0] - moved[1]) / (2 * h), rel=2e-3)
        assert found[1] == 0


def test_weights_are_dirichlet_distributed() -> None:
    relaxation = dirichlet()
    filled(relaxation)
    alpha = relaxation.alphas["1"].detach()
    concentrations = torch.where(alpha > 0, alpha + 1, alpha.exp())
    drawn = torch.stack([relaxation.weights()[SEEING].detach() for _ in range(3000)])
    total = float(concentrations.sum())
    mean = concentrations / total
    assert torch.allclose(drawn.mean(0), mean, atol=0.02)
    assert torch.allclose(drawn.var(0), mean * (1 - mean) / (total + 1), atol=0.01)
    assert torch.allclose(relaxation.probabilities()[SEEING], alpha.softmax(0))


def test_the_divergence_is_that_from_uniform_weights() -> None:
    bench = bench_of()
    relaxation = Dirichlet(bench.supernet)
    filled(relaxation)
    loss = divergence(torch.tensor(2.0), {}, relaxation, bench, 0.0, weight=1e-3)
    total = 0.0
    for alpha in relaxation.alphas.values():
        c = [x + 1 if x > 0 else math.exp(x) for x in alpha.tolist()]
        digamma = torch.special.digamma(torch.tensor([*c, sum(c)])).tolist()
        total += math.lgamma(sum(c)) - math.lgamma(len(c)) - sum(map(math.lgamma, c))
        total += sum((x - 1) * (d - digamma[-1]) for x, d in zip(c, digamma, strict=False))
    assert float(loss.detach()) == pytest.approx(2.0 + 1e-3 * total, rel=1e-5)
    with torch.no_grad():
        for alpha in relaxation.alphas.values():
            alpha.zero_()
    uniform = divergence(torch.tensor(2.0), {}, relaxation, bench, 0.0)
    assert float(uniform.detach()) == pytest.approx(2.0)


def test_drnas_keeps_fewer_options_and_more_channels_in_its_second_half() -> None:
    assert [stage.relaxed.partial for stage in DRNAS.stages] == [6, 4]
    assert [stage.relaxed.partial for stage in DRNAS_NASBENCH201.stages] == [4, 2]
    for recipe, left, space in (
        (DRNAS, (7, 4), darts(1, 2, 8, channels=2, cells=3)),
        (DRNAS_NASBENCH201, (5, 3), nasbench201(1, 2, 8, channels=2, cells=1)),
    ):
        relaxation = dirichlet(space)
        for stage, count in zip(recipe.stages, left, strict=True):
            relaxation.keep(relaxation.strongest(stage.options["share"]))
            assert {len(places) for places in relaxation.left.values()} == {count}
        assert recipe.options["warm_up"] * recipe.training.epochs / 2 == 10


def test_the_second_half_begins_with_copies_of_channels_and_of_their_momentum() -> None:
    space = darts(1, 2, 8, channels=4, cells=3)
    old = bench_of(space, relaxed=Relaxed(affine=False, partial=4))
    new = bench_of(space, relaxed=Relaxed(affine=False, partial=2))
    old.loss(batch_of(0)).backward()
    old.update()
    widen(old, new)
    grown = 0
    names = dict(new.supernet.network.named_parameters())
    for name, before in old.supernet.network.named_parameters():
        after = names[name]
        first = tuple(slice(size) for size in before.shape)
        assert torch.equal(after[first], before)
        for kind in ("momentum_buffer",) if before in old.optimizer.state else ():
            of_old, of_new = (b.optimizer.state[p][kind] for b, p in ((old, before), (new, after)))
            assert torch.equal(of_new[first], of_old)
        if after.shape != before.shape:
            grown += 1
            rows = {tuple(row.flatten().tolist()) for row in after[:, : before.shape[1]].detach()}
            assert rows <= {tuple(row.flatten().tolist()) for row in before.detach()}
    assert grown > 100
    again = bench_of(space, relaxed=Relaxed(affine=False, partial=2))
    widen(old, again)
    twice = dict(again.supernet.network.named_parameters())
    assert all(torch.equal(twice[name], each) for name, each in names.items())


def test_the_learning_rate_falls_once_over_both_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = import_module("parti.recipes.drnas").DirichletStages
    original = step.learn_weights

    def noted(self, batch):
        rates.append(self.bench.optimizer.param_groups[0]["lr"])
        return original(self, batch)

    monkeypatch.setattr(step, "learn_weights", noted)
    list(train(short(DRNAS, epochs=4)))
    assert len(rates) == 4 * 6
    assert all(one > other for one, other in pairwise(rates))
    assert rates[12] == pytest.approx(0.05)


# --- ProxylessNAS ----------------------------------------------------------------------------


def test_weights_see_one_path_and_architecture_parameters_two() -> None:
    space = nasbench201(1, 2, 8, channels=2, cells=1)
    relaxation = BinaryGates(supernet(space))
    single = relaxation.weights()
    assert {len(places) for places in relaxation.active().values()} == {1}
    assert not any(each.requires_grad for each in single.values())
    relaxation.in_pairs = True
    double = relaxation.weights()
    for name, each in double.items():
        first, second = relaxation.active()[name]
        assert first != second
        assert sorted(each.tolist()) == [0, 0, 0, 0, 1]
        assert each[[first, second]].sum() == 1


def test_the_gradient_of_binary_gates_is_equation_4_over_the_two_paths() -> None:
    space = nasbench201(1, 2, 8, channels=2, cells=1)
    relaxation = BinaryGates(supernet(space)).double()
    filled(relaxation)
    relaxation.in_pairs = True
    torch.manual_seed(2)
    weights = relaxation.weights()
    of_gates = {name: torch.randn(5, dtype=torch.double) for name in weights}
    total = sum((weights[name] * of_gates[name]).sum() for name in weights)
    found = torch.autograd.grad(total, list(relaxation.parameters()))
    for name, alpha, gradient in zip(weights, relaxation.parameters(), found, strict=True):
        pair = relaxation.active()[name]
        exponentials = [math.exp(alpha[place].item()) for place in pair]
        p = [each / sum(exponentials) for each in exponentials]
        for i, place in enumerate(pair):
            expected = sum(
                float(of_gates[name][other]) * p[j] * ((i == j) - p[i])
                for j, other in enumerate(pair)
            )
            assert float(gradient[place]) == pytest.approx(expected, rel=1e-9)
        others = [place for place in range(5) if place not in pair]
        assert not gradient[others].any()


def test_other_options_stay_as_probable_as_they_were() -> None:
    step = make_step(
        replace(PROXYLESSNAS, options={**PROXYLESSNAS.options, "lr": 0.5}),
        bench_of(nasbench201(1, 2, 8, channels=2, cells=1)),
    )
    filled(step.relaxation)
    before = step.probabilities()
    step.learn_architecture(batch_of(0), batch_of(1))
    after = step.probabilities()
    moved = 0
    for name, places in step.relaxation.active().items():
        others = [place for place in range(5) if place not in places]
        assert torch.allclose(before[name][others], after[name][others], atol=1e-6)
        moved += not torch.allclose(before[name], after[name], atol=1e-2)
    assert moved > 2
    assert not step.relaxation.in_pairs


def test_one_step_in_five_has_one_of_the_architecture_parameters() -> None:
    step = make_step(PROXYLESSNAS, bench_of(epochs=160))
    steps: list[str] = []
    step.learn_architecture = lambda *_: steps.append("architecture")
    learn_weights = step.learn_weights
    step.learn_weights = lambda batch: (steps.append("weights"), learn_weights(batch))[1]
    step.begin(39)
    for _ in range(10):
        step(batch_of(0), batch_of(1))
    assert steps == 10 * ["weights"]  # alone for 40 epochs
    step.begin(40)
    for _ in range(12):
        step(batch_of(0), batch_of(1))
    five = [*4 * ["weights"], "architecture", "weights"]
    assert steps[10:] == [*five, *five, "weights", "weights"]


# --- FBNet -----------------------------------------------------------------------------------


def test_the_loss_of_fbnet_is_multiplied_by_a_power_of_the_latencys_logarithm() -> None:
    bench = bench_of()
    relaxation = Gumbel(bench.supernet)
    latency = torch.tensor(2.5, requires_grad=True)
    loss = torch.tensor(1.7)
    assert latency_factor(loss, {}, relaxation, bench, 0.0) is loss
    bench.costs = lambda weights: latency
    found = latency_factor(loss, {}, relaxation, bench, 0.0, scale=0.2, exponent=0.6)
    assert float(found.detach()) == pytest.approx(1.7 * 0.2 * math.log(2501) ** 0.6)
    found.backward()
    expected = 1.7 * 0.2 * 0.6 * math.log(2501) ** -0.4 / 2501 * 1000
    assert float(latency.grad) == pytest.approx(expected, rel=1e-5)


def test_the_latency_that_fbnet_counts_is_that_of_the_sample() -> None:
    step = make_step(FBNET, bench_of())
    step.bench.costs = expected_cost(step.bench.supernet, (1, 8, 8), macs)
    seen: list[Tensor] = []
    costs = step.bench.costs

    def noted(weights: dict[str, Tensor]) -> Tensor:
        seen.append(costs(weights))
        return seen[-1]

    step.bench.costs = noted
    step.begin(0)
    for _ in range(3):
        step.held_loss(batch_of(0))
    assert len({float(each.detach()) for each in seen}) == 3
    assert all(each.requires_grad for each in seen)


@pytest.mark.parametrize("recipe", [FBNET, PROXYLESSNAS], ids=named)
def test_of_two_blocks_that_are_as_good_the_cheaper_is_derived(
    recipe: SupernetRecipe, tmp_path: Path
) -> None:
    strong = {"strength": 3.0}
    if recipe is FBNET:
        strong = {"scale": 2.0, "exponent": 2.0, "unit": 1e4}
    quick = short(recipe, epochs=8)
    quick = replace(quick, options={**quick.options, "penalty_arguments": strong})
    costs = expected_cost(supernet(planted(1, 2)), (1, 8, 8), macs)
    list(train(quick, tmp_path, costs=costs))
    found = load_supernet(planted(1, 2), quick, tmp_path).probabilities
    for name in (SEEING, BLIND):
        assert float(found[name][2]) < 0.2  # the convolution
    assert int(found[SEEING].argmax()) == 1


# --- the authors' numbers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "weights", "architecture"),
    [
        (GDAS, (240, 64, 0.025, 5e-4), (3e-4, (0.5, 0.999), 1e-3)),
        (SNAS, (150, 64, 0.025, 3e-4), (3e-4, (0.5, 0.999), 1e-3)),
        (DRNAS, (50, 64, 0.1, 3e-4), (6e-4, (0.5, 0.999), 0.0)),
        (DRNAS_NASBENCH201, (100, 64, 0.025, 3e-4), (3e-4, (0.5, 0.999), 0.0)),
        (PROXYLESSNAS, (160, 256, 0.025, 4e-5), (1e-3, (0.0, 0.999), 0.0)),
        (FBNET, (90, 192, 0.1, 1e-4), (0.01, (0.9, 0.999), 5e-4)),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
def test_has_the_numbers_of_the_authors(recipe, weights, architecture) -> None:
    training: Recipe = recipe.training
    assert (training.epochs, training.batch_size, training.lr, training.weight_decay) == weights
    step = make_step(recipe, bench_of(relaxed=Relaxed()))
    (group,) = step.optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == architecture


def test_a_stage_without_a_way_to_build_options_has_that_of_the_recipe() -> None:
    recipe = replace(DRNAS, stages=(Stage(), Stage(relaxed=Relaxed(partial=3))))
    assert recipe.relaxed_in(0) == DRNAS.relaxed
    assert recipe.relaxed_in(1).partial == 3
