"""Weight sharing on the space of NAS-Bench-201 with CIFAR-10: what recipes derive, how they rank.

Each recipe trains a supernet for some minutes, of one core where there is no GPU. Then, from the
table: the test accuracy (200 epochs, mean of runs) of the architecture that it derives, and of the
best of random cells by inherited accuracy; and Kendall's correlation of inherited with true
accuracies over these cells, over all and over the best quarter. Beside them random search: as many
trainings of 12 epochs as would fit into the same minutes, judged by the table's validation accuracy
after 12 epochs.

Weights are trained as in the NAS-Bench-201 paper by all recipes: SGD, learning rate 0.025 along a
cosine, batches of 64, weight decay 5e-4, gradients clipped to 5, mirrored and shifted images.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from random import Random

from benchmarks.nats_protocol import SEARCHED, TABLES
from benchmarks.supernet_budget import cifar10, fitted, seconds_of_training, trained
from benchmarks.tables import print_table
from parti.core.architecture import Architecture
from parti.core.errors import InvalidData
from parti.core.plugins import load
from parti.core.trial import Job
from parti.core.walks import sample
from parti.evaluators.inherited import InheritedWeights
from parti.evaluators.recipe import Recipe
from parti.recipes import RECIPES
from parti.recipes.agreement import rank_correlation
from parti.spaces.nasbench201 import nasbench201
from parti.supernets.derive import derive
from parti.tables import load_problem

WEIGHTS = Recipe(
    batch_size=64,
    lr=0.025,
    schedule="cosine",
    warmup=0.0,
    weight_decay=5e-4,
    clip_norm=5.0,
    flip=True,
    crop=4,
)

NAMES = "darts,gdas,pc-darts,drnas,enas,random-sampling,single-path,fairnas"


def random_search(count: int, seed: int) -> float:
    """Test accuracy of the best of some random cells."""
    searched = load_problem(SEARCHED, TABLES)
    random = Random(f"random search/{seed}")
    evaluator = searched.evaluator(seed=seed)
    metric = searched.objectives[0].metric

    def seen(cell: Architecture) -> float:
        (measurement,) = evaluator(Job(cell))
        return measurement.metrics[metric]

    cells = [sample(searched.space, random) for _ in range(count)]
    return load_problem("nasbench201/cifar10", TABLES).truth(max(cells, key=seen))


def main(argv: list[str]) -> list[tuple[str, float]]:
    parser = argparse.ArgumentParser(description="Weight sharing against a table.")
    parser.add_argument("--quick", action="store_true", help="seconds: small networks, few cells")
    parser.add_argument("--minutes", type=float, default=30.0, help="for each supernet")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--recipes", default=NAMES)
    parser.add_argument("--cells", type=int, default=200, help="that are ranked")
    parser.add_argument("--val", type=int, default=1000, help="images that rank them")
    parser.add_argument("--channels", type=int, default=16, help="the table has 16")
    parser.add_argument(
        "--stacked", type=int, default=5, help="cells in each stage; the table has 5"
    )
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(argv)
    if options.quick:
        options.minutes, options.cells, options.channels, options.stacked = 0.02, 4, 4, 1
    try:
        problem = load_problem("nasbench201/cifar10", TABLES)
        data = cifar10(200 if options.quick else options.val)
    except InvalidData as error:
        print(f"left out: {error}")
        return []
    space = nasbench201(3, 10, 32, channels=options.channels, cells=options.stacked)
    random, seconds = Random("cells"), 60 * options.minutes
    cells = [sample(space, random) for _ in range(options.cells)]
    truths = [problem.truth(cell) for cell in cells]
    rows, means = [], []
    for name in options.recipes.split(","):
        recipe = load("recipe", name, RECIPES)
        recipe = replace(recipe, training=WEIGHTS)
        seen, recipe = fitted(space, data, recipe, seconds, options.device)
        derived, picked, agreements, took = [], [], [], []
        for seed in range(options.seeds):
            found, time = trained(space, seen, recipe, seed, options.device)
            evaluator = InheritedWeights(
                space, seen, lambda found=found: found.supernet, device=options.device
            )
            measured = [next(iter(evaluator(Job(cell)))).metrics["val_accuracy"] for cell in cells]
            picked.append(truths[measured.index(max(measured))])
            if found.probabilities:
                (best,) = derive(space, found.probabilities)
                derived.append(problem.truth(best))
            agreements.append(rank_correlation(list(zip(measured, truths, strict=True))))
            took.append(time)
        means.append((name, statistics.mean(derived or picked)))
        rows.append(
            (
                name,
                f"{statistics.mean(took) / 60:.1f}",
                f"{recipe.training.epochs}",
                f"{len(seen.train_labels)}",
                " ".join(f"{value:.2f}" for value in derived) or "-",
                " ".join(f"{value:.2f}" for value in picked),
                f"{statistics.mean(a.all for a in agreements):.2f}",
                f"{statistics.mean(a.best for a in agreements):.2f}",
            )
        )
        print(*rows[-1], sep=", ", file=sys.stderr, flush=True)
    once = seconds_of_training(space, data, replace(WEIGHTS, epochs=12), cells[0], options.device)
    count = max(1, int(seconds / once))
    beside = [random_search(count, seed) for seed in range(options.seeds)]
    rows.append(
        (
            f"random search ({count} trained)",
            f"{options.minutes:.1f}",
            "12",
            f"{len(data.train_labels)}",
            "-",
            " ".join(f"{value:.2f}" for value in beside),
            "",
            "",
        )
    )
    means.append(("random search", statistics.mean(beside)))
    print_table(
        ("recipe", "minutes", "epochs", "images", "derived %", "picked %", "tau", "tau of best"),
        rows,
    )
    print(f"best of the table: {problem.best:.2f} %; mean of {len(cells)} cells: ", end="")
    print(f"{statistics.mean(truths):.2f} %")
    return means


if __name__ == "__main__":
    main(sys.argv[1:])
