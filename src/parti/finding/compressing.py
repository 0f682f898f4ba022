"""A finished study's winner, compressed, tested once more, and written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parti.core.errors import InvalidSettings, StoreError
from parti.core.study import Constraint
from parti.core.trial import State, Trial
from parti.finding.files import DEFAULT_STORE, read_json, study_folder, write_json
from parti.finding.given import Given
from parti.finding.openings import COMPRESSION_JSON, count_openings
from parti.finding.settings import settings_of
from parti.finding.watch import Silent
from parti.stores import open_store

if TYPE_CHECKING:
    from torch import nn

    from parti.core.protocols import Space
    from parti.deploy.compression.plan import Compressed, Step
    from parti.finding.desk import Desk
    from parti.finding.found import Found

__all__ = ["compress_study", "with_compression"]

SAMPLES = 64
"""Validation images on which exported files are compared with the network."""

ALL_STEPS = ("prune", "distill", "fold", "int8")


def compress_study(
    study: str,
    *,
    steps: Sequence[str] = ALL_STEPS,
    max_accuracy_drop: float = 0.01,
    seconds: float | None = None,
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    out: Path | None = None,
    data: object = None,
    space: str | Space = "auto",
    store: str = DEFAULT_STORE,
    watch: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compress the winner of a finished study, and test what comes out once.

    The same call goes on where it was stopped, and gives a finished result at once. Each other
    one opens the test split once more, which its result and that of the study count.

    Args:
        study: its name.
        steps: as in `parti.deploy.compression.plan.compress`.
        max_accuracy_drop: of validation accuracy, from 0 to 1.
        seconds: a budget of time; None for none.
        at_most: limits by metric, beside those of the study, or instead of them.
        at_least: likewise.
        out: the model's folder; None for `compressed` in the study's folder.
        data: of the study, if it was given as an object.
        space: likewise.
        store: URL of the store that keeps the study.
        watch: told of the course in lines.

    Returns:
        What compression.json holds, as JSON values.

    Raises:
        StoreError: there is no such study, or it is not finished.
        InvalidSettings: an argument is not allowed.
        NothingFound: no version keeps to the limits; the model's folder is not written, and the
            test split stays closed.
    """
    from parti.finding import finished
    from parti.finding.desk import Desk

    opened = open_store(store)
    folder = study_folder(store, study)
    kept = opened.study(study)
    found = finished(folder, opened, study, space)
    if found is None:
        raise StoreError(f"study {study!r} is not finished; go on with: parti resume {study}")
    settings = settings_of(**kept.settings)
    if data is None and settings.data.startswith("python:"):
        raise InvalidSettings(f"the data of study {study!r} was given from Python; give data=")
    limits = _limits(settings.study_constraints, at_most or {}, at_least or {})
    place = (folder / "compressed" if out is None else out).resolve()
    asked = {
        "steps": list(steps),
        "max_accuracy_drop": max_accuracy_drop,
        "seconds": seconds,
        "limits": [str(limit) for limit in limits],
        "folder": str(place),
    }
    before = read_json(folder / COMPRESSION_JSON)
    if before is not None and before["asked"] == asked and (place / "model.json").exists():
        return before
    given = Given(settings.data if data is None else data, space, "auto", None)
    with closing(Desk(settings, given, study, opened, folder, 1, Silent())) as desk:
        compressed = _compressed(desk, found, limits, asked, watch)
        if compressed.broken:
            _refuse(compressed, folder)
        watch("opening the test split once ...")
        openings = 1 + count_openings(opened, study, folder.parent)
        written = _written(desk, found, compressed, asked, place, openings)
    result = {**found.to_dict(), "test_openings": openings}
    write_json(folder / "result.json", result)  # first: what was opened counts, whatever comes next
    write_json(folder / COMPRESSION_JSON, written)
    _report(folder, result, study, opened)
    return written


def with_compression(result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A study's result with what compression.json holds under `compression`, if there is one.

    Args:
        result: of the study.
        folder: of the study.
    """
    found = read_json(folder / COMPRESSION_JSON)
    return {**result, **({"compression": found} if found is not None else {})}


def _limits(
    own: Sequence[Constraint], at_most: Mapping[str, float], at_least: Mapping[str, float]
) -> tuple[Constraint, ...]:
    """The study's limits, and the ones given, which replace those on the same metric."""
    given = {
        metric: Constraint(metric, at_most.get(metric, math.inf), at_least.get(metric, -math.inf))
        for metric in sorted({*at_most, *at_least})
    }
    return (*(limit for limit in own if limit.metric not in given), *given.values())


def _compressed(
    desk: Desk,
    found: Found,
    limits: Sequence[Constraint],
    asked: Mapping[str, Any],
    watch: Callable[[str], None],
) -> Compressed:
    from parti.deploy.compression.plan import compress

    return compress(
        found.model.network,
        desk.seen,
        desk.folder / "compression",
        recipe=desk.recipe(desk.seen, int(found.best["epochs"])),
        teachers=_teachers(desk, found) if "distill" in asked["steps"] else (),
        limits=limits,
        steps=asked["steps"],
        max_accuracy_drop=asked["max_accuracy_drop"],
        seconds=asked["seconds"],
        seed=desk.settings.seed,
        device=desk.settings.device,
        threads=desk.threads,
        watch=watch,
    )


def _teachers(desk: Desk, found: Found) -> list[nn.Module]:
    """The finalists beside the winner, trained in full, best first."""
    from parti.evaluators.trained import load_trained

    wanted = {row["fingerprint"] for row in found.to_dict()["finalists"]}
    wanted.discard(found.architecture.fingerprint)
    trained: list[tuple[float, int, Trial, Path]] = []
    for part in desk.parts("final-"):
        study = desk.store.study(f"{desk.name}/{part}")
        for trial in desk.store.trials(study.name)[0]:
            if trial.state is State.DONE and trial.architecture.fingerprint in wanted:
                place = desk.trial_folder(study, trial)
                trained.append((-trial.metrics["val_accuracy"], len(trained), trial, place))
    return [
        load_trained(desk.space, trial.architecture, place)
        for _, _, trial, place in sorted(trained, key=lambda item: item[:2])
    ]


def _refuse(compressed: Compressed, folder: Path) -> None:
    from parti.finding.errors import NothingFound

    measured = ", ".join(
        f"{limit.metric} is {compressed.final.metrics[limit.metric]:.6g}, not {limit}"
        for limit in compressed.broken
    )
    raise NothingFound(
        f"no compressed model keeps to the limits: {measured}, at a drop of accuracy of at most "
        f"{compressed.max_accuracy_drop:g}. Allow a larger --drop or a weaker limit, or search "
        f"again with the limit. What was tried is in {folder / 'compression'}"
    )


def _written(
    desk: Desk,
    found: Found,
    compressed: Compressed,
    asked: Mapping[str, Any],
    place: Path,
    openings: int,
) -> dict[str, Any]:
    """Write the model's folder, test it, and describe everything."""
    import numpy as np
    import torch

    from parti.deploy.check import onnx_logits
    from parti.deploy.compression.ship import ship
    from parti.deploy.compression.versions import raw_images
    from parti.reports.formats import opened
    from parti.tasks.classification import accuracy

    test = desk.sealed()
    labels = torch.from_numpy(np.asarray(test.labels))
    images = raw_images(test.images)

    def tested(file: Path) -> float:
        return accuracy(torch.from_numpy(onnx_logits(file)(images)), labels)

    final, source = compressed.final, compressed.source
    accuracies = {version.name: tested(version.file) for version in (source, final)}
    steps = [_described(step) for step in compressed.steps]
    done = ", ".join(step.name for step in compressed.steps if step.kept) or "nothing"
    condition = f"test split, n = {len(labels)}, {opened(openings)}"
    ship(
        compressed,
        place,
        info={
            "name": f"{desk.name}, compressed",
            "description": f"Classifies images of {desk.data.name} into {len(test.classes)}.",
            "classes": list(test.classes),
            "training": f"the winner of study {desk.name}; kept steps of compression: {done}",
            "value_range": list(desk.seen.value_range),
            "metrics": {"test_accuracy": accuracies[final.name], **final.metrics},
            "conditions": {"test_accuracy": condition, "latency_ms": final.conditions},
            "mean": list(desk.seen.mean),
            "std": list(desk.seen.std),
        },
        samples=raw_images(desk.seen.val_images[:SAMPLES]),
    )
    return {
        "study": desk.name,
        "asked": dict(asked),
        "test_openings": openings,
        "test_images": len(labels),
        "source": {**source.described(), "test_accuracy": accuracies[source.name]},
        "final": {**final.described(), "test_accuracy": accuracies[final.name]},
        "versions": [version.described() for version in compressed.versions],
        "steps": steps,
        "seconds": compressed.seconds,
        "model": str(place),
    }


def _described(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "kept": step.kept,
        "why": step.why,
        "before": step.before.described(),
        "after": None if step.after is None else step.after.described(),
        "seconds": step.seconds,
        "details": dict(step.details),
    }


def _report(folder: Path, result: Mapping[str, Any], study: str, store: Any) -> None:
    """Write the report page again, with the compression in it."""
    from parti.reports import write_report

    trials, _ = store.trials(study)
    whole = with_compression(result, folder)
    write_report(folder / "report.html", whole, store.study(study), trials)
