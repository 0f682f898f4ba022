"""Standings: what the runs of a comparison say, with how sure they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from parti.comparing.comparison import Comparison
from parti.comparing.incumbent import near
from parti.comparing.run import Run, Spent
from parti.comparing.runs import open_problem
from parti.comparing.statistics import (
    bootstrap_interval,
    holm,
    interval_ranks,
    median,
    ranks,
    signed_rank_test,
)
from parti.tables.problem import Problem

__all__ = ["Curve", "Estimate", "ProblemStandings", "Rank", "Standing", "Standings", "standings"]

Floats = npt.NDArray[np.float64]

EXACT = 1e-9
"""A regret below this, relative to the best truth, is the best: it is rounding."""

POINTS = 120
"""How many points a curve has at most: half of them evenly spread, half over the logarithm."""

TINY = 1e-9
"""Curves are drawn over a logarithm: nothing spent is so much."""


@dataclass(frozen=True)
class Estimate:
    """A median over seeds, with a distribution-free 95 % confidence interval of the median.

    Infinity stands for "not within the limit".
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The median regret of the incumbent over what was spent, with its confidence band.

    Args:
        spent: evaluations or virtual seconds, ascending; up to where every run got.
        median: the regret after that much; infinite where half of the runs have no incumbent.
        low: lower end of the 95 % confidence interval of the median.
        high: upper end.
    """

    spent: Floats
    median: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Standing:
    """How one contender did on one problem.

    Args:
        contender: its label.
        with_scores: whether it was given training-free scores.
        runs: how many there are.
        errors: how many of them ended in an error; they count as never finding anything.
        to_best: evaluations until the incumbent is the best there is.
        to_near: evaluations until it is within 0.1 % of the best.
        seconds_to_near: virtual seconds until then.
        regret: true regret of the last incumbent.
        found: share of runs whose incumbent became the best.
        rank: mean rank among the contenders over the seeds, 1 is best.
        p: of Wilcoxon's signed-rank test against the leader, by Holm's correction; 1 for itself.
        ask_ms: time per proposal: (median, 95th percentile, last ten), medians over the seeds.
        by_evaluations: the curve over evaluations.
        by_seconds: the curve over virtual seconds; None where the problem has no times.
    """

    contender: str
    with_scores: bool
    runs: int
    errors: int
    to_best: Estimate
    to_near: Estimate
    seconds_to_near: Estimate
    regret: Estimate
    found: float
    rank: float
    p: float
    ask_ms: tuple[float, float, float]
    by_evaluations: Curve
    by_seconds: Curve | None


@dataclass(frozen=True)
class ProblemStandings:
    """How all contenders did on one problem, best rank first.

    Args:
        problem: its name.
        unit: what regret is measured in.
        best: the best truth; None for a front of several objectives.
        near: the regret that counts as within 0.1 %.
        near_means: what that is, in words.
        measured: what the searches saw.
        reported: what the truth is.
        rows: a standing for each contender that was fit.
        unfit: label and reason of the others.
    """

    problem: str
    unit: str
    best: float | None
    near: float
    near_means: str
    measured: str
    reported: str
    rows: tuple[Standing, ...]
    unfit: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Rank:
    """The mean rank of a contender over all problems, with a 95 % bootstrap interval over seeds."""

    contender: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Standings:
    """What a comparison says.

    Args:
        problems: in the order they were named.
        ranks: of the contenders that were fit for every problem, best first.
    """

    problems: tuple[ProblemStandings, ...]
    ranks: tuple[Rank, ...]


def standings(comparison: Comparison) -> Standings:
    """Work out what a comparison says."""
    problems = []
    blocks: list[Floats] = []
    complete = [
        contender
        for contender in comparison.contenders
        if not any((contender.spec, name) in comparison.unfit for name in comparison.problems)
    ]
    fitting = {name for _, name in comparison.runs}
    for name in comparison.problems:
        if name not in fitting:
            continue
        problems.append(_problem_standings(comparison, name))
        if complete:
            runs = [comparison.runs[contender.spec, name] for contender in complete]
            blocks.append(_seed_ranks(runs, _outcome(comparison, name)))
    overall: list[Rank] = []
    if complete:
        low, high = bootstrap_interval(blocks)
        means = np.mean([block.mean(axis=0) for block in blocks], axis=0)
        overall = [
            Rank(contender.label, float(means[i]), float(low[i]), float(high[i]))
            for i, contender in enumerate(complete)
        ]
    return Standings(tuple(problems), tuple(sorted(overall, key=lambda rank: rank.mean)))


def _problem_standings(comparison: Comparison, name: str) -> ProblemStandings:
    problem = open_problem(name, comparison.tables)
    tolerance, means = near(problem)
    exact = _exact(problem)
    fit = [c for c in comparison.contenders if (c.spec, name) in comparison.runs]
    runs = [comparison.runs[contender.spec, name] for contender in fit]
    outcome = _outcome(comparison, name)
    mean_ranks = _seed_ranks(runs, outcome).mean(axis=0)
    p_values = _against_leader(runs, outcome, int(np.argmin(mean_ranks)))
    several = len(problem.objectives) > 1
    rows = [
        Standing(
            contender=contender.label,
            with_scores=(contender.spec, name) in comparison.with_scores,
            runs=len(mine),
            errors=sum(run.error is not None for run in mine),
            to_best=_estimate([run.spent_to(exact, "evaluations") for run in mine]),
            to_near=_estimate([run.spent_to(tolerance, "evaluations") for run in mine]),
            seconds_to_near=_estimate([run.spent_to(tolerance, "seconds") for run in mine]),
            regret=_estimate([run.regret for run in mine]),
            found=sum(run.spent_to(exact, "evaluations") < math.inf for run in mine) / len(mine),
            rank=float(rank),
            p=p,
            ask_ms=_ask_ms(mine),
            by_evaluations=_curve(mine, "evaluations"),
            by_seconds=_curve(mine, "seconds") if any(run.seconds for run in mine) else None,
        )
        for contender, mine, rank, p in zip(fit, runs, mean_ranks, p_values, strict=True)
    ]
    return ProblemStandings(
        problem=name,
        unit="share of the hypervolume" if several else problem.objectives[0].metric,
        best=None if several else problem.best,
        near=tolerance,
        near_means=means,
        measured="the truth itself" if comparison.settings.oracle else problem.measured,
        reported=problem.reported,
        rows=tuple(sorted(rows, key=lambda row: row.rank)),
        unfit=tuple(
            (contender.label, comparison.unfit[contender.spec, name])
            for contender in comparison.contenders
            if (contender.spec, name) in comparison.unfit
        ),
    )


# --- which of two runs did better -------------------------------------------------------------

Outcome = Callable[[Run], tuple[float, ...]]


def _outcome(comparison: Comparison, name: str) -> Outcome:
    """What runs are ranked by, lower is better.

    In oracle mode, when the best was found; those that did not find it, and all runs of a search
    that sees noise (where naming the best is luck), by their last regret. Equals by when they got
    there.
    """
    exact = _exact(open_problem(name, comparison.tables))
    oracle = comparison.settings.oracle
    by: Spent = "seconds" if comparison.settings.evaluations is None else "evaluations"

    def outcome(run: Run) -> tuple[float, ...]:
        last = 0.0 if run.regret <= exact else run.regret
        return run.spent_to(exact, by) if oracle else 0.0, last, run.spent_to(run.regret, by)

    return outcome


def _seed_ranks(runs: Sequence[Sequence[Run]], outcome: Outcome) -> Floats:
    """Ranks among the contenders, shape (seeds, contenders)."""
    return np.array([ranks([outcome(run) for run in row]) for row in zip(*runs, strict=True)])


def _against_leader(runs: Sequence[Sequence[Run]], outcome: Outcome, leader: int) -> list[float]:
    """Corrected p-values of each contender against the leader, paired by seed.

    Outcomes are ordered, not numbers: the test is made on their ranks among all runs.
    """
    flat = ranks([outcome(run) for mine in runs for run in mine])
    each = flat.reshape(len(runs), -1)
    others = [i for i in range(len(runs)) if i != leader]
    corrected = holm([signed_rank_test(each[i], each[leader]) for i in others])
    found = [1.0] * len(runs)
    for i, p in zip(others, corrected, strict=True):
        found[i] = p
    return found


# --- medians and curves -----------------------------------------------------------------------


def _exact(problem: Problem) -> float:
    return EXACT * (1.0 if len(problem.objectives) > 1 else max(1.0, abs(problem.best)))


def _estimate(values: Sequence[float]) -> Estimate:
    ordered = sorted(values)
    low, high = interval_ranks(len(ordered))
    return Estimate(float(median(values)), ordered[low], ordered[high])


def _ask_ms(runs: Sequence[Run]) -> tuple[float, float, float]:
    middle, tail, last = np.median([run.ask_ms for run in runs], axis=0).tolist()
    return middle, tail, last


def _curve(runs: Sequence[Run], by: Spent) -> Curve:
    """The curve up to where every run got; one that had nothing more to propose stays as it was."""
    stopped = [run.spent(by) for run in runs if run.ended in ("evaluations", "seconds")]
    end = min(stopped) if stopped else max(run.spent(by) for run in runs)
    begun = [run.spent_to(math.inf, by) for run in runs]
    first, last = max(min(*begun, end), TINY), max(end, TINY)
    spent = np.union1d(
        np.geomspace(first, last, POINTS // 2), np.linspace(first, last, POINTS // 2)
    )
    if by == "evaluations":
        spent = np.unique(np.round(spent))
    regrets = np.sort([run.curve(spent, by) for run in runs], axis=0)
    low, high = interval_ranks(len(runs))
    return Curve(spent, np.asarray(median(regrets)), regrets[low], regrets[high])
