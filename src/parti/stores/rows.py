"""How studies, proposals and measurements are written as text, for any store that keeps text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from parti.core.errors import StoreError
from parti.core.study import Budget, Constraint, Objective, Study
from parti.core.trial import Measurement

__all__ = ["read_measurements", "read_study", "write_measurements", "write_study"]


def write_study(study: Study) -> str:
    """Write a study as one JSON object."""
    return json.dumps(
        {
            "name": study.name,
            "objectives": [{"metric": o.metric, "goal": o.goal} for o in study.objectives],
            "constraints": [
                {"metric": c.metric, "at_most": c.at_most, "at_least": c.at_least}
                for c in study.constraints
            ],
            "budget": {"trials": study.budget.trials, "seconds": study.budget.seconds},
            "seed": study.seed,
            "settings": dict(study.settings),
        }
    )


def read_study(text: str) -> Study:
    """Read what `write_study` wrote.

    Raises:
        StoreError: it is something else.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        return Study(
            name=data["name"],
            objectives=tuple(Objective(**o) for o in data["objectives"]),
            constraints=tuple(Constraint(**c) for c in data["constraints"]),
            budget=Budget(**data["budget"]),
            seed=data["seed"],
            settings=data["settings"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"not a study of parti: {text[:80]!r} ({error})") from error


def write_measurements(measurements: Iterable[Measurement]) -> str:
    """Write each measurement as a line of JSON, so that texts can be joined."""
    return "".join(json.dumps([m.step, m.seconds, dict(m.metrics)]) + "\n" for m in measurements)


def read_measurements(text: str) -> tuple[Measurement, ...]:
    """Read what `write_measurements` wrote."""
    return tuple(
        Measurement(metrics=metrics, step=step, seconds=seconds)
        for step, seconds, metrics in map(json.loads, text.splitlines())
    )
