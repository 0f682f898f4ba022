"""Gumbel-softmax: options sampled so that gradients reach their probabilities.

Eric Jang, Shixiang Gu, Ben Poole: Categorical Reparameterization with Gumbel-Softmax, ICLR 2017.
Chris Maddison, Andriy Mnih, Yee Whye Teh: The Concrete Distribution, ICLR 2017.

With Gumbel noise added to its logarithm, the largest probability is that of a sample of the
distribution; a softmax of these sums is a softened sample, the nearer to one option the lower its
temperature. GDAS, SNAS and FBNet search with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from parti.core.choice import Choice
from parti.core.errors import InvalidSettings
from parti.recipes.relaxation import Relaxation, skip_place
from parti.supernets.share import Supernet

__all__ = ["Gumbel", "straight_through"]


class Gumbel(Relaxation):
    """A sample of the options, softened or not.

    Args:
        supernet: whose choices are relaxed.
        first: temperature [tau] in the first epoch.
        last: temperature in the last epoch.
        schedule: how it gets from one to the other, "linear" or "exponential".
        hard: whether only the sampled option runs, with weight 1, while gradients are those of
            the softened sample.
        null: as for `Relaxation`.
        deviation: as for `Relaxation`.

    Raises:
        InvalidSettings: as for `Relaxation`; or a temperature is not positive, or there is no such
            schedule.
    """

    def __init__(
        self,
        supernet: Supernet,
        *,
        first: float = 1.0,
        last: float = 0.1,
        schedule: Literal["linear", "exponential"] = "linear",
        hard: bool = False,
        null: bool = True,
        deviation: float = 1e-3,
    ) -> None:
        super().__init__(supernet, null=null, deviation=deviation)
        if not (first > 0 and last > 0):
            raise InvalidSettings(f"temperatures first={first}, last={last} must be more than 0")
        if schedule not in ("linear", "exponential"):
            raise InvalidSettings(f"schedule {schedule!r}: it is 'linear' or 'exponential'")
        self.temperature = self._first = first
        self._last, self._schedule, self._hard = last, schedule, hard
        self._active: dict[str, Sequence[int]] = {}

    def anneal(self, progress: float) -> None:
        """Change the temperature."""
        if self._schedule == "linear":
            self.temperature = self._first + (self._last - self._first) * progress
        else:
            self.temperature = float(self._first * (self._last / self._first) ** progress)

    def weigh(self, choice: Choice, alpha: Tensor) -> Tensor:
        """Draw a sample."""
        tiny = torch.finfo(alpha.dtype).tiny  # an exponential variable may come out as 0
        noise = -torch.empty_like(alpha).exponential_().clamp_min(tiny).log()
        soft = ((alpha + noise) / self.temperature).softmax(-1)
        if not self._hard:
            return soft
        place = int(soft.argmax())
        if place < len(choice.options):
            self._active[choice.name] = (place,)
            return straight_through(soft, place)
        # `none`: something has to run with weight 0 to give zeros of the right shape.
        self._active[choice.name] = (skip_place(choice) or 0,)
        return torch.zeros_like(soft)

    def active(self) -> dict[str, Sequence[int]] | None:
        """The sampled options; all when the sample is softened."""
        return dict(self._active) if self._hard else None


def straight_through(soft: Tensor, place: int) -> Tensor:
    """Return exactly 1 at a place and 0 elsewhere, with the gradient of soft weights.

    Args:
        soft: weights, one-dimensional.
        place: which of them.
    """
    hard = torch.zeros_like(soft)
    hard[place] = 1.0
    return hard + (soft - soft.detach())
