"""A finished study's model, and what compression made of it, measured on each runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parti.core.errors import InvalidSettings
from parti.evaluators.runtimes import RUNTIMES, load_runtime, unavailable
from parti.evaluators.runtimes.memory import MEMORY
from parti.finding.files import read_json
from parti.finding.openings import COMPRESSION_JSON

if TYPE_CHECKING:
    from torch import nn

    from parti.evaluators.runtimes.profile import Contender, Profile
    from parti.finding.found import Found

__all__ = ["Version", "measure_study", "versions_of"]

PRECISIONS = ("float32", "bfloat16")
"""Those that a runtime is asked for; int8 is found in files."""

MODEL = "model"
"""What the model of the search is called."""


@dataclass(frozen=True, slots=True)
class Version:
    """The model of a study, or what a step of compression made of it.

    Args:
        name: "model", or that of the step.
        file: ONNX.
        val_accuracy: on the validation images.
    """

    name: str
    file: Path
    val_accuracy: float | None


def versions_of(found: Found) -> list[Version]:
    """Return the study's model, then what each step of its compression made, undone ones too.

    Args:
        found: a finished study.
    """
    own = Version(MODEL, found.folder / "model" / "model.onnx", found.best.get("val_accuracy"))
    compressed = read_json(found.folder / COMPRESSION_JSON) or {"steps": []}
    steps = [
        Version(step["name"], file, step["after"].get("val_accuracy"))
        for step in compressed["steps"]
        if step.get("after")
        for file in [found.folder / "compression" / _file_name(step["name"])]
    ]
    return [version for version in (own, *steps) if version.file.exists()]


def measure_study(
    found: Found,
    *,
    runtimes: Sequence[str] = (),
    precisions: Sequence[str] = PRECISIONS,
    batch: int = 1,
    throughput_batch: int = 64,
    threads: int = 1,
    memory: bool = True,
) -> dict[str, Any]:
    """Measure latency, throughput, memory, file size and energy of a study's model.

    Runtimes that open ONNX files measure all versions; the others rebuild the network, and measure
    the model of the search alone. All are timed in turn, so that what else the machine does
    disturbs all alike.

    Args:
        found: a finished study.
        runtimes: names as in `parti.evaluators.runtimes.RUNTIMES`; none for all that are here.
        precisions: some of "float32" and "bfloat16"; a quantized file is run as it is.
        batch: images per call, for latency.
        throughput_batch: images per call, for throughput and energy.
        threads: CPU threads of each runtime.
        memory: whether to measure memory, some seconds each.

    Returns:
        JSON values: `study`, `rows` with a row for each version, runtime and precision, `left_out`
        with what is not here, and the conditions.

    Raises:
        InvalidSettings: a runtime that is named is not here, or there is nothing to measure.
        TrialError: a model does not run.
    """
    from parti.evaluators.runtimes.profile import profile

    for name in runtimes:
        load_runtime(name, network=False)
    left_out: list[dict[str, str]] = []
    usable = []
    for name in runtimes or RUNTIMES:
        for precision in precisions:
            if reason := unavailable(name, precision):
                left_out.append({"runtime": name, "precision": precision, "why": reason})
            else:
                usable.append((name, precision))
    if not (found.folder / "model" / "model.pt2").exists():
        raise InvalidSettings(
            f"{found.folder / 'model'} holds no model.pt2; write it again with: parti export "
            f"{found.study} --to onnx,torch_export"
        )
    network, shape = _network(found.folder / "model")
    versions = versions_of(found)
    contenders = _contenders(versions, usable, network)
    if not contenders:
        raise InvalidSettings(
            "nothing can be measured: " + "; ".join(entry["why"] for entry in left_out)
        )
    profiles = profile(
        contenders,
        shape,
        batch=batch,
        throughput_batch=throughput_batch,
        threads=threads,
        memory=memory,
    )
    accuracies = {version.name: version.val_accuracy for version in versions}
    return {
        "study": found.study,
        "rows": [_row(one, accuracies[one.name]) for one in profiles],
        "left_out": left_out,
        "memory": MEMORY if memory else "not measured",
        "energy": profiles[0].energy,
    }


def _file_name(step: str) -> str:
    return "model_int8.onnx" if step == "int8" else f"{step}.onnx"


def _network(folder: Path) -> tuple[nn.Module, tuple[int, ...]]:
    from parti.deploy.formats.pytorch import rebuilt

    told = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    shape = tuple(told["input_shape"])
    return rebuilt(folder / "model.pt2", told["mean"], told["std"], shape), shape


def _contenders(
    versions: Sequence[Version], usable: Sequence[tuple[str, str]], network: nn.Module
) -> list[Contender]:
    from parti.evaluators.runtimes.onnx_runtime import onnx_precision
    from parti.evaluators.runtimes.profile import Contender

    quantized = {version.name for version in versions if onnx_precision(version.file) == "int8"}
    found = []
    for name, precision in usable:
        if ".onnx" not in load_runtime(name, network=False).suffixes:
            found.append(Contender(network, name, precision, MODEL))
            continue
        found += [
            Contender(version.file, name, precision, version.name)
            for version in versions
            if precision == "float32" or version.name not in quantized
        ]
    return found


def _row(one: Profile, accuracy: float | None) -> Mapping[str, Any]:
    return {
        "version": one.name,
        "val_accuracy": accuracy,
        "runtime": one.runtime,
        "precision": one.precision,
        "latency_ms": one.latency.median_ms,
        "latency_p95_ms": one.latency.p95_ms,
        "latency_conditions": one.latency.conditions,
        "images_per_second": one.images_per_second,
        "throughput_conditions": one.throughput_conditions,
        "cold_seconds": one.cold_seconds,
        "file_bytes": one.file_bytes,
        "memory_bytes": one.memory_bytes,
        "joules_per_image": one.joules_per_image,
    }
