"""Compression step by step: each step is measured, and undone when it does not pay."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from parti.core.errors import InvalidSettings, TrialError
from parti.core.study import Constraint
from parti.deploy.compression.kept import Kept, identity
from parti.deploy.compression.steps import DOERS, Work
from parti.deploy.compression.versions import MEASURED, Bench, Version, excess, gain
from parti.evaluators.recipe import Recipe

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["STEPS", "Compressed", "Step", "check_limits", "compress"]

STEPS = tuple(DOERS)
"""All steps, in the order in which they are done."""

LEAST_GAIN = 1.01
"""A step that changes outputs must make the model so much smaller or faster (`versions.gain`)."""

EXACT = frozenset({"fold"})
"""Steps that change no output: they cost nothing, so that any byte less is a gain."""


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one step.

    Args:
        name: one of `STEPS`.
        kept: whether the model goes on with it.
        why: in words, why it was kept or undone, by the latencies of the last race; where that
            would have been decided otherwise, by those of both.
        before: the version that it began with.
        after: the version that it made; None when it could not be done.
        seconds: what it took.
        details: JSON values of its own: cuts, teachers, calibration.
    """

    name: str
    kept: bool
    why: str
    before: Version
    after: Version | None
    seconds: float
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Compressed:
    """A model before and after compression.

    Args:
        source: as it was.
        final: as it is now; the source when no step was kept. Its file may be int8.
        float32: the last version in float32.
        steps: what became of each.
        broken: limits that the final version breaks: if there is one, it must not be shipped.
        max_accuracy_drop: of validation accuracy, that was allowed.
        seconds: for everything.
    """

    source: Version
    final: Version
    float32: Version
    steps: tuple[Step, ...]
    broken: tuple[Constraint, ...]
    max_accuracy_drop: float
    seconds: float

    @property
    def versions(self) -> tuple[Version, ...]:
        """The source, and what each step made that was kept."""
        return (self.source, *_made([step for step in self.steps if step.kept]))

    @property
    def quantized(self) -> bool:
        """Whether the final version is int8."""
        return self.final is not self.float32


def compress(
    model: nn.Module,
    data: SearchData,
    folder: Path,
    *,
    recipe: Recipe,
    teachers: Sequence[nn.Module] = (),
    limits: Sequence[Constraint] = (),
    steps: Sequence[str] = STEPS,
    max_accuracy_drop: float = 0.01,
    seconds: float | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    watch: Callable[[str], None] = lambda line: None,
) -> Compressed:
    """Make a trained network smaller and faster, step by step.

    A step is undone when validation accuracy falls under that of the source less
    `max_accuracy_drop`, when a limit is broken that held before, or when the product of file size
    and latency does not fall (for distillation: when accuracy does not rise). Latencies that
    differ by less than the clock are equal (`versions.gain`). Everything is decided on validation
    images and measured on ONNX files; test images are in no reach.

    A call that was stopped goes on after the last cut or step when it is made again.

    Args:
        model: the trained network, of normalised images; left as it was.
        data: training images to tune, distill and calibrate on; validation images to decide on.
        folder: for ONNX files and states; made when missing.
        recipe: how the network was trained. Tuning takes a fifth of its epochs after each cut,
            distillation half of them, both at a quarter of its learning rate.
        teachers: other networks to distill from, beside the model.
        limits: on metrics of `MEASURED`.
        steps: some of `STEPS`, in that order.
        max_accuracy_drop: from 0 to 1; 0.01 is one percentage point.
        seconds: a budget of time; with one, numbers of epochs and cuts depend on the machine.
        seed: of tuning and distillation.
        device: where to train: a name that torch knows, or "auto".
        threads: of the CPU, in training; None to leave them.
        watch: told of the course in lines.

    Returns:
        All versions with their metrics, and what became of each step.

    Raises:
        InvalidSettings: an argument is not allowed.
        TrialError: the model cannot be exported or measured.
    """
    _check(steps, limits, max_accuracy_drop, seconds)
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(data, folder)
    network = copy.deepcopy(model).cpu().eval()
    source = bench.version("source", bench.exported("source", network), network)
    _check_measured(source, limits)
    floor = source.metrics["val_accuracy"] - max_accuracy_drop
    asked = (asdict(recipe), max_accuracy_drop, seed, seconds, len(data.train_labels))
    work = Work(
        data=data,
        recipe=recipe,
        source=network,
        teachers=teachers,
        limits=limits,
        floor=floor,
        bench=bench,
        kept=Kept(folder, identity(network, asked)),
        began=began,
        seconds=seconds,
        seed=seed,
        device=device,
        threads=threads,
        watch=watch,
    )
    done: list[Step] = []
    current = float32 = source
    for name in steps:
        watch(f"step {name} ...")
        step = _step(name, current, work)
        done.append(step)
        watch(f"step {name} {'kept' if step.kept else 'undone'}: {step.why}")
        if step.kept and step.after is not None:
            current = step.after
            float32 = float32 if name == "int8" else current
    bench.race([version.file for version in (source, *_made(done))])
    steps_ = tuple(_retimed(step, work) for step in done)
    final = bench.retimed(current)
    return Compressed(
        source=bench.retimed(source),
        final=final,
        float32=final if current is float32 else bench.retimed(float32),
        steps=steps_,
        broken=tuple(c for c in limits if not c.allows(final.metrics[c.metric])),
        max_accuracy_drop=max_accuracy_drop,
        seconds=time.perf_counter() - began,
    )


def check_limits(limits: Sequence[Constraint]) -> None:
    """See that compression can keep to limits.

    Raises:
        InvalidSettings: one is on a metric that is not measured here.
    """
    if unknown := sorted({limit.metric for limit in limits} - MEASURED):
        raise InvalidSettings(
            f"compression cannot keep to a limit on {unknown[0]!r}, which it does not measure; it "
            f"measures {', '.join(sorted(MEASURED))}. A study's own limits cannot be dropped: "
            "search again without this one, or use the winner as it is"
        )


def _check(
    steps: Sequence[str], limits: Sequence[Constraint], drop: float, seconds: float | None
) -> None:
    if not steps or list(steps) != [name for name in STEPS if name in steps]:
        raise InvalidSettings(
            f"steps {', '.join(steps) or 'none'}: give some of {', '.join(STEPS)}, each once and "
            "in this order"
        )
    check_limits(limits)
    if not 0 <= drop <= 1:
        raise InvalidSettings(f"max_accuracy_drop={drop!r}: from 0 to 1; 0.01 is one point")
    if seconds is not None and not seconds > 0:
        raise InvalidSettings(f"a budget of {seconds!r} seconds: it must be more than 0")


def _check_measured(source: Version, limits: Sequence[Constraint]) -> None:
    for limit in limits:
        if limit.metric not in source.metrics:
            raise InvalidSettings(
                f"{limit} cannot be kept to: {limit.metric} cannot be measured on these validation "
                "images, which lack a class. Leave the limit out, or give more images"
            )


def _step(name: str, before: Version, work: Work) -> Step:
    """Do one step, and decide whether it pays."""
    began = time.perf_counter()

    def ended(kept: bool, why: str, after: Version | None, details: Mapping[str, Any]) -> Step:
        return Step(name, kept, why, before, after, time.perf_counter() - began, details)

    try:
        after, details = DOERS[name](before, work)
    except TrialError as error:
        return ended(False, str(error), None, {})
    if after is None:
        return ended(False, str(details["why"]), None, details)
    kept, why = _verdict(name, before, after, work)
    return ended(kept, why, after, details)


def _made(steps: Sequence[Step]) -> list[Version]:
    """The versions that steps have made, kept or not."""
    return [step.after for step in steps if step.after is not None]


def _retimed(step: Step, work: Work) -> Step:
    """The step with the latencies of the last race, by which it says why it was kept or undone."""
    before = work.bench.retimed(step.before)
    if step.after is None:
        return replace(step, before=before)
    after = work.bench.retimed(step.after)
    kept, why = _verdict(step.name, before, after, work)
    if kept is not step.kept:
        # What followed was built on the earlier verdict, which the clock alone has turned.
        again = f"when all versions were timed again, {_ratios(before, after)}"
        why = f"{step.why}, as it was decided; {again}"
    return replace(step, before=before, after=after, why=why)


def _ratios(before: Version, after: Version) -> str:
    return (
        f"{after.metrics['bytes'] / before.metrics['bytes']:.2f} of the bytes, "
        f"{after.metrics['latency_ms'] / before.metrics['latency_ms']:.2f} of the latency"
    )


def _verdict(name: str, before: Version, after: Version, work: Work) -> tuple[bool, str]:
    old, new = (version.metrics["val_accuracy"] for version in (before, after))
    if new < work.floor and new <= old:
        return False, f"validation accuracy {new:.4f}, at least {work.floor:.4f} is wanted"
    was, is_ = excess(before, work.limits), excess(after, work.limits)
    if is_ > was:
        broken = [str(c) for c in work.limits if not c.allows(after.metrics[c.metric])]
        return False, f"it breaks {', '.join(broken)}"
    if name == "distill":
        said = f"validation accuracy {old:.4f} -> {new:.4f}"
        return new > old, said if new > old else f"{said}, which is no gain"
    said = _ratios(before, after)
    gained = gain(before, after)
    pays = gained > 1 if name in EXACT else gained >= LEAST_GAIN
    if not pays and is_ >= was:
        return False, f"{said}: no gain"
    return True, f"{said}, validation accuracy {old:.4f} -> {new:.4f}"
