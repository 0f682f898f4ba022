"""The section of the report on the supernet, where a search has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parti.reports.charts import Charts
from parti.reports.facts import Facts, records
from parti.reports.figures_supernet import (
    agreement_figures,
    supernet_figures,
    trajectory_figures,
)
from parti.reports.formats import (
    amount,
    count,
    duration,
    finite,
    label,
    metric,
    percent,
    plural,
)
from parti.reports.markup import Html, join, tag
from parti.reports.tables import decisions_table, pairs

__all__ = ["supernet_section"]


def supernet_section(facts: Facts, charts: Charts) -> Html | None:
    """Return what there is to say of the supernet; None when there was none."""
    supernet = facts.get("supernet")
    if not isinstance(supernet, Mapping):
        return None
    return join(
        pairs(_rows(facts, supernet)),
        charts.place(
            supernet_figures(supernet.get("curves") or {}),
            "Training of the supernet, epoch by epoch. Metrics of validation images are those of "
            "what would be derived at that moment, with inherited weights.",
            "metric",
        ),
        _trajectories(supernet, charts),
        _derived(supernet),
        _agreement(supernet, charts),
    )


def _rows(facts: Facts, supernet: Mapping[str, Any]) -> list[tuple[str, Any]]:
    owner, epochs = supernet.get("study"), finite(supernet.get("epochs"))
    planned, images = finite(supernet.get("planned_epochs")), finite(supernet.get("images"))
    length = plural(int(epochs), "epoch") if epochs else ""
    if epochs and planned and epochs < planned:  # the recipe has stopped by itself
        length = f"{count(epochs)} of {count(planned)} planned epochs, each"
    each = f"{length} of {count(images)} images" if length and images else length
    took = finite(supernet.get("seconds"))
    held = finite(supernet.get("held"))
    training = supernet.get("training") or {}
    shown = ", ".join(f"{name} = {value}" for name, value in training.items())
    choices, params = finite(supernet.get("choices")), finite(supernet.get("params"))
    return [
        ("Recipe", tag("strong", str(supernet.get("recipe", "")))),
        ("Paper", str(supernet["paper"]) if supernet.get("paper") else None),
        (
            "Trained by",
            join("study ", tag("code", str(owner)))
            if owner and owner != facts.study.name
            else None,
        ),
        ("Shared", tag("code", str(supernet["space"])) if supernet.get("space") else None),
        ("State", "still being trained" if supernet.get("running") else None),
        ("Choices", count(choices) if choices is not None else None),
        ("Parameters", amount(params) if params is not None else None),
        ("Trained", f"{each}, in {duration(took)}" if each and took is not None else each or None),
        ("Stopped early", f"in {missing}" if (missing := supernet.get("missing")) else None),
        ("Held out", f"{percent(held)} of them, for architecture parameters" if held else None),
        ("How", tag("span", shown, class_="settings") if shown else None),
    ]


def _trajectories(supernet: Mapping[str, Any], charts: Charts) -> Html | None:
    figures = trajectory_figures(records(supernet, "trajectories"))
    place = charts.place(
        figures,
        "How strong the supernet thought options to be, epoch by epoch: of each choice the one "
        "that is strongest in the end, or one option in all choices that have it.",
        "option",
    )
    return join(tag("h3", "Architecture parameters"), place) if place else None


def _derived(supernet: Mapping[str, Any]) -> Html | None:
    derived = supernet.get("derived")
    if not isinstance(derived, Mapping):
        return None
    text, architecture = derived.get("genotype"), derived.get("architecture")
    measured = derived.get("metrics")
    named = measured.items() if isinstance(measured, Mapping) else ()
    found = ((name, value) for name, value in named if finite(value) is not None)
    shown = [f"{label(name)} {metric(name, value)}" for name, value in found]
    return join(
        tag("h3", "What it derives"),
        tag("p", tag("code", str(text))) if text else None,
        tag("p", f"As the search measured it: {', '.join(shown)}.") if shown else None,
        decisions_table(architecture) if isinstance(architecture, Mapping) else None,
    )


def _agreement(supernet: Mapping[str, Any], charts: Charts) -> Html | None:
    rows = records(supernet, "agreement")
    if not rows:
        return None
    items = []
    for row in rows:
        tau, best = finite(row.get("kendall")), finite(row.get("kendall_best"))
        judge = label(str(row.get("metric") or "val_accuracy"))
        text = f"{row.get('what', '')} (by {judge}, n = {count(row.get('n'))}): "
        text += f"Kendall's tau {tau:.2f}" if tau is not None else "no order to compare"
        if best is not None:
            text += f"; among the best {count(row.get('n_best'))}, {best:.2f}"
        items.append(tag("li", text))
    return join(
        tag("h3", "How well inherited weights rank"),
        tag("ul", items, class_="notes"),
        charts.place(
            agreement_figures(rows),
            "What is measured with the weights of the supernet against that of the same network "
            "trained by itself. Tau: 1 is the same order, 0 none, -1 the reverse.",
            "networks",
        ),
    )
