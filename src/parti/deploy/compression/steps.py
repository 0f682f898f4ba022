"""The steps of compression, each from one version of a model to the next."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from parti.core.study import Constraint
from parti.deploy.compression.distill import chosen_teachers, distill
from parti.deploy.compression.fold import fold
from parti.deploy.compression.int8 import quantize
from parti.deploy.compression.kept import Kept, identity, restored, snapshot
from parti.deploy.compression.prune import Metric, prune
from parti.deploy.compression.versions import Bench, Version, raw_images
from parti.evaluators.recipe import Recipe
from parti.evaluators.trained import train
from parti.tasks.splits import part_of

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["DOERS", "Made", "Work"]

TUNED_LR = 0.25
"""Share of the usual learning rate at which trained weights are tuned."""

TUNED_SHARE, DISTILLED_SHARE = 0.2, 0.5
"""Shares of the recipe's epochs: for tuning after each cut, for distillation."""

PRUNE_TIME, DISTILL_TIME = 0.55, 0.8
"""Shares of a time budget by which pruning, and distillation, must have ended."""

CUTS = 8
"""A time budget is planned for so many cuts."""

CALIBRATION = 256
"""Training images on which int8 is calibrated."""

Made = tuple[Version | None, dict[str, Any]]
"""What a step has made, None when it could not; and its details, then with `why` among them."""


@dataclass(frozen=True, slots=True)
class Work:
    """What all steps need.

    Args:
        data: images to tune and calibrate on, and to decide on.
        recipe: how the network was trained.
        source: that network.
        teachers: others to distill from.
        limits: on metrics of a version.
        floor: the least validation accuracy, from 0 to 1.
        bench: measures versions.
        kept: what an earlier call has done.
        began: when, by `time.perf_counter`.
        seconds: a budget of time; None for none.
        seed: of all that is random.
        device: where to train.
        threads: of the CPU, in training; None to leave them.
        watch: told of the course in lines.
    """

    data: SearchData
    recipe: Recipe
    source: nn.Module
    teachers: Sequence[nn.Module]
    limits: Sequence[Constraint]
    floor: float
    bench: Bench
    kept: Kept
    began: float
    seconds: float | None
    seed: int
    device: str
    threads: int | None
    watch: Callable[[str], None]

    def left(self, share: float) -> float | None:
        """Seconds until a share of the budget is spent; None without a budget."""
        if self.seconds is None:
            return None
        return self.seconds * share - (time.perf_counter() - self.began)

    def exported(self, name: str, network: nn.Module, before: Version) -> Version:
        """Export a network as float32 and measure it beside the version before."""
        return self.bench.version(name, self.bench.exported(name, network), network, before)


def _prune(before: Version, work: Work) -> Made:
    """Cut channels, and tune after each cut."""
    recipe = _tuning(work, before.network, TUNED_SHARE, work.left(PRUNE_TIME / CUTS))
    wanted = [c for c in work.limits if not c.allows(before.metrics[c.metric])]
    metric: Metric = "params" if any(c.metric in ("params", "bytes") for c in wanted) else "macs"
    name = f"prune-{metric}"  # a limit that was added since may ask for other cuts
    pruned = prune(
        before.network,
        work.data,
        recipe,
        floor=work.floor,
        metric=metric,
        seconds=work.left(PRUNE_TIME),
        seed=work.seed,
        device=work.device,
        threads=work.threads,
        load=lambda: work.kept.load(name),
        save=lambda state: work.kept.save(name, state),
        watch=work.watch,
    )
    details = {"epochs": recipe.epochs, "cuts": [asdict(cut) for cut in pruned.cuts]}
    if not any(cut.kept for cut in pruned.cuts):
        why = f"no cut of {len(pruned.cuts)} kept validation accuracy {work.floor:.4f}"
        why = why if pruned.cuts else "no time was left for a cut"
        return None, {**details, "why": why}
    return work.exported("prune", pruned.network, before), details


def _distill(before: Version, work: Work) -> Made:
    """Train on what the source answers, with other networks where they help."""
    teachers, right = chosen_teachers(
        work.source, work.teachers, work.data, device=work.device, threads=work.threads
    )
    recipe = _tuning(work, before.network, DISTILLED_SHARE, work.left(DISTILL_TIME))
    details = {
        "epochs": recipe.epochs,
        "teachers": len(teachers),
        "teachers_val_accuracy": right,
    }
    student = copy.deepcopy(before.network)
    name = f"distill-{identity(student)}"
    if (state := work.kept.load(name)) is not None:
        student = restored(student, state["network"]).eval()
    else:
        student = distill(
            student,
            [copy.deepcopy(teacher) for teacher in teachers],
            work.data,
            recipe,
            seed=work.seed,
            device=work.device,
            threads=work.threads,
        )
        work.kept.save(name, {"network": snapshot(student)})
    return work.exported("distill", student, before), details


def _fold(before: Version, work: Work) -> Made:
    """Fold batch norms, and remove what does nothing."""
    folded = fold(before.network, work.data.input_shape)
    details = {
        "norms": folded.norms,
        "removed": folded.removed,
        "difference": folded.difference,
    }
    return work.exported("fold", folded.network, before), details


def _int8(before: Version, work: Work) -> Made:
    """Round to 8 bits."""
    order = np.random.default_rng(work.seed).permutation(len(work.data.train_labels))
    images = raw_images(work.data.train_images[np.sort(order[:CALIBRATION])])
    file = before.file.with_name("model_int8.onnx")
    made = quantize(before.file, file, images, work.bench.accuracy, floor=work.floor)
    details = {
        "method": made.method,
        "types": made.types,
        "calibration_images": len(images),
        "layers": made.layers,
        "kept_float": list(made.kept_float),
        "tried": [list(pair) for pair in made.tried],
    }
    return work.bench.version("int8", file, before.network, before), details


DOERS: Mapping[str, Callable[[Version, Work], Made]] = {
    "prune": _prune,
    "distill": _distill,
    "fold": _fold,
    "int8": _int8,
}
"""By name, in the order in which they are done; a step that cannot be done raises TrialError."""


def _tuning(work: Work, network: nn.Module, share: float, left: float | None) -> Recipe:
    """The recipe at a lower learning rate, for a share of its epochs or the time that is left."""
    epochs = max(1, round(share * work.recipe.epochs))
    lr = TUNED_LR * work.recipe.lr
    if left is not None:
        planned = work.kept.load("epochs") or {}
        if share not in planned:
            in_time = int(left / _epoch_seconds(network, work))
            planned = {**planned, share: max(1, min(epochs, in_time))}
            work.kept.save("epochs", planned)
        epochs = planned[share]
    return replace(work.recipe, epochs=epochs, lr=lr, final_lr=min(work.recipe.final_lr, lr))


def _epoch_seconds(network: nn.Module, work: Work) -> float:
    """How long an epoch takes, measured on a few batches."""
    images = max(work.data.class_count, 4 * work.recipe.batch_size)
    few = part_of(work.data, images, work.data.class_count, seed=0)
    recipe = replace(work.recipe, epochs=1, average="none")
    best = math.inf
    for _ in range(2):
        began = time.perf_counter()
        train(
            copy.deepcopy(network).requires_grad_(),
            few,
            recipe,
            device=work.device,
            threads=work.threads,
        )
        best = min(best, time.perf_counter() - began)
    return max(best, 1e-6) * len(work.data.train_labels) / len(few.train_labels)
