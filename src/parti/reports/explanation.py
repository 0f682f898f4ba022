"""The sections of the report that explain the result and say what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parti.reports.charts import Charts
from parti.reports.facts import Facts, records
from parti.reports.figures_explanation import change_figure, effect_figures, importance_figures
from parti.reports.formats import (
    NONE,
    amount,
    count,
    duration,
    finite,
    is_share,
    label,
    mean_spread,
    metric,
    opened,
    percent,
    plural,
)
from parti.reports.headline import claim
from parti.reports.markup import Child, Html, join, tag
from parti.reports.standing import standing, verdict
from parti.reports.tables import pairs, table

__all__ = [
    "changes_section",
    "decisions_section",
    "folded",
    "in_short",
    "next_section",
    "trades_section",
]

DOUBTS = {
    "misleads": "what the search ranked by agrees poorly with full training",
    "noise": "seeds differ by more than networks",
    "data": "the test split is too small to tell it from the next best",
    "training": "it is under-trained",
    "overfitting": "it is over-fitted",
}
"""What a kind of direction means for the trust in a result."""


def folded(summary: str, *content: Child) -> Html:
    """Return content that opens on a click."""
    return tag("details", tag("summary", summary), *content)


def in_short(facts: Facts) -> Html | None:
    """Return the result as a manager reads it in a minute; None before there is one."""
    if not facts.best or "test_accuracy" not in facts.best:
        return None
    rivals = [rival for rival in facts.rivals if rival.accuracy is not None]
    first = _directions(facts)[:1]
    return pairs(
        [
            ("Found", _found(facts)),
            ("How good", _good(facts)),
            ("Against others", f"{verdict(rivals)}." if len(rivals) > 1 else "Nothing to compare."),
            ("What it costs", _cost(facts)),
            ("Can it be trusted", _trust(facts)),
            ("What next", _next(first[0]) if first else _nothing(facts)),
        ]
    )


def _found(facts: Facts) -> str:
    best = facts.best
    file = finite(best.get("onnx_bytes"))
    size = f", a file of {metric('onnx_bytes', file)}" if file else ""
    macs = finite(best.get("macs"))
    work = f" and {amount(macs)} MACs per sample" if macs else ""
    return f"A network of {amount(best.get('params'))} parameters{work}{size}."


def _good(facts: Facts) -> str:
    winner = facts.rivals[0]
    between = winner.interval
    sure = (
        f", with 95 % certainty {percent(between[0])} to {percent(between[1])}" if between else ""
    )
    return f"{claim(facts)}{sure}."


def _cost(facts: Facts) -> str:
    cost, best = facts.get("cost") or {}, facts.best
    total = finite(cost.get("total_seconds"))
    latency = finite(best.get("latency_ms"))
    spent = f"{duration(total)} of computing to find" if total else ""
    answer = f"{metric('latency_ms', latency)} for each answer" if latency is not None else ""
    return f"{'; '.join(part for part in (spent, answer) if part) or NONE}."


def _trust(facts: Facts) -> str:
    kinds = [str(direction.get("kind")) for direction in _directions(facts)]
    doubts = [*_beaten(facts), *(DOUBTS[kind] for kind in kinds if kind in DOUBTS)]
    parts = []
    if facts.tested:
        times = opened(facts.get("test_openings"))
        parts.append(f"{count(facts.tested)} test samples that the search never saw, {times}")
    seeds = facts.rivals[0].seeds
    if len(seeds) > 1:
        parts.append(f"{plural(len(seeds), 'seed')}: {mean_spread(seeds)}")
    if facts.get("explanation") is None:
        return f"{'; '.join(parts) or NONE}."
    if not doubts:
        said = "Nothing in the search speaks against it"
    else:
        said = f"{'But ' if parts else ''}{'; '.join(doubts)}"
    return ". ".join(filter(None, ("; ".join(parts), f"{said}.")))


def _beaten(facts: Facts) -> list[str]:
    """What the baselines say against the search, in the words of `verdict`."""
    rivals = [rival for rival in facts.rivals if rival.accuracy is not None]
    if len(rivals) < 2:
        return []
    found = standing(rivals)
    searches = {r.name for r in rivals[1:] if r.record.get("kind") == "search"}
    equal = [name for name in found.level if name in searches]
    return [
        *(f"it is behind {name}" for name in found.behind),
        *(f"{name} did as well" for name in equal),
        *(f"{name} found the same network" for name in found.same),
    ]


def _next(direction: Mapping[str, Any]) -> Html:
    command = direction.get("command")
    return join(
        str(direction.get("advice", "")),
        tag("br") if command else None,
        tag("code", str(command)) if command else None,
    )


def _nothing(facts: Facts) -> str:
    if facts.get("explanation") is None:
        return "Export or serve it; the commands are at the end."
    return "Nothing in this search asks for another one: export or serve it."


def next_section(facts: Facts) -> Html | None:
    """Return the directions of improvement, each with its evidence and a command."""
    found = _directions(facts)
    if not found:
        return None
    return join(
        tag(
            "p",
            "From evidence in this search alone, the most urgent first. A difference counts only "
            "where it is larger than chance makes it.",
        ),
        *(_direction(direction) for direction in found),
    )


def _direction(direction: Mapping[str, Any]) -> Html:
    evidence = direction.get("evidence")
    numbers = evidence.items() if isinstance(evidence, Mapping) else ()
    command, program = direction.get("command"), direction.get("program")
    return join(
        tag("h3", str(direction.get("advice", ""))),
        tag("p", str(direction.get("finding", ""))),
        tag("div", tag("div", tag("code", str(command))), class_="commands") if command else None,
        tag("pre", tag("code", str(program))) if program else None,
        folded(
            "The numbers",
            pairs([(str(k).replace("_", " "), _figure(v)) for k, v in numbers]),
        ),
    )


def _figure(value: object) -> str:
    number = finite(value)
    if number is None:
        return str(value)
    return count(number) if number.is_integer() else f"{number:.4g}"


def decisions_section(facts: Facts, charts: Charts) -> Html | None:
    """Return which decisions matter."""
    importance = facts.get("explanation", "importance")
    if not isinstance(importance, Mapping):
        return None
    note = str(importance.get("note", ""))
    about = tag("p", f"{note[:1].upper()}{note[1:]}.")
    if not records(importance, "main"):
        return about
    epochs = facts.get("explanation", "fidelity")
    name = label(str(importance.get("metric", "")))
    shares = charts.place(
        importance_figures(importance),
        f"Share of the variance of {name} over the whole space that each decision explains by "
        "itself, and each pair beyond both (functional ANOVA; lines: standard deviation over "
        f"trees).{f' From trainings of {epochs} epochs.' if epochs else ''}",
        "effects of",
    )
    effects = charts.place(
        effect_figures(importance),
        f"Mean {name} over all architectures with each option, as the forest predicts it (lines: "
        "standard deviation over trees).",
        "decision",
    )
    if importance.get("trusted"):
        return join(about, shares, effects)
    return join(about, folded("The shares all the same", shares, effects))


def changes_section(facts: Facts, charts: Charts) -> Html | None:
    """Return what each one change to the winner would do."""
    changes = records(facts.result, "explanation", "changes")
    if not changes:
        return None
    name = str(facts.get("explanation", "importance", "metric") or "")
    known = [row for row in changes if finite(row.get("gain")) is not None]
    measured = sum(bool(row.get("measured")) for row in known)
    error = finite(facts.get("explanation", "changes_error"))
    off = f", with a typical error of {_gain(name, error, '')}" if error is not None else ""
    in_all = int(facts.get("explanation", "changes_in_all") or len(changes))
    said = (
        f"{plural(in_all, 'network')} {'differs' if in_all == 1 else 'differ'} from the winner in "
        "one decision. "
        + (
            f"Of those shown, {count(measured)} were measured in the search; for "
            f"{count(len(known) - measured)} the effect is predicted{off}."
            if known
            else "None of those shown was measured, and there is too little to predict them."
        )
    )
    drawn = change_figure(name, changes)
    rows = [_change(name, row) for row in changes]
    columns = ["decision", "from", "to", label(name), "how known", "parameters", "MACs"]
    listed = table(
        columns,
        rows,
        "One-change neighbours of the winner, the most promising first.",
        numbers=columns[3:4] + columns[5:],
    )
    about = f"Change in {label(name)} by one decision (lines: standard deviation over trees)."
    place = charts.place({"": drawn}, about) if drawn else None
    shown = len(changes)
    which = f"All {shown} of them" if shown >= in_all else f"The {shown} most promising"
    return join(tag("p", said), place, folded(which, listed))


def _change(name: str, row: Mapping[str, Any]) -> Html:
    drawn = finite(row.get("drawn")) or 0
    more = tag("small", f"and {plural(int(drawn), 'decision')} below it") if drawn else None
    trial = finite(row.get("trial"))
    known = f"trial {count(trial)}" if trial is not None else "predicted"
    if finite(row.get("gain")) is None:
        known = NONE
    return tag(
        "tr",
        tag("td", tag("code", str(row.get("decision"))), more),
        tag("td", _text(row.get("before"))),
        tag("td", _text(row.get("after"))),
        tag("td", _gain(name, row.get("gain")), class_="number"),
        tag("td", known),
        *(tag("td", _more(row.get(cost)), class_="number") for cost in ("params", "macs")),
    )


def _text(option: object) -> str:
    return ", ".join(map(str, option)) if isinstance(option, list | tuple) else str(option)


def _gain(name: str, value: object, sign: str = "+") -> str:
    number = finite(value)
    if number is None:
        return NONE
    return f"{100 * number:{sign}.2f} points" if is_share(name) else f"{number:{sign}.3g}"


def _more(value: object) -> str:
    number = finite(value)
    if number is None:
        return NONE
    return f"{'+' if number > 0 else '−' if number < 0 else ''}{amount(abs(number))}"


def trades_section(facts: Facts) -> Html | None:
    """Return what the front trades, in sentences and a table for each cost."""
    found = records(facts.result, "explanation", "tradeoffs")
    if not found:
        return None
    first = facts.study.objectives[0].metric
    lines = [tag("li", _trade(first, row)) for row in found]
    return join(
        tag("ul", lines, class_="notes"),
        folded("The fronts", *(_front(first, row) for row in found)),
    )


def _trade(first: str, row: Mapping[str, Any]) -> str:
    trials, values, costs = row["trials"], row["values"], row["costs"]
    cost, knee, level = str(row["cost"]), row.get("knee"), row.get("level")
    name = label(cost)
    turn = len(trials) - 1 if knee is None else int(knee)
    what = "the knee of the front" if knee is not None else "the cheapest of the front"
    gain = _gain(first, row.get("gain"), "")
    text = (
        f"{name[:1].upper()}{name[1:]}: the last {gain} cost {finite(row.get('factor')) or 0:.1f} "
        f"times as much: {metric(cost, costs[0])} for {metric(first, values[0])} (trial "
        f"{trials[0]}), {metric(cost, costs[turn])} for {metric(first, values[turn])} (trial "
        f"{trials[turn]}, {what})."
    )
    if level:
        text += (
            f" Trial {trials[level]} is within one standard error of the best for "
            f"{metric(cost, costs[level])}."
        )
    return text


def _front(first: str, row: Mapping[str, Any]) -> Html:
    cost = str(row["cost"])
    places = zip(row["trials"], row["values"], row["costs"], strict=True)
    columns = ["trial", label(first), label(cost), "times the cheapest"]
    return table(
        columns,
        [
            tag(
                "tr",
                tag("td", trial, class_="number"),
                tag("td", metric(first, value), class_="number"),
                tag("td", metric(cost, spent), class_="number"),
                tag("td", f"{spent / row['costs'][-1]:.1f}", class_="number"),
            )
            for trial, value, spent in places
        ],
        f"The front of {label(first)} against {label(cost)}, as measured in the search.",
        numbers=columns,
    )


def _directions(facts: Facts) -> list[Mapping[str, Any]]:
    return records(facts.result, "explanation", "directions")
