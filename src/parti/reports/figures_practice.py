"""Figures of how far a model can be trusted: calibration, corrupted and attacked images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parti.reports.facts import records
from parti.reports.figures import (
    BLUE,
    INK,
    LINE,
    ORANGE,
    PANEL,
    PAPER,
    SKY,
    Figure,
    figure,
    measure_axis,
    points,
)
from parti.reports.formats import finite, percent, plural

__all__ = ["attack_figure", "corruption_figure", "label_noise_figure", "reliability_figures"]


def reliability_figures(reliability: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw accuracy by confidence: on the diagonal, a model is as often right as it says.

    Args:
        reliability: `equal` and `adaptive`, lists of bins with low, high, n, confidence, accuracy.

    Returns:
        A figure for each kind of bins that there is.
    """
    titles = {"equal": "equal width", "adaptive": "equal number"}
    return {
        title: made
        for kind, title in titles.items()
        if (made := _reliability(records(reliability, kind))) is not None
    }


def _reliability(bins: Sequence[Mapping[str, Any]]) -> Figure | None:
    rows = [
        [finite(one.get(key)) for key in ("low", "high", "n", "confidence", "accuracy")]
        for one in bins
    ]
    whole = [[x for x in row if x is not None] for row in rows if None not in row]
    if not whole:
        return None
    most = max(n for _, _, n, _, _ in whole)
    about = [
        f"{plural(round(n), 'sample')} with confidence {percent(low)} to {percent(high)}:<br>"
        f"says {percent(confidence)}, is right {percent(accuracy)}"
        for low, high, n, confidence, accuracy in whole
    ]
    diagonal = points(
        "as sure as right", [0, 1], [0, 1], mode="lines", line={"color": LINE}, hoverinfo="skip"
    )
    gaps = {
        "type": "scatter",
        "mode": "lines",
        "name": "gap",
        "x": [x for row in whole for x in (row[3], row[3], None)],
        "y": [y for row in whole for y in (row[3], row[4], None)],
        "line": {"color": SKY, "width": 2},
        "hoverinfo": "skip",
    }
    dots = points(
        "bins, larger with more samples",
        [row[3] for row in whole],
        [row[4] for row in whole],
        marker={"color": BLUE, "size": [6 + 16 * (row[2] / most) ** 0.5 for row in whole]},
        text=about,
        hovertemplate="%{text}<extra></extra>",
    )
    shares = {"range": [-0.02, 1.04], "tickformat": ".0%"}
    return figure(
        [diagonal, gaps, dots],
        {**shares, "title": {"text": "confidence"}},
        {**shares, "title": {"text": "accuracy", "standoff": 10}},
    )


def corruption_figure(robustness: Mapping[str, Any]) -> Figure | None:
    """Draw accuracy by corruption and severity, hardest corruption first.

    Args:
        robustness: `corruptions`, a row of accuracies for each, and `severities`.
    """
    severities = robustness.get("severities")
    found = robustness.get("corruptions")
    if not isinstance(found, Mapping) or not isinstance(severities, Sequence):
        return None
    rows: dict[str, list[float]] = {}
    for kind, given in found.items():
        values = [finite(value) for value in given] if isinstance(given, Sequence) else []
        whole = [value for value in values if value is not None]
        if len(whole) == len(values) == len(severities) > 0:
            rows[str(kind).replace("_", " ")] = whole
    if not rows:
        return None
    names = sorted(rows, key=lambda kind: sum(rows[kind]), reverse=True)  # plotly begins below
    clean = finite(robustness.get("accuracy")) or 1.0
    columns = range(len(severities))
    heat = {
        "type": "heatmap",
        "x": list(columns),
        "y": names,
        "z": [rows[name] for name in names],
        "zmin": 0,
        "zmax": clean,
        "colorscale": [[0, ORANGE], [1, PAPER]],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "customdata": [list(severities) for _ in names],
        "hovertemplate": "%{y}, severity %{customdata}: %{z:.1%}<extra></extra>",
    }
    written = points(
        "accuracy",
        [column for _ in names for column in columns],
        [name for name in names for _ in columns],
        mode="text",
        text=[f"{100 * rows[name][column]:.0f}" for name in names for column in columns],
        textfont={"color": INK},
        hoverinfo="skip",
        showlegend=False,
    )
    ticks = {
        "tickmode": "array",
        "tickvals": list(columns),
        "ticktext": [str(one) for one in severities],
    }
    return figure(
        [heat, written],
        {**ticks, "title": {"text": "severity"}},
        {"showgrid": False, "ticks": ""},
        height=120 + 28 * len(names),
        plot_bgcolor=PANEL,
    )


def attack_figure(robustness: Mapping[str, Any]) -> Figure | None:
    """Draw accuracy against the strength of attacks, from none on.

    Args:
        robustness: `accuracy` without attack, `eps`, and a list of accuracies for `fgsm` and `pgd`.
    """
    clean, eps = finite(robustness.get("accuracy")), robustness.get("eps")
    if clean is None or not isinstance(eps, Sequence):
        return None
    looks = {"fgsm": ("FGSM, one step", BLUE), "pgd": ("PGD, many steps", ORANGE)}
    data = []
    for attack, (name, color) in looks.items():
        values = robustness.get(attack)
        if not isinstance(values, Sequence) or len(values) != len(eps):
            continue
        data.append(
            points(
                name,
                [0, *eps],
                [clean, *(finite(value) for value in values)],
                mode="lines+markers",
                line={"color": color, "width": 2},
                hovertemplate="eps %{x}/255: %{y:.1%}<extra></extra>",
            )
        )
    return _lines(data, "largest change of a pixel, in 1/255")


def label_noise_figure(noise: Mapping[str, Any]) -> Figure | None:
    """Draw validation accuracy against the share of wrong training labels.

    Args:
        noise: `shares` and `accuracies`.
    """
    shares, values = noise.get("shares"), noise.get("accuracies")
    if not isinstance(shares, Sequence) or not isinstance(values, Sequence):
        return None
    if len(shares) != len(values) or len(shares) < 2:
        return None
    line = points(
        "validation accuracy",
        [finite(share) for share in shares],
        [finite(value) for value in values],
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        hovertemplate="%{x:.0%} wrong labels: %{y:.1%}<extra></extra>",
    )
    return _lines([line], "share of wrong training labels", tickformat=".0%")


def _lines(data: list[Figure], title: str, **axis: Any) -> Figure | None:
    if not data:
        return None
    accuracy = {**measure_axis("accuracy"), "rangemode": "tozero"}
    return figure(data, {"title": {"text": title}, **axis}, accuracy, 320)
