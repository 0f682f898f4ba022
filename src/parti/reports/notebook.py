"""A short summary of a result, to be shown by a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parti.reports.facts import look_up, records
from parti.reports.formats import amount, finite, metric, percent
from parti.reports.markup import Html, tag

__all__ = ["html_summary"]


def html_summary(result: Mapping[str, Any]) -> str:
    """Return a result as a short HTML fragment, for `_repr_html_`.

    Args:
        result: JSON values as for the report; anything may be missing.

    Returns:
        A table of the winner and the baselines, without scripts or styles of its own.
    """
    best = look_up(result, "best")
    best = best if isinstance(best, Mapping) else {}
    rows = [_row(f"trial {best.get('trial', '–')} (winner)", best)] if best else []
    rows += [_row(str(b.get("name", "baseline")), b) for b in records(result, "baselines")]
    heads = ("network", "validation", "test", "parameters", "MACs", "latency")
    status = result.get("status")
    note = f", {status}" if status and status != "done" else ""
    table = tag(
        "table",
        tag("thead", tag("tr", [tag("th", name) for name in heads])),
        tag("tbody", rows),
    )
    n = finite(look_up(best, "metrics", "n"))
    about = [f"test: n = {amount(n)}" if n else "", str(best.get("latency_conditions") or "")]
    return tag(
        "div",
        tag("p", tag("strong", str(result.get("study", "parti search"))), note),
        table if rows else tag("p", "No network yet."),
        tag("p", tag("small", "; ".join(filter(None, about)))) if any(about) else None,
    )


def _row(name: str, record: Mapping[str, Any]) -> Html:
    cells = (
        percent(record.get("val_accuracy")),
        percent(record.get("test_accuracy")),
        amount(record.get("params")),
        amount(record.get("macs")),
        metric("latency_ms", record.get("latency_ms")),
    )
    return tag("tr", tag("th", name), [tag("td", cell) for cell in cells])
