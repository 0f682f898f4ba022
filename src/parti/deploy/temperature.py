"""The temperature of a model: what its logits are divided by, where probabilities are shown.

It is fitted on validation images (`parti.tasks.calibration.fit_temperature`) and written into
model.json. No file of a model has it inside: their outputs are the network's logits.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from parti.core.errors import InvalidSettings
from parti.tasks.calibration import COLDEST, HOTTEST, fit_temperature

__all__ = ["checked_temperature", "fitted_temperature"]

EDGE = 1.001
"""So close to an end of the range in which it is sought, a temperature was not found but cut."""


def checked_temperature(value: Any) -> float | None:
    """Return a temperature that can be used; None where none was found.

    Where every image is right, or the network knows nothing, there is no best temperature:
    `fit_temperature` then gives an end of its range, and dividing by it would make every answer
    certain, or none.

    Args:
        value: from `fit_temperature`, or None.

    Raises:
        InvalidSettings: it is no number over 0.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidSettings(f"temperature {value!r}; give a number over 0, or None for none")
    if not (math.isfinite(value) and value > 0):
        raise InvalidSettings(f"temperature {value!r}; give a number over 0, or None for none")
    return float(value) if COLDEST * EDGE < value < HOTTEST / EDGE else None


def fitted_temperature(logits: Tensor, labels: Tensor) -> float | None:
    """Fit a temperature on validation images; None where there is no best one.

    Args:
        logits: (n, classes).
        labels: (n,).

    Raises:
        InvalidData: the shapes do not fit, or a label is out of range.
        Diverged: a logit is NaN or infinite.
    """
    return checked_temperature(fit_temperature(logits, labels))
