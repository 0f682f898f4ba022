"""Jacobian covariance: how differently the network's output moves around different images.

    J. Mellor, J. Turner, A. Storkey and E. J. Crowley. Neural Architecture Search without
    Training. 2020 (arXiv:2006.04647, version 1), section 3; the formula is that of their code and
    of Abdelfattah et al., ICLR 2021, and Krishnakumar et al., NeurIPS 2022.

The rows of the Jacobian are the gradients of the summed outputs for each image; v are the
eigenvalues of their correlation matrix:

    −Σ log(v + k) + 1 / (v + k),    k = 10⁻⁵

With batch norms in training mode, an image's gradient holds its effect on the outputs for the
others too. With no more values in an image than images in the batch, an eigenvalue is 0 whatever
the network, and its −10⁵ hides the rest: take fewer images. NaN where an image has no effect.
"""

from __future__ import annotations

from typing import Literal

import torch

from parti.proxies.probe import Need, Probe

__all__ = ["Jacov"]

K = 1e-5


class Jacov:
    """Scores the correlations among the input gradients of all images."""

    needs: frozenset[Need] = frozenset({Need.INPUT_GRADIENT})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the score: 0 at the very most, and lower the more images are alike."""
        assert probe.input_gradient is not None
        correlations = torch.corrcoef(probe.input_gradient.double())
        if not bool(torch.isfinite(correlations).all()):
            return float("nan")
        v = torch.linalg.eigvalsh(correlations)
        return float(-(torch.log(v + K) + 1 / (v + K)).sum())
