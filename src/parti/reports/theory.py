"""The section of the report on what structure and weights of the winner say, without accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parti.reports.explanation import folded
from parti.reports.facts import Facts, look_up, records
from parti.reports.formats import NONE, amount, finite, label, metric, plural
from parti.reports.markup import Html, join, tag
from parti.reports.tables import not_measured, table

__all__ = ["theory_section"]


def theory_section(facts: Facts) -> Html | None:
    """Return theory and the trust in proxies, as far as they were measured; else None."""
    parts = [
        _numbers(facts),
        _norms(facts),
        not_measured(facts.best.get("theory"), "What theory says"),
        _proxies(facts),
        not_measured(facts.best.get("proxies"), "How proxies rank these images"),
    ]
    return join(*parts) if any(part is not None for part in parts) else None


def _numbers(facts: Facts) -> Html | None:
    rows = [
        tag(
            "tr",
            tag("th", str(fact.get("name")), scope="row"),
            tag("td", _value(fact), class_="number"),
            tag("td", str(fact.get("explained")), _beaten(facts, fact), class_="said"),
        )
        for fact in records(facts.best, "theory", "facts")
    ]
    if not rows:
        return None
    about = "What structure and weights say, measured on a batch of training images."
    return table(["number", "value", "what it means"], rows, about, numbers=["value"])


def _beaten(facts: Facts, fact: Mapping[str, Any]) -> str | None:
    """What is said of an estimate of the least latency where less was measured in this machine."""
    least, measured = finite(fact.get("value")), finite(facts.best.get("latency_ms"))
    conditions = str(facts.best.get("latency_conditions") or "")
    elsewhere = any(word in conditions for word in (", device ", "int8", "bfloat16"))
    if fact.get("name") != "roofline" or elsewhere or least is None or measured is None:
        return None
    if measured >= least:
        return None
    return (
        f" But {metric('latency_ms', measured)} was measured, so this estimate is too high: the "
        "machine was busy when its peaks were measured, or the runtime multiplies less."
    )


def _value(fact: Mapping[str, Any]) -> str:
    value, unit = finite(fact.get("value")), str(fact.get("unit") or "")
    if value is None:
        return NONE
    shown = amount(value) if unit == "bytes" else f"{value:.4g}"
    return f"{shown} {unit}".strip()


def _norms(facts: Facts) -> Html | None:
    norms = records(facts.best, "theory", "norms")
    names = ("weight", "weight_rms", "bias")
    rows = [
        tag(
            "tr",
            tag("th", tag("code", str(norm.get("name"))), scope="row"),
            tag("td", str(norm.get("type"))),
            *(
                tag(
                    "td",
                    NONE if (x := finite(norm.get(n))) is None else f"{x:.3g}",
                    class_="number",
                )
                for n in names
            ),
        )
        for norm in norms
    ]
    if not rows:
        return None
    columns = ["layer", "type", "weights", "a weight, RMS", "biases"]
    about = "Euclidean norms of weights and biases, layer by layer."
    return folded(
        f"Norms of {plural(len(rows), 'layer')}", table(columns, rows, about, numbers=columns[2:])
    )


def _proxies(facts: Facts) -> Html | None:
    found = records(facts.best, "proxies", "found")
    rows = [
        tag(
            "tr",
            tag("th", label(str(one.get("proxy"))), scope="row"),
            *(
                tag(
                    "td", NONE if (x := finite(one.get(n))) is None else f"{x:.2f}", class_="number"
                )
                for n in ("spearman", "low", "high", "kendall")
            ),
        )
        for one in found
    ]
    if not rows:
        return None
    columns = ["proxy", "Spearman", "from", "to", "Kendall"]
    how = look_up(facts.best, "proxies", "how")
    return join(
        tag("h3", "Proxies without training, on these images"),
        table(
            columns,
            rows,
            "How each proxy ranked candidates that were trained, with 95 % intervals.",
            numbers=columns[1:],
        ),
        tag("p", _verdict(found[0])),
        tag("p", str(how), class_="note") if how else None,
    )


def _verdict(found: Mapping[str, Any]) -> str:
    """The sentence on a proxy, which begins with its name, with the name in words."""
    name, said = str(found.get("proxy")), str(found.get("verdict"))
    words = label(name) + said.removeprefix(name) if said.startswith(name) else said
    return f"{words[:1].upper()}{words[1:]}"
