"""How robust one network is: its accuracy on corrupted and on attacked images, as one value."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from parti.core.errors import InvalidSettings
from parti.evaluators.feed import as_tensor
from parti.evaluators.machine import arranged, derive, isolated, machine_for, place
from parti.evaluators.recipe import Recipe
from parti.evaluators.robustness.attacks import fgsm, pgd
from parti.evaluators.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt, strength
from parti.evaluators.trained import predict
from parti.tasks.classification import accuracy
from parti.tasks.splits import part_of

if TYPE_CHECKING:
    from parti.tasks.values import SearchData, TestData

__all__ = [
    "LIGHT",
    "Gallery",
    "Robustness",
    "RobustnessPlan",
    "affordable",
    "attacked",
    "corrupted",
    "robustness",
]

ATTACKED_AT_ONCE = 128
"""So many images are attacked together."""

FEWEST = 100
"""Accuracies of fewer images say little: at 100, the 95 % interval of 80 % is 71 to 87 %."""

KEPT_BYTES = 2**28
"""Corrupted images are kept for the next network when they take no more than this."""

PRECISE = Recipe(precision="float32", compile=False)


@dataclass(frozen=True, slots=True)
class RobustnessPlan:
    """How much is tried.

    Args:
        images: how many are looked at, drawn with each class in proportion; all when there are
            fewer.
        corruptions: their names.
        severities: from 1 to 5.
        eps: the largest change of a pixel by an attack, in 1/255 of the value range, ascending.
        steps: of PGD.
        restarts: of PGD.
        seed: of the draw, the noise and the starts.

    Raises:
        InvalidSettings: a value is not allowed.
    """

    images: int = 1_000
    corruptions: tuple[str, ...] = CORRUPTIONS
    severities: tuple[int, ...] = SEVERITIES
    eps: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    steps: int = 20
    restarts: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("images", "steps", "restarts"):
            if getattr(self, name) < 1:
                raise InvalidSettings(f"{name}={getattr(self, name)}, but at least 1 is needed")
        if not self.corruptions or not self.severities:
            raise InvalidSettings("a plan needs at least one corruption and one severity")
        for kind in self.corruptions:
            for severity in self.severities:
                strength(kind, severity, 32)
        finite = all(math.isfinite(one) and one > 0 for one in self.eps)
        if not self.eps or not finite or list(self.eps) != sorted(set(self.eps)):
            raise InvalidSettings(
                f"eps={self.eps}: at least one is needed, each more than 0 and than the one before"
            )

    @property
    def passes(self) -> int:
        """How many passes through the network an image takes at most, forward or backward."""
        attacks = 3 + self.restarts * (2 * self.steps + 1)
        return 1 + len(self.corruptions) * len(self.severities) + len(self.eps) * attacks


LIGHT = RobustnessPlan(severities=(1, 3, 5), steps=10, restarts=1)
"""A plan that takes a third of the passes of the default."""


def affordable(macs: float, most: float = 1e12) -> RobustnessPlan | None:
    """Choose a plan that costs no more than so many multiply-accumulates.

    Args:
        macs: of one forward pass of the network, for one image.
        most: what all passes together may take. A CPU core did 1e10 to 2e10 in a second in our
            measurements, so that the default is a minute or two; attacks that succeed early
            take less.

    Returns:
        The default plan or `LIGHT`, with as many images as can be afforded; None when these would
        be fewer than 100, which say little.
    """
    for plan in (RobustnessPlan(), LIGHT):
        images = int(most / (plan.passes * max(1.0, macs)))
        if images >= FEWEST:
            return replace(plan, images=min(plan.images, images))
    return None


@dataclass(frozen=True, slots=True)
class Robustness:
    """What a network makes of worse images.

    Args:
        n: how many images each accuracy was measured on.
        split: which images: "validation" or "test".
        accuracy: on the same images, unchanged.
        corruptions: accuracy by corruption, in the order of the plan's severities.
        fgsm: accuracy under FGSM, in the order of the plan's eps.
        pgd: likewise under PGD.
        plan: how much was tried.
        seconds: what it took.
    """

    n: int
    split: Literal["validation", "test"]
    accuracy: float
    corruptions: Mapping[str, tuple[float, ...]]
    fgsm: tuple[float, ...]
    pgd: tuple[float, ...]
    plan: RobustnessPlan
    seconds: float

    @property
    def corrupted_accuracy(self) -> float:
        """The mean over corruptions and severities."""
        return fmean(value for row in self.corruptions.values() for value in row)

    @property
    def conditions(self) -> str:
        """Under what conditions the numbers hold, in a sentence."""
        eps = ", ".join(f"{one:g}" for one in self.plan.eps)
        severities = ", ".join(map(str, self.plan.severities))
        return (
            f"{self.n} {self.split} images, each class in proportion (seed {self.plan.seed}); "
            f"corruptions after Hendrycks and Dietterich (2019), severities {severities}; attacks "
            f"on raw pixels, each changed by at most eps = {eps} of 255, PGD with "
            f"{self.plan.steps} steps from {self.plan.restarts} random start(s); images that are "
            "wrong without an attack count as wrong"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "n": self.n,
            "split": self.split,
            "accuracy": self.accuracy,
            "severities": list(self.plan.severities),
            "corruptions": {kind: list(row) for kind, row in self.corruptions.items()},
            "corrupted_accuracy": self.corrupted_accuracy,
            "eps": list(self.plan.eps),
            "fgsm": list(self.fgsm),
            "fgsm_accuracy": fmean(self.fgsm),
            "pgd": list(self.pgd),
            "pgd_accuracy": fmean(self.pgd),
            "conditions": self.conditions,
            "seconds": self.seconds,
        }


class Gallery:
    """The images that networks are tried on, and their corrupted copies.

    Args:
        data: its validation images are drawn from.
        plan: how many, and how they are corrupted.
        test: draw from these instead, for the report on a final model.
    """

    def __init__(
        self, data: SearchData, plan: RobustnessPlan, test: TestData | None = None
    ) -> None:
        images = data.val_images if test is None else test.images
        labels = data.val_labels if test is None else test.labels
        count = max(plan.images, data.class_count)
        if count < len(labels):
            source = replace(
                data, train_images=images, train_labels=labels, val_images=images, val_labels=labels
            )
            part = part_of(source, data.class_count, count, seed=plan.seed)
            images, labels = part.val_images, part.val_labels
        self.images, self.labels = np.asarray(images), as_tensor(labels).long()
        self.value_range = data.value_range
        self.mean, self.std = data.mean, data.std
        self.plan = plan
        copies = len(plan.corruptions) * len(plan.severities)
        self._keep = copies * self.images.nbytes <= KEPT_BYTES
        self._kept: dict[tuple[str, int], np.ndarray[Any, Any]] = {}

    def corrupted(self, kind: str, severity: int) -> np.ndarray[Any, Any]:
        """Return the images, corrupted: (n, height, width, channels)."""
        found = self._kept.get((kind, severity))
        if found is None:
            found = corrupt(
                self.images, kind, severity, value_range=self.value_range, seed=self.plan.seed
            )
            if self._keep:
                self._kept[kind, severity] = found
        return found


def robustness(
    network: nn.Module,
    data: SearchData,
    plan: RobustnessPlan | None = None,
    *,
    test: TestData | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Robustness:
    """Measure a trained network on corrupted and on attacked images.

    With the default plan each of 1,000 images is classified 55 times corrupted, and attacked at
    four strengths: `plan.passes`, some 400 passes an image, at most, for images that have been
    fooled are not attacked further. `affordable` finds a plan for large networks.

    Args:
        network: maps normalised [b, c, h, w] to [b, k]; left in evaluation mode on the CPU.
        data: gives normalisation, value range, classes, and the validation images.
        plan: how much is tried; None for `RobustnessPlan()`.
        test: measure on these images, not on those of the validation.
        device: a name that torch knows, or "auto".
        threads: of the CPU; None to leave them.

    Returns:
        All accuracies; the same arguments give the same ones.

    Raises:
        InvalidData: the images do not fit together.
        InvalidSettings: there is no such device here.
    """
    began = time.perf_counter()
    gallery = Gallery(data, plan or RobustnessPlan(), test)
    where: dict[str, Any] = {"device": device, "threads": threads}
    logits = predict(network, gallery.images, mean=gallery.mean, std=gallery.std, **where)
    return Robustness(
        n=len(gallery.labels),
        split="validation" if test is None else "test",
        accuracy=accuracy(logits, gallery.labels),
        corruptions=corrupted(network, gallery, **where),
        fgsm=attacked(network, gallery, "fgsm", **where),
        pgd=attacked(network, gallery, "pgd", **where),
        plan=gallery.plan,
        seconds=time.perf_counter() - began,
    )


def corrupted(
    network: nn.Module, gallery: Gallery, *, device: str = "auto", threads: int | None = None
) -> dict[str, tuple[float, ...]]:
    """Return the accuracy by corruption, in the order of the severities.

    Args:
        network: maps normalised [b, c, h, w] to [b, k]; left in evaluation mode on the CPU.
        gallery: what it looks at.
        device: a name that torch knows, or "auto".
        threads: of the CPU; None to leave them.
    """

    def measured(kind: str, severity: int) -> float:
        images = gallery.corrupted(kind, severity)
        logits = predict(
            network, images, mean=gallery.mean, std=gallery.std, device=device, threads=threads
        )
        return accuracy(logits, gallery.labels)

    plan = gallery.plan
    return {
        kind: tuple(measured(kind, severity) for severity in plan.severities)
        for kind in plan.corruptions
    }


def attacked(
    network: nn.Module,
    gallery: Gallery,
    attack: Literal["fgsm", "pgd"],
    *,
    device: str = "auto",
    threads: int | None = None,
) -> tuple[float, ...]:
    """Return the accuracy under an attack, in the order of the plan's eps.

    Images that are wrong without an attack count as wrong. What PGD has fooled with a smaller eps
    counts as fooled with a larger one, whose ball holds the same image.

    Args:
        network: maps normalised [b, c, h, w] to [b, k]; left in evaluation mode on the CPU.
        gallery: what it looks at.
        attack: which.
        device: a name that torch knows, or "auto".
        threads: of the CPU; None to leave them.
    """
    machine = machine_for(PRECISE, device, threads)
    held = np.zeros(len(gallery.plan.eps), dtype=np.int64)
    raw = as_tensor(gallery.images).permute(0, 3, 1, 2)
    shape = (1, len(gallery.mean), 1, 1)
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=machine.device).view(shape)
        for values in (gallery.mean, gallery.std)
    )
    network.eval()
    with isolated(machine, 0):
        first = (raw[:2].to(machine.device).float() - mean) / std
        layout = place(network, machine, first)

        def model(pixels: Tensor) -> Tensor:
            logits: Tensor = network(arranged((pixels - mean) / std, layout))
            return logits

        for start in range(0, len(raw), ATTACKED_AT_ONCE):
            some = slice(start, start + ATTACKED_AT_ONCE)
            images = raw[some].to(machine.device).float().contiguous()
            labels = gallery.labels[some].to(machine.device)
            held += _held(model, images, labels, attack, gallery, start)
    network.to("cpu")
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return tuple((held / len(raw)).tolist())


def _held(
    model: Any, images: Tensor, labels: Tensor, attack: str, gallery: Gallery, start: int
) -> np.ndarray[Any, Any]:
    """How many of some images the model still gets right, for each eps."""
    plan, limits = gallery.plan, gallery.value_range

    def right(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = model(pixels).argmax(1) == labels
            return found

    kept = right(images)
    images, labels = images[kept], labels[kept]
    counts = []
    for number, eps in enumerate(plan.eps):
        if not len(images):  # not every network takes an empty batch
            counts.append(0)
            continue
        if attack == "fgsm":
            stands = right(fgsm(model, images, labels, eps, value_range=limits))
        else:
            changed = pgd(
                model,
                images,
                labels,
                eps,
                steps=plan.steps,
                restarts=plan.restarts,
                value_range=limits,
                seed=derive(plan.seed, "pgd", start, number),
            )
            stands = right(changed)
            images, labels = images[stands], labels[stands]
        counts.append(int(stands.sum()))
    return np.array(counts)
