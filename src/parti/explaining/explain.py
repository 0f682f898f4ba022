"""Everything that can be explained of a finished search, at once, as JSON values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from parti.core.architecture import Architecture
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Trial
from parti.explaining.decisions import comparable, decisions_of
from parti.explaining.directions import directions
from parti.explaining.evidence import Evidence
from parti.explaining.forest import Forest, fit_forest
from parti.explaining.importance import FEWEST, importance
from parti.explaining.neighbours import one_change
from parti.explaining.rejected import rejections
from parti.explaining.tradeoffs import tradeoffs

__all__ = ["explain"]

SHOWN = 40
"""So many decisions, interactions and changes are kept."""


def explain(
    study: Study,
    trials: Sequence[Trial],
    result: Mapping[str, Any],
    *,
    asked: Mapping[str, Any] | None = None,
    space: Space | None = None,
    count: Callable[[Architecture], Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Return importance, neighbours, trade-offs, rejections and directions.

    Args:
        study: what was asked.
        trials: all of the search.
        result: what is written down about it, see `docs/result.md`; parts may be missing.
        asked: its settings that are not the default, for the commands.
        space: what was searched; without it, neighbours are left out.
        count: gives parameters and MACs of an architecture; None to count none.

    Returns:
        JSON values: importance, changes, changes_error, tradeoffs, rejections, directions, and
        fidelity, the epochs of the trials that were compared (None where all had the same).
    """
    compared = comparable(study, trials)
    forest = _forest(study, space, compared)
    found = importance(forest, study.objectives[0].metric, len(compared))
    decided = (result.get("best") or {}).get("architecture")
    winner = Architecture.from_json(json.dumps(decided)) if decided else None
    believed = forest if found.trusted else None
    evidence = Evidence(
        study=study,
        trials=trials,
        compared=compared,
        result=result,
        asked=asked or {},
        space=space,
        winner=winner,
        forest=believed,
        importance=found,
        rejections=rejections(study, trials),
    )
    if space is not None and winner is not None:
        changes = one_change(space, study, winner, compared, believed, count)
        evidence = replace(evidence, changes=changes)
    samples = evidence.validated if evidence.accuracy_objective else None
    evidence = replace(evidence, tradeoffs=tradeoffs(study, compared, samples))
    kept = replace(found, main=found.main[:SHOWN], pairs=found.pairs[:SHOWN])
    fidelities = {t.proposal.fidelity for t in trials}
    shown: dict[str, Any] = _plain(
        {
            "importance": asdict(kept),
            "changes": [{**asdict(c), "measured": c.measured} for c in evidence.changes[:SHOWN]],
            "changes_in_all": len(evidence.changes),
            "changes_error": forest.error if forest is not None else None,
            "tradeoffs": [
                {**asdict(t), "gain": t.gain, "factor": t.factor} for t in evidence.tradeoffs
            ],
            "rejections": asdict(evidence.rejections) if evidence.rejections else None,
            "directions": [asdict(direction) for direction in directions(evidence)],
            "fidelity": compared[0].proposal.fidelity if compared and len(fidelities) > 1 else None,
        }
    )
    return shown


def _forest(study: Study, space: Space | None, compared: Sequence[Trial]) -> Forest | None:
    """A forest over the decisions of all comparable trials; None where there are too few."""
    architectures = [trial.architecture for trial in compared]
    decisions = decisions_of(space, architectures)
    values = [trial.metric(study.objectives[0].metric) for trial in compared]
    if len(compared) < FEWEST or not decisions.choices or max(values) == min(values):
        return None
    return fit_forest(decisions, architectures, values, seed=study.seed)


def _plain(value: Any) -> Any:
    """Lists for tuples, None for numbers that JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
