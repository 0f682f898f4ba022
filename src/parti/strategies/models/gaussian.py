"""Gaussian process regression with the settings of the highest marginal likelihood.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", MIT Press 2006, chapters 2 and
5. The covariance is s² (K + r I): a kernel K of one setting, an amplitude s², and a noise r
relative to it. One eigendecomposition of K gives the likelihood of every noise; the amplitude has
a closed form. So nothing is optimized by gradients, and no start has to be guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from parti.strategies.models.kernels import Kernel, Rows

__all__ = ["Posterior", "condition"]

Floats = npt.NDArray[np.float64]

NOISES = tuple(10.0**power for power in np.arange(-4.0, 0.01, 0.5))
"""Variances of noise relative to that of the function, to choose among (r)."""

LEAST_VARIANCE = 1e-12
"""Keeps deviations positive where all targets are equal, or the candidate is known exactly."""

CHUNK = 4_096
"""Candidates that are predicted at once; it bounds the memory."""


@dataclass(frozen=True)
class Posterior:
    """What a Gaussian process expects after it has seen some targets.

    Args:
        kernel: compares architectures.
        setting: of the kernel.
        noise: variance of the noise, relative to the amplitude (r).
        amplitude: variance of the function, in squared units of the targets (s²).
        likelihood: logarithm of the marginal likelihood of the standardized targets.
        centre: mean of the targets, to which it returns far from all of them.
        rows: the architectures seen.
        weights: (K + r I)^-1 of the centred targets.
        vectors: eigenvectors of K, in columns.
        values: eigenvalues of K, noise added.
    """

    kernel: Kernel
    setting: float
    noise: float
    amplitude: float
    likelihood: float
    centre: float
    rows: Rows
    weights: Floats
    vectors: Floats
    values: Floats

    def predict(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the function, without noise, each (rows,)."""
        means, deviations = [np.empty(0)], [np.empty(0)]
        for start in range(0, len(rows), CHUNK):
            across = self.kernel.gram(self.setting, rows[start : start + CHUNK], self.rows)
            # Equations 2.25 and 2.26; every kernel is 1 on the diagonal.
            explained = ((across @ self.vectors) ** 2 / self.values).sum(axis=1)
            variance = self.amplitude * np.maximum(1 - explained, LEAST_VARIANCE)
            means.append(self.centre + across @ self.weights)
            deviations.append(np.sqrt(variance))
        return np.concatenate(means), np.concatenate(deviations)


def condition(kernel: Kernel, rows: Rows, targets: Sequence[Floats]) -> list[Posterior]:
    """Fit a Gaussian process to each of several targets of the same architectures.

    Args:
        kernel: compares architectures.
        rows: the architectures, by their numbers in the kernel; at least one, repeats allowed.
        targets: one array of finite numbers each, shape (rows,).

    Returns:
        A posterior for each target; setting, noise and amplitude are chosen for each alone.
    """
    best: list[Posterior | None] = [None] * len(targets)
    for setting in kernel.settings:
        values, vectors = np.linalg.eigh(kernel.gram(setting, rows, rows))
        values = np.maximum(values, 0.0)
        for place, target in enumerate(targets):
            found = _likeliest(kernel, setting, rows, values, vectors, target)
            known = best[place]
            if known is None or found.likelihood > known.likelihood:
                best[place] = found
    return [posterior for posterior in best if posterior is not None]


def _likeliest(
    kernel: Kernel, setting: float, rows: Rows, values: Floats, vectors: Floats, target: Floats
) -> Posterior:
    """The posterior with the likeliest noise."""
    centre, scale = float(target.mean()), float(target.std()) or 1.0
    turned = vectors.T @ ((target - centre) / scale)
    count = len(target)

    def likelihood(noise: float) -> tuple[float, float]:
        noisy = values + noise
        amplitude = max(float((turned**2 / noisy).mean()), LEAST_VARIANCE)
        # Equation 5.8 with s² at its best, where the quadratic form is the number of targets.
        constant = count * (1 + np.log(2 * np.pi * amplitude))
        return -0.5 * (float(np.log(noisy).sum()) + constant), amplitude

    noise = max(NOISES, key=lambda noise: likelihood(noise)[0])
    highest, amplitude = likelihood(noise)
    return Posterior(
        kernel=kernel,
        setting=setting,
        noise=noise,
        amplitude=amplitude * scale**2,
        likelihood=highest,
        centre=centre,
        rows=rows,
        weights=scale * (vectors @ (turned / (values + noise))),
        vectors=vectors,
        values=values + noise,
    )
