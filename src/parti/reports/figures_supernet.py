"""Figures of a supernet: its training, what became of its options, and how well it ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parti.reports.figures import BLUE, ORANGE, Figure, figure, measure_axis, plain, points
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
    return {
        label(name): figure(
            [
                points(
                    label(name),
                    list(curves.get("epochs") or range(1, len(curves[name]) + 1)),
                    [finite(value) for value in curves[name]],
                    mode="lines",
                    line={"color": ORANGE, "width": 2.2},
                    hovertemplate="epoch %{x}: %{y}<extra></extra>",
                )
            ],
            {"title": {"text": "epoch"}},
            measure_axis(name),
            300,
        )
        for name in names
    }


def trajectory_figures(trajectories: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Draw how good options were thought to be, epoch by epoch.

    Args:
        trajectories: for each choice its name, `options`, and `probabilities` (epochs, options).

    Returns:
        First of every choice the option that is strongest in the end; then for each option by
        itself, in all choices that have it, those in which it is strongest in orange.
    """
    lines = [line for row in trajectories for line in _lines(row)]
    strongest = [line for line in lines if line["wins"]]
    if not strongest:
        return {}
    figures = {"strongest": _trajectories(strongest)}
    options = list(dict.fromkeys(line["option"] for line in lines))
    if len(options) <= MOST_OPTIONS:
        for option in options:
            figures[option] = _trajectories([line for line in lines if line["option"] == option])
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
    for line in sorted(lines, key=lambda line: bool(line["wins"])):  # those in front come last
        name = "strongest of its choice" if line["wins"] else "weaker than another"
        data.append(
            points(
                name,
                list(range(1, len(line["values"]) + 1)),
                line["values"],
                mode="lines",
                line={"color": ORANGE, "width": 2} if line["wins"] else {"color": BLUE, "width": 1},
                legendgroup=name,
                showlegend=all(other["name"] != name for other in data),
                text=[plain(f"{line['choice']}: {line['option']}")] * len(line["values"]),
                hovertemplate="%{text}<br>epoch %{x}: %{y:.3f}<extra></extra>",
            )
        )
    return figure(data, {"title": {"text": "epoch"}}, {"title": {"text": "strength"}})


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
                {**measure_axis(judge), "title": {"text": f"{label(judge)}, inherited weights"}},
                {**measure_axis(judge), "title": {"text": f"{label(judge)}, trained by itself"}},
            )
    return figures


def _numbers(values: object) -> bool:
    return isinstance(values, Sequence) and any(finite(value) is not None for value in values)
