"""The section of the report on why candidates were not chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parti.reports.facts import Facts, records
from parti.reports.formats import count, finite, metric, plural
from parti.reports.markup import Html, tag

__all__ = ["rejected_section"]


def rejected_section(facts: Facts) -> Html | None:
    """Return why candidates were not chosen."""
    found = facts.get("explanation", "rejections")
    if not isinstance(found, Mapping):
        return None
    lines = [
        *(_broken(facts, row) for row in records(found, "broken")),
        *(
            f"{plural(int(row['count']), 'trial')} failed, as trial {row['trials'][0]}: "
            f"{row['reason']}"
            for row in records(found, "failed")
        ),
        *_rungs(records(found, "rungs")),
    ]
    dominated, front = finite(found.get("dominated")), finite(found.get("front"))
    if dominated is not None and front is not None:
        goals = "every objective" if len(facts.study.objectives) > 1 else "the objective"
        unbeaten = "No trial kept to all limits."
        if dominated:
            unbeaten = (
                f"{plural(int(dominated), 'trial')} kept to all limits, but another was better in "
                f"{goals}; {count(front)} {'was' if front == 1 else 'were'} not beaten."
            )
        elif front > 1:
            unbeaten = f"Of {count(front)} trials that kept to all limits, none beat another."
        elif front:
            unbeaten = "One trial kept to all limits."
        lines.append(unbeaten)
    return tag("ul", [tag("li", line) for line in lines], class_="notes")


def _broken(facts: Facts, row: Mapping[str, Any]) -> str:
    name = str(row["metric"])
    text = (
        f"{plural(int(row['count']), 'candidate')} broke the limit {row['limit']} "
        f"({count(row['untrained'])} before any training): from {metric(name, row['closest'])} to "
        f"{metric(name, row['farthest'])}, typically {metric(name, row['typical'])}."
    )
    if finite(row.get("best")) is None:
        return text
    first = facts.study.objectives[0].metric
    return (
        f"{text} The best of them, trial {row['best_trial']}, reached "
        f"{metric(first, row['best'])} with {metric(name, row['best_value'])}."
    )


def _rungs(rungs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{count(row['stopped'])} of {plural(int(row['trials']), 'network')} trained for "
        f"{plural(int(row['fidelity']), 'epoch')} were not trained for longer."
        for row in rungs[:-1]
    ]
