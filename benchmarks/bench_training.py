"""Speed of the training evaluator against a plain PyTorch loop that does the same work.

Both train the same network on the same images with the same batch, optimizer and schedule, without
augmentation, and look at the validation images after every epoch. The plain loop is made as quick
as a plain loop can be: all images lie in memory as normalised floats, and it is timed both in
torch's default order of memory and channels-last. The three take turns, epoch by epoch, so that
whatever else the machine does falls on all of them; the first epoch is not counted. A ratio is the
median, over the turns, of parti's images per second over those of the loop: once by the clock, and
once by the processor time of this process, which other work on the machine disturbs less. The
latter is the one that must reach 0.95.

    python benchmarks/bench_training.py [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parti.core.architecture import Architecture
from parti.core.trial import Job
from parti.evaluators.recipe import Recipe, learning_rate
from parti.evaluators.training import Training
from parti.tasks.images import SearchData

REQUIRED = 0.95


@dataclass(frozen=True)
class Case:
    name: str
    images: int
    side: int
    channels: int
    batch_size: int


CASES = (
    Case("digits, 8x8 grey", 1280, 8, 1, 64),
    Case("CIFAR-like, 32x32 colour", 1024, 32, 3, 128),
)


class Networks:
    """A space of one network: four convolutions, 50,000 weights."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def build(self, architecture: Architecture) -> nn.Module:
        layers: list[nn.Module] = []
        width = self.channels
        for i, wider in enumerate((28, 28, 56, 56)):
            layers += [
                nn.Conv2d(width, wider, 3, padding=1, bias=False),
                nn.BatchNorm2d(wider),
                nn.ReLU(),
            ]
            width = wider
            if i % 2:
                layers.append(nn.MaxPool2d(2))
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def make_data(case: Case) -> SearchData:
    rng = np.random.default_rng(0)
    shape = (case.side, case.side, case.channels)
    validation = case.images // 5
    return SearchData(
        train_images=rng.integers(0, 256, (case.images, *shape), dtype=np.uint8),
        train_labels=rng.integers(0, 10, case.images),
        val_images=rng.integers(0, 256, (validation, *shape), dtype=np.uint8),
        val_labels=np.arange(validation) % 10,
        classes=tuple("0123456789"),
        mean=(127.5,) * case.channels,
        std=(73.9,) * case.channels,
        value_range=(0.0, 255.0),
        name=case.name,
    )


@dataclass(frozen=True)
class Moment:
    clock: float
    processor: float

    @classmethod
    def now(cls) -> Moment:
        return cls(time.perf_counter(), time.process_time())

    def until_now(self) -> Moment:
        now = Moment.now()
        return Moment(now.clock - self.clock, now.processor - self.processor)


def plain_loop(
    data: SearchData, recipe: Recipe, layout: torch.memory_format, threads: int
) -> Iterator[Moment]:
    """Train as a script would, and yield the time of every epoch."""

    def ready(images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        return ((pixels - data.mean[0]) / data.std[0]).contiguous(memory_format=layout)

    images, labels = ready(data.train_images), torch.from_numpy(data.train_labels)
    val_images, val_labels = ready(data.val_images), torch.from_numpy(data.val_labels)
    torch.manual_seed(0)
    network = Networks(images.shape[1]).build(Architecture()).to(memory_format=layout)
    optimizer = torch.optim.SGD(
        network.parameters(),
        recipe.lr,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    per_epoch = len(images) // recipe.batch_size
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate(recipe, step, recipe.epochs * per_epoch + 1) / recipe.lr,
    )
    for _ in range(recipe.epochs):
        torch.set_num_threads(threads)
        began = Moment.now()
        network.train()
        total = 0.0
        for picks in torch.randperm(len(images))[: per_epoch * recipe.batch_size].split(
            recipe.batch_size
        ):
            loss = F.cross_entropy(network(images[picks]), labels[picks])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        network.eval()
        with torch.no_grad():
            logits = network(val_images)
            F.cross_entropy(logits, val_labels).item()
            (logits.argmax(1) == val_labels).float().mean().item()
        yield began.until_now()


def parti_loop(data: SearchData, recipe: Recipe, threads: int) -> Iterator[Moment]:
    """Train through parti, and yield the time of every epoch."""
    channels = data.train_images.shape[3]
    training = Training(Networks(channels), data, recipe, device="cpu", threads=threads)
    running = training(Job(Architecture()))
    while True:
        began = Moment.now()
        if next(running, None) is None:
            return
        yield began.until_now()


def measure(case: Case, turns: int, threads: int) -> list[dict[str, object]]:
    data = make_data(case)
    recipe = Recipe(epochs=turns + 2, batch_size=case.batch_size, lr=0.05)
    loops = {
        "parti": parti_loop(data, recipe, threads),
        "plain": plain_loop(data, recipe, torch.contiguous_format, threads),
        "plain, channels-last": plain_loop(data, recipe, torch.channels_last, threads),
    }
    for loop in loops.values():
        next(loop)
    times: dict[str, list[Moment]] = {name: [] for name in loops}
    for _ in range(turns):
        for name, loop in loops.items():
            times[name].append(next(loop))

    def ratio(name: str, which: str) -> float:
        pairs = zip(times["parti"], times[name], strict=True)
        return statistics.median(getattr(o, which) / getattr(m, which) for m, o in pairs)

    return [
        {
            "case": case.name,
            "loop": name,
            "batch_size": case.batch_size,
            "threads": threads,
            "turns": turns,
            "images_per_second": case.images / statistics.median(m.clock for m in times[name]),
            "clock_ratio": ratio(name, "clock"),
            "processor_ratio": ratio(name, "processor"),
        }
        for name in loops
    ]


def main(argv: Sequence[str] | None = None) -> list[dict[str, object]]:
    """Measure, print a table, and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    options = parser.parse_args(argv)
    before = torch.get_num_threads()
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, CPU")
    print(
        f"{'case':26}{'loop':22}{'batch':>6}{'threads':>8}{'images/s':>10}"
        f"{'by clock':>10}{'by processor':>14}"
    )
    rows: list[dict[str, object]] = []
    try:
        for case in CASES:
            small = case.side < 16
            turns = (15 if small else 5) if options.quick else (60 if small else 15)
            for row in measure(case, turns, options.threads):
                rows.append(row)
                print(
                    f"{row['case']:26}{row['loop']:22}{row['batch_size']:>6}{row['threads']:>8}"
                    f"{row['images_per_second']:>10.0f}{row['clock_ratio']:>10.2f}"
                    f"{row['processor_ratio']:>14.2f}",
                    flush=True,
                )
    finally:
        torch.set_num_threads(before)
    worst = min(float(str(row["processor_ratio"])) for row in rows if row["loop"] != "parti")
    print(f"lowest ratio {worst:.2f}, required {REQUIRED}: {'ok' if worst >= REQUIRED else 'SLOW'}")
    return rows


if __name__ == "__main__":
    main()
