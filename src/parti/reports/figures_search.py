"""Figures of the search: its progress, and accuracy against cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from parti.core.study import Study
from parti.core.trial import State, Trial
from parti.reports.analysis import COSTS, Progress, front_against, progress
from parti.reports.figures import (
    BLUE,
    GREEN,
    ORANGE,
    PAPER,
    SOFT,
    Figure,
    figure,
    measure_axis,
    plain,
    points,
    whole_axis,
)
from parti.reports.formats import finite, label, metric

__all__ = ["pareto_figures", "progress_figures"]

_HOVER = {"hovertemplate": "%{text}<extra></extra>"}
_OPEN = {"color": SOFT, "size": 8, "symbol": "circle-open"}
_CROSS = {"color": SOFT, "size": 8, "symbol": "x-thin-open"}


def _about(trial: Trial, names: Sequence[str]) -> str:
    values = [
        f"{plain(label(name))}: {plain(metric(name, trial.metrics[name]))}"
        for name in dict.fromkeys(names)
        if name in trial.metrics
    ]
    state = [] if trial.state is State.DONE else [trial.state.value]
    return "<br>".join([f"<b>trial {trial.number}</b>", *values, *state])


def progress_figures(study: Study, trials: Sequence[Trial]) -> dict[str, Figure]:
    """Draw every trial and the best so far, over trials and over the time spent.

    Returns:
        A figure for each way to count; empty when no trial was measured.
    """
    steps = progress(study, trials)
    if not any(step.value is not None for step in steps):
        return {}
    numbers = [float(step.trial.number) for step in steps]
    minutes = [step.seconds / 60 for step in steps]
    return {
        "by trial": _progress(study, steps, numbers, whole_axis("trial", numbers)),
        "by time spent": _progress(
            study, steps, minutes, {"title": {"text": "minutes spent, summed over workers"}}
        ),
    }


def _progress(
    study: Study, steps: Sequence[Progress], positions: Sequence[float], axis: Figure
) -> Figure:
    name = study.objectives[0].metric
    at = list(zip(positions, steps, strict=True))
    floor = min(step.value for step in steps if step.value is not None)
    data = [
        points(
            "best so far",
            [x for x, step in at if step.best is not None],
            [step.best for _, step in at if step.best is not None],
            mode="lines",
            line={"shape": "hv", "color": ORANGE, "width": 2.5},
            hoverinfo="skip",
        )
    ]
    lost = (State.FAILED, State.REJECTED)
    groups = (
        ("trial", [(x, s) for x, s in at if s.feasible], {"color": BLUE, "size": 8}),
        (
            "breaks a limit",
            [(x, s) for x, s in at if s.value is not None and not s.feasible],
            _OPEN,
        ),
        ("failed or rejected", [(x, s) for x, s in at if s.trial.state in lost], _CROSS),
    )
    for kind, shown, marker in groups:
        if shown:
            data.append(
                points(
                    kind,
                    [x for x, _ in shown],
                    [floor if step.value is None else step.value for _, step in shown],
                    text=[_about(step.trial, (name, *COSTS)) for _, step in shown],
                    marker=marker,
                    **_HOVER,
                )
            )
    return figure(data, axis, measure_axis(name))


def pareto_figures(
    study: Study,
    trials: Sequence[Trial],
    winner: int | None,
    baselines: Sequence[Mapping[str, Any]],
) -> dict[str, Figure]:
    """Draw the first objective against every cost that was measured.

    Args:
        study: gives the objective and the limits.
        trials: all of them.
        winner: number of the trial that won, if there is one.
        baselines: records with `name`, the objective's metric and the cost's.

    Returns:
        A figure for each cost, by the cost in words; empty when there is none to show.
    """
    first = study.objectives[0].metric
    found = {}
    for cost in COSTS:
        measured = [
            trial
            for trial in trials
            if trial.state is State.DONE
            and math.isfinite(trial.metric(cost))
            and math.isfinite(trial.metric(first))
        ]
        if cost != first and measured:
            rivals = [b for b in baselines if finite(b.get(first)) and finite(b.get(cost))]
            lost = [t for t in trials if t.state is State.REJECTED and finite(t.metric(cost))]
            found[label(cost)] = _pareto(study, measured, lost, rivals, cost, winner)
    return found


def _pareto(
    study: Study,
    measured: Sequence[Trial],
    lost: Sequence[Trial],
    rivals: Sequence[Mapping[str, Any]],
    cost: str,
    winner: int | None,
) -> Figure:
    first = study.objectives[0].metric
    front = front_against(study, measured, cost)[::-1]
    on_front = {trial.number for trial in front}
    rest = [t for t in measured if study.feasible(t) and t.number not in on_front]
    star = {"color": ORANGE, "size": 16, "symbol": "star", "line": {"color": PAPER, "width": 1}}
    floor = min([t.metric(first) for t in measured] + [float(b[first]) for b in rivals])
    data = [
        points(
            "front",
            [trial.metric(cost) for trial in front],
            [trial.metric(first) for trial in front],
            mode="lines",
            line={"color": BLUE, "width": 1.5, "shape": "hv"},
            hoverinfo="skip",
            showlegend=False,
        )
    ]
    groups: tuple[tuple[str, Sequence[Trial], Figure], ...] = (
        ("trial", rest, {"color": BLUE, "size": 7, "opacity": 0.45}),
        ("breaks a limit", [t for t in measured if not study.feasible(t)], _OPEN),
        ("rejected", lost, _CROSS),
        ("Pareto front", front, {"color": BLUE, "size": 10}),
        ("winner", [t for t in measured if t.number == winner], star),
    )
    for name, shown, marker in groups:
        if shown:
            data.append(
                points(
                    name,
                    [trial.metric(cost) for trial in shown],
                    [floor if shown is lost else trial.metric(first) for trial in shown],
                    text=[_about(trial, (first, *COSTS)) for trial in shown],
                    marker=marker,
                    **_HOVER,
                )
            )
    for rival, symbol in zip(rivals, cycle(("diamond", "square", "triangle-up")), strict=False):
        name = plain(rival.get("name", "baseline"))
        values = ", ".join(metric(key, rival[key]) for key in (first, cost))
        data.append(
            points(
                name,
                [rival[cost]],
                [rival[first]],
                text=[f"<b>{name}</b><br>{values}"],
                marker={"color": GREEN, "size": 11, "symbol": symbol},
                **_HOVER,
            )
        )
    shapes, notes = _limits(study, cost)
    axes = (measure_axis(cost), measure_axis(first))
    return figure(data, *axes, height=420, shapes=shapes, annotations=notes)


def _limits(study: Study, cost: str) -> tuple[list[Figure], list[Figure]]:
    """Return the lines where constraints limit a metric, and the texts beside them."""
    limits = [
        (sign, value)
        for constraint in study.constraints
        if constraint.metric == cost
        for sign, value in (("≤", constraint.at_most), ("≥", constraint.at_least))
        if math.isfinite(value)
    ]
    shapes = [
        {
            "type": "line",
            "x0": value,
            "x1": value,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"color": ORANGE, "width": 1.5, "dash": "dash"},
            "layer": "below",
        }
        for _, value in limits
    ]
    notes = [
        {
            "x": value,
            "xanchor": "right",
            "xshift": -6,
            "yref": "paper",
            "y": 0.02,
            "yanchor": "bottom",
            "text": f"limit {sign} {metric(cost, value)}",
            "showarrow": False,
            "font": {"color": ORANGE},
        }
        for sign, value in limits
    ]
    return shapes, notes
