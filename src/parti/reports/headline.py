"""The head of the report: what was asked and found, in a minute's reading."""

from __future__ import annotations

from collections.abc import Sequence

from parti.reports.analysis import Summary
from parti.reports.blocks import blocks
from parti.reports.diagram import plan
from parti.reports.facts import Facts, Rival, records
from parti.reports.formats import (
    amount,
    count,
    duration,
    finite,
    goal,
    label,
    limit,
    mean_spread,
    metric,
    moment,
    percent,
    plural,
)
from parti.reports.markup import Child, Html, join, tag
from parti.reports.standing import verdict

__all__ = ["claim", "headline"]


def headline(facts: Facts) -> Html:
    """Return the head: title, summary in words, key numbers, and the baselines beside them."""
    return tag(
        "header",
        tag("p", _eyebrow(facts), class_="eyebrow"),
        plan(blocks(records(facts.best, "modules"))),
        tag("h1", claim(facts)),
        tag("p", _asked(facts), " ", _done(facts), class_="lead"),
        _notice(facts),
        _tiles(facts),
        _side_by_side(facts),
        id="summary",
    )


def claim(facts: Facts) -> str:
    """Return the result in one line."""
    best, summary = facts.best, facts.summary
    name = facts.study.objectives[0].metric
    for found in ("test_accuracy", name):
        if (value := finite(best.get(found))) is not None:
            size = finite(best.get("params"))
            tail = f" with {amount(size)} parameters" if size is not None else ""
            return f"{metric(found, value)} {label(found)}{tail}"
    if summary.best is not None:
        return f"{metric(name, summary.best.metric(name))} {label(name)} so far"
    if not facts.finished and facts.get("finished") is None:
        return "Searching: no network to show yet"
    if summary.done:
        return "No network kept to the limits"
    return "No network could be measured"


def _eyebrow(facts: Facts) -> str:
    when = facts.get("finished") or facts.get("started")
    return " · ".join(["parti report", facts.study.name, *([moment(when)] if when else [])])


def _asked(facts: Facts) -> str:
    study = facts.study
    goals = " and ".join(f"the {goal(o.metric, o.goal)}" for o in study.objectives)
    limits = [
        limit(c.metric, words, value)
        for c in study.constraints
        for words, value in (("at most", c.at_most), ("at least", c.at_least))
        if finite(value) is not None
    ]
    data = facts.get("data", "name")
    images, classes = facts.get("data", "images"), len(facts.classes)
    size = (
        f" ({count(images)} samples, {plural(classes, 'class').replace('classs', 'classes')})"
        if images and classes
        else ""
    )
    return "".join(
        [
            f"Asked for {goals}",
            f" with {' and '.join(limits)}" if limits else "",
            f" on {data}{size}" if data else "",
            ",",
        ]
    )


def _done(facts: Facts) -> str:
    s: Summary = facts.summary
    hardware = facts.get("cost", "hardware")
    spent = finite(facts.get("cost", "search_seconds")) or s.seconds
    if not (ended := s.done + s.failed):
        return f"parti has not trained a network yet{_aside(s)}."
    where = f" on {hardware}" if hardware else ""
    if facts.inherits:
        trained = finite(facts.get("supernet", "seconds"))
        before = f"trained a supernet in {duration(trained)} and " if trained else ""
        return (
            f"parti {before}measured {plural(ended, 'network')} with its weights in "
            f"{duration(spent)}{where}{_aside(s)}."
        )
    return f"parti trained {plural(ended, 'network')} in {duration(spent)}{where}{_aside(s)}."


def _aside(summary: Summary) -> str:
    notes = []
    if summary.failed:
        notes.append(f"{count(summary.failed)} of them failed")
    if summary.rejected:
        notes.append(f"{count(summary.rejected)} more broke a limit and were not trained")
    return f" ({'; '.join(notes)})" if notes else ""


def _notice(facts: Facts) -> Html | None:
    """Say what is still to come, or what went wrong; nothing when all is done and well."""
    s = facts.summary
    if facts.finished:
        if facts.best:
            return None
        reasons = "; ".join(f"{reason} ({count(n)}×)" for reason, n in s.reasons[:3])
        why = f" Most frequent reasons: {reasons}." if reasons else ""
        return tag("p", f"There is no winner.{why}", class_="notice")
    if facts.get("status") == "training finalists":
        text = "The search is over; the finalists are being trained in full."
    else:
        limit = facts.study.budget.trials
        of = f" of {count(limit)}" if limit else ""
        text = f"The search is still running: {count(s.done + s.failed)}{of} trials have ended."
    left = " The test split has not been opened yet." if "test_accuracy" not in facts.best else ""
    when = f" Written {moment(facts.written)}."
    return tag("p", f"{text}{left}{when}", class_="notice", role="status")


def _tile(name: str, value: Child, note: Child) -> Html:
    return tag("div", tag("dt", name), tag("dd", value), tag("dd", note, class_="note"))


def _tiles(facts: Facts) -> Html | None:
    best = facts.best
    tiles = []
    winner = facts.rivals[0] if best else None
    if winner and winner.accuracy is not None:
        tiles.append(
            _tile("Test accuracy", percent(winner.accuracy), _accuracy_note(facts, winner))
        )
    elif finite(best.get("val_accuracy")) is not None:
        note = "on the validation split"
        tiles.append(_tile("Validation accuracy", percent(best["val_accuracy"]), note))
    elif (trial := facts.summary.best) is not None:
        name = facts.study.objectives[0].metric
        note = f"trial {trial.number}, as measured in the search"
        tiles.append(_tile(f"Best {label(name)}", metric(name, trial.metric(name)), note))
        best = trial.metrics
    if finite(best.get("params")) is not None:
        memory = finite(best.get("activation_bytes"))
        note = (
            f"{metric('activation_bytes', memory)} of activations" if memory else "weights to store"
        )
        tiles.append(_tile("Parameters", amount(best["params"]), note))
    if finite(best.get("macs")) is not None:
        tiles.append(_tile("MACs", amount(best["macs"]), "multiply-accumulates per sample"))
    if finite(best.get("latency_ms")) is not None:
        note = str(facts.best.get("latency_conditions") or "conditions not recorded")
        tiles.append(_tile("Latency", metric("latency_ms", best["latency_ms"]), note))
    total = finite(facts.get("cost", "total_seconds")) or facts.summary.seconds
    if facts.trials:
        note = str(facts.get("cost", "hardware") or "time spent on trials")
        tiles.append(_tile("Cost", duration(total), note))
    return tag("dl", tiles, class_="tiles") if tiles else None


def _accuracy_note(facts: Facts, winner: Rival) -> str:
    parts = []
    if facts.tested:
        parts.append(f"n = {count(facts.tested)}")
    if winner.interval:
        parts.append(
            f"95 % interval {percent(winner.interval[0])} to {percent(winner.interval[1])}"
        )
    if len(winner.seeds) > 1:
        parts.append(f"{len(winner.seeds)} seeds: {mean_spread(winner.seeds)}")
    return "; ".join(parts) or "on the test split"


def _side_by_side(facts: Facts) -> Html | None:
    rivals = [rival for rival in facts.rivals if rival.accuracy is not None]
    if len(rivals) < 2:
        return None
    low, high = _range(rivals)
    rows = [
        tag(
            "tr",
            tag("th", rival.name, scope="row"),
            tag("td", _strip(rival, low, high), class_="strip"),
            tag("td", percent(rival.accuracy), class_="number"),
            tag("td", amount(rival.record.get("params")), class_="number wide"),
            tag("td", metric("latency_ms", rival.record.get("latency_ms")), class_="number wide"),
            class_="winner" if rival.winner else None,
        )
        for rival in rivals
    ]
    axis = tag("span", tag("span", percent(low, 0)), tag("span", percent(high, 0)), class_="axis")
    return tag(
        "section",
        tag("h2", verdict(rivals), class_="verdict"),
        tag(
            "table",
            tag(
                "thead",
                tag(
                    "tr",
                    tag("th", tag("span", "network", class_="hidden"), scope="col"),
                    tag("th", axis, scope="col", class_="strip", aria_label="test accuracy, drawn"),
                    tag("th", "test", scope="col", class_="number"),
                    tag("th", "parameters", scope="col", class_="number wide"),
                    tag("th", "latency", scope="col", class_="number wide"),
                ),
            ),
            tag("tbody", rows),
            class_="versus",
        ),
        tag(
            "p",
            "Line: 95 % interval of the test accuracy; ring: one seed. Level: they differ by no "
            "more than chance makes it in 95 of 100 cases.",
            class_="note",
        ),
    )


def _range(rivals: Sequence[Rival]) -> tuple[float, float]:
    values = [
        v for r in rivals for v in (r.accuracy, *r.seeds, *(r.interval or ())) if v is not None
    ]
    low, high = min(values), max(values)
    room = max(0.005, 0.04 * (high - low))
    return max(0.0, low - room), min(1.0, high + room)


def _strip(rival: Rival, low: float, high: float) -> Html:
    def at(value: float) -> str:
        return f"{100 * (value - low) / ((high - low) or 1):.2f}%"

    line = None
    if rival.interval:
        width = f"calc({at(rival.interval[1])} - {at(rival.interval[0])})"
        line = tag("i", class_="line", style=f"left:{at(rival.interval[0])};width:{width}")
    seeds = [tag("i", class_="seed", style=f"left:{at(seed)}") for seed in rival.seeds]
    dot = tag("i", class_="dot", style=f"left:{at(rival.accuracy or 0)}")
    return join(tag("span", line, seeds, dot, class_="track", aria_hidden="true"))
