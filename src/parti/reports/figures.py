"""Plotly figures as plain dicts.

Colours are written as names of the page's CSS variables, `var(--blue)`: the page's script puts
in their values, so that figures follow the light and the dark scheme. Texts of the user are
escaped, because plotly reads a little HTML in texts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from parti.core.study import Study
from parti.core.trial import State, Trial
from parti.reports.analysis import front_against, progress
from parti.reports.facts import records
from parti.reports.formats import finite, is_share, label, metric

__all__ = ["COSTS", "balance", "confusion", "curves", "pareto", "progress_figures"]

Figure = dict[str, Any]

COSTS = ("params", "macs", "latency_ms", "activation_bytes", "energy_mj")
"""The metrics that accuracy is set against, in this order."""

_BLUE, _ORANGE, _GREEN = "var(--blue)", "var(--orange)", "var(--green)"
_INK, _SOFT, _LINE, _PAPER = "var(--ink)", "var(--soft)", "var(--line)", "var(--paper)"


def _figure(data: list[Figure], x: Figure, y: Figure, height: int = 380, **layout: Any) -> Figure:
    axis = {
        "gridcolor": _LINE,
        "linecolor": _LINE,
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": _LINE,
        "ticklen": 4,
    }
    base = {
        "height": height,
        "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": _SOFT, "size": 13},
        "hoverlabel": {"bgcolor": _PAPER, "bordercolor": _LINE, "font": {"color": _INK}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "hovermode": "closest",
        "xaxis": {**axis, "showgrid": False, **x},
        "yaxis": {**axis, **y},
    }
    return {"data": data, "layout": {**base, **layout}}


def _title(name: str) -> Figure:
    return {"title": {"text": _text(label(name)), "standoff": 10}}


def _measure(name: str) -> Figure:
    """The axis of a metric: its name, and per cent where it is a share."""
    if is_share(name):
        return {**_title(name), "tickformat": ".1~%"}
    return {**_title(name), "tickformat": "~s"}


def _text(value: object) -> str:
    return escape(str(value), quote=False)


def _scatter(name: str, x: Sequence[Any], y: Sequence[Any], **more: Any) -> Figure:
    return {"type": "scatter", "mode": "markers", "name": name, "x": x, "y": y, **more}


_HOVER = {"hovertemplate": "%{text}<extra></extra>"}


def _about(trial: Trial, names: Sequence[str]) -> str:
    values = [
        f"{_text(label(name))}: {_text(metric(name, trial.metrics[name]))}"
        for name in names
        if name in trial.metrics
    ]
    return "<br>".join([f"<b>trial {trial.number}</b>", *values])


def progress_figures(study: Study, trials: Sequence[Trial]) -> dict[str, Figure]:
    """Draw every trial and the best so far, over trials and over the time spent.

    Returns:
        A figure for each way to count; empty when no trial was measured.
    """
    steps = progress(study, trials)
    name = study.objectives[0].metric
    if not any(step.value is not None for step in steps):
        return {}
    ways = {
        "by trial": ([s.trial.number for s in steps], "trial"),
        "by time spent": ([s.seconds / 60 for s in steps], "minutes spent, summed over workers"),
    }
    found = {}
    for way, (positions, title) in ways.items():
        data = [
            _scatter(
                "best so far",
                [x for x, s in zip(positions, steps, strict=True) if s.best is not None],
                [s.best for s in steps if s.best is not None],
                mode="lines",
                line={"shape": "hv", "color": _ORANGE, "width": 2.5},
                hoverinfo="skip",
            )
        ]
        for kind, wanted, marker in (
            ("trial", True, {"color": _BLUE, "size": 8, "opacity": 0.75}),
            ("breaks a limit", False, {"color": _SOFT, "size": 8, "symbol": "circle-open"}),
        ):
            shown = [
                (x, s)
                for x, s in zip(positions, steps, strict=True)
                if s.value is not None and s.feasible is wanted
            ]
            if shown:
                data.append(
                    _scatter(
                        kind,
                        [x for x, _ in shown],
                        [s.value for _, s in shown],
                        text=[_about(s.trial, (name, *COSTS)) for _, s in shown],
                        marker=marker,
                        **_HOVER,
                    )
                )
        lost = [
            (x, s)
            for x, s in zip(positions, steps, strict=True)
            if s.trial.state in (State.FAILED, State.REJECTED)
        ]
        if lost:
            floor = min(s.value for s in steps if s.value is not None)
            data.append(
                _scatter(
                    "failed or rejected",
                    [x for x, _ in lost],
                    [floor] * len(lost),
                    text=[f"{_about(s.trial, ())}: {s.trial.state.value}" for _, s in lost],
                    marker={"color": _SOFT, "size": 8, "symbol": "x-thin-open"},
                    **_HOVER,
                )
            )
        found[way] = _figure(data, {"title": {"text": title}}, _measure(name))
    return found


def pareto(
    study: Study, trials: Sequence[Trial], winner: int | None, baselines: Sequence[Mapping[str, Any]]
) -> dict[str, Figure]:
    """Draw the first objective against every cost that was measured.

    Args:
        study: gives the objective and the limits.
        trials: all of them.
        winner: number of the trial that won, if there is one.
        baselines: records with `name`, the objective's metric and the cost's.

    Returns:
        A figure for each cost; empty when there is none to show.
    """
    first = study.objectives[0].metric
    found = {}
    for cost in COSTS:
        points = [
            t
            for t in trials
            if t.state is State.DONE and finite(t.metric(cost)) and math.isfinite(t.metric(first))
        ]
        if cost != first and points:
            found[label(cost)] = _pareto(study, trials, points, cost, winner, baselines)
    return found


def _pareto(
    study: Study,
    trials: Sequence[Trial],
    points: Sequence[Trial],
    cost: str,
    winner: int | None,
    baselines: Sequence[Mapping[str, Any]],
) -> Figure:
    first = study.objectives[0].metric
    front = front_against(study, points, cost)[::-1]
    on_front = {trial.number for trial in front}
    turn = "hv" if study.objectives[0].goal == "max" else "vh"

    def dots(name: str, chosen: Sequence[Trial], marker: Figure) -> Figure:
        return _scatter(
            name,
            [t.metric(cost) for t in chosen],
            [t.metric(first) for t in chosen],
            text=[_about(t, (first, *COSTS)) for t in chosen],
            marker=marker,
            **_HOVER,
        )

    groups = (
        ("trial", lambda t: study.feasible(t) and t.number not in on_front,
         {"color": _BLUE, "size": 7, "opacity": 0.45}),
        ("breaks a limit", lambda t: not study.feasible(t),
         {"color": _SOFT, "size": 8, "symbol": "circle-open"}),
        ("Pareto front", lambda t: t.number in on_front, {"color": _BLUE, "size": 10}),
        ("winner", lambda t: t.number == winner,
         {"color": _ORANGE, "size": 16, "symbol": "star", "line": {"color": _PAPER, "width": 1}}),
    )  # fmt: skip
    data = [
        _scatter(
            "front",
            [t.metric(cost) for t in front],
            [t.metric(first) for t in front],
            mode="lines",
            line={"color": _BLUE, "width": 1.5, "shape": turn},
            hoverinfo="skip",
            showlegend=False,
        )
    ]
    for name, wanted, marker in groups:
        if chosen := [t for t in points if wanted(t)]:
            data.append(dots(name, chosen, marker))
    rivals = [b for b in baselines if finite(b.get(first)) is not None and finite(b.get(cost))]
    if rivals:
        data.append(
            _scatter(
                "baseline",
                [b[cost] for b in rivals],
                [b[first] for b in rivals],
                text=[_text(b.get("name", "baseline")) for b in rivals],
                mode="markers+text",
                textposition="bottom center",
                textfont={"color": _SOFT},
                marker={"color": _GREEN, "size": 11, "symbol": "diamond"},
                cliponaxis=False,
                hovertemplate="%{text}<extra>baseline</extra>",
            )
        )
    lost = [t for t in trials if t.state is State.REJECTED and finite(t.metric(cost))]
    if lost:
        floor = min([t.metric(first) for t in points] + [b[first] for b in rivals])
        data.append(
            _scatter(
                "rejected before training",
                [t.metric(cost) for t in lost],
                [floor] * len(lost),
                text=[_about(t, COSTS) + "<br>rejected" for t in lost],
                marker={"color": _SOFT, "size": 9, "symbol": "x-thin-open"},
                **_HOVER,
            )
        )
    shapes, notes = _limits(study, cost)
    return _figure(
        data, _measure(cost), _measure(first), height=420, shapes=shapes, annotations=notes
    )


def _limits(study: Study, cost: str) -> tuple[list[Figure], list[Figure]]:
    """Return lines, and their texts, where a constraint limits the metric."""
    shapes, notes = [], []
    for constraint in study.constraints:
        if constraint.metric != cost:
            continue
        for sign, at in (("≤", constraint.at_most), ("≥", constraint.at_least)):
            if math.isfinite(at):
                line = {"color": _ORANGE, "width": 1.5, "dash": "dash"}
                shapes.append(
                    {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1,
                     "line": line, "layer": "below"}
                )  # fmt: skip
                notes.append(
                    {"x": at, "yref": "paper", "y": 0.02, "text": f"limit {sign} {metric(cost, at)}",
                     "showarrow": False, "xanchor": "right", "yanchor": "bottom", "xshift": -6,
                     "font": {"color": _ORANGE}}
                )  # fmt: skip
    return shapes, notes


def curves(
    best: Mapping[str, Any],
    finalists: Sequence[Mapping[str, Any]],
    baselines: Sequence[Mapping[str, Any]],
) -> dict[str, Figure]:
    """Draw what training looked like, epoch by epoch, for every metric there is.

    Args:
        best: the winner's record, with a curve per seed in `curves`.
        finalists: records with `curves`; the winner's own trial is not drawn again.
        baselines: records with `name` and `curves`.

    Returns:
        A figure for each metric, accuracies first.
    """
    lines: list[tuple[str, str, Mapping[str, Any]]] = []
    for record in baselines:
        lines += [("baseline", str(record.get("name", "")), c) for c in records(record, "curves")]
    for record in finalists:
        if record.get("trial") != best.get("trial"):
            title = f"trial {record.get('trial', '')}"
            lines += [("finalist", title, curve) for curve in records(record, "curves")]
    lines += [("winner", "winner", curve) for curve in records(best, "curves")]
    names = {key for _, _, curve in lines for key in curve if key not in ("label", "epochs")}
    order = sorted(names, key=lambda key: (not is_share(key), not key.startswith("val"), key))
    return {label(name): made for name in order if (made := _curves(lines, name))}


def _curves(lines: Sequence[tuple[str, str, Mapping[str, Any]]], name: str) -> Figure | None:
    looks = {
        "winner": {"color": _ORANGE, "width": 2.2},
        "finalist": {"color": _BLUE, "width": 1.3},
        "baseline": {"color": _GREEN, "width": 1.3, "dash": "dot"},
    }
    data: list[Figure] = []
    for kind, title, curve in lines:
        values = curve.get(name)
        if not isinstance(values, Sequence) or not any(finite(v) is not None for v in values):
            continue
        epochs = curve.get("epochs") or range(1, len(values) + 1)
        whose = ", ".join(filter(None, (title, str(curve.get("label") or ""))))
        data.append(
            _scatter(
                kind,
                list(epochs),
                [finite(value) for value in values],
                mode="lines",
                line=looks[kind],
                legendgroup=kind,
                showlegend=all(line["name"] != kind for line in data),
                text=[_text(whose)] * len(values),
                hovertemplate="%{text}<br>epoch %{x}: %{y}<extra></extra>",
            )
        )
    return _figure(data, {"title": {"text": "epoch"}}, _measure(name)) if data else None


def balance(classes: Sequence[str], counts: Mapping[str, Sequence[Any]]) -> Figure | None:
    """Draw how many samples each class has, in each split."""
    looks = {"train": _BLUE, "val": _SKY, "test": _ORANGE}
    data = [
        {
            "type": "bar",
            "name": split,
            "x": list(range(len(classes))),
            "y": list(counts[split])[: len(classes)],
            "marker": {"color": color},
            "text": [_text(name) for name in classes],
            "textposition": "none",
            "hovertemplate": f"%{{text}}, {split}: %{{y}}<extra></extra>",
        }
        for split, color in looks.items()
        if isinstance(counts.get(split), Sequence) and classes
    ]
    if not data:
        return None
    return _figure(
        data, _classes(classes), {"title": {"text": "samples"}}, 260, barmode="stack", bargap=0.25
    )


_SKY = "var(--sky)"


def _classes(classes: Sequence[str]) -> Figure:
    """An axis of classes, by place: names may be long, alike, or look like numbers."""
    shown = [_text(name if len(name) <= 18 else f"{name[:17]}…") for name in classes]
    step = math.ceil(len(classes) / 40)
    return {
        "tickmode": "array",
        "tickvals": list(range(0, len(classes), step)),
        "ticktext": shown[::step],
    }


def confusion(classes: Sequence[str], counts: Sequence[Sequence[Any]]) -> Figure | None:
    """Draw the confusion matrix: what is right in blue, what is wrong in orange.

    Args:
        classes: their names.
        counts: a row per true class, in it a count per predicted class.

    Returns:
        The figure; None when the matrix does not fit the classes.
    """
    size = len(classes)
    if not size or len(counts) != size or any(len(row) != size for row in counts):
        return None
    shares = [[_part(value, row) for value in row] for row in counts]
    names = [_text(name) for name in classes]
    about = [
        [f"{names[i]} taken for {names[j]}: {counts[i][j]}" for j in range(size)]
        for i in range(size)
    ]
    written = [[str(value) if value else "" for value in row] for row in counts]
    wrong = [shares[i][j] for i in range(size) for j in range(size) if i != j]

    def map_of(right: bool, most: float, color: str) -> Figure:
        z = [
            [shares[i][j] if (i == j) is right and counts[i][j] else None for j in range(size)]
            for i in range(size)
        ]
        return {
            "type": "heatmap",
            "z": z,
            "text": written,
            "texttemplate": "%{text}" if size <= 25 else "",
            "customdata": about,
            "hovertemplate": "%{customdata}<extra></extra>",
            "zmin": 0,
            "zmax": most or 1,
            "colorscale": [[0, _PAPER], [1, color]],
            "showscale": False,
            "xgap": 2,
            "ygap": 2,
        }

    axis = {**_classes(classes), "showgrid": False, "ticks": "", "constrain": "domain"}
    return _figure(
        [map_of(True, 1.0, _BLUE), map_of(False, 1.25 * max(wrong, default=1), _ORANGE)],
        {**axis, "title": {"text": "predicted"}},
        {**axis, "title": {"text": "true"}, "autorange": "reversed", "scaleanchor": "x"},
        height=min(720, 180 + 34 * size),
        plot_bgcolor="var(--panel)",
    )


def _part(value: Any, row: Sequence[Any]) -> float:
    total = sum(finite(item) or 0.0 for item in row)
    return (finite(value) or 0.0) / total if total else 0.0
