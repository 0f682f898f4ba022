"""Plotly figures as plain dicts: what they all have in common.

Colours are written as names of the page's CSS variables, `var(--blue)`: the page's script puts
in their values, so that figures follow the light and the dark scheme. Texts of the user are
escaped, because plotly reads a little HTML in texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from parti.reports.formats import is_share, label

__all__ = [
    "Figure",
    "change_axis",
    "epoch_axis",
    "figure",
    "line",
    "measure_axis",
    "plain",
    "points",
    "whole_axis",
]

Figure = dict[str, Any]
"""Plotly's `{"data": [...], "layout": {...}}`, or a part of it."""

BLUE, SKY, ORANGE, GREEN = "var(--blue)", "var(--sky)", "var(--orange)", "var(--green)"
INK, SOFT, LINE = "var(--ink)", "var(--soft)", "var(--line)"
PAPER, PANEL = "var(--paper)", "var(--panel)"
CLEAR = "rgba(0,0,0,0)"

SMALL = 11
"""Size of letters of titles that are long, in pixels."""

FEW = 10
"""So many epochs, or trials, have a tick each."""


def figure(data: list[Figure], x: Figure, y: Figure, height: int = 380, **layout: Any) -> Figure:
    """Return a figure in the style of the page.

    Args:
        data: its traces.
        x: what is special about the horizontal axis.
        y: what is special about the vertical axis.
        height: in CSS pixels; the width is the page's.
        layout: what else is special.
    """
    axis = {
        "gridcolor": LINE,
        "linecolor": LINE,
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": LINE,
        "ticklen": 4,
    }
    common = {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 12, "b": 48},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "font": {"color": SOFT, "size": 13},
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": LINE, "font": {"color": INK}},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "traceorder": "normal",
            "itemclick": False,
            "itemdoubleclick": False,
        },
        "hovermode": "closest",
        "xaxis": {**axis, "showgrid": False, **x},
        "yaxis": {**axis, **y},
    }
    return {"data": data, "layout": {**common, **layout}}


def points(name: str, x: Sequence[Any], y: Sequence[Any], **more: Any) -> Figure:
    """Return a trace of points, or of a line when `mode` says so."""
    own = {"type": "scatter", "mode": "markers", "name": name, "x": x, "y": y}
    return {**own, "cliponaxis": False, **more}


def line(name: str, x: Sequence[Any], y: Sequence[float | None], **more: Any) -> Figure:
    """Return a trace of a line; with dots where a value has no neighbour to draw a line to."""
    known = [False, *(value is not None for value in y), False]
    lone = any(here and not (known[n] or known[n + 2]) for n, here in enumerate(known[1:-1]))
    return points(name, x, y, mode="lines+markers" if lone else "lines", **more)


def epoch_axis(data: Sequence[Figure]) -> Figure:
    """Return the axis of traces by epoch; of few epochs each has its tick, and no half epoch."""
    return whole_axis("epoch", [epoch for trace in data for epoch in trace["x"]])


def whole_axis(title: str, values: Sequence[float]) -> Figure:
    """Return the axis of whole numbers: of few each has its tick, and none has a fraction."""
    few = max(values, default=0) <= FEW
    return {"title": {"text": title}, **({"dtick": 1} if few else {})}


def measure_axis(name: str, more: str = "") -> Figure:
    """Return the axis of a metric: its name, and from 0 to 100 per cent at most for a share.

    Args:
        name: of the metric.
        more: what is special about it here; in small letters, so that it fits a telephone.
    """
    title: Figure = {"text": plain(label(name)), "standoff": 10}
    if more:
        title |= {"text": f"{title['text']}, {plain(more)}", "font": {"size": SMALL}}
    if not is_share(name):
        return {"title": title, "tickformat": "~s"}
    # What lies at 100 per cent is drawn whole: `points` are not cut off at the frame.
    limits = {"clipmin": 0, "clipmax": 1}
    return {"title": title, "tickformat": ".1~%", "autorangeoptions": limits}


def change_axis(name: str) -> Figure:
    """Return the axis of a change of a metric, with its sign."""
    axis = {**measure_axis(name), "tickformat": "+.1~%" if is_share(name) else "+~s"}
    return {key: value for key, value in axis.items() if key != "autorangeoptions"}


def plain(value: object) -> str:
    """Return a text that plotly shows letter by letter."""
    return escape(str(value), quote=False)
