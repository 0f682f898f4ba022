"""Directions from the course of the search: its space, limits, budget and what it ranked by."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parti.core.choice import Choice
from parti.core.study import Constraint
from parti.core.trial import State, Trial
from parti.core.walks import choices
from parti.explaining.evidence import Direction, Evidence, allowing, number
from parti.recipes.agreement import rank_correlation

__all__ = ["SEARCH_RULES"]

TOP = 0.25
"""The best quarter of the trials is compared with all."""

FEWEST_TOP = 4
LEVEL = 0.05
"""Chance at which an edge is taken for one by accident, over all edges that are looked at."""

LATE = 0.8
"""A best trial in the last fifth came late."""

FEWEST_TRIALS = 10
WEAK = 0.3
"""Kendall's tau below which a ranking misleads."""

FEWEST_PAIRS = 5
STRONG = 0.35
"""Kendall's tau from which accuracy is said to grow with a cost."""

NEAR = 0.9
"""A winner that uses so much of a limit is pressed against it."""


@dataclass(frozen=True, slots=True)
class _Edge:
    choice: Choice
    upper: bool
    top: float
    all: float
    chance: float


def edge(e: Evidence) -> Direction | None:
    """The winner is at the end of a scale, and so are the best trials more often than the rest."""
    edges = list(_edges(e))
    found = sorted((x for x in edges if x.chance <= LEVEL / len(edges)), key=lambda x: x.chance)
    if not found:
        return None
    ends = [
        f"{x.choice.name} = {x.choice.options[-1 if x.upper else 0]} "
        f"({'largest' if x.upper else 'smallest'})"
        for x in found[:3]
    ]
    worst = found[0]
    program = _wider(e.space, found)
    return Direction(
        "edge",
        f"The winner is at the edge of the space: {', '.join(ends)}; "
        f"{100 * worst.top:.0f} % of the best quarter of the trials are there, and "
        f"{100 * worst.all:.0f} % of all.",
        "Widen the space beyond this end, and search again."
        if program
        else "Write a space with options beyond this end, and search it.",
        {
            "decision": worst.choice.name,
            "best_quarter_there": worst.top,
            "all_there": worst.all,
            "chance": worst.chance,
        },
        e.command(space="wider.py:wider"),
        program,
    )


def _edges(e: Evidence) -> Iterator[_Edge]:
    if e.space is None or e.winner is None or len(e.compared) < FEWEST_TOP / TOP:
        return
    ranked = sorted(e.compared, key=lambda t: (e.study.objectives[0].loss(t), t.number))
    for choice in choices(e.space, e.winner):
        if not choice.ordered or len(choice.options) < 3:
            continue
        place = choice.options.index(e.winner[choice.name])
        if 0 < place < len(choice.options) - 1:
            continue
        option = choice.options[place]
        there = [
            t.architecture[choice.name] == option for t in ranked if choice.name in t.architecture
        ]
        top = max(FEWEST_TOP, round(TOP * len(there)))
        if len(there) < 2 * top:
            continue
        hits = sum(there[:top])
        chance = _tail(hits, top, sum(there), len(there))
        yield _Edge(choice, place > 0, hits / top, sum(there) / len(there), chance)


def _tail(hits: int, drawn: int, marked: int, count: int) -> float:
    """The chance of at least so many marked ones in a random draw (hypergeometric)."""
    ways = sum(
        math.comb(marked, k) * math.comb(count - marked, drawn - k)
        for k in range(hits, min(drawn, marked) + 1)
    )
    return ways / math.comb(count, drawn)


def _wider(space: object, edges: list[_Edge]) -> str | None:
    """A program that makes a space of parti's larger where the winner is at its upper end."""
    function: Any = getattr(space, "function", None)
    module = str(getattr(function, "__module__", ""))
    if function is None or not module.startswith("parti.spaces."):
        return None
    known = {
        **{n: p.default for n, p in inspect.signature(function).parameters.items()},
        **getattr(space, "keywords", {}),
    }
    changes: dict[str, object] = {}
    for found in edges:
        last = found.choice.name.rpartition("/")[2]
        kept = known.get("width" if last == "width" else "blocks" if last == "layers" else last)
        if not found.upper:
            continue
        if last == "width" and isinstance(kept, int):
            changes["width"] = 4 * math.ceil(1.5 * kept / 4)
        elif isinstance(kept, tuple) and len(kept) > 1 and all(isinstance(n, int) for n in kept):
            name = "blocks" if last == "layers" else last
            changes[name] = (*kept, 2 * kept[-1] - kept[-2])
    if not changes:
        return None
    name = function.__name__
    arguments = ", ".join(f"{key}={value!r}" for key, value in changes.items())
    return f"# wider.py\nfrom {module} import {name}\n\nwider = {name}({arguments})\n"


def tight(e: Evidence) -> Direction | None:
    """A limit kept out what was, or is predicted to be, better by more than chance."""
    for broken in e.rejections.broken if e.rejections else ():
        limit = next(c for c in e.study.constraints if c.metric == broken.metric)
        if math.isinf(limit.at_most):
            continue
        found = _measured_beyond(e, broken.metric) or _predicted_beyond(e, broken.metric)
        if found is None:
            continue
        gain, needed, how, trial = found
        return Direction(
            "limit",
            f"The limit {limit} is tight: trial {trial} has {number(needed)} and {how} "
            f"{e.much(gain)} better than the best that keeps to it.",
            f"If {number(needed)} is affordable, allow it.",
            {"gain": gain, "limit": limit.at_most, "would_suffice": needed, "trial": trial},
            e.command(at_most={**e.asked.get("at_most", {}), broken.metric: allowing(needed)}),
        )
    return _pressed(e)


def _measured_beyond(e: Evidence, metric: str) -> tuple[float, float, str, int] | None:
    goal, limit = e.study.objectives[0], next(c for c in e.study.constraints if c.metric == metric)
    inside = [t for t in e.compared if e.study.feasible(t)]
    beyond = [t for t in e.compared if _breaks_only(e, t, limit)]
    if not inside or not beyond:
        return None
    best, other = min(inside, key=goal.loss), min(beyond, key=goal.loss)
    gain = goal.loss(best) - goal.loss(other)
    noise = e.noise(best.metric(goal.metric), other.metric(goal.metric))
    if gain <= noise:
        return None
    return gain, other.metric(metric), "was measured", other.number


def _predicted_beyond(e: Evidence, metric: str) -> tuple[float, float, str, int] | None:
    if e.forest is None or e.importance is None or not e.importance.trusted:
        return None
    goal, limit = e.study.objectives[0], next(c for c in e.study.constraints if c.metric == metric)
    inside = [t for t in e.compared if e.study.feasible(t)]
    kept_out = [t for t in e.trials if t.state is State.REJECTED and _breaks_only(e, t, limit)]
    if not inside or not kept_out:
        return None
    best = min(inside, key=goal.loss)
    means = e.forest.predict([best.architecture, *(t.architecture for t in kept_out)]).mean(axis=0)
    gains = (means[1:] - means[0]) * (1 if goal.goal == "max" else -1)
    place = int(np.argmax(gains))
    if gains[place] <= e.forest.error:
        return None
    other = kept_out[place]
    return float(gains[place]), other.metric(metric), "is predicted to be", other.number


def _breaks_only(e: Evidence, trial: Trial, limit: Constraint) -> bool:
    """Whether a trial is above the limit, and beyond no other as far as was measured."""
    beyond = [c.metric for c in e.study.constraints if c.excess(trial.metric(c.metric)) > 0]
    return beyond == [limit.metric] and trial.metric(limit.metric) > limit.at_most


def _pressed(e: Evidence) -> Direction | None:
    """The winner uses up a limit, and accuracy grows with what is limited."""
    goal = e.study.objectives[0]
    inside = [t for t in e.compared if e.study.feasible(t)]
    if len(inside) < FEWEST_TRIALS:
        return None
    best = min(inside, key=goal.loss)
    for limit in e.study.constraints:
        if not 0 < limit.at_most < math.inf:
            continue
        used = best.metric(limit.metric) / limit.at_most
        tau = rank_correlation([(t.metric(limit.metric), -goal.loss(t)) for t in inside]).all
        if NEAR <= used <= 1 and tau >= STRONG:
            wider = allowing(1.5 * limit.at_most)
            return Direction(
                "limit",
                f"The best network uses {100 * used:.0f} % of the limit {limit}, and among "
                f"{len(inside)} networks within it the {goal.metric} grew with it "
                f"(Kendall's tau {tau:.2f}).",
                f"If {number(wider)} is affordable, allow it.",
                {"used": used, "kendall": tau, "n": len(inside)},
                e.command(at_most={**e.asked.get("at_most", {}), limit.metric: wider}),
            )
    return None


def budget(e: Evidence) -> Direction | None:
    """The best was found in the last trials, and is better than before by more than chance."""
    goal = e.study.objectives[0]
    ran = [t for t in e.compared if e.study.feasible(t)]
    if len(ran) < FEWEST_TRIALS or not e.longer(2):
        return None
    place = min(range(len(ran)), key=lambda n: (goal.loss(ran[n]), n))
    early = ran[: math.ceil(LATE * len(ran))]
    if place < len(early):
        return None
    before: Trial = min(early, key=goal.loss)
    gain = goal.loss(before) - goal.loss(ran[place])
    # One standard error, not two: that the best came late is evidence too.
    if gain <= e.noise(ran[place].metric(goal.metric), before.metric(goal.metric)) / 2:
        return None
    return Direction(
        "budget",
        f"The search was still improving: its best was network {place + 1} of {len(ran)}, "
        f"{e.much(gain)} better than the best of the first {len(early)}.",
        "Give it twice the budget.",
        {"found_at": place + 1, "n": len(ran), "gain": gain},
        e.command(**e.longer(2)),
    )


def misleads(e: Evidence) -> Direction | None:
    """What the search ranked by hardly agrees with what full training says."""
    worst: Mapping[str, Any] | None = None
    for row in _agreements(e):
        if row["n"] >= FEWEST_PAIRS and row["kendall"] < WEAK:
            worst = row if worst is None or row["kendall"] < worst["kendall"] else worst
    if worst is None:
        return None
    if e.asked.get("recipe"):
        known = (e.result.get("supernet") or {}).get("epochs")
        change: dict[str, Any] = {"recipe": None, "supernet_epochs": None}
        advice = "Search without the supernet, so that every network is trained by itself."
        if known and worst["kendall"] > 0:
            change = {"supernet_epochs": 2 * int(known)}
            advice = "Train the supernet for longer."
    else:
        epochs = (e.result.get("recipe") or {}).get("epochs_of_a_trial")
        change = {"epochs": 2 * int(epochs)} if epochs else e.longer(2)
        advice = "Train each trial for longer."
    return Direction(
        "misleads",
        f"What the search ranked by misleads: over {worst['n']} networks ({worst['what']}) it "
        f"agreed with training only at Kendall's tau {worst['kendall']:.2f}.",
        advice,
        {"kendall": worst["kendall"], "n": worst["n"], "what": str(worst["what"])},
        e.command(**change),
    )


def _agreements(e: Evidence) -> Iterator[dict[str, Any]]:
    """Rank agreement of what the search ranked by: inherited accuracies, or short training."""
    supernet = e.result.get("supernet") or {}
    for row in supernet.get("agreement") or ():
        if row.get("kendall") is not None:
            yield {name: row[name] for name in ("what", "kendall", "n")}
    pairs = [
        (f["search_val_accuracy"], f["val_accuracy"])
        for f in e.result.get("finalists") or ()
        if f.get("search_val_accuracy") is not None and f.get("val_accuracy") is not None
    ]
    if len(pairs) >= FEWEST_PAIRS and not supernet:
        tau = rank_correlation(pairs).all
        if math.isfinite(tau):
            yield {"what": "finalists, trained in full", "kendall": tau, "n": len(pairs)}


def neighbour(e: Evidence) -> Direction | None:
    """A change to the winner is predicted to be better by more than the prediction's error."""
    if e.forest is None or e.importance is None or not e.importance.trusted:
        return None
    sign = 1 if e.study.objectives[0].goal == "max" else -1
    open_ = [c for c in e.changes if not c.measured and c.gain is not None]
    best = max(open_, key=lambda c: sign * (c.gain or 0.0), default=None)
    if best is None or sign * (best.gain or 0.0) <= e.forest.error:
        return None
    much = abs(best.gain or 0.0)
    return Direction(
        "neighbour",
        f"One change to the winner is predicted to be better: {best.decision} from {best.before} "
        f"to {best.after}, by {e.much(much)} "
        f"(typical error of such predictions: {e.much(e.forest.error)}).",
        "Search again, starting from the best networks of this study.",
        {"gain": much, "error": e.forest.error, "decision": best.decision},
        e.command(init=e.study.name),
    )


SEARCH_RULES = (misleads, tight, edge, budget, neighbour)
"""In the order in which they are shown."""
