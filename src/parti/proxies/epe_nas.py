"""EPE-NAS: how differently the output moves around different images of the same class.

    V. Lopes, S. Alirezazadeh and L. A. Alexandre. EPE-NAS: Efficient Performance Estimation
    Without Training for Neural Architecture Search. ICANN 2021, equations 4 to 7.

For each class c, the correlations of the input gradients of its images:

    s_c = Σ log(|correlation| + k),    k = 10⁻⁵

and the score is Σ |s_c|; with more than 100 classes, s_c is divided by the number of images of
the class, and the score is the mean over classes of Σ |s_c − s_c'|.
"""

from __future__ import annotations

from typing import Literal

import torch

from parti.core.errors import TrialError
from parti.proxies.probe import Need, Probe

__all__ = ["EpeNas"]

K = 1e-5
MANY_CLASSES = 100


class EpeNas:
    """Scores the correlations among the input gradients of the images of each class."""

    needs: frozenset[Need] = frozenset({Need.INPUT_GRADIENT})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the score.

        Raises:
            TrialError: the labels are no classes.
        """
        gradients, labels = probe.input_gradient, probe.labels
        assert gradients is not None
        if labels.ndim != 1 or labels.is_floating_point():
            raise TrialError(
                f"labels are {labels.dtype}{tuple(labels.shape)}; epe_nas needs the class of each "
                "image as a whole number. Leave it out for other tasks"
            )
        scores = []
        many = probe.classes > MANY_CLASSES
        for label in torch.unique(labels):
            mine = gradients[labels == label].double()
            # One image alone correlates with itself, and adds next to nothing.
            correlations = torch.corrcoef(mine).reshape(len(mine), len(mine))
            total = torch.log(correlations.abs() + K).sum()
            scores.append(total / len(correlations) if many else total)
        found = torch.stack(scores)
        if many:
            return float((found[:, None] - found[None, :]).abs().sum() / len(found))
        return float(found.abs().sum())
