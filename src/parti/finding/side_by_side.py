"""Finished studies side by side: what was asked, what was found, and whether it differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from parti.core.errors import InvalidSettings
from parti.core.study import Objective, Study, pareto_front
from parti.core.trial import Trial
from parti.explaining.decisions import comparable
from parti.explaining.differences import independent_difference, paired_difference
from parti.finding.found import Found
from parti.finding.predictions import load_predictions
from parti.tasks.intervals import wilson

__all__ = ["side_by_side"]

COSTS = ("params", "macs", "latency_ms")


def side_by_side(found: Sequence[tuple[Found, Study]]) -> dict[str, Any]:
    """Set finished studies beside one another; each is compared with the first.

    Args:
        found: results and studies, at least two different ones.

    Returns:
        JSON values: `studies`, a row for each; `settings` and `decisions` that are not the same
        in all, by name, a value for each study (None where there is none); `same_decisions`, how
        many are; `differences` in test accuracy from the first study.

    Raises:
        InvalidSettings: there are fewer than two, or one twice.
    """
    names = [study.name for _, study in found]
    if len(set(names)) < max(2, len(names)):
        raise InvalidSettings(f"studies {', '.join(names)}: name at least two, none of them twice")
    architectures = [dict(one.to_dict()["best"]["architecture"]) for one, _ in found]
    decisions = _unequal(architectures)
    shared = set.intersection(*map(set, architectures))
    return {
        "studies": [_row(one, study) for one, study in found],
        "settings": _unequal([dict(study.settings) for _, study in found]),
        "decisions": decisions,
        "same_decisions": len([name for name in shared if name not in decisions]),
        "differences": [_difference(found[0][0], other) for other, _ in found[1:]],
    }


def _row(found: Found, study: Study) -> dict[str, Any]:
    result = found.to_dict()
    best, data, cost = result["best"], result["data"], result["cost"]
    n = int(best["metrics"]["n"])
    low, high = wilson(best["test_accuracy"] * n, n)
    return {
        "study": found.study,
        "data": data.get("name"),
        "images": data.get("images"),
        "splits": {k: v for k, v in data["splits"].items() if k != "how"},
        "space": result["space"]["name"],
        "strategy": result["strategy"]["name"],
        "objectives": [objective.metric for objective in study.objectives],
        "limits": [str(constraint) for constraint in study.constraints],
        "budget": result["budget"],
        "trials": cost["trials"],
        "total_seconds": cost["total_seconds"],
        "hardware": cost["hardware"],
        "val_accuracy": best["val_accuracy"],
        "test_accuracy": best["test_accuracy"],
        "test_interval": [low, high],
        "test_images": n,
        "test_mean": best.get("test_mean"),
        "test_std": best.get("test_std"),
        "seeds": best.get("seeds"),
        **{name: best.get(name) for name in COSTS},
        "latency_conditions": best.get("latency_conditions"),
        "onnx_bytes": best.get("onnx_bytes"),
        "front": _front(study, found.trials),
    }


def _front(study: Study, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The front of accuracy against parameters, or of the study's own objectives."""
    both = study
    if len(study.objectives) == 1 and study.objectives[0].metric != "params":
        both = replace(study, objectives=(*study.objectives, Objective("params", "min")))
    names = [objective.metric for objective in both.objectives]
    return [
        {"trial": trial.number, **{name: trial.metric(name) for name in names}}
        for trial in pareto_front(both, comparable(study, trials))
    ]


def _difference(first: Found, other: Found) -> dict[str, Any]:
    """How the test accuracy of another study differs from that of the first, and how sure."""
    kept = [load_predictions(found.folder) for found in (first, other)]
    one, two = kept
    if one is not None and two is not None and one.images == two.images:
        found = paired_difference(one.right, two.right)
        how = f"on the same {found.n} test images, answer by answer (McNemar's exact test)"
    else:
        best = [found.to_dict()["best"] for found in (first, other)]
        n, m = (int(b["metrics"]["n"]) for b in best)
        found = independent_difference(best[0]["test_accuracy"], n, best[1]["test_accuracy"], m)
        why = (
            "the answers of one were not kept"
            if one is None or two is None
            else "the test images are not the same"
        )
        how = f"as if on different images, because {why} (Agresti and Caffo)"
    return {"from": first.study, "to": other.study, **asdict(found), "how": how}


def _unequal(values: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Entries that are not the same in all, a value for each; None where there is none."""
    names = dict.fromkeys(name for each in values for name in each)
    rows = {name: [_listed(each.get(name)) for each in values] for name in names}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
