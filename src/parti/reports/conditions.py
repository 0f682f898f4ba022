"""The section of the report that says under which conditions its numbers hold."""

from __future__ import annotations

from parti.reports.facts import Facts
from parti.reports.formats import count, duration, finite, mean_spread, metric, moment, opened
from parti.reports.markup import Html
from parti.reports.tables import pairs

__all__ = ["conditions_section"]


def conditions_section(facts: Facts) -> Html:
    """Return the conditions of accuracies, latency, MACs and cost."""
    best, cost = facts.best, facts.get("cost") or {}
    test = None
    if finite(best.get("test_accuracy")) is not None:
        seeds = facts.rivals[0].seeds
        over = f"; over {len(seeds)} seeds {mean_spread(seeds)}" if len(seeds) > 1 else ""
        test = (
            f"test split, n = {count(facts.tested)}{over}; the split was "
            f"{opened(facts.get('test_openings'))}, after the search. Intervals: Wilson's, 95 %. "
            "± is the standard deviation over seeds."
        )
    times = [
        f"{words} {duration(cost[key])}"
        for key, words in (
            ("planning_seconds", "planning"),
            ("supernet_seconds", "supernet"),
            ("search_seconds", "search"),
            ("final_seconds", "final training"),
            ("baseline_seconds", "baselines"),
            ("concluding_seconds", "testing, export and report"),
            ("total_seconds", "total"),
        )
        if finite(cost.get(key)) is not None
    ]
    hardware = str(cost.get("hardware") or "hardware not recorded")
    versions = facts.get("versions") or {}
    when = [moment(facts.get(key)) for key in ("started", "finished") if facts.get(key)]
    return pairs(
        [
            ("Test accuracy", test),
            (
                "Search accuracy",
                _search_conditions(facts) if facts.trials else None,
            ),
            (
                "Latency",
                str(best["latency_conditions"]) if best.get("latency_conditions") else None,
            ),
            (
                "Latency, 95th percentile",
                metric("latency_ms", best["latency_p95_ms"]) if "latency_p95_ms" in best else None,
            ),
            ("MACs", "multiply-accumulates for one sample; FLOPs are twice that."),
            ("Cost", f"{', '.join(times)}; {hardware}" if times else None),
            ("When", " to ".join(when) or None),
            ("Versions", ", ".join(f"{name} {value}" for name, value in versions.items()) or None),
        ]
    )


def _search_conditions(facts: Facts) -> str:
    weights = " with weights inherited from the supernet" if facts.inherits else ""
    return f"validation split{weights}; it was used to choose, so it flatters what was chosen."
