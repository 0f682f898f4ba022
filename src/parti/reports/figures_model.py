"""Figures of the data and of what was learned: classes, training, and mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from parti.reports.facts import records
from parti.reports.figures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PANEL,
    PAPER,
    SKY,
    Figure,
    epoch_axis,
    figure,
    line,
    measure_axis,
    plain,
    points,
)
from parti.reports.formats import finite, is_share, label

__all__ = ["balance_figure", "confusion_figure", "curve_figures"]


def curve_figures(
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
        "winner": {"color": ORANGE, "width": 2.2},
        "finalist": {"color": BLUE, "width": 1.3},
        "baseline": {"color": GREEN, "width": 1.3, "dash": "dot"},
    }
    data: list[Figure] = []
    for kind, title, curve in lines:
        values = curve.get(name)
        if not isinstance(values, Sequence) or not any(finite(v) is not None for v in values):
            continue
        epochs = curve.get("epochs") or range(1, len(values) + 1)
        whose = ", ".join(filter(None, (title, str(curve.get("label") or ""))))
        data.append(
            line(
                kind,
                list(epochs),
                [finite(value) for value in values],
                line=looks[kind],
                legendgroup=kind,
                showlegend=all(other["name"] != kind for other in data),
                text=[plain(whose)] * len(values),
                hovertemplate="%{text}<br>epoch %{x}: %{y}<extra></extra>",
            )
        )
    if not data:
        return None
    axis = {**measure_axis(name), **_late(data, is_share(name))}
    return figure(data, epoch_axis(data), axis)


def _late(data: Sequence[Figure], share: bool) -> Figure:
    """Show where curves differ: shares from a third of the epochs on, losses by their ratio."""
    if not share:
        return {"type": "log", "dtick": "D2"}
    late = [
        value for line in data for value in line["y"][len(line["y"]) // 3 :] if value is not None
    ]
    if not late:
        return {}
    low, high = min(late), max(value for line in data for value in line["y"] if value is not None)
    room = 0.05 * (high - low) or 0.01
    # Nothing is above 100 per cent; half a line's width of it must be seen.
    return {"range": [max(low - room, 0.0), min(high + room, 1 + 0.02 * (high - low or 0.1))]}


def balance_figure(classes: Sequence[str], counts: Mapping[str, Sequence[Any]]) -> Figure | None:
    """Draw how many samples each class has, in each split."""
    looks = {"train": BLUE, "val": SKY, "test": ORANGE}
    data = [
        {
            "type": "bar",
            "name": split,
            "x": list(range(len(classes))),
            "y": list(counts[split])[: len(classes)],
            "marker": {"color": color},
            "text": [plain(name) for name in classes],
            "textposition": "none",
            "hovertemplate": f"%{{text}}, {split}: %{{y}}<extra></extra>",
        }
        for split, color in looks.items()
        if isinstance(counts.get(split), Sequence) and classes
    ]
    if not data:
        return None
    return figure(
        data, _classes(classes), {"title": {"text": "samples"}}, 260, barmode="stack", bargap=0.25
    )


def _classes(classes: Sequence[str]) -> Figure:
    """An axis of classes, by place: names may be long, alike, or look like numbers."""
    shown = [plain(name if len(name) <= 18 else f"{name[:17]}…") for name in classes]
    step = math.ceil(len(classes) / 40)
    return {
        "tickmode": "array",
        "tickvals": list(range(0, len(classes), step)),
        "ticktext": shown[::step],
    }


def confusion_figure(classes: Sequence[str], counts: Sequence[Sequence[Any]]) -> Figure | None:
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
    names = [plain(name) for name in classes]
    about = [
        [f"{names[i]} taken for {names[j]}: {counts[i][j]}" for j in range(size)]
        for i in range(size)
    ]
    wrong = [shares[i][j] for i in range(size) for j in range(size) if i != j]
    ceiling = max(wrong, default=0.0) or 1.0

    def map_of(right: bool, most: float, color: str) -> Figure:
        z = [
            [shares[i][j] if (i == j) is right and counts[i][j] else None for j in range(size)]
            for i in range(size)
        ]
        return {
            "type": "heatmap",
            "z": z,
            "customdata": about,
            "hovertemplate": "%{customdata}<extra></extra>",
            "zmin": 0,
            "zmax": most,
            "colorscale": [[0, PAPER], [1, color]],
            "showscale": False,
            "xgap": 2,
            "ygap": 2,
        }

    cells = [(i, j) for i in range(size) for j in range(size) if counts[i][j] and size <= 25]
    dark = [shares[i][j] / (1.0 if i == j else ceiling) > 0.55 for i, j in cells]
    written = points(
        "counts",
        [j for _, j in cells],
        [i for i, _ in cells],
        mode="text",
        text=[str(counts[i][j]) for i, j in cells],
        textfont={"color": [PAPER if deep else INK for deep in dark]},
        hoverinfo="skip",
        showlegend=False,
    )
    axis = {**_classes(classes), "showgrid": False, "ticks": "", "constrain": "domain"}
    return figure(
        [map_of(True, 1.0, BLUE), map_of(False, ceiling, ORANGE), written],
        {**axis, "title": {"text": "predicted"}},
        {**axis, "title": {"text": "true"}, "autorange": "reversed", "scaleanchor": "x"},
        height=min(720, 180 + 34 * size),
        plot_bgcolor=PANEL,
    )


def _part(value: Any, row: Sequence[Any]) -> float:
    total = sum(finite(item) or 0.0 for item in row)
    return (finite(value) or 0.0) / total if total else 0.0
