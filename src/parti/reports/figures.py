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

__all__ = ["Figure", "figure", "measure_axis", "plain", "points"]

Figure = dict[str, Any]
"""Plotly's `{"data": [...], "layout": {...}}`, or a part of it."""

BLUE, SKY, ORANGE, GREEN = "var(--blue)", "var(--sky)", "var(--orange)", "var(--green)"
INK, SOFT, LINE = "var(--ink)", "var(--soft)", "var(--line)"
PAPER, PANEL = "var(--paper)", "var(--panel)"
CLEAR = "rgba(0,0,0,0)"


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
    return {"type": "scatter", "mode": "markers", "name": name, "x": x, "y": y, **more}


def measure_axis(name: str) -> Figure:
    """Return the axis of a metric: its name, and per cent where it is a share."""
    title = {"text": plain(label(name)), "standoff": 10}
    return {"title": title, "tickformat": ".1~%" if is_share(name) else "~s"}


def plain(value: object) -> str:
    """Return a text that plotly shows letter by letter."""
    return escape(str(value), quote=False)
