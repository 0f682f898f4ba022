"""Pareto dominance over arrays of losses: fronts, crowding and hypervolume.

Every array of losses has one row per point and one column per objective; lower is better.

Deb, Pratap, Agarwal, Meyarivan, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II",
IEEE Transactions on Evolutionary Computation 6(2), 2002: the non-dominated sort (section III-A)
and the crowding distance (section III-B). While, Bradstreet, Barone, "A Fast Way of Calculating
Exact Hypervolumes", IEEE Transactions on Evolutionary Computation 16(1), 2012: the hypervolume
as a sum of exclusive volumes, each one dimension smaller than the whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from parti.core.errors import InvalidSettings

__all__ = ["crowding_distance", "hypervolume", "nondominated", "nondominated_fronts"]

Floats = npt.NDArray[np.float64]


def nondominated(losses: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Say which points no other dominates; of equal points all are kept.

    Takes time in proportion to points × size of the front, so that whole tables may be given.

    Args:
        losses: shape (points, objectives); infinities are allowed.

    Returns:
        Shape (points,).

    Raises:
        InvalidSettings: it is not a matrix, or holds NaN.
    """
    points = _matrix(losses)
    left = np.lexsort(points.T[::-1])  # so that no point is dominated by one after it
    kept = np.zeros(len(points), dtype=np.bool_)
    while len(left):
        best, rest = points[left[0]], points[left]
        kept[left[0]] = True
        equal_or_not_worse = (rest == best).all(axis=1) | (rest < best).any(axis=1)
        left = left[equal_or_not_worse][1:]
    return kept


def nondominated_fronts(losses: npt.ArrayLike) -> list[npt.NDArray[np.intp]]:
    """Sort points into fronts: the first is dominated by none, the next by the first alone, ...

    Takes memory in proportion to points², a byte each: meant for some thousand points.

    Args:
        losses: shape (points, objectives); infinities are allowed.

    Returns:
        For each front, best first, the rows of its points in rising order; together all rows.

    Raises:
        InvalidSettings: it is not a matrix, or holds NaN.
    """
    points = _matrix(losses)
    count = len(points)
    no_worse = np.ones((count, count), dtype=np.bool_)
    for column in points.T:
        no_worse &= column[:, None] <= column[None, :]
    dominates = no_worse & ~no_worse.T
    dominators = dominates.sum(axis=0)  # n_p in the paper
    fronts = []
    while (front := np.flatnonzero(dominators == 0)).size:
        fronts.append(front)
        dominators[front] = -1
        dominators -= dominates[front].sum(axis=0)
    return fronts


def crowding_distance(losses: npt.ArrayLike) -> Floats:
    """Return how far apart the neighbours of each point of one front are; more is lonelier.

    In each objective the points are sorted; a point's share is the difference between the one
    after it and the one before it, relative to the whole range. The ends are infinitely lonely,
    unless all points are equal in that objective, which then says nothing.

    Args:
        losses: of one front, shape (points, objectives); finite.

    Returns:
        Shape (points,), sums over the objectives.

    Raises:
        InvalidSettings: it is not a matrix of finite numbers.
    """
    points = _matrix(losses)
    if not np.isfinite(points).all():
        raise InvalidSettings("crowding distances need finite losses; leave the other points out")
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        values = column[order]
        if not len(values) or values[0] == values[-1]:
            continue
        distance[order[1:-1]] += (values[2:] - values[:-2]) / (values[-1] - values[0])
        distance[order[[0, -1]]] = np.inf
    return distance


def hypervolume(losses: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return the exact volume that the points dominate, up to a reference point.

    Points that are not better than the reference in every objective add nothing. The time grows
    as n log n for two objectives, n² log n for three, and about n³ for four.

    Args:
        losses: shape (points, objectives); any points, dominated ones included.
        reference: the worst corner, shape (objectives,); finite.

    Raises:
        InvalidSettings: the shapes do not fit, or there is NaN, or a loss of -infinity.
    """
    points, corner = _matrix(losses), np.asarray(reference, dtype=np.float64)
    if corner.shape != points.shape[1:] or not np.isfinite(corner).all():
        raise InvalidSettings(
            f"the reference of a hypervolume over {points.shape[1]} objectives must be that many "
            f"finite numbers, not {corner.tolist()}"
        )
    if np.isneginf(points).any():
        raise InvalidSettings("a loss of -infinity dominates an infinite hypervolume; leave it out")
    inside = points[(points < corner).all(axis=1)]
    return _volume(corner - inside[nondominated(inside)])


def _volume(sides: Floats) -> float:
    """The volume of a union of boxes that share a corner, given the lengths of their sides."""
    if not len(sides):
        return 0.0
    if sides.shape[1] == 1:
        return float(sides.max())
    if sides.shape[1] == 2:
        widest_first = sides[np.argsort(-sides[:, 0])]
        heights = np.maximum.accumulate(widest_first[:, 1])
        return float(widest_first[:, 0] @ np.diff(heights, prepend=0.0))
    # Shortest last side first: each box is cut off by the later ones along all other sides only,
    # so that what it adds to them is its last side times a volume of one dimension less.
    sides = sides[np.argsort(sides[:, -1])]
    total = 0.0
    for place, box in enumerate(sides):
        shared = np.minimum(sides[place + 1 :, :-1], box[:-1])
        if shared.shape[1] > 2:
            shared = shared[nondominated(-shared)]
        total += box[-1] * (float(np.prod(box[:-1])) - _volume(shared))
    return total


def _matrix(losses: npt.ArrayLike) -> Floats:
    points = np.asarray(losses, dtype=np.float64)
    if points.ndim != 2 or not points.shape[1]:
        raise InvalidSettings(
            f"losses have shape {points.shape}; give one row per point and one column per objective"
        )
    if np.isnan(points).any():
        raise InvalidSettings("losses hold NaN; leave points out that were not measured")
    return points
