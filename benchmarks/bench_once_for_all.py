"""A once-for-all family on CIFAR-10: one training, then accuracy against cost of many networks.

The space is `mobile`. A supernet is trained for some minutes, of one core where there is no GPU;
random subnets, and the largest and the smallest, are measured: accuracy with inherited weights on
validation images, latency in ONNX Runtime on one thread. Those that no other beats in both are the
front. Three of it (its ends and its middle) are extracted and trained further for a few epochs,
beside the same networks trained as long from fresh weights.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import nn

from benchmarks.supernet_budget import cifar10, fitted, trained
from benchmarks.tables import print_table
from parti.core.architecture import Architecture
from parti.core.errors import InvalidData
from parti.core.plugins import load
from parti.core.program import Program
from parti.core.trial import Job
from parti.evaluators.complexity import complexity
from parti.evaluators.inherited import InheritedWeights
from parti.evaluators.latency import Latency
from parti.evaluators.recipe import Recipe, default_recipe
from parti.evaluators.trained import predict, train
from parti.recipes import RECIPES
from parti.spaces.mobile import mobile
from parti.supernets.share import Supernet
from parti.supernets.subnets import extract
from parti.tasks.classification import accuracy
from parti.tasks.splits import part_of
from parti.tasks.values import SearchData


def some_subnets(space: Program, count: int) -> list[Architecture]:
    """The smallest, the largest, and random ones in which all sizes occur.

    Each follows a size of its own, from 0 to 1: scales take options about there. Options drawn one
    by one would give networks of nearly the same size.
    """
    random, tree = Random(0), space.tree
    assert tree is not None

    def of_size(size: float) -> Architecture:
        def pick(choice):
            if not choice.ordered:
                return random.choice(choice.options)
            place = size * (len(choice.options) - 1) + random.uniform(-0.7, 0.7)
            return choice.options[min(max(round(place), 0), len(choice.options) - 1)]

        return tree.walk(pick)

    ends = [tree.walk(lambda c, place=place: c.options[place]) for place in (0, -1)]
    return [*ends, *(of_size(i / (count - 1)) for i in range(count))]


@dataclass(frozen=True)
class Subnet:
    architecture: Architecture
    accuracy: float
    latency_ms: float
    macs: int


def front(found: list[Subnet]) -> list[Subnet]:
    """Those that no other beats, fastest first."""
    kept: list[Subnet] = []
    for each in sorted(found, key=lambda one: (one.latency_ms, -one.accuracy)):
        if not kept or each.accuracy > kept[-1].accuracy:
            kept.append(each)
    return kept


def tuned(network: nn.Module, data: SearchData, recipe: Recipe, device: str) -> float:
    """Validation accuracy after training."""
    network = train(network, data, recipe, device=device)
    logits = predict(network, data.val_images, mean=data.mean, std=data.std, device=device)
    return accuracy(logits, torch.from_numpy(data.val_labels))


def main(argv: list[str]) -> list[tuple[str, float]]:
    parser = argparse.ArgumentParser(description="One training, many networks.")
    parser.add_argument("--quick", action="store_true", help="seconds: few images, few subnets")
    parser.add_argument("--images", type=int, default=42_500, help="at most, for training")
    parser.add_argument("--width", type=int, default=16, help="of the space")
    parser.add_argument("--minutes", type=float, default=60.0, help="for the supernet")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--subnets", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5, help="of short fine-tuning")
    parser.add_argument("--recipe", default="once-for-all", help="or bignas, single-path")
    parser.add_argument("--lr", type=float, default=0.08, help="for the supernet, batches of 64")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(argv)
    try:
        data = cifar10(200 if options.quick else 2000)
    except InvalidData as error:
        print(f"left out: {error}")
        return []
    data = part_of(data, options.images, len(data.val_labels), seed=0)
    space, batch = mobile(3, 10, 32, width=options.width), 64
    if options.quick:
        options.minutes, options.subnets, options.epochs = 0.02, 4, 1
        space, batch = mobile(3, 10, 32, width=8, blocks=(1, 2), expansions=(2, 3)), 8
    recipe = load("recipe", options.recipe, RECIPES)
    training = replace(recipe.training, batch_size=batch, lr=options.lr * batch / 64, crop=4)
    seen, recipe = fitted(
        space, data, replace(recipe, training=training), 60 * options.minutes, options.device
    )
    results = []
    for seed in range(options.seeds):
        held, seconds = trained(space, seen, recipe, seed, options.device)
        print(
            f"seed {seed}: {recipe.name}, {recipe.training.epochs} epochs of "
            f"{len(seen.train_labels)} images in {seconds / 60:.1f} minutes"
        )
        results += report(space, seen, held.supernet, options)
    return results


def report(
    space: Program, data: SearchData, shared: Supernet, options: argparse.Namespace
) -> list[tuple[str, float]]:
    """Measure subnets, and train some further."""
    evaluator = InheritedWeights(space, data, lambda: shared, device=options.device)
    timed = Latency(space, data.input_shape)
    found = []
    for architecture in some_subnets(space, options.subnets):
        job = Job(architecture)
        (measured,), (speed,) = evaluator(job), timed(job)
        macs = complexity(space.build(architecture), data.input_shape).macs
        accuracy_, latency = measured.metrics["val_accuracy"], speed.metrics["latency_ms"]
        found.append(Subnet(architecture, accuracy_, latency, macs))
    best = front(found)
    print(f"{len(found)} subnets, {len(best)} on the front of accuracy and latency")
    print_table(
        ("latency ms", "million MACs", "accuracy %"),
        [(f"{s.latency_ms:.3f}", f"{s.macs / 1e6:.1f}", f"{100 * s.accuracy:.2f}") for s in best],
    )
    rows = []
    recipe = replace(default_recipe(data, options.epochs), lr=1e-3)
    fresh_recipe = default_recipe(data, options.epochs)
    shared.to("cpu")
    for subnet in (best[0], best[len(best) // 2], best[-1]):
        further = tuned(extract(shared, subnet.architecture), data, recipe, options.device)
        fresh = tuned(space.build(subnet.architecture), data, fresh_recipe, options.device)
        accuracies = (subnet.accuracy, further, fresh)
        rows.append(
            (f"{subnet.latency_ms:.3f}", *(f"{100 * accuracy_:.2f}" for accuracy_ in accuracies))
        )
    print_table(
        (
            "latency ms",
            "inherited %",
            f"+ {options.epochs} epochs %",
            f"{options.epochs} epochs from scratch %",
        ),
        rows,
    )
    print(timed.conditions)
    return [(f"{subnet.latency_ms:.3f} ms", subnet.accuracy) for subnet in best]


if __name__ == "__main__":
    main(sys.argv[1:])
