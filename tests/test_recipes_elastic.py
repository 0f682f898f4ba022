"""The sandwich rule and progressive shrinking: subnets that share scales."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.program import space
from parti.core.words import choose, one_of, repeat
from parti.evaluators.learner import make_optimizer
from parti.evaluators.machine import machine_for
from parti.evaluators.recipe import Recipe
from parti.networks.blocks import SqueezeExcitation, inverted_residual
from parti.networks.heads import assemble, head, stem
from parti.recipes import bignas, once_for_all
from parti.recipes.bench import Batch, Bench
from parti.recipes.bignas import FALL, Sandwich, sandwich
from parti.recipes.channels import sort_channels
from parti.recipes.once_for_all import PHASES, Phase, ProgressiveShrinking, axes
from parti.spaces.mobile import mobile
from parti.supernets.share import supernet
from parti.supernets.subnets import activate

PLAIN = Recipe(epochs=3, batch_size=8, lr=0.1, label_smoothing=0.1, warmup=0, precision="float32")


@space
def elastic():
    def block(_):
        expansion = choose("expansion", [2, 3, 4])
        attention = one_of(
            "attention", {"none": nn.Identity, "squeeze": lambda: SqueezeExcitation(8 * expansion)}
        )
        kernel = choose("kernel", [3, 5])
        return inverted_residual(
            8, 8, kernel, expansion=expansion, shortcut=True, attention=attention
        )

    parts = {"stem": stem(1, 8), "body": repeat("depth", block, [1, 2, 3])}
    return assemble({**parts, "drop": nn.Dropout(0.5), "head": head(8, 2)})


SCALED = mobile(1, 2, 8, width=8, resolutions=(4, 6, 8))

LARGEST = {"depth": 3, **{f"depth[{i}]/expansion": 4 for i in range(3)}}


def batches(dtype=torch.float32) -> list[Batch]:
    torch.manual_seed(0)
    return [
        Batch(torch.randn(8, 1, 8, 8, dtype=dtype), torch.randint(0, 2, (8,))) for _ in range(4)
    ]


def bench_of(program=elastic, recipe: Recipe = PLAIN, steps: int = 10, dtype=torch.float32):
    torch.manual_seed(1)
    shared = supernet(program).to(dtype).train()
    optimizer = make_optimizer(shared, recipe)
    machine = machine_for(recipe, "cpu")
    return Bench(shared, optimizer, recipe, machine, recipe.epochs, steps, seed=0)


def activated(monkeypatch, module) -> list[Architecture]:
    found = []
    monkeypatch.setattr(module, "activate", lambda s, a: (found.append(a), activate(s, a))[1])
    return found


def classifier(bench: Bench) -> nn.Linear:
    return bench.supernet.get_submodule("network.head.classifier")


# --- the sandwich rule ---


def test_a_step_trains_the_largest_the_smallest_and_some_others(monkeypatch):
    found = activated(monkeypatch, bignas)
    Sandwich(bench_of(), others=3)(batches()[0], None)
    largest, smallest, *others = found
    assert len(others) == 3
    assert largest["depth"] == 3
    assert smallest["depth"] == 1
    for subnet, kernel, expansion in ((largest, 5, 4), (smallest, 3, 2)):
        for i in range(subnet["depth"]):
            assert (subnet[f"depth[{i}]/kernel"], subnet[f"depth[{i}]/expansion"]) == (
                kernel,
                expansion,
            )
    assert len({subnet["depth[0]/attention"] for subnet in found}) == 1


def test_the_others_learn_what_the_largest_says_and_no_labels(monkeypatch):
    bench = bench_of(dtype=torch.float64)
    bench.supernet.get_submodule("network.drop").p = 0.0
    step = Sandwich(bench, others=1)
    nn.init.normal_(classifier(bench).weight)
    batch = batches(torch.float64)[0]
    subnets = sandwich(elastic.tree, 1)
    monkeypatch.setattr(bignas, "sandwich", lambda *_: subnets)
    said = []
    for subnet in subnets:
        activate(bench.supernet, subnet)
        said.append(bench.logits(batch.images).detach().softmax(1))
    step.learn(batch)
    labels = 0.9 * F.one_hot(batch.labels, 2) + 0.05
    targets = [labels, said[0], said[0]]
    # The gradient of a cross-entropy by the logits: what is said, less the target.
    expected = sum((one - target).mean(0) for one, target in zip(said, targets, strict=True))
    assert torch.allclose(classifier(bench).bias.grad, expected, atol=1e-12)


def test_only_the_largest_is_dropped_out():
    bench = bench_of()
    modes = []
    bench.supernet.get_submodule("network.drop").register_forward_hook(
        lambda layer, *_: modes.append(layer.training)
    )
    Sandwich(bench)(batches()[0], None)
    assert modes == [True, False, False, False]
    assert bench.supernet.get_submodule("network.drop").training


def test_blocks_begin_as_identities():
    bench = bench_of()
    activate(bench.supernet, elastic.tree.unrank(0))
    images = batches()[0].images
    features = bench.supernet.get_submodule("network.body")
    seen = []
    features.register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
    bench.supernet(images)
    Sandwich(bench)
    bench.supernet(images)
    assert not torch.equal(*seen[0])
    assert torch.equal(*seen[1])


def test_no_gradient_of_a_weight_is_larger_than_the_limit(monkeypatch):
    found = {}
    for clip in (0.0, 1e-3):
        bench = bench_of(dtype=torch.float64)
        bench.supernet.get_submodule("network.drop").p = 0.0
        random.seed(0)
        Sandwich(bench, clip=clip).learn(batches(torch.float64)[0])
        found[clip] = [p.grad.clone() for p in bench.supernet.parameters() if p.grad is not None]
    assert max(float(gradient.abs().max()) for gradient in found[0.0]) > 1e-3
    for free, cut in zip(found[0.0], found[1e-3], strict=True):
        assert torch.equal(free.clamp(-1e-3, 1e-3), cut)


def test_the_learning_rate_falls_exponentially_to_a_constant():
    bench = bench_of(recipe=replace(PLAIN, epochs=100), steps=10)
    step = Sandwich(bench)
    rates = []
    for share in (0, FALL / 2, FALL, 0.9):
        step.steps = round(share * 1000)
        step.learn(batches()[0])
        rates.append(step.monitors()["lr"])
    assert rates == pytest.approx([0.1, 0.1 * 0.05**0.5, 0.005, 0.005], rel=1e-2)
    step = Sandwich(bench, ending=1)
    bench.optimizer.param_groups[0]["lr"] = 0.7
    step.learn(batches()[0])
    assert step.monitors()["lr"] == 0.7


def test_each_step_has_one_of_the_resolutions():
    bench = bench_of()
    sizes = []
    bench.supernet.network[0].register_forward_hook(lambda _, x, y: sizes.append(x[0].shape[-1]))
    step = Sandwich(bench, resolutions=(4, 6, 12))
    random.seed(0)
    for _ in range(20):
        step(batches()[0], None)
    assert set(sizes) == {4, 6, 12}
    assert all(len(set(sizes[i : i + 4])) == 1 for i in range(0, len(sizes), 4))


@pytest.mark.parametrize(
    "options",
    [{"others": -1}, {"clip": -1.0}, {"ending": 0.0}, {"ending": 2.0}, {"resolutions": (0,)}],
)
def test_sandwiches_refuse(options):
    with pytest.raises(InvalidSettings):
        Sandwich(bench_of(), **options)


# --- progressive shrinking ---


def test_scales_are_known_by_what_they_do():
    found = axes(supernet(mobile(1, 2, 8, width=8)))
    assert found["stage1/blocks"] == "depth"
    assert found["stage1/blocks[0]/kernel"] == "kernel"
    assert found["stage1/blocks[0]/expansion"] == "width"
    assert found["stage1/width"] == "width"
    assert "stage1/blocks[0]/attention" not in found
    assert "resolution" not in found
    assert axes(supernet(SCALED))["resolution"] == "resolution"


def test_resolutions_are_open_from_the_beginning_and_the_teacher_sees_the_same():
    phases = (Phase("largest", 1, 1.0), Phase("kernel", 2, 1.0, opened={"kernel": 9}))
    step = ProgressiveShrinking(bench_of(SCALED), phases=phases)
    random.seed(0)
    drawn = [step.draw(phases[0]) for _ in range(60)]
    assert {each["resolution"] for each in drawn} == {4, 6, 8}
    assert {each["stage1/blocks"] for each in drawn} == {4}
    for _ in range(11):
        step(batches()[0], None)
    seen = []
    step._teacher.network.stem.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape[-1]))
    subnet = next(each for each in drawn if each["resolution"] == 6)
    step._taught(batches()[0].images, subnet)
    assert seen == [6]


def test_kernels_open_first_then_depth_then_width():
    step = ProgressiveShrinking(bench_of())
    assert [phase.name for phase in PHASES][:3] == ["largest", "kernel", "depth 1"]
    seen = []
    random.seed(0)
    for phase in PHASES:
        drawn = [step.draw(phase) for _ in range(60)]
        seen.append(
            tuple(
                tuple(sorted({a[name] for a in drawn}))
                for name in ("depth[0]/kernel", "depth", "depth[0]/expansion")
            )
        )
    assert seen == [
        ((5,), (3,), (4,)),
        ((3, 5), (3,), (4,)),
        ((3, 5), (2, 3), (4,)),
        ((3, 5), (1, 2, 3), (4,)),
        ((3, 5), (1, 2, 3), (3, 4)),
        ((3, 5), (1, 2, 3), (2, 3, 4)),
    ]


def test_phases_take_their_shares_and_restart_rate_and_momentum(monkeypatch):
    bench = bench_of(recipe=replace(PLAIN, epochs=59), steps=1)
    step = ProgressiveShrinking(bench)
    found = activated(monkeypatch, once_for_all)
    counts, rates = [], []
    for _ in range(59):
        step(batches()[0], None)
        counts.append(len(found))
        rates.append(step.monitors()["lr"])
        found.clear()
    numbers = [step.phase(i) for i in range(59)]
    assert [numbers.count(i) for i in range(6)] == [18, 12, 2, 12, 3, 12]
    # Each subnet after the first phase is activated twice: for itself, and for its teacher.
    assert [counts[numbers.index(i)] for i in range(6)] == [1, 2, 4, 4, 8, 8]
    assert rates[0] == pytest.approx(0.1)
    assert rates[17] < 0.01 * 0.1
    assert max(rates[18:30]) == pytest.approx(0.1 * PHASES[1].lr, rel=0.05)


def test_labels_and_the_first_largest_network_teach():
    bench = bench_of(dtype=torch.float64)
    bench.supernet.get_submodule("network.drop").p = 0.0
    phases = (Phase("largest", 1, 1.0), Phase("all", 2, 1.0, opened={"width": 9, "depth": 9}))
    step = ProgressiveShrinking(bench, phases=phases, distillation=2.0)
    batch = batches(torch.float64)[0]
    random.seed(0)
    for _ in range(12):
        step(batch, None)
    teacher = step._teacher
    assert teacher is not None
    taught = [p.clone() for p in teacher.parameters()]
    assert not any(p.requires_grad for p in teacher.parameters())
    subnet = step.draw(phases[1])
    step.draw = lambda phase: subnet
    activate(bench.supernet, subnet)
    said = bench.logits(batch.images).detach().softmax(1)
    step.learn(batch)
    assert teacher.state.decisions["depth"] == 3
    assert teacher.state is not bench.supernet.state
    soft = teacher(batch.images).softmax(1)
    labels = 0.9 * F.one_hot(batch.labels, 2) + 0.05
    expected = (said - labels + 2.0 * (said - soft)).mean(0)
    assert torch.allclose(classifier(bench).bias.grad, expected, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(taught, teacher.parameters(), strict=True))


@pytest.mark.parametrize("attention", ["none", "squeeze"])
def test_sorting_keeps_the_largest_network_and_puts_important_channels_first(attention):
    torch.manual_seed(0)
    shared = supernet(elastic).double().eval()
    for name, value in shared.state_dict().items():
        if "norm" in name and value.is_floating_point():
            value.uniform_(0.5, 2)
    kinds = {"kernel": 5, "attention": attention}
    others = {f"depth[{i}]/{name}": option for i in range(3) for name, option in kinds.items()}
    activate(shared, {**LARGEST, **others})
    images = batches(torch.float64)[0].images
    before, weight = shared(images), shared.get_submodule("network.body.0.body.project.conv").weight
    unsorted = weight.detach().clone()
    sort_channels(shared)
    assert torch.allclose(shared(images), before, atol=1e-10)
    importance = weight.abs().sum((0, 2, 3))
    assert not torch.equal(weight, unsorted)
    assert torch.equal(importance, importance.sort(descending=True).values)


@pytest.mark.parametrize(
    "phases",
    [
        (),
        (Phase("all", 1, 1.0, opened={"depth": 2}),),
        (Phase("largest", 1, 1.0), Phase("odd", 1, 1.0, opened={"heads": 2})),
        (Phase("largest", 1, 1.0, warmup=1),),
        (Phase("largest", 1, 0.0),),
    ],
)
def test_phases_that_cannot_be(phases):
    with pytest.raises(InvalidSettings):
        ProgressiveShrinking(bench_of(), phases=phases)


def test_distillation_is_no_punishment():
    with pytest.raises(InvalidSettings, match="distillation"):
        ProgressiveShrinking(bench_of(), distillation=-1)
