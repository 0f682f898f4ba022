"""The tables of the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from parti.core.study import Study
from parti.core.trial import State, Trial
from parti.reports.analysis import COSTS, first_line, front_against
from parti.reports.facts import Facts, look_up, records
from parti.reports.formats import (
    NONE,
    amount,
    duration,
    finite,
    label,
    mean_spread,
    metric,
    percent,
    shape,
)
from parti.reports.markup import Child, Html, join, tag

__all__ = [
    "baselines_table",
    "classes_table",
    "decisions_table",
    "modules_table",
    "not_measured",
    "pairs",
    "table",
    "trials_table",
]

_REASON = 110  # letters of a reason that are shown before it is folded


def table(
    columns: Sequence[str],
    rows: Iterable[Html],
    caption: str,
    *,
    numbers: Iterable[str] = (),
    sortable: bool = False,
) -> Html:
    """Return a table in a frame that scrolls when it must.

    Args:
        columns: their headings.
        rows: as made by `_row`.
        caption: says what is in it; it also names the frame for a screen reader.
        numbers: headings of the columns that hold numbers.
        sortable: whether a click on a heading sorts it.
    """
    right = set(numbers)
    heads = [
        tag(
            "th",
            tag("button", name, type="button") if sortable else name,
            scope="col",
            class_="number" if name in right else None,
        )
        for name in columns
    ]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", tag("span", caption)),
            tag("thead", tag("tr", heads)),
            tag("tbody", *rows),
            class_="sortable" if sortable else None,
        ),
        class_="frame",
        tabindex=0,
        role="region",
        aria_label=caption,
    )


def _row(*cells: Html, kind: str | None = None) -> Html:
    return tag("tr", cells, class_=kind)


def _number(shown: Child, value: Any = None) -> Html:
    """A cell that holds a number; `value` is what it is sorted by."""
    number = finite(value)
    return tag(
        "td", shown, class_="number", data_value=None if number is None else f"{number:.12g}"
    )


def pairs(rows: Iterable[tuple[Child, Child]], kind: str = "pairs") -> Html:
    """Return a list of names and what they mean."""
    return tag(
        "dl",
        [
            tag("div", tag("dt", name), tag("dd", value))
            for name, value in rows
            if value is not None
        ],
        class_=kind,
    )


def not_measured(found: object, what: str) -> Html | None:
    """Return a line on what could not be measured, and why; None where no error stands for it.

    Args:
        found: a part of the result, or `{"error": ...}`.
        what: should have been measured, as a sentence begins with it.
    """
    error = look_up(found, "error")
    if not error:
        return None
    return tag("p", f"{what} could not be measured: {first_line(str(error))}", class_="note")


def trials_table(study: Study, trials: Sequence[Trial], winner: int | None) -> Html:
    """Return the table of all trials: numbers where there are any, reasons where not."""
    names = _trial_metrics(study, trials)
    staged = any(trial.proposal.fidelity is not None for trial in trials)
    front: set[int] = set()
    for cost in COSTS:
        if cost != study.objectives[0].metric:
            front.update(trial.number for trial in front_against(study, trials, cost))
    headings = ["trial", "outcome", *map(label, names), "time"]
    numbers = ["trial", *map(label, names), "time", "epochs"]
    if staged:
        headings.append("epochs")
    rows = []
    for trial in sorted(trials, key=lambda t: t.number):
        outcome = _outcome(study, trial, winner, front)
        cells = [_number(trial.number, trial.number), tag("td", outcome)]
        cells += [_number(metric(n, trial.metric(n)), trial.metric(n)) for n in names]
        cells.append(_number(duration(trial.seconds or None), trial.seconds))
        if staged:
            cells.append(_number(trial.proposal.fidelity or NONE, trial.proposal.fidelity))
        cells.append(tag("td", tag("code", trial.architecture.fingerprint)))
        rows.append(_row(*cells, kind="winner" if trial.number == winner else None))
    return table(
        [*headings, "fingerprint"],
        rows,
        "All trials. Choose a heading to sort.",
        numbers=numbers,
        sortable=True,
    )


def _trial_metrics(study: Study, trials: Sequence[Trial]) -> list[str]:
    measured = {name for trial in trials for name in trial.metrics}
    asked = [objective.metric for objective in study.objectives]
    asked += [constraint.metric for constraint in study.constraints]
    wanted = dict.fromkeys([*asked, *COSTS])
    return [name for name in wanted if name in measured]


def _outcome(study: Study, trial: Trial, winner: int | None, front: set[int]) -> Html:
    if trial.number == winner:
        return tag("span", "★ winner", class_="mark winner")
    if trial.number in front:
        return tag("span", "● Pareto front", class_="mark front")
    if trial.state is State.DONE and not study.feasible(trial):
        broken = [str(c) for c in study.constraints if not c.allows(trial.metric(c.metric))]
        return tag("span", "○ breaks ", ", ".join(broken), class_="mark lost")
    if trial.state in (State.FAILED, State.REJECTED):
        reason = first_line(trial.error) or "no reason was recorded"
        mark = tag("span", f"× {trial.state.value}", class_="mark lost")
        if reason == (trial.error or reason).strip() and len(reason) <= _REASON:
            return join(mark, tag("small", reason))
        start = reason if len(reason) <= _REASON else f"{reason[: _REASON - 1]}…"
        return join(mark, tag("details", tag("summary", start), tag("pre", trial.error)))
    return tag("span", trial.state.value, class_="mark")


def decisions_table(architecture: Mapping[str, Any]) -> Html:
    """Return every decision of an architecture, by the part of the network it is about."""
    rows, before = [], None
    for name, option in architecture.items():
        part, _, last = str(name).rpartition("/")
        shown = ", ".join(map(str, option)) if isinstance(option, list | tuple) else str(option)
        place = tag("td", tag("code", part) if part and part != before else "")
        rows.append(_row(place, tag("td", last), tag("td", tag("code", shown))))
        before = part
    return table(["part", "choice", "option"], rows, "The decisions that make the winner.")


def modules_table(modules: Sequence[Mapping[str, Any]]) -> Html:
    """Return the modules of a network with what they cost."""
    total = sum(finite(row.get("macs")) or 0.0 for row in _operations(modules))
    rows = []
    for row in modules:
        macs = finite(row.get("macs"))
        share = macs / total if macs and total else 0.0
        bar = tag("span", class_="meter", style=f"--share:{100 * min(1.0, share):.1f}%")
        rows.append(
            _row(
                tag("td", tag("code", str(row.get("name", "")))),
                tag("td", str(row.get("type", ""))),
                _number(shape(row.get("output"))),
                _number(amount(row.get("params")), row.get("params")),
                _number(join(bar, amount(macs)), macs),
            )
        )
    return table(
        ["module", "type", "output", "parameters", "MACs"],
        rows,
        "Modules in order of execution; shapes are channels first, without the batch.",
        numbers=["output", "parameters", "MACs"],
    )


def _operations(modules: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that hold no other rows, so that nothing is counted twice."""
    parents = {str(row.get("name", "")).rpartition(".")[0] for row in modules}
    return [row for row in modules if str(row.get("name", "")) not in parents]


def classes_table(metrics: Mapping[str, Any]) -> Html | None:
    """Return precision, recall and F1 of every class; None when they were not measured."""
    names = ("precision", "recall", "f1")
    rows = [
        _row(
            tag("th", str(row.get("class", "")), scope="row"),
            *(_number(percent(row.get(name)), row.get(name)) for name in names),
            _number(amount(row.get("support")), row.get("support")),
        )
        for row in records(metrics, "per_class")
    ]
    if not rows:
        return None
    headings = [label(name) for name in names]
    return table(
        ["class", *headings, "samples"],
        rows,
        "Test metrics of each class. Choose a heading to sort.",
        numbers=[*headings, "samples"],
        sortable=True,
    )


def baselines_table(facts: Facts) -> Html:
    """Return the winner and the baselines with everything that was measured of them."""
    rows = []
    for rival in facts.rivals:
        record = rival.record
        listed = rival.seeds or ((rival.accuracy,) if rival.accuracy is not None else ())
        low_high = (
            f"{percent(rival.interval[0])} – {percent(rival.interval[1])}"
            if rival.interval
            else NONE
        )
        rows.append(
            _row(
                tag(
                    "th", rival.name, tag("small", rival.note) if rival.note else None, scope="row"
                ),
                _number(mean_spread(listed)),
                _number(low_high),
                _number(percent(record.get("val_accuracy"))),
                _number(amount(record.get("params"))),
                _number(amount(record.get("macs"))),
                _number(metric("latency_ms", record.get("latency_ms"))),
                _number(_spent(facts, rival.winner, record)),
                kind="winner" if rival.winner else None,
            )
        )
    headings = ["test accuracy", "95 % interval", "validation", "parameters", "MACs", "latency"]
    return table(
        ["network", *headings, "trials"],
        rows,
        "The winner and the baselines on the same test split; ± is over seeds.",
        numbers=[*headings, "trials"],
    )


def _spent(facts: Facts, winner: bool, record: Mapping[str, Any]) -> str:
    trials = look_up(facts.result, "cost", "trials") if winner else record.get("trials")
    return NONE if trials is None else amount(trials)
