"""How sure a measured number is: Wilson's interval of a share, and the stratified bootstrap.

Wilson: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
Journal of the American Statistical Association 22, 1927.
Bootstrap: B. Efron, "Bootstrap methods: another look at the jackknife", The Annals of Statistics 7,
1979; here with resamples drawn within each class, so that every class keeps its size, and with
the percentile interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import TYPE_CHECKING

from parti.core.errors import InvalidSettings

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["bootstrap", "wilson"]

AT_ONCE = 2**23
"""So many counts (samples times resamples) are held in memory together: 32 MB."""


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share.

    Args:
        successes: how many of n; it may be a mean over seeds.
        n: how many were looked at.
        level: probability that such an interval holds the true share.

    Returns:
        The lower and the upper bound, from 0 to 1.

    Raises:
        InvalidSettings: n is not positive, successes are not from 0 to n, or the level is not
            between 0 and 1.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise InvalidSettings(
            f"{successes} successes of {n}: n must be at least 1 and successes from 0 to n"
        )
    _check_level(level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == n else min(1.0, middle + half)
    return low, high


def bootstrap(
    statistic: Callable[[Tensor], Tensor],
    strata: Tensor,
    *,
    resamples: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> np.ndarray:
    """Return percentile intervals of statistics over resamples drawn within each stratum.

    A statistic is computed for many resamples at once, from how often each sample was drawn:
    of a mean it is `values @ counts / n`.

    Args:
        statistic: takes counts (n, b) float32, how often each of n samples is in each of b
            resamples, and gives (k, b): k statistics of each resample.
        strata: (n,) whole numbers from 0: which samples may stand for each other.
        resamples: how many are drawn.
        level: probability that such an interval holds the true value, for many samples.
        seed: the same seed gives the same interval.

    Returns:
        (k, 2) float64: the lower and upper bound of each statistic.

    Raises:
        InvalidSettings: there is no sample or no resample, or the level is not between 0 and 1.
    """
    import numpy as np

    if not len(strata) or resamples < 1:
        raise InvalidSettings(
            f"{resamples} resamples of {len(strata)} samples: at least one of each is needed"
        )
    _check_level(level)
    drawn = [statistic(counts).cpu().numpy() for counts in _draws(strata, resamples, seed)]
    values = np.concatenate(drawn, axis=1).astype(np.float64)
    tail = (1 - level) / 2
    return np.quantile(values, [tail, 1 - tail], axis=1).T


def _draws(strata: Tensor, resamples: int, seed: int) -> Iterator[Tensor]:
    """Counts (n, b) of how often each sample is drawn, some resamples at a time."""
    import torch

    strata = strata.to("cpu", torch.int64)
    generator = torch.Generator().manual_seed(seed)
    order = strata.argsort(stable=True)
    sizes = strata.bincount()
    first = (sizes.cumsum(0) - sizes)[strata[order], None]
    size = sizes[strata[order], None]
    step = max(1, AT_ONCE // len(strata))
    for start in range(0, resamples, step):
        shape = len(strata), min(step, resamples - start)
        random = torch.rand(shape, generator=generator, dtype=torch.float64)
        picks = first + (random * size).long().minimum(size - 1)
        counts = torch.zeros(shape)
        counts.scatter_add_(0, order[picks], torch.ones(()).expand(shape))
        yield counts


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InvalidSettings(f"a level of {level}: it must lie between 0 and 1, such as 0.95")
