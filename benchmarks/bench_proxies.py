"""Training-free proxies on NAS-Bench-201: how they rank random cells, and what each costs.

    python -m benchmarks.bench_proxies --cells 1000
    python -m benchmarks.bench_proxies --cells 20 --floor --fast 8 32 32x8

Cells are drawn from the 9,445 without dead operations, for which scores of others are known. They
are scored on one batch of CIFAR-10 training images, with networks as parti builds them, or, with
`--torch`, with weights as torch draws them. Printed are Spearman's correlation with test accuracy
on CIFAR-10 (mean over runs of 200 epochs): ours, what is known over all 9,445 cells, and of the
others' scores on the very cells drawn; the correlation of our scores with theirs, cell by cell; and
milliseconds for one network, alone, on one core.

Beside the time of the fast trio (NASWOT, Jacobian, MACs) stands what it cannot be below: one
forward pass, and one back to the images with as many multiply-accumulates and at least as many
bytes. That is given as this core's arithmetic and memory allow it (`evaluators.theory.roofline`),
and as torch's own operations take it. With `--floor` only these times are printed.

`--fast` names the batches that the trio is timed on, and tried on all cells: so many images, and
how many pixels a side they are shrunk to.

Times are of the processor, not of the clock, and the least of several calls, for other processes
may run beside; caches that they share are still felt.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.tables import print_table
from parti.core.architecture import Architecture, Option
from parti.core.protocols import Builder
from parti.core.trial import Job
from parti.evaluators.complexity import complexity
from parti.evaluators.theory.roofline import measured_machine, roofline
from parti.evaluators.training_free import TrainingFree, metric_name
from parti.proxies.catalogue import PROXIES
from parti.proxies.ranks import log_rank_sum, rank_mean
from parti.proxies.scoring import load_proxies
from parti.proxies.trust import trust
from parti.spaces.nasbench201 import from_string, nasbench201
from parti.tables.parquet import read_columns

SHARED = Path(__file__).parents[2] / "shared/data"

KNOWN = {
    "naswot": 0.81,
    "params": 0.80,
    "jacov": 0.80,
    "synflow": 0.78,
    "epe_nas": 0.77,
    "macs": 0.77,
    "l2_norm": 0.75,
    "snip": 0.60,
    "grad_norm": 0.60,
}
"""Spearman's correlation over the 9,445 cells, of the scores of NAS-Bench-Suite-Zero."""

AGGREGATE = ("macs", "naswot", "jacov", "synflow")
KNOWN_AGGREGATE = 0.90
AZ_NAS = ("az_expressivity", "az_progressivity", "az_trainability", "macs")
FAST = ("macs", "naswot", "jacov")
THEIR_NAMES = {"naswot": "nwot"}

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
TIMED = 8
"""Cells that times are taken on."""
TRIES = 4


def read_batch(size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random CIFAR-10 training images, normalised, and their labels."""
    file = SHARED / "cifar10_jpeg/cifar10_jpeg.parquet"
    found = read_columns(file, ["split", "label", "jpeg"])
    train = np.flatnonzero(found["split"] == "train")
    picks = np.random.default_rng(seed).choice(train, size, replace=False)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(found["jpeg"][i]))) for i in picks])
    images = (torch.from_numpy(pixels).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    labels = torch.from_numpy(found["label"][picks].astype(np.int64))
    return images.permute(0, 3, 1, 2).contiguous(), labels


@dataclass(frozen=True, slots=True)
class Small:
    """A part of a batch.

    Args:
        images: how many.
        pixels: a side, to which they are shrunk by averaging.
    """

    images: int
    pixels: int = 32

    @classmethod
    def parse(cls, text: str) -> Small:
        """Read `32`, or `32x8` for 32 images of 8 pixels a side."""
        return cls(*map(int, text.split("x")))

    def __str__(self) -> str:
        return f"{self.images}x{self.pixels}" if self.pixels < 32 else str(self.images)

    def of(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = (part[: self.images] for part in batch)
        if self.pixels < images.shape[-1]:
            images = F.interpolate(images, size=(self.pixels, self.pixels), mode="area")
        return images, labels


class Cells:
    """Random cells with what is known of them."""

    def __init__(self, count: int, seed: int) -> None:
        folder = SHARED / "nasbench201"
        scores = read_columns(folder / "zero_cost_proxies.parquet", ["index", "dataset"])
        mine = np.flatnonzero(scores["dataset"] == "cifar10")
        rows = np.random.default_rng(seed).permutation(mine)[:count]
        table = read_columns(
            folder / "nb201.parquet", ["arch", "cifar10_test", "params_m", "flops_m_cifar10"]
        )
        places = scores["index"][rows].astype(int)
        self.architectures = [from_string(table["arch"][i]) for i in places]
        self.accuracy = table["cifar10_test"][places].astype(float)
        self.theirs = {
            "params": table["params_m"][places].astype(float),
            "macs": table["flops_m_cifar10"][places].astype(float),
        }
        for name in PROXIES:
            column = THEIR_NAMES.get(name, name)
            try:
                found = read_columns(folder / "zero_cost_proxies.parquet", [column])[column]
            except Exception:  # noqa: BLE001  # not among those of others
                continue
            values = found[rows].astype(float)
            self.theirs[name] = np.where(values > -1e8, values, np.nan)


class TorchWeights:
    """Networks whose weights are drawn as torch does by default, like those others have scored."""

    def build(self, architecture: Mapping[str, Option]) -> nn.Module:
        network: nn.Module = nasbench201.build(architecture)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
        return network


def score_all(
    cells: Cells,
    names: Sequence[str],
    batch: tuple[Tensor, Tensor],
    space: Builder = nasbench201,
) -> dict[str, np.ndarray]:
    evaluator = TrainingFree(space, batch, names, device="cpu", threads=1)
    rows = []
    for number, architecture in enumerate(cells.architectures):
        (measured,) = evaluator(Job(architecture, seed=number))
        rows.append([measured.metrics.get(metric_name(name), np.nan) for name in names])
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {len(cells.architectures)}", end="", file=sys.stderr)
    return dict(zip(names, np.array(rows).T, strict=True))


def correlation(scores: np.ndarray, truth: np.ndarray, goal: str = "max") -> float:
    worst = np.where(np.isnan(scores), -np.inf if goal == "max" else np.inf, scores)
    return trust("", worst, truth, goal=goal).spearman


def milliseconds(call: Callable[[Architecture], object], cells: Cells) -> float:
    """The mean over cells of the least processor time of several calls."""
    times = []
    for architecture in cells.architectures[:TIMED]:
        tries = []
        for _ in range(TRIES):
            began = time.process_time()
            call(architecture)
            tries.append(time.process_time() - began)
        times.append(min(tries))
    return statistics.mean(times) * 1e3


def time_proxies(cells: Cells, names: Sequence[str], batch: tuple[Tensor, Tensor]) -> float:
    evaluator = TrainingFree(nasbench201, batch, names, device="cpu", threads=1)
    return milliseconds(lambda architecture: list(evaluator(Job(architecture))), cells)


def time_passes(cells: Cells, images: Tensor) -> tuple[float, float]:
    """Building a network, and a forward pass with the pass back to the images."""
    networks: dict[Architecture, nn.Module] = {}

    def build(architecture: Architecture) -> None:
        networks[architecture] = nasbench201.build(architecture).requires_grad_(False)

    def passes(architecture: Architecture) -> None:
        x = images.contiguous(memory_format=torch.channels_last).requires_grad_(True)
        torch.autograd.grad(networks[architecture](x).sum(), x)

    return milliseconds(build, cells), milliseconds(passes, cells)


def print_floor(cells: Cells, batch: tuple[Tensor, Tensor], sizes: Sequence[Small]) -> None:
    machine = measured_machine()
    bandwidth = machine.bandwidth(math.inf)  # of memory, not of a cache
    print(
        f"\nNASWOT, Jacobian and MACs together: milliseconds, {machine.flops / 1e9:.0f} GFLOP/s, "
        f"{bandwidth / 1e9:.1f} GB/s"
    )
    rows = []
    for size in sizes:
        small, shape = size.of(batch), (3, size.pixels, size.pixels)
        bounds = [
            roofline(complexity(nasbench201.build(architecture), shape), machine)
            for architecture in cells.architectures[:TIMED]
        ]
        both = 2 * size.images  # forward, and back with at least as much
        flops = both * statistics.mean(bound.flops for bound in bounds)
        moved = both * statistics.mean(bound.bytes for bound in bounds)
        build, passes = time_passes(cells, small[0])
        rows.append(
            (
                str(size),
                f"{flops / 1e9:.2f}",
                f"{moved / 1e6:.0f}",
                f"{flops / machine.flops * 1e3:.1f}",
                f"{moved / bandwidth * 1e3:.1f}",
                f"{build:.1f}",
                f"{passes:.1f}",
                f"{time_proxies(cells, FAST, small):.1f}",
            )
        )
    head = ("batch", "GFLOP", "MB", "arithmetic", "memory", "building", "passes", "all three")
    print_table(head, rows)


def print_quality(cells: Cells, scores: dict[str, np.ndarray]) -> list[tuple[str, float]]:
    goals = {name: proxy.goal for name, proxy in load_proxies(scores).items()}
    found = {name: correlation(scores[name], cells.accuracy, goals[name]) for name in scores}
    rows = []
    for name in sorted(scores, key=lambda n: -found[n]):
        theirs = cells.theirs.get(name)
        rows.append(
            (
                name,
                f"{found[name]:.3f}",
                f"{KNOWN[name]:.2f}" if name in KNOWN else "",
                f"{correlation(theirs, cells.accuracy):.3f}" if theirs is not None else "",
                f"{correlation(scores[name], theirs):.3f}" if theirs is not None else "",
                str(int(np.isnan(scores[name]).sum())),
            )
        )
    combined: dict[str, float] = {}
    if set(AGGREGATE) <= set(scores):
        ranked = rank_mean({name: scores[name] for name in AGGREGATE})
        combined["rank aggregate"] = correlation(ranked, cells.accuracy)
    if set(AZ_NAS) <= set(scores):
        ranked = log_rank_sum({name: scores[name] for name in AZ_NAS})
        combined["AZ-NAS"] = correlation(ranked, cells.accuracy)
    for name, value in combined.items():
        known = f"{KNOWN_AGGREGATE:.2f}" if name == "rank aggregate" else ""
        rows.append((name, f"{value:.3f}", known, "", "", ""))
    print_table(("proxy", "Spearman", "known", "theirs", "agree", "undefined"), rows)
    return [*found.items(), *combined.items()]


def print_fast(
    cells: Cells, batch: tuple[Tensor, Tensor], sizes: Sequence[Small], space: Builder
) -> None:
    print("\nWhat they say on smaller batches and images")
    rows = []
    for size in sizes:
        scores = score_all(cells, FAST, size.of(batch), space)
        found = [f"{correlation(scores[name], cells.accuracy):.3f}" for name in FAST]
        rows.append((str(size), *found))
    print_table(("batch", *FAST), rows)


def main(argv: list[str]) -> list[tuple[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64, help="images that scores are computed on")
    parser.add_argument(
        "--proxies", nargs="+", default=list(KNOWN), help="their names, or 'all'; fast ones first"
    )
    parser.add_argument(
        "--fast",
        type=Small.parse,
        nargs="*",
        default=[Small(8), Small(16, 16), Small(32, 8), Small(64, 8)],
        help="batches to try the trio with: images, or imagesxpixels",
    )
    parser.add_argument("--floor", action="store_true", help="only the trio's times and floor")
    parser.add_argument("--torch", action="store_true", help="weights as torch draws by default")
    options = parser.parse_args(argv)
    names = list(PROXIES) if options.proxies == ["all"] else options.proxies
    torch.set_num_threads(1)
    cells = Cells(options.cells, options.seed)
    most = max([options.batch, *(size.images for size in options.fast)])
    batch = read_batch(most, options.seed)
    main_batch = batch[0][: options.batch], batch[1][: options.batch]
    if options.floor:
        print_floor(cells, batch, options.fast)
        return []
    print(f"{len(cells.architectures)} cells, batch {options.batch}, one core, float32")
    space: Builder = TorchWeights() if options.torch else nasbench201
    scores = score_all(cells, names, main_batch, space)
    found = print_quality(cells, scores)
    print("\nMilliseconds for a network, each proxy alone, with building the network")
    times = [(name, f"{time_proxies(cells, [name], main_batch):.0f}") for name in names]
    print_table(("proxy", "ms"), times)
    if options.fast:
        print_floor(cells, batch, options.fast)
        print_fast(cells, batch, options.fast, space)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
