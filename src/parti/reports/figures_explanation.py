"""Figures of what a search teaches: which decisions matter, and what changes would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parti.reports.figures import (
    BLUE,
    ORANGE,
    SOFT,
    Figure,
    change_axis,
    figure,
    measure_axis,
    plain,
    points,
)
from parti.reports.formats import finite

__all__ = ["change_figure", "effect_figures", "importance_figures"]

SHOWN = 12
"""So many bars, the largest ones."""

EFFECTS = 6
"""So many decisions have a figure of what each option does."""

LETTERS = 38
"""Longer names are cut at their beginning, which names the place."""


def importance_figures(importance: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the shares of variance of decisions, and of pairs, with their spread over trees."""
    found = {}
    for name, key in (("decisions", "main"), ("pairs", "pairs")):
        rows = [r for r in importance.get(key) or () if (finite(r.get("share")) or 0) > 0][:SHOWN]
        if rows:
            found[name] = _bars(
                [" × ".join(map(short, row["decisions"])) for row in rows],
                [float(row["share"]) for row in rows],
                [finite(row.get("spread")) or 0.0 for row in rows],
            )
    return found


def effect_figures(importance: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the mean of the metric for each option of the decisions that matter most."""
    metric = str(importance.get("metric", ""))
    found = {}
    for row in (importance.get("main") or ())[:EFFECTS]:
        options, means = row.get("options") or (), row.get("means") or ()
        if not options or len(options) != len(means):
            continue
        bars = {"type": "data", "array": row.get("spreads"), "color": SOFT, "thickness": 1.2}
        trace = points(
            "",
            [plain(_option(option)) for option in options],
            list(means),
            marker={"color": BLUE, "size": 10},
            error_y=bars,
            hovertemplate="%{x}: %{y}<extra></extra>",
        )
        x = {"type": "category", "title": {"text": plain(row["decisions"][0])}}
        found[short(row["decisions"][0])] = figure([trace], x, measure_axis(metric), 300)
    return found


def change_figure(metric: str, changes: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw by how much each change to the winner would move the metric."""
    rows = [row for row in changes if finite(row.get("gain")) is not None][:SHOWN]
    if not rows:
        return None
    names = [
        f"{short(r['decision'])}: {_option(r['before'])} → {_option(r['after'])}" for r in rows
    ]
    traces = []
    for name, colour, measured in (("measured", ORANGE, True), ("predicted", BLUE, False)):
        own = [n for n, row in enumerate(rows) if bool(row.get("measured")) is measured]
        if own:
            spread = [finite(rows[n].get("spread")) or 0.0 for n in own]
            traces.append(
                points(
                    name,
                    [rows[n]["gain"] for n in own],
                    [plain(names[n]) for n in own],
                    marker={"color": colour, "size": 10},
                    error_x={"type": "data", "array": spread, "color": SOFT, "thickness": 1.2},
                    hovertemplate="%{y}: %{x}<extra></extra>",
                )
            )
    x = {**change_axis(metric), "zeroline": True, "zerolinecolor": SOFT}
    order = [plain(name) for name in names]
    y = {"type": "category", "autorange": "reversed", "categoryarray": order}
    y["categoryorder"] = "array"
    return figure(traces, x, y, _height(len(rows)))


def short(name: object) -> str:
    """Return the end of a long name of a decision."""
    text = str(name)
    return text if len(text) <= LETTERS else f"…{text[1 - LETTERS :]}"


def _bars(names: list[str], values: list[float], spreads: list[float]) -> Figure:
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": [plain(name) for name in names],
        "marker": {"color": BLUE},
        "error_x": {"type": "data", "array": spreads, "color": SOFT, "thickness": 1.2},
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    x = {"title": {"text": "share of variance"}, "tickformat": ".0%", "rangemode": "tozero"}
    y = {"type": "category", "autorange": "reversed"}
    return figure([trace], x, y, _height(len(names)), showlegend=False)


def _height(rows: int) -> int:
    return 96 + 26 * rows


def _option(option: object) -> str:
    return ", ".join(map(str, option)) if isinstance(option, list | tuple) else str(option)
