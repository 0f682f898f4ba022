"""Where latency is measured: on this machine, or on devices that `parti search --device` names."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from parti.core.errors import InvalidSettings, TrialError
from parti.deploy.model import DeployedModel
from parti.evaluators.latency import Latency, measure_latency
from parti.evaluators.predicted_latency import Measuring, PredictedLatency
from parti.evaluators.remote_latency import RemoteLatency
from parti.finding.settings import LATENCIES, Settings
from parti.tasks.values import SearchData

if TYPE_CHECKING:
    from parti.finding.desk import Desk

__all__ = ["checked_devices", "latency_of", "search_latency"]

FILE = "latency.jsonl"
"""Where a study keeps the measurements from which latency is predicted."""


def search_latency(
    settings: Settings, space: Any, data: SearchData, folder: Path, seed: int
) -> Measuring | None:
    """What measures or predicts the latency of trials; None where nobody asks for it.

    Args:
        settings: what was asked.
        space: what is searched.
        data: what the networks take.
        folder: of the study.
        seed: of the choice of what a predictor learns from.

    Raises:
        InvalidSettings: a device does not answer, or cannot do what is asked.
    """
    judged = sorted(m for m in settings.metrics if m.partition("@")[0] in LATENCIES)
    if not judged:
        return None
    measuring = _measuring(settings, space, data)
    if isinstance(measuring, RemoteLatency):
        measuring.check()  # once, not in every worker
    if not settings.predict_latency:
        return measuring
    predicting = PredictedLatency(
        measuring,
        space,
        folder / FILE,
        judged=judged,
        constraints=settings.study_constraints,
        input_shape=data.input_shape,
        seed=seed,
    )
    predicting.prepare()
    return predicting


def checked_devices(settings: Settings, space: Any, data: SearchData) -> str:
    """Ask every device what it is, before anything is trained.

    Returns:
        The conditions under which they measure, in a line.

    Raises:
        InvalidSettings: one does not answer, or cannot do what is asked.
    """
    remote = _remote(settings, space, data)
    remote.check()
    return remote.conditions


def latency_of(desk: Desk, network: nn.Module) -> dict[str, Any]:
    """Measure a trained network for the report, on the devices where there are any.

    A device that has gone away does not lose the search: then this machine measures, and the
    conditions say so.

    Returns:
        latency_ms, latency_p95_ms (the largest of all devices) and latency_conditions; with
        devices that have names, latency_by_device too.
    """
    model = DeployedModel(network, desk.seen.mean, desk.seen.std).eval()
    conditions = ""
    if desk.settings.devices:
        try:
            found = _remote(desk.settings, desk.space, desk.seen).measure(model)
        except (TrialError, InvalidSettings) as error:
            conditions = f"NOT on the device, which could not measure it ({error}), but here: "
        else:
            worst = max(found.values(), key=lambda each: each.median_ms)
            named = {name: each.median_ms for name, each in found.items() if name}
            return {
                "latency_ms": worst.median_ms,
                "latency_p95_ms": max(each.p95_ms for each in found.values()),
                "latency_conditions": "; ".join(each.conditions for each in found.values()),
                **({"latency_by_device": named} if named else {}),
            }
    settings = desk.settings
    here = measure_latency(
        model, desk.seen.input_shape, runtime=settings.runtime, precision=settings.precision
    )
    return {
        "latency_ms": here.median_ms,
        "latency_p95_ms": here.p95_ms,
        "latency_conditions": conditions + here.conditions,
    }


def _measuring(settings: Settings, space: Any, data: SearchData) -> Measuring:
    if settings.devices:
        return _remote(settings, space, data)
    deployed = partial(DeployedModel, mean=data.mean, std=data.std)
    return Latency(
        space,
        data.input_shape,
        runtime=settings.runtime,
        precision=settings.precision,
        deployed=deployed,
    )


def _remote(settings: Settings, space: Any, data: SearchData) -> RemoteLatency:
    deployed = partial(DeployedModel, mean=data.mean, std=data.std)
    return RemoteLatency(space, data.input_shape, settings.devices, deployed=deployed)
