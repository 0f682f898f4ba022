"""Directions from the result: baselines, noise, amount of data, training, and cheaper networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

from parti.explaining.evidence import (
    Direction,
    Evidence,
    Z,
    allowing,
    error_of_difference,
    number,
    points,
)
from parti.tasks.intervals import wilson

__all__ = ["RESULT_RULES"]

MORE_DATA = "MORE-DATA"
"""Stands in a command where the user's larger data set belongs."""

FEW_EPOCHS = 5
"""Networks trained for fewer are hardly trained."""

LAST = 1 / 3
"""Share of the epochs at the end over which progress is looked at."""

RISE = 1.1
"""Validation loss that ends so many times above its least."""

CHEAPER = 1.5
"""A network as good is worth a word if the winner costs so many times as much."""

FIT = 0.05
"""Training loss within so many nats of its least possible value fits the training images."""


def behind(e: Evidence) -> Direction | None:
    """A baseline is as good as the winner, or better."""
    own, n = e.best.get("test_accuracy"), e.tested
    if own is None or not n:
        return None
    rivals = _rivals(e)
    better = [b for b in rivals if -_lead(own, b) > _noise_of(own, b, n)]
    searches = [b for b in e.baselines if b.get("kind") == "search" and _tested(b)]
    same = [b for b in searches if b not in rivals]
    chance = [b for b in searches if b in rivals and _lead(own, b) <= _noise_of(own, b, n)]
    if better:
        rival = max(better, key=lambda b: float(b["test_accuracy"]))
        what = f"The baseline {rival['name']} is better than the winner"
    elif same:
        rival = same[0]
        what = "A random search of the same cost found the very same network"
    elif chance:
        rival = chance[0]
        what = "The search was no better than a random search of the same cost"
    else:
        return None
    if not (grown := e.longer(4)):
        return None
    numbers = (
        f"{100 * own:.1f} % of {n} test images"
        if same and not better
        else f"{100 * own:.1f} % against {100 * rival['test_accuracy']:.1f} % of {n} test images, "
        f"where a difference of up to {points(_noise_of(own, rival, n))} is chance"
    )
    return Direction(
        "baseline",
        f"{what}: {numbers}.",
        "Four times the budget lets the search learn from more trials; "
        + (
            f"until it is level with {rival['name']}, it has not paid."
            if better
            else "with as few as these, chance decides as well."
        ),
        {
            "winner": own,
            "baseline": rival["test_accuracy"],
            "by_chance": _noise_of(own, rival, n),
            "n": n,
        },
        e.command(**grown),
    )


def _lead(own: float, baseline: Mapping[str, Any]) -> float:
    return float(own - baseline["test_accuracy"])


def _tested(baseline: Mapping[str, Any]) -> bool:
    return baseline.get("test_accuracy") is not None


def _rivals(e: Evidence) -> list[Mapping[str, Any]]:
    """The baselines that were tested and are other networks than the winner."""
    own = e.best.get("fingerprint")
    return [b for b in e.baselines if _tested(b) and (not own or b.get("fingerprint") != own)]


def _noise_of(own: float, baseline: Mapping[str, Any], n: int) -> float:
    """The largest difference of the test accuracies that is chance, by score intervals of both.

    Newcombe 1998, method 10: what the report calls level is no further apart.
    """
    low, high = sorted((own, float(baseline["test_accuracy"])))
    return math.hypot(high - wilson(high * n, n)[0], wilson(low * n, n)[1] - low)


def _noise(one: float, other: float, n: int) -> float:
    """The largest difference of two accuracies that chance makes in 95 % of cases."""
    return Z * error_of_difference(one, other, n)


def more_data(e: Evidence) -> Direction | None:
    """The test split is too small to tell the winner from the next best network."""
    own, n = e.best.get("test_accuracy"), e.tested
    rivals = _rivals(e)
    if own is None or not n or not rivals or e.asked.get("data") is None:
        return None
    if any(-_lead(own, b) > _noise_of(own, b, n) for b in rivals):
        return None  # a baseline is clearly better: that is to be mended first
    rival = min(rivals, key=lambda b: abs(_lead(own, b)))
    difference = abs(_lead(own, rival))
    if not 0 < difference < _noise_of(own, rival, n):
        return None
    needed = math.ceil(n * (_noise_of(own, rival, n) / difference) ** 2)
    if needed <= n:
        return None
    return Direction(
        "data",
        f"{n} test images are too few to tell the winner from {rival['name']}: they differ by "
        f"{points(difference)}, and chance alone makes {points(_noise_of(own, rival, n))}. "
        f"About {needed} test images would tell.",
        f"Collect more labelled images, and search them ({MORE_DATA} stands for their place); "
        "or take the cheaper of both networks.",
        {"difference": difference, "by_chance": _noise_of(own, rival, n), "needed": needed, "n": n},
        e.command(data=MORE_DATA),
    )


def noise(e: Evidence) -> Direction | None:
    """Another seed changes the accuracy by more than the lead over the next best."""
    own = [float(a) for a in e.best.get("test_accuracies") or ()]
    rivals = _rivals(e)
    if len(own) < 2 or not rivals:
        return None
    spread, mean = stdev(own), sum(own) / len(own)
    leads = [(abs(mean - float(b.get("test_mean") or b["test_accuracy"])), b) for b in rivals]
    lead, rival = min(leads, key=lambda item: item[0])
    if spread <= 0 or lead >= 2 * spread:
        return None
    seeds = max(5, 2 * len(own))
    return Direction(
        "noise",
        f"Seeds differ by more than networks: the winner's accuracy has a standard deviation of "
        f"{points(spread)} over {len(own)} seeds, and is {points(lead)} from that of "
        f"{rival['name']}.",
        f"Train the winners with {seeds} seeds before you believe in a difference.",
        {"seed_std": spread, "lead": lead, "seeds": len(own)},
        e.command(seeds=seeds),
    )


def short_training(e: Evidence) -> Direction | None:
    """The winner was still learning when its training ended."""
    curve = _curve(e)
    accuracies = curve.get("val_accuracy") or []
    epochs = len(accuracies)
    if not epochs:
        return None
    start = accuracies[max(0, epochs - 1 - math.ceil(LAST * epochs))]
    gain = accuracies[-1] - start
    loss, least = _last(curve, "train_loss"), _least_loss(e)
    unlearnt = loss is not None and loss - least > FIT
    if epochs >= FEW_EPOCHS and not (
        unlearnt and e.validated and gain > _noise(start, accuracies[-1], e.validated)
    ):
        return None
    seen = (
        f"accuracy rose by {points(gain)} in the last {math.ceil(LAST * epochs)} of {epochs} epochs"
        if epochs >= FEW_EPOCHS
        else f"it had {epochs} epoch{'s' if epochs > 1 else ''}"
    )
    over = None if loss is None else loss - least
    fit = f", and its training loss is still {over:.2f} above the least possible" if over else ""
    grown = {"final_epochs": max(20, 2 * epochs), **(e.longer(4) if "seconds" in e.asked else {})}
    return Direction(
        "training",
        f"The winner is under-trained: {seen}{fit if unlearnt else ''}.",
        "Give the final training more epochs.",
        {"epochs": epochs, "gain": gain, **({} if over is None else {"above_least": over})},
        e.command(**grown),
    )


def overfit(e: Evidence) -> Direction | None:
    """Validation grew worse while training went on, or training images are learnt by heart."""
    curve = _curve(e)
    losses = [loss for loss in curve.get("val_loss") or [] if loss is not None]
    accuracies = curve.get("val_accuracy") or []
    if len(losses) < FEW_EPOCHS or len(losses) != len(accuracies) or not e.validated:
        return None
    best = losses.index(min(losses))
    fell = max(accuracies) - accuracies[-1]
    if losses[-1] > RISE * losses[best] and fell > _noise(
        accuracies[-1], max(accuracies), e.validated
    ):
        return Direction(
            "overfitting",
            f"The winner was trained too long: its validation loss was least after epoch "
            f"{best + 1} of {len(losses)} and rose by {100 * (losses[-1] / losses[best] - 1):.0f} "
            f"% since, while accuracy fell by {points(fell)}.",
            f"Train for {best + 1} epochs.",
            {"best_epoch": best + 1, "epochs": len(losses), "fell": fell},
            e.command(final_epochs=best + 1),
        )
    loss, wrong = _last(curve, "train_loss"), 1 - accuracies[-1]
    # So many errors that chance alone does not make them of a network without any.
    if loss is None or loss - _least_loss(e) > FIT or wrong * e.validated < 10:
        return None
    return Direction(
        "overfitting",
        f"The winner has learnt its training images by heart: its training loss is "
        f"{max(0.0, loss - _least_loss(e)):.2f} above the least possible, and it still errs on "
        f"{100 * wrong:.1f} % of the validation images.",
        f"More labelled images help more than a larger network ({MORE_DATA} stands for them).",
        {"above_least": loss - _least_loss(e), "validation_error": wrong, "n": e.validated},
        e.command(data=MORE_DATA) if e.asked.get("data") else None,
    )


def cheaper(e: Evidence) -> Direction | None:
    """A much cheaper network was within sampling error of the best."""
    found = [
        (t.costs[0] / t.costs[t.level], t)
        for t in e.tradeoffs
        if t.level is not None and t.costs[0] >= CHEAPER * t.costs[t.level]
    ]
    limits = ("params", "macs", "latency_ms")
    found = [(factor, t) for factor, t in found if t.cost in limits]
    if not found:
        return None
    factor, front = max(found, key=lambda item: item[0])
    assert front.level is not None
    cost, lag = front.costs[front.level], front.values[0] - front.values[front.level]
    return Direction(
        "cheaper",
        f"A cheaper network may do: trial {front.trials[front.level]} has {number(cost)} "
        f"{front.cost}, {factor:.1f} times less than the best, and was {points(lag)} behind it in "
        f"the search, less than the standard error on {e.validated} validation images.",
        "Search again below that cost.",
        {"cost": cost, "factor": factor, "behind": lag, "n": e.validated},
        e.command(at_most={**e.asked.get("at_most", {}), front.cost: allowing(cost)}),
    )


def _curve(e: Evidence) -> Mapping[str, Sequence[Any]]:
    curves = e.best.get("curves") or ()
    found: Mapping[str, Sequence[Any]] = curves[0] if curves else {}
    return found


def _last(curve: Mapping[str, Sequence[Any]], name: str) -> float | None:
    known = [value for value in curve.get(name) or () if value is not None]
    return float(known[-1]) if known else None


def _least_loss(e: Evidence) -> float:
    """The least cross-entropy to smoothed labels: their entropy, in nats."""
    smoothing = float((e.result.get("recipe") or {}).get("label_smoothing") or 0.0)
    classes = len((e.result.get("data") or {}).get("classes") or ())
    if not smoothing or classes < 2:
        return 0.0
    rest = smoothing / classes
    right = 1 - smoothing + rest
    return -right * math.log(right) - (classes - 1) * rest * math.log(rest)


RESULT_RULES = (behind, short_training, overfit, more_data, noise, cheaper)
"""In the order in which they are shown."""
