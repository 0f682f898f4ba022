"""Figures of a supernet: its training, what became of its options, and how well it ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parti.reports.figures import (
    BLUE,
    ORANGE,
    Figure,
    epoch_axis,
    figure,
    line,
    measure_axis,
    plain,
    points,
)
from parti.reports.formats import finite, is_share, label

__all__ = ["agreement_figures", "supernet_figures", "trajectory_figures"]

MOST_OPTIONS = 12
"""So many options have a figure of their own."""


def supernet_figures(curves: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw every metric of a supernet's training by epoch, accuracies first.

    Args:
        curves: `epochs`, and a list for each metric.
    """
    names = [name for name in curves if name != "epochs" and _numbers(curves[name])]
    names.sort(key=lambda name: (not is_share(name), name))
    figures = {}
    for name in names:
        trace = line(
            label(name),
            list(curves.get("epochs") or range(1, len(curves[name]) + 1)),
            [finite(value) for value in curves[name]],
            line={"color": ORANGE, "width": 2.2},
            hovertemplate="epoch %{x}: %{y}<extra></extra>",
        )
        figures[label(name)] = figure([trace], epoch_axis([trace]), _measured(name, trace), 300)
    return figures


def _measured(name: str, trace: Figure) -> Figure:
    """The axis of a metric; plotly would give a single share one from -100 to 100 per cent."""
    known = {value for value in trace["y"] if value is not None}
    lone = len(known) == 1 and is_share(name)
    return {**measure_axis(name), **({"range": [0, 1]} if lone else {})}


def trajectory_figures(trajectories: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Draw how good options were thought to be, epoch by epoch.

    Args:
        trajectories: for each choice its name, `options`, and `probabilities` (epochs, options).

    Returns:
        First of every choice the option that is strongest in the end; then for each option by
        itself, in all choices that have it, those in which it is strongest in orange.
    """
    lines = [one for row in trajectories for one in _lines(row)]
    strongest = [one for one in lines if one["wins"]]
    if not strongest:
        return {}
    figures = {"strongest": _trajectories(strongest)}
    options = list(dict.fromkeys(one["option"] for one in lines))
    if len(options) <= MOST_OPTIONS:
        for option in options:
            figures[option] = _trajectories([one for one in lines if one["option"] == option])
    return figures


def _lines(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line for each option of a choice."""
    options, epochs = row.get("options"), row.get("probabilities")
    if not isinstance(options, Sequence) or not isinstance(epochs, Sequence) or not epochs:
        return []
    last = [finite(value) or 0.0 for value in epochs[-1]]
    return [
        {
            "choice": str(row.get("choice", "")),
            "option": str(option),
            "values": [finite(epoch[place]) for epoch in epochs],
            "wins": last[place] == max(last),
        }
        for place, option in enumerate(options[: len(last)])
    ]


def _trajectories(lines: Sequence[Mapping[str, Any]]) -> Figure:
    data: list[Figure] = []
    for row in sorted(lines, key=lambda row: bool(row["wins"])):  # those in front come last
        name = "strongest of its choice" if row["wins"] else "weaker than another"
        data.append(
            line(
                name,
                list(range(1, len(row["values"]) + 1)),
                row["values"],
                line={"color": ORANGE, "width": 2} if row["wins"] else {"color": BLUE, "width": 1},
                legendgroup=name,
                showlegend=all(other["name"] != name for other in data),
                text=[plain(f"{row['choice']}: {row['option']}")] * len(row["values"]),
                hovertemplate="%{text}<br>epoch %{x}: %{y:.3f}<extra></extra>",
            )
        )
    return figure(data, epoch_axis(data), {"title": {"text": "strength"}})


def agreement_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Draw what is measured with inherited weights against that of networks trained by themselves.

    Args:
        rows: `what` was compared, by which `metric`, and `pairs` of both values.
    """
    figures = {}
    for row in rows:
        pairs = [
            (inherited, alone)
            for pair in row.get("pairs") or ()
            if isinstance(pair, Sequence) and len(pair) == 2
            if (inherited := finite(pair[0])) is not None and (alone := finite(pair[1])) is not None
        ]
        judge = str(row.get("metric") or "val_accuracy")
        if pairs:
            figures[str(row.get("what", ""))] = figure(
                [
                    points(
                        "networks",
                        [inherited for inherited, _ in pairs],
                        [alone for _, alone in pairs],
                        marker={"color": BLUE, "size": 8},
                        hovertemplate="inherited %{x}, by itself %{y}<extra></extra>",
                    )
                ],
                measure_axis(judge, "inherited weights"),
                measure_axis(judge, "trained by itself"),
            )
    return figures


def _numbers(values: object) -> bool:
    return isinstance(values, Sequence) and any(finite(value) is not None for value in values)
